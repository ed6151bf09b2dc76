//! A workflow: tasks that need each other, as a file or body describes them.
//!
//! What was given is stored as it is; the options in effect are computed from it here, the same for whoever asks.

use std::collections::HashMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::json_text::{Members as Options, flaw_of, members, read_members};
use super::results::clash;
use super::spec::word;
use super::words::Words;
use super::{JobSpec, JsonText};
use crate::error::Result;
use crate::time::Span;

/// The most tasks of a workflow.
pub const MAX_TASKS: usize = 10_000;
/// The most needs of all tasks together: each is an edge in the store.
pub const MAX_NEEDS: usize = 100_000;
/// The task name of the job that runs before the others.
pub const ON_START: &str = "on_start";
/// The task name of the job that runs when the others have ended.
pub const ON_COMPLETE: &str = "on_complete";

/// Whether tasks run side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As far as their needs allow.
    #[default]
    Parallel,
    /// One at a time, in the order of the file as far as their needs allow.
    Sequential,
}

/// What the failure of a task means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Running ones are cancelled, the rest is skipped.
    #[default]
    FailFast,
    /// Those that do not need it go on.
    Continue,
}

/// A workflow with the options in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Workflow {
    /// What people call it.
    pub name: String,
    /// Who its jobs belong to.
    pub tenant: String,
    /// Whether tasks run side by side.
    pub mode: Mode,
    /// How many may run at once.
    pub max_parallel: Option<u32>,
    /// How long a run may take.
    pub timeout: Option<Span>,
    /// What the failure of a task means.
    pub on_failure: OnFailure,
    /// The tasks, in the order of the file.
    pub tasks: Vec<Task>,
    /// What runs before the first task.
    pub on_start: Option<JobSpec>,
    /// What runs after the last task, with the report on its standard input.
    pub on_complete: Option<JobSpec>,
}

/// One task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The places in [`Workflow::tasks`] of those that it needs.
    pub needs: Vec<usize>,
    /// It runs however those that it needs ended.
    pub always: bool,
    /// What it does, with the defaults where it says nothing.
    pub spec: JobSpec,
}

/// Where something stands in what was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// In this task, from 0.
    pub task: Option<usize>,
    /// At this key; empty: the whole.
    pub key: String,
}

/// What is wrong with a workflow, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Flaw {
    /// Where.
    pub place: Place,
    /// What, for a person.
    pub message: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

type Checked<T> = std::result::Result<T, Flaw>;

fn flaw<T>(task: Option<usize>, key: &str, message: impl Into<String>) -> Checked<T> {
    Err(Flaw { place: Place { task, key: key.into() }, message: message.into() })
}

/// Options that are maps: a task adds to them, key by key.
const MERGED: [&str; 4] = ["env", "env_from_file", "label", "require"];
/// Options of a job that have no meaning for a task, and why.
const REFUSED: [(&str, &str); 4] = [
    ("on_conflict", "is for jobs with a name of their own"),
    ("idempotency_key", "is for jobs that are submitted by themselves"),
    ("restart", "is for services, and a task has to end"),
    ("tenant", "is one for all tasks: it belongs into defaults"),
];

impl Workflow {
    /// Reads what was given.
    ///
    /// # Errors
    /// The first flaw, with its place.
    pub fn read(given: &JsonText) -> Checked<Workflow> {
        if let Some(what) = given.flaw() {
            return flaw(None, "", format!("the workflow {what}"));
        }
        let Some(mut map) = given.members() else { return flaw(None, "", "a workflow is a table with name and task") };
        let Some(name) = take::<String>(&mut map, "name")? else { return flaw(None, "", "the workflow has no name") };
        name_is_good(&name).or_else(|e| flaw(None, "name", e))?;
        let mode = take(&mut map, "mode")?.unwrap_or_default();
        let max_parallel = take::<u32>(&mut map, "max_parallel")?;
        if max_parallel == Some(0) {
            return flaw(None, "max_parallel", "max_parallel is zero");
        }
        let timeout = take::<Span>(&mut map, "timeout")?;
        if timeout.is_some_and(|t| t == Span::ZERO) {
            return flaw(None, "timeout", "timeout is zero");
        }
        let on_failure = take(&mut map, "on_failure")?.unwrap_or_default();
        let defaults = take::<Option<Options>>(&mut map, "defaults")?.flatten().unwrap_or_default();
        let mut reader = Reader { defaults, limited: None };
        reader.limited = match mode {
            Mode::Sequential => Some("mode = \"sequential\""),
            Mode::Parallel => max_parallel.map(|_| "max_parallel"),
        };
        let tenant = reader.check_defaults()?;
        let mut hook = |key: &str| map.remove(key).map(|given| reader.hook(key, given)).transpose();
        let (on_start, on_complete) = (hook(ON_START)?, hook(ON_COMPLETE)?);
        let key = if map.contains_key("tasks") { "tasks" } else { "task" };
        let given: Vec<Options> = take(&mut map, key)?.unwrap_or_default();
        if let Some(key) = map.keys().next() {
            return flaw(None, key, format!("unknown field `{key}`"));
        }
        let tasks = reader.tasks(given)?;
        let workflow = Workflow { name, tenant, mode, max_parallel, timeout, on_failure, tasks, on_start, on_complete };
        workflow.order()?;
        Ok(workflow)
    }

