//! C4 on the command line: what it says of a job is true, wherever the disk failed and wherever it was killed.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::faults::{Fault, Found, STORE, Scenario, hurt};
use super::table::Table;
use super::verdict::{Copies, Told, judge, wait_all_ended};
use super::witness;
use super::world::{LIMIT, Process, World, seed};

/// The lines of the load.
const LINES: usize = 5;

#[test]
fn c4_a_client_that_makes_the_store_says_what_is_so() {
    let title = "C4 the n-th call on the store's files fails in clients that make the store";
    let files = ["orx.db", "orx.db-journal", "orx.db-wal"];
    run(title, None, &[("sync", &files), ("write", &[&files[..], &["orx.db-shm"]].concat())]);
}

#[test]
fn c4_a_client_of_a_store_with_jobs_says_what_is_so() {
    let title = "C4 the n-th call on the store's files fails in clients of a store with jobs";
    run(title, Some(Old::new()), &[("sync", &["orx.db-wal"]), ("write", &["orx.db-wal", "orx.db-shm"])]);
}

fn run(title: &str, old: Option<Old>, required: &[(&'static str, &[&str])]) {
    let begun = Instant::now();
    let mut table = Table::new(format!("{title}, seed {}", seed()));
    let clients = Clients { old, answers: Mutex::default() };
    hurt(&clients, required, &mut table);
    clients.finish(&mut table);
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    table.finish();
}

/// What a command said of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Stored,
    NotStored,
    Unknown,
    /// It was killed.
    None,
}

/// Commands in a row, the fault in one of them.
struct Clients {
    old: Option<Old>,
    /// Each answer, and whether it was there.
    answers: Mutex<Vec<(Answer, bool)>>,
}

/// A store with jobs to work on.
struct Old {
    home: World,
    done: String,
    failed: String,
    discarded: String,
    waiting: String,
}

/// What is there after the commands, as a process sees it that is not hurt.
struct Seen {
    jobs: Vec<Value>,
    letters: Vec<Value>,
}

/// A command, and how it can be seen that it took effect.
struct Step<'a> {
    args: Vec<String>,
    took_effect: Box<dyn Fn(&Seen) -> bool + 'a>,
    /// The same again stores nothing new.
    again: bool,
}

impl Old {
    fn new() -> Self {
        let home = World::on_file();
        let store = home.path(STORE);
        let home = home.with_store(store);
        let add = |options: &[&str], command: &[&str]| {
            let args = [&["-q", "-o", "id", "enqueue"], options, &["--"], command].concat();
            home.ok(&args).trim().to_owned()
        };
        let done = add(&[], &["true"]);
        let failed = add(&[], &["test", "-e", "flag"]);
        let discarded = add(&[], &["false"]);
        home.ok(&["-q", "worker", "--burst"]);
        std::fs::write(home.path("flag"), "").unwrap(); // a retry will do
        let waiting = add(&[], &["true"]);
        Self { home, done, failed, discarded, waiting }
    }

    /// Puts a copy of the store into another world.
    fn copy(&self, to: &World) {
        let folder = |world: &World| world.path(STORE).parent().unwrap().to_owned();
        std::fs::create_dir(folder(to)).unwrap();
        for name in ["orx.db", "orx.db-wal"] {
            std::fs::copy(folder(&self.home).join(name), folder(to).join(name)).unwrap();
        }
    }

    fn steps(&self) -> Vec<Step<'_>> {
        let state = |seen: &Seen, id: &str| seen.job(id).map(|j| j["state"].as_str().unwrap().to_owned());
        vec![
            Step::new(&["db", "prune", "--older-than", "0s", "--yes"], move |s| s.job(&self.done).is_none()),
            Step::new(&["cancel", &self.waiting], move |s| state(s, &self.waiting).as_deref() == Some("cancelled")),
            Step::new(&["retry", &self.failed], move |s| state(s, &self.failed).as_deref() == Some("pending")),
            Step::new(&["dlq", "discard", &self.discarded, "--yes"], move |s| {
                s.letters.iter().all(|l| l["job"]["id"] != *self.discarded)
            }),
        ]
    }
}

impl Seen {
    fn new(world: &World) -> Self {
        let list = |args: &[&str]| world.json(args).as_array().unwrap().clone();
        Self { jobs: list(&["list", "--limit", "0"]), letters: list(&["dlq", "list", "--limit", "0"]) }
    }

    fn job(&self, id: &str) -> Option<&Value> {
        self.jobs.iter().find(|j| j["id"] == *id)
    }

    fn of_key(&self, key: &str) -> usize {
        self.jobs.iter().filter(|j| j["idempotency_key"] == *key).count()
    }

    fn of_load(&self) -> usize {
        self.jobs.iter().filter(|j| j["labels"]["part"] == "load").count()
    }
}

impl<'a> Step<'a> {
    fn new(args: &[&str], took_effect: impl Fn(&Seen) -> bool + 'a) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self { args, took_effect: Box::new(took_effect), again: false }
    }

    fn can_be_said_again(self) -> Self {
        Self { again: true, ..self }
    }

    fn args(&self) -> Vec<&str> {
        self.args.iter().map(String::as_str).collect()
    }
}

