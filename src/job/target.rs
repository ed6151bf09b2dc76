//! What a schedule runs each time: a job, or a workflow.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::json_text::{Members, members};
use super::{JobSpec, JsonText, Workflow};
use crate::error::{Error, Result};

/// The label by which the jobs of a schedule are found.
pub const LABEL: &str = "schedule";

/// What a schedule runs each time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One job.
    Job(Box<JobSpec>),
    /// A workflow, as it was given.
    Workflow(JsonText),
}

/// Gives the jobs of a workflow to the tenant of whoever is bound to one, where it says nothing.
pub fn bind_workflow(given: &mut JsonText, tenant: Option<&str>) {
    if let Some(bound) = tenant.and_then(|tenant| bound_workflow(given, tenant)) {
        *given = bound;
    }
}

/// It with that tenant; none where it names one, or is no workflow: that is said when it is read.
fn bound_workflow(given: &JsonText, tenant: &str) -> Option<JsonText> {
    // Members that are twice, which are refused, would become one.
    let mut all = given.members().filter(|_| given.flaw().is_none())?;
    let mut defaults = table(&all, "defaults").filter(|defaults| !defaults.contains_key("tenant"))?;
    defaults.insert("tenant".to_owned(), to_raw_value(tenant).ok()?);
    all.insert("defaults".to_owned(), to_raw_value(&defaults).ok()?);
    JsonText::of(&all).ok()
}

/// The table of that name, also where it is not there yet; none where it is something else.
fn table(all: &Members, key: &str) -> Option<Members> {
    all.get(key).map_or(Some(Members::new()), |raw| members(raw))
}

impl Target {
    /// The task of a run that is one job.
    pub const MAIN: &'static str = "main";

    /// Gives its jobs to the tenant of a caller that is bound to one, where it says nothing.
    pub fn bind(&mut self, tenant: Option<&str>) {
        match self {
            Self::Job(spec) => spec.bind(tenant),
            Self::Workflow(given) => bind_workflow(given, tenant),
        }
    }

    /// Whose jobs it makes.
    pub fn tenant(&self) -> String {
        match self {
            Self::Job(spec) => spec.tenant().to_owned(),
            Self::Workflow(given) => {
                let defaults = given.members().and_then(|all| members(all.get("defaults")?)).unwrap_or_default();
                let tenant = defaults.get("tenant").and_then(|tenant| serde_json::from_str(tenant.get()).ok());
                tenant.unwrap_or_else(|| "default".to_owned())
            }
        }
    }

    /// About how many jobs a run of it has.
    pub fn jobs(&self) -> usize {
        match self {
            Self::Job(_) => 1,
            Self::Workflow(given) => {
                let all = given.members().unwrap_or_default();
                let count =
                    |key| serde_json::from_str::<Vec<&RawValue>>(all.get(key)?.get()).ok().map(|tasks| tasks.len());
                ["task", "tasks"].into_iter().find_map(count).unwrap_or(1)
            }
        }
    }

    /// Refuses what can never run, or only once.
    ///
    /// # Errors
    /// `Usage`, naming the field.
    pub fn check(&self) -> Result<()> {
        let spec = match self {
            Self::Job(spec) => spec,
            // With the label that it will have; whatever the schedule's name, it is one.
            Self::Workflow(_) => return Ok(Workflow::read(&self.as_workflow(Self::MAIN)?)?.check_scheduled()?),
        };
        spec.check()?;
        let bad = |what: &str, hint: &str| Err(Error::usage(format!("{what} has no place in a schedule")).hint(hint));
        if spec.name.is_some() || spec.on_conflict.is_some() {
            return bad("a job's name", "the schedule has a name; --overlap says what becomes of runs that meet");
        }
        if spec.idempotency_key.is_some() {
            return bad("an idempotency key", "each instant makes one job, whoever finds it due");
        }
        if !spec.after.is_empty() {
            return bad("waiting for another job", "put both into one command, or into a workflow: --workflow FILE");
        }
        if spec.at.is_some() {
            return bad("a time of the job", "the schedule says when; --delay starts each job that much later");
        }
        match spec.is_service() {
            true => bad("a service", "it runs for ever: store it once, with orx enqueue"),
            false => Ok(()),
        }
    }

    /// It as a workflow, with a label on all jobs that says which schedule made them.
    ///
    /// # Errors
    /// Only where a job cannot be written down.
    pub fn as_workflow(&self, schedule: &str) -> Result<JsonText> {
        /// A workflow with one task.
        #[derive(Serialize)]
        struct Single<'a> {
            name: &'a str,
            defaults: BTreeMap<&'a str, &'a str>,
            task: [&'a JobSpec; 1],
        }
        let given = match self {
            Self::Workflow(given) => given.clone(),
            Self::Job(spec) => {
                let task = JobSpec { tenant: None, name: Some(Self::MAIN.to_owned()), ..JobSpec::clone(spec) };
                let tenant = spec.tenant.as_deref().map(|tenant| ("tenant", tenant));
                JsonText::of(&Single { name: schedule, defaults: tenant.into_iter().collect(), task: [&task] })?
            }
        };
        match given.members().map(|all| labelled(all, schedule)).transpose()?.flatten() {
            Some(all) => JsonText::of(&all),
            None => Ok(given), // there is no place for it
        }
    }
}

/// A workflow with the label among the defaults, unless there is another of that name; none where these are no tables.
fn labelled(mut all: Members, schedule: &str) -> Result<Option<Members>> {
    let raw = |table: &Members| to_raw_value(table).map_err(|e| Error::failed("cannot be run").source(e));
    let Some(mut defaults) = table(&all, "defaults") else { return Ok(None) };
    let key = if defaults.contains_key("label") { "label" } else { "labels" };
    let Some(mut labels) = table(&defaults, key) else { return Ok(None) };
    let label = to_raw_value(schedule).map_err(|e| Error::failed("cannot be run").source(e))?;
    labels.entry(LABEL.to_owned()).or_insert(label);
    defaults.insert(key.to_owned(), raw(&labels)?);
    all.insert("defaults".to_owned(), raw(&defaults)?);
    Ok(Some(all))
}