    /// Refuses what makes no sense in a run that is made again and again.
    ///
    /// # Errors
    /// The first flaw, with its place.
    pub fn check_scheduled(&self) -> Checked<()> {
        let bad = |task: Option<usize>, name: &str, key: &str, why: &str| {
            flaw(task, key, format!("task {name}: {key} has no place in a schedule: {why}"))
        };
        for (i, (name, spec)) in self.jobs().enumerate() {
            let task = Some(i).filter(|i| *i < self.tasks.len());
            if spec.at.is_some() {
                return bad(task, name, "at", "that says when; delay starts it so much later");
            }
            if !spec.after.is_empty() {
                return bad(task, name, "after", "the job would be the same each time; needs names tasks of the run");
            }
        }
        Ok(())
    }

    /// How many jobs may run at once; none: no limit.
    pub fn width(&self) -> Option<u32> {
        match self.mode {
            Mode::Sequential => Some(1),
            Mode::Parallel => self.max_parallel,
        }
    }
}

fn take<T: DeserializeOwned>(map: &mut Options, key: &str) -> Checked<Option<T>> {
    let Some(value) = map.remove(key) else { return Ok(None) };
    serde_json::from_str(value.get()).map(Some).or_else(|e| flaw(None, key, format!("{key}: {}", flaw_of(&e))))
}

/// What a name may consist of; it is part of variables, files and routes.
fn name_is_good(name: &str) -> std::result::Result<(), String> {
    word("name", Some(name)).map_err(|e| e.message().to_owned())
}

/// Reads tasks and hooks.
struct Reader {
    defaults: Options,
    /// The option that takes the jobs' one limit.
    limited: Option<&'static str>,
}

impl Reader {
    /// Gives the tenant.
    fn check_defaults(&mut self) -> Checked<String> {
        let bad = |key: &str| REFUSED.iter().find(|(k, _)| *k == key).filter(|(k, _)| *k != "tenant");
        for key in self.defaults.keys() {
            if let Some((key, why)) = bad(key) {
                return flaw(None, "defaults", format!("defaults: {key} {why}"));
            }
            if ["name", "needs", "always"].contains(&key.as_str()) {
                return flaw(None, "defaults", format!("defaults: {key} belongs to each task"));
            }
        }
        same_word(&mut self.defaults);
        let spec = spec_of(&self.defaults).or_else(|(key, e)| flaw(None, "defaults", format!("defaults: {key}{e}")))?;
        Ok(spec.tenant().to_owned())
    }

    fn hook(&self, key: &str, given: Box<RawValue>) -> Checked<JobSpec> {
        let options = match members(&given) {
            Some(options) => options,
            None if given.get().starts_with('[') => Options::from([("command".to_owned(), given)]),
            None => return flaw(None, key, format!("{key} is a command, such as [\"notify\", \"ops\"]")),
        };
        let own = ("name", "belongs to tasks");
        let refused = REFUSED.into_iter().chain([own]).find(|(option, _)| options.contains_key(*option));
        if let Some((option, why)) = refused {
            return flaw(None, key, format!("{key}: {option} {why}"));
        }
        if key == ON_COMPLETE && options.contains_key("after") {
            return flaw(None, key, "on_complete: it runs when all tasks have ended, and after nothing else");
        }
        let mut spec = self.effective(options).or_else(|(_, e)| flaw(None, key, format!("{key}: {e}")))?;
        if key == ON_COMPLETE {
            spec.after.clear(); // of the defaults
        }
        Ok(spec)
    }

    fn tasks(&self, given: Vec<Options>) -> Checked<Vec<Task>> {
        match given.len() {
            0 => return flaw(None, "", "the workflow has no task"),
            1..=MAX_TASKS => {}
            n => return flaw(Some(MAX_TASKS), "", format!("{n} tasks, and at most {MAX_TASKS} are allowed")),
        }
        let mut places: HashMap<String, usize> = HashMap::with_capacity(given.len());
        for (i, options) in given.iter().enumerate() {
            let name = task_name(i, options)?;
            if let Some(first) = places.insert(name.clone(), i) {
                return flaw(Some(i), "name", format!("task {name} is there twice, as number {} too", first + 1));
            }
        }
        let mut tasks = Vec::with_capacity(given.len());
        let mut needs = 0;
        for (i, options) in given.into_iter().enumerate() {
            let task = self.task(i, options, &places)?;
            needs += task.needs.len();
            if needs > MAX_NEEDS {
                return flaw(Some(i), "needs", format!("the tasks need each other more than {MAX_NEEDS} times"));
            }
            tasks.push(task);
        }
        Ok(tasks)
    }

