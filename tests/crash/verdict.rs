//! The judgement after a scenario: what clients were told, what jobs wrote and what the store says must agree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::table::Table;
use super::witness::{Line, Mark};
use super::world::{World, eventually};

/// What clients know.
#[derive(Default)]
pub struct Told {
    /// Jobs whose storing was acknowledged.
    pub acknowledged: Vec<String>,
    /// Jobs that were stored, as the store says, but whose client was killed before it could say so and never asked again.
    pub unheard: usize,
    /// Jobs that must not run twice, and whose worker was hurt: they are lost, and nothing else.
    pub given_up: Vec<String>,
    /// Jobs that write no witness, and that the scenario judges itself.
    pub apart: Vec<String>,
}

impl Told {
    pub fn of(acknowledged: Vec<String>) -> Self {
        Self { acknowledged, ..Self::default() }
    }
}

/// What may not happen in a scenario beyond what may never happen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// An attempt must have ended before the next one starts.
    Never,
    /// A worker that was stopped cannot end its processes: copies may overlap until it goes on.
    MayOverlap,
}

/// A job as the store tells of it.
struct Job {
    state: String,
    reason: String,
    failures: u64,
    losses: u64,
    interruptions: u64,
    max_attempts: u64,
    /// How each attempt ended.
    outcomes: BTreeMap<u64, String>,
}

/// Waits until no job is left to run.
pub fn wait_all_ended(world: &World, limit: Duration) -> Duration {
    eventually("all jobs to end", limit, || world.count(&["pending", "scheduled", "blocked", "running"]) == 0)
}

/// Compares everything; the workers have ended, and so has each job.
pub fn judge(world: &World, told: &Told, copies: Copies, table: &mut Table) {
    let events = world.events();
    let mut jobs = jobs(world, &events);
    jobs.retain(|id, _| !told.apart.contains(id));
    let lines = world.lines();
    acknowledged(told, &jobs, table);
    duplicates(&jobs, &lines, copies, table);
    counters(&jobs, table);
    let count = |kind: &str| events.iter().filter(|e| e["kind"] == kind).count();
    let ended = |how: &str| jobs.values().flat_map(|j| j.outcomes.values()).filter(|o| *o == how).count();
    table.fact("attempts lost", ended("lost"));
    table.fact("attempts interrupted", ended("interrupted"));
    let stale = events.iter().filter(|e| e["kind"] == "rejected_stale").filter_map(|e| e["data"]["op"].as_str());
    let stale = stale.fold(BTreeMap::<&str, usize>::new(), |mut ops, op| {
        *ops.entry(op).or_default() += 1;
        ops
    });
    let by_op = stale.iter().map(|(op, n)| format!(", {op} {n}")).collect::<String>();
    table.fact("stale writes rejected", format!("{}{by_op}", count("rejected_stale")));
    table.fact("leaders elected", count("leader_elected"));
    let (code, breaches, said) = world.run(&["audit"]);
    let breaches: Vec<String> = if code == Some(0) { Vec::new() } else { vec![format!("{breaches}{said}")] };
    table.none("breaches found by orx audit", &breaches);
    let (code, findings, said) = world.run(&["db", "check", "--store", world.store().to_str().unwrap()]);
    let findings: Vec<String> = if code == Some(0) { Vec::new() } else { vec![format!("{findings}{said}")] };
    table.none("contradictions found by orx db check", &findings);
    table.none("job processes left", &world.job_processes());
}

fn jobs(world: &World, events: &[Value]) -> HashMap<String, Job> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let listed = world.json(&["list", "--limit", "0"]);
    let job = |j: &Value| Job {
        state: text(&j["state"]),
        reason: text(&j["reason"]),
        failures: j["failures"].as_u64().unwrap(),
        losses: j["losses"].as_u64().unwrap(),
        interruptions: j["interruptions"].as_u64().unwrap(),
        max_attempts: j["max_attempts"].as_u64().unwrap(),
        outcomes: BTreeMap::new(),
    };
    let mut jobs: HashMap<String, Job> = listed.as_array().unwrap().iter().map(|j| (text(&j["id"]), job(j))).collect();
    for event in events.iter().filter(|e| e["kind"] == "settled") {
        if let Some(job) = jobs.get_mut(event["job_id"].as_str().unwrap()) {
            job.outcomes.insert(event["attempt"].as_u64().unwrap(), text(&event["data"]["outcome"]));
        }
    }
    jobs
}

