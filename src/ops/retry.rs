//! An operator's retry: a new generation (S10).

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::naming::name_holder;
use super::select::MAX_SELECTED;
use super::tenancy::{check_jobs, load_mine};
use super::transition::{By, Gate, admit, change, gate, meets};
use super::{Access, Caller, Op, Scopes, status_of};
use crate::error::{Error, Kind, Result};
use crate::job::many::at_most;
use crate::job::reading::Misread;
use crate::job::{EventKind, JobId, Number, Record, State};
use crate::store::{Edge, KeyHolder, Tx};

/// Runs failed or cancelled jobs again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Retry {
    /// The jobs.
    #[serde(deserialize_with = "at_most::<MAX_SELECTED, _, _>")]
    pub numbers: Vec<Number>,
    /// Leave skipped those that were skipped because of them.
    #[serde(default)]
    pub only: bool,
}

/// A job that was retried, or revived with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryReply {
    /// The job.
    pub number: Number,
    /// Its id.
    pub id: JobId,
    /// Its state now.
    pub state: State,
    /// Whether it was skipped because of one that was named.
    pub revived: bool,
}

impl Op for Retry {
    type Reply = Vec<RetryReply>;
    const NAME: &'static str = "retry";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let by = By { actor: Some(&caller.actor), worker: None };
        let mut replies = Vec::new();
        tx.hold_runs(&self.numbers)?;
        for number in &self.numbers {
            let job = load_mine(caller, tx, *number)?;
            if let Some(reply) = replies.iter_mut().find(|reply: &&mut RetryReply| reply.number == *number) {
                reply.revived = false; // it came back with one that was named before
                continue;
            }
            check_read(&job)?;
            let waiting = waiting(tx, &job)?;
            let life = job.life.clone().retry(waiting, tx.now()).map_err(|refused| {
                let hint = match refused.state {
                    State::Skipped => "retry the job that it needs",
                    State::Done => "enqueue it again to run it once more",
                    _ => "it has not ended",
                };
                Error::from(refused).context(format_args!("job {number}")).hint(hint)
            })?;
            come_back(tx, &job)?;
            tx.unbury(&[*number])?;
            change(tx, &job, &life, EventKind::Retried, by, Value::Null)?;
            replies.push(RetryReply { number: *number, id: job.id, state: life.state, revived: false });
            if !self.only {
                revive_dependants(tx, *number, by, &mut replies)?;
                revive_stopped(tx, &job, by, &mut replies)?;
            }
        }
        Ok(replies)
    }

    fn check(&self) -> String {
        status_of(&self.numbers)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Self::Reply>> {
        check_jobs(caller, tx, &self.numbers)?;
        let jobs = tx.load(&self.numbers)?;
        if jobs.len() < self.numbers.len() || jobs.iter().any(|job| job.life.state.is_terminal()) {
            // Retried and ended again, or not retried: both look like this.
            return Err(Error::new(Kind::Unknown, "whether they were retried is unknown"));
        }
        let reply = |job: Record| RetryReply { number: job.number, id: job.id, state: job.life.state, revived: false };
        Ok(Some(jobs.into_iter().map(reply).collect()))
    }
}

/// Refuses to run again what cannot be read here: it would never be started (S29).
fn check_read(job: &Record) -> Result<()> {
    let Some(unread) = &job.unread else { return Ok(()) };
    let hint = match unread.why {
        Misread::Newer => "retry it with the orx that made it".to_owned(),
        Misread::Unreadable => format!("enqueue it anew; 'orx dlq discard {}' throws its dead letter away", job.number),
    };
    Err(Error::conflict(format!("job {}: {unread}", job.number)).hint(hint))
}

/// The edges of a job that is run again: those that are broken are waited for no longer.
fn waiting(tx: &mut dyn Tx, job: &Record) -> Result<u32> {
    let mut open = 0;
    for (edge, state) in needs(tx, job)? {
        match state {
            Some(state) if !edge.satisfied && !state.is_terminal() => open += 1,
            _ => tx.put_edges(&[Edge { satisfied: true, ..edge }])?,
        }
    }
    Ok(open)
}

/// What a job needs, with the state of that. The edge to itself of a run that waits for another is open until that one
/// has ended: then it needs nothing that is.
fn needs(tx: &mut dyn Tx, job: &Record) -> Result<Vec<(Edge, Option<State>)>> {
    let mut needs = tx.needs(job.number)?;
    if let Some((_, state)) = needs.iter_mut().find(|(edge, _)| edge.needs == job.number && !edge.satisfied) {
        let run = job.origin.run_id.map(|id| tx.run(id)).transpose()?.flatten();
        let waits = run.is_some_and(|run| run.life.behind.is_some());
        *state = waits.then_some(State::Blocked);
    }
    Ok(needs)
}