    fn task(&self, i: usize, mut options: Options, places: &HashMap<String, usize>) -> Checked<Task> {
        let name = task_name(i, &options)?;
        options.remove("name");
        let in_task = |f: Flaw| Flaw {
            place: Place { task: Some(i), key: f.place.key },
            message: format!("task {name}: {}", f.message),
        };
        let always = take::<bool>(&mut options, "always").map_err(in_task)?.unwrap_or_default();
        let Words(needs) = take(&mut options, "needs").map_err(in_task)?.unwrap_or_default();
        let mut found = Vec::with_capacity(needs.len());
        for need in &needs {
            match places.get(need) {
                Some(place) if *place == i => return flaw(Some(i), "needs", format!("task {name} needs itself")),
                Some(place) if !found.contains(place) => found.push(*place),
                Some(_) => {}
                None => return flaw(Some(i), "needs", format!("task {name} needs {need}, which is no task")),
            }
        }
        if let Some((one, other, variable)) = clash(needs.iter().map(String::as_str)) {
            return flaw(
                Some(i),
                "needs",
                format!("task {name} needs {one} and {other}: both results are in {variable}"),
            );
        }
        if let Some((key, why)) = REFUSED.into_iter().find(|(key, _)| options.contains_key(*key)) {
            return flaw(Some(i), key, format!("task {name}: {key} {why}"));
        }
        let spec = self.effective(options).or_else(|(key, e)| flaw(Some(i), &key, format!("task {name}: {e}")))?;
        Ok(Task { name, needs: found, always, spec })
    }

    /// The defaults with `options` over them. An error comes with its key.
    fn effective(&self, mut options: Options) -> std::result::Result<JobSpec, (String, String)> {
        same_word(&mut options);
        let mut all = self.defaults.clone();
        let other = match (options.contains_key("command"), options.contains_key("handler")) {
            (true, false) => ["handler", "payload"],
            (false, true) => ["command", "stdin"],
            _ => ["", ""],
        };
        all.retain(|key, _| !other.contains(&key.as_str()));
        if options.contains_key("at") {
            all.remove("delay");
        }
        if options.contains_key("delay") {
            all.remove("at");
        }
        for (key, value) in options {
            let old = all.get(&key).filter(|_| MERGED.contains(&key.as_str())).and_then(|old| members(old));
            let both = old.and_then(|old| Some(old.into_iter().chain(members(&value)?).collect::<Options>()));
            let both = both.and_then(|both| to_raw_value(&both).ok());
            all.insert(key, both.unwrap_or(value));
        }
        let spec = spec_of(&all).map_err(|(key, e)| (key.clone(), format!("{key}{e}")))?;
        let first = |e: &str| e.split([' ', ':']).next().unwrap_or_default().to_owned();
        spec.check().map_err(|e| (first(e.message()), e.message().to_owned()))?;
        match (&spec.limit, self.limited) {
            (Some(_), Some(other)) => Err(("limit".into(), format!("limit and {other} exclude each other"))),
            _ => Ok(spec),
        }
    }
}

fn task_name(i: usize, options: &Options) -> Checked<String> {
    let Some(name) = options.get("name").and_then(|name| serde_json::from_str::<String>(name.get()).ok()) else {
        return flaw(Some(i), "", format!("task number {} has no name", i + 1));
    };
    name_is_good(&name).or_else(|e| flaw(Some(i), "name", format!("task number {}: {e}", i + 1)))?;
    match name.as_str() {
        ON_START | ON_COMPLETE => flaw(Some(i), "name", format!("the name {name} is not free: it is a hook's")),
        _ => Ok(name),
    }
}

/// `labels` is `label`.
fn same_word(options: &mut Options) {
    if let Some(labels) = options.remove("labels") {
        options.entry("label".to_owned()).or_insert(labels);
    }
}

/// The job of these options. An error comes with the key that is to blame.
fn spec_of(options: &Options) -> std::result::Result<JobSpec, (String, String)> {
    let error = match read_members::<JobSpec>(options) {
        Ok(spec) => return Ok(spec),
        Err(error) => flaw_of(&error),
    };
    for (key, value) in options {
        if let Err(e) = read_members::<JobSpec>(&Options::from([(key.clone(), value.clone())])) {
            let text = flaw_of(&e);
            // serde lists every field there is; the word that was not understood says enough.
            return Err(match text.split_once(", expected one of") {
                Some(_) => (key.clone(), " is no option of a job".into()),
                None => (key.clone(), format!(": {text}")),
            });
        }
    }
    Err((String::new(), error))
}

/// The workflow of a body.
///
/// # Errors
/// `Usage`, naming the task and the field.
pub fn read(given: &JsonText) -> Result<Workflow> {
    Ok(Workflow::read(given)?)
}

#[cfg(test)]
#[path = "workflow_tests.rs"]
mod tests;