fn acknowledged(told: &Told, jobs: &HashMap<String, Job>, table: &mut Table) {
    let known: HashSet<&str> = told.acknowledged.iter().map(String::as_str).collect();
    table.fact("jobs acknowledged", known.len());
    let twice = told.acknowledged.len() - known.len();
    table.none("ids acknowledged for two jobs", &vec!["see the file acknowledged"; twice]);
    let lost = known.iter().filter_map(|id| match jobs.get(*id) {
        None => Some(format!("{id} is not there")),
        Some(job) if job.state != "done" => {
            Some(format!("{id} is {} {}, failures {}, losses {}", job.state, job.reason, job.failures, job.losses))
        }
        Some(_) => None,
    });
    table.none("lost", &lost.collect::<Vec<_>>());
    let kept = told.given_up.iter().filter(|id| jobs.get(*id).is_none_or(|j| j.reason != "lost" || j.losses != 1));
    table.none("jobs that must not run twice and are not given up", &kept.collect::<Vec<_>>());
    let asked = |id: &str| known.contains(id) || told.given_up.iter().any(|g| g == id);
    let strange: Vec<&str> = jobs.keys().map(String::as_str).filter(|id| !asked(id)).collect();
    table.fact("stored, not acknowledged: the client was killed", strange.len());
    let excess = strange.len().saturating_sub(told.unheard);
    table.none("jobs that nobody asked for", &strange[..excess]);
}

/// Each start beyond the first must follow an attempt that was lost, interrupted or may be retried, and each `done` was really done.
fn duplicates(jobs: &HashMap<String, Job>, lines: &[Line], copies: Copies, table: &mut Table) {
    let mut by_job: HashMap<&str, Vec<&Line>> = HashMap::new();
    for line in lines {
        by_job.entry(&line.job).or_default().push(line);
    }
    let (mut unexpected, mut unexplained, mut overlaps) = (Vec::new(), Vec::new(), Vec::new());
    let (mut starts, mut explained, mut retries, mut done_twice) = (0, 0, 0, 0);
    for (id, lines) in &by_job {
        let Some(job) = jobs.get(*id) else {
            unexpected.push(format!("{id} ran and is not stored"));
            continue;
        };
        let mut begun: BTreeMap<u64, i64> = BTreeMap::new();
        for start in lines.iter().filter(|l| l.mark == Mark::Start) {
            starts += 1;
            if begun.insert(start.attempt, start.at).is_some() {
                unexpected.push(format!("attempt {} of {id} started twice", start.attempt));
            }
        }
        for (attempt, _) in begun.iter().rev().skip(1) {
            match job.outcomes.get(attempt).map(String::as_str) {
                Some("lost" | "interrupted") => explained += 1,
                Some("failed" | "timed_out") if job.max_attempts > 1 => retries += 1,
                other => unexplained.push(format!("{id} ran again after attempt {attempt}: {other:?}")),
            }
        }
        let ends: Vec<&Line> = lines.iter().copied().filter(|l| l.mark == Mark::End).collect();
        done_twice += usize::from(ends.len() > 1);
        // The same millisecond tells no order.
        let overlapped = |end: &&&Line| begun.range(end.attempt + 1..).next().is_some_and(|(_, at)| *at < end.at);
        overlaps.extend(ends.iter().filter(overlapped).map(|end| format!("attempt {} of {id}", end.attempt)));
    }
    unexpected.extend(jobs.iter().flat_map(|(id, job)| not_done(id, job, by_job.get(&**id))));
    table.fact("starts", starts);
    table.fact("retries of failed attempts", retries);
    table.fact("duplicates, each with its lost or interrupted attempt", explained);
    table.fact("of these ran to the end twice", done_twice);
    table.none("duplicates without a reason", &unexplained);
    table.none("unexpected", &unexpected);
    match copies {
        Copies::Never => table.none("attempts that went on beside the next one", &overlaps),
        Copies::MayOverlap => table.fact("attempts that went on beside the next one", overlaps.len()),
    }
}

/// What a job has counted must be how its attempts ended.
fn counters(jobs: &HashMap<String, Job>, table: &mut Table) {
    let wrong = jobs.iter().filter_map(|(id, job)| {
        let ended = |how: &[&str]| job.outcomes.values().filter(|o| how.contains(&o.as_str())).count() as u64;
        let counted = [job.failures, job.losses, job.interruptions];
        let were = [ended(&["failed", "timed_out"]), ended(&["lost"]), ended(&["interrupted"])];
        (counted != were).then(|| format!("{id}: failures, losses, interruptions {counted:?}, and there were {were:?}"))
    });
    table.none("counters that are not those of the attempts", &wrong.collect::<Vec<_>>());
}

/// An attempt that counts as done must have written its end.
fn not_done(id: &str, job: &Job, lines: Option<&Vec<&Line>>) -> Option<String> {
    let done = job.outcomes.iter().filter(|(_, outcome)| *outcome == "done");
    let attempts: Vec<u64> = done.map(|(attempt, _)| *attempt).collect();
    if attempts.len() > 1 {
        return Some(format!("attempts {attempts:?} of {id} are done"));
    }
    let attempt = attempts.first()?;
    let wrote = |mark| lines.is_some_and(|l| l.iter().any(|l| l.attempt == *attempt && l.mark == mark));
    (!wrote(Mark::Start) || !wrote(Mark::End)).then(|| format!("attempt {attempt} of {id} is done and did not run"))
}