/// Commands that store jobs; each may be said again.
fn storing(world: &World) -> Vec<Step<'static>> {
    let witness = world.witness();
    let command = ["--", witness::helper(), witness.to_str().unwrap(), "20"];
    let single = |key: &'static str| {
        let args = [&["-o", "id", "enqueue", "--idempotency-key", key], &command[..]].concat();
        Step::new(&args, move |seen| seen.of_key(key) == 1).can_be_said_again()
    };
    let file: PathBuf = world.path("load");
    let line = serde_json::json!({ "command": command[1..], "labels": { "part": "load" } });
    std::fs::write(&file, format!("{line}\n").repeat(LINES)).unwrap();
    let batch = "0192d5a1-0000-7000-8000-000000000001";
    let load = ["-o", "id", "enqueue", "--batch", batch, "--from", file.to_str().unwrap()];
    let load = Step::new(&load, |seen| seen.of_load() == LINES).can_be_said_again();
    vec![single("first"), load, single("second")]
}

/// Ids it printed. A line that was cut is no acknowledgement.
fn ids(process: &Process) -> Vec<String> {
    let said = process.stdout();
    let whole = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| line.trim_end().to_owned()).collect()
}

impl Scenario for Clients {
    const LASTING: u64 = 1_000_000;

    fn run(&self, world: &mut World, fault: &Fault) -> Found {
        let mut broken = Vec::new();
        let mut told = Told::default();
        if let Some(old) = &self.old {
            old.copy(world);
            told.apart = [&old.done, &old.failed, &old.discarded, &old.waiting].map(Clone::clone).into();
        }
        let mut steps = storing(world);
        steps.extend(self.old.iter().flat_map(Old::steps));
        let environment = fault.environment(world);
        let mut answers = Vec::new();
        for step in &steps {
            let mut process = world.spawn_with(&step.args(), &environment);
            let code = process.wait(LIMIT).code();
            if step.again {
                told.acknowledged.extend(ids(&process));
            }
            match understand(code, &process.stderr(), step.again) {
                Some(answer) => answers.push(answer),
                None => {
                    broken.push(format!("{:?} says, with {code:?}: {:?}", step.args[0], process.stderr()));
                    answers.push(Answer::Unknown);
                }
            }
        }
        let hit = fault.hits(world) > 0;
        let seen = Seen::new(world);
        for (step, answer) in steps.iter().zip(&answers) {
            let there = (step.took_effect)(&seen);
            if matches!((answer, there), (Answer::Stored, false) | (Answer::NotStored, true)) {
                broken.push(format!("{:?}: the answer was {answer:?}, and it is {there}", step.args));
            }
            if hit {
                self.answers.lock().unwrap().push((*answer, there));
            }
        }
        say_again(world, &steps, &mut told, &mut broken);
        drain(world, &told, &mut broken);
        Found { hit, broken }
    }
}

/// One of the things that may be said (I1): of a job that was to be stored nothing else. Other commands look
/// before they write, and may fail there in other words.
fn understand(code: Option<i32>, stderr: &str, storing: bool) -> Option<Answer> {
    match code {
        None => Some(Answer::None),
        Some(0) => Some(Answer::Stored),
        Some(6) if stderr.starts_with("orx: not stored: ") => Some(Answer::NotStored),
        Some(6) if stderr.starts_with("orx: unknown, check with `orx ") => Some(Answer::Unknown),
        Some(6) if !storing && stderr.starts_with("orx: ") => Some(Answer::NotStored),
        Some(_) => None,
    }
}

/// The same key and the same batch id: nothing is doubled, and what was acknowledged keeps its id.
fn say_again(world: &World, steps: &[Step], told: &mut Told, broken: &mut Vec<String>) {
    let mut all = Vec::new();
    for step in steps.iter().filter(|step| step.again) {
        let mut process = world.spawn(&step.args());
        match process.wait(LIMIT).code() {
            Some(0) => all.extend(ids(&process)),
            code => broken.push(format!("said again: {:?} ends with {code:?}: {}", step.args[2], process.stderr())),
        }
    }
    let changed = told.acknowledged.iter().filter(|id| !all.contains(id)).count();
    if changed > 0 {
        broken.push(format!("{changed} acknowledged ids are others when it is said again"));
    }
    let seen = Seen::new(world);
    let counts = (seen.of_key("first"), seen.of_load(), seen.of_key("second"));
    if counts != (1, LINES, 1) {
        broken.push(format!("jobs of the first key, the load, the second key: {counts:?}"));
    }
    told.acknowledged = all;
}

/// A worker that is not hurt does what is left; then all must be as it was promised.
pub fn drain(world: &World, told: &Told, broken: &mut Vec<String>) {
    let unfinished = ["pending", "scheduled", "blocked", "running"];
    for _ in 0..3 {
        world.ok(&["-q", "worker", "--name", "w", "--slots", "4", "--lease", "3s", "--burst"]);
        if world.count(&unfinished) == 0 {
            break; // jobs that wait for another try are not run by the first
        }
    }
    wait_all_ended(world, Duration::ZERO);
    let mut table = Table::new("");
    judge(world, told, Copies::Never, &mut table);
    broken.extend(table.into_broken());
    let (code, findings, _) = world.run(&["db", "check"]);
    if code != Some(0) {
        broken.push(format!("orx db check finds {findings}"));
    }
}

impl Clients {
    fn finish(&self, table: &mut Table) {
        let answers = self.answers.lock().unwrap();
        let count = |answer, there| answers.iter().filter(|a| **a == (answer, there)).count();
        let both = |answer| (count(answer, true), count(answer, false));
        table.fact("answers: stored", both(Answer::Stored).0);
        table.at_least("answers: not stored", both(Answer::NotStored).1, 1);
        let (there, not) = both(Answer::Unknown);
        // Where the store is made, the first calls to fail are before any commit of a job.
        table.at_least("answers: unknown", there + not, usize::from(self.old.is_some()));
        table.fact("of these it was there", there);
        let (there, not) = both(Answer::None);
        table.at_least("killed before an answer", there + not, 1);
        table.fact("of these it was there", there);
    }
}