/// Takes back name and key, and counts against the limits (S10, S13, S15).
fn come_back(tx: &mut dyn Tx, job: &Record) -> Result<()> {
    admit(tx, job.lane).map_err(|e| e.context(format_args!("job {}", job.number)))?;
    if let Some(name) = &job.spec.name {
        if let Some(Record { number: holder, .. }) = name_holder(tx, &job.tenant, name)? {
            return Err(Error::conflict(format!("job {}: its name {name} is taken by job {holder} now", job.number))
                .hint(format!("wait for job {holder}, or cancel it")));
        }
        tx.hold_name(&job.tenant, name, job.number)?;
    }
    take_back_key(tx, job)
}

/// A job that lives again keeps its key, or takes it back unless another job has it by now.
fn take_back_key(tx: &mut dyn Tx, job: &Record) -> Result<()> {
    let Some(key) = &job.spec.idempotency_key else { return Ok(()) };
    match tx.key_holder(&job.tenant, key)? {
        Some(holder) if holder.number != job.number => Ok(()),
        _ => {
            let holder = KeyHolder { number: job.number, id: job.id, fingerprint: job.spec.fingerprint(), ended: None };
            tx.keep_key(&job.tenant, key, &holder)
        }
    }
}

/// Brings back the jobs that were skipped because of `source`, and those skipped because of them.
fn revive_dependants(tx: &mut dyn Tx, source: Number, by: By, replies: &mut Vec<RetryReply>) -> Result<()> {
    let mut sources = VecDeque::from([source]);
    while let Some(source) = sources.pop_front() {
        for edge in tx.dependants(&[source])? {
            let Some(job) = tx.load(&[edge.number])?.pop() else { continue };
            if job.life.state != State::Skipped || job.unread.is_some() {
                continue;
            }
            let Some(state) = revive(tx, &job, json!({ "because": source }), by)? else {
                continue; // another job that it needs did not succeed either
            };
            replies.push(RetryReply { number: job.number, id: job.id, state, revived: true });
            sources.push_back(job.number);
        }
    }
    Ok(())
}

/// Brings back a skipped job, unless something that it needs did not succeed.
fn revive(tx: &mut dyn Tx, job: &Record, data: Value, by: By) -> Result<Option<State>> {
    let edges = needs(tx, job)?;
    let states = edges.iter().filter_map(|(e, state)| state.map(|s| (e.needs, e.until, s)));
    let Gate::Waiting(open) = gate(states) else { return Ok(None) };
    let again =
        edges.into_iter().map(|(edge, state)| Edge { satisfied: state.is_none_or(|s| meets(edge.until, s)), ..edge });
    tx.put_edges(&again.collect::<Vec<_>>())?;
    come_back(tx, job)?;
    let life = job.life.clone().revive(&job.spec, job.created_at, open, tx.now())?;
    change(tx, job, &life, EventKind::Revived, by, data)?;
    Ok(Some(life.state))
}

/// Brings back what the end of `job` made its run end: skipped tasks, and those that were cancelled while they ran (S10).
fn revive_stopped(tx: &mut dyn Tx, job: &Record, by: By, replies: &mut Vec<RetryReply>) -> Result<()> {
    let Some(id) = job.origin.run_id else { return Ok(()) };
    let Some(run) = tx.run(id)? else { return Ok(()) };
    let Some(stop) = run.life.stop.filter(|_| run.life.cancels == 0) else { return Ok(()) };
    let numbers: Vec<Number> = tx.tasks(run.seq, false)?.into_iter().map(|(number, _)| number).collect();
    // In the order of their numbers: each after those that it needs.
    let stopped = |job: &Record| job.life.reason.as_ref() == Some(&stop) && job.unread.is_none();
    for job in tx.load(&numbers)?.into_iter().filter(stopped) {
        let data = json!({ "because": "the run goes on" });
        let back = match job.life.state {
            State::Skipped => revive(tx, &job, data, by)?,
            State::Cancelled => {
                let waiting = waiting(tx, &job)?;
                come_back(tx, &job)?;
                let life = job.life.clone().retry(waiting, tx.now())?;
                change(tx, &job, &life, EventKind::Retried, by, data)?;
                Some(life.state)
            }
            _ => None,
        };
        if let Some(state) = back {
            replies.push(RetryReply { number: job.number, id: job.id, state, revived: true });
        }
    }
    Ok(())
}
