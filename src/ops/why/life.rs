//! What the life of a job says about why it does not run.

use super::super::quarantine;
use super::{Cause, CauseKind, MAX_NAMED};
use crate::error::Result;
use crate::job::reading::{Misread, Unread};
use crate::job::spec::Until;
use crate::job::{Record, State};
use crate::store::{Holding, Tx};
use crate::time::Timestamp;

/// What of it cannot be read here.
pub(super) fn unread(tx: &mut dyn Tx, job: &Record) -> Result<Option<Cause>> {
    let Some(unread) = &job.unread else { return Ok(None) };
    let waits = !job.life.state.is_terminal();
    Ok(Some(match unread.why {
        Misread::Newer => {
            let cause = Cause::new(CauseKind::Newer, format!("{unread}; only an orx that knows it runs the job"));
            if waits { cause.remedy("orx worker, of the version that made the job") } else { cause }
        }
        Misread::Unreadable if !waits => Cause::new(CauseKind::Unreadable, unread.to_string())
            .remedy(format!("enqueue it anew; orx dlq discard {} throws its dead letter away", job.number)),
        Misread::Unreadable if quarantine::is_stopped(tx)? => {
            let message =
                format!("{unread}; {} such jobs were put aside, and an operator is to look", quarantine::MOST);
            Cause::new(CauseKind::Unreadable, message).remedy("orx db check, then orx db quarantine --go-on")
        }
        Misread::Unreadable => {
            let message = format!("{unread}; it is put aside when a worker comes to it");
            Cause::new(CauseKind::Unreadable, message).remedy(format!("orx cancel {}", job.number))
        }
    }))
}

/// What of a schedule cannot be read here.
pub(super) fn unread_schedule(unread: &Unread, name: &str) -> Cause {
    match unread.why {
        Misread::Newer => Cause::new(CauseKind::Newer, format!("{unread}; it fires where an orx that knows it leads"))
            .remedy("update this orx"),
        Misread::Unreadable => Cause::new(CauseKind::Unreadable, unread.to_string())
            .remedy(format!("orx schedule remove {name}, and add it anew")),
    }
}

/// What the job's own life says.
pub(super) fn causes(tx: &mut dyn Tx, job: &Record) -> Result<Vec<Cause>> {
    let life = &job.life;
    let now = tx.now();
    Ok(match life.state {
        State::Running => running(tx, job)?,
        state if state.is_terminal() => {
            let why = life.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let how = if state == State::Failed { last_words(tx, job)? } else { String::new() };
            let cause = Cause::new(CauseKind::Ended, format!("it is {state}{why}{how}"));
            let again = matches!(state, State::Failed | State::Cancelled) && job.unread.is_none();
            vec![if again { cause.remedy(format!("orx retry {}", job.number)) } else { cause }]
        }
        State::Blocked => vec![blocked(tx, job)?],
        State::Scheduled if life.due_at.is_some_and(|at| at > now) => {
            let at = life.due_at;
            vec![
                match (life.failures, life.streak) {
                    _ if life.unstarted > 0 => not_started(tx, job)?,
                    (1.., _) => {
                        let of = job.spec.max_attempts();
                        Cause::new(
                            CauseKind::Backoff,
                            format!("{} of {of} attempts failed; it waits for the next", life.failures),
                        )
                    }
                    (0, 1..) => Cause::new(CauseKind::Backoff, "it asked to be tried again later, or is started again"),
                    _ => Cause::new(CauseKind::NotDue, "it is to start later"),
                }
                .until(at),
            ]
        }
        _ => Vec::new(),
    })
}

/// Who runs it, and what is wrong with that.
fn running(tx: &mut dyn Tx, job: &Record) -> Result<Vec<Cause>> {
    let lease = tx.holdings(Some(job.number), 1)?.pop();
    let last = tx.latest(&[job.number])?.pop().and_then(|(attempt, _)| attempt?.worker);
    let on = last.map(|worker| format!(" on {worker}")).unwrap_or_default();
    let mut causes = Vec::new();
    let neglected = lease.filter(Holding::is_neglected);
    let is_lost = neglected.is_some();
    if let Some(lease) = neglected {
        causes.push(lost(lease, job.life.attempt, tx.now()));
    }
    if let Some(at) = job.life.cancel_requested_at {
        let message = format!("it was asked to end at {at}, and has not ended");
        let kill = format!("orx cancel {} --signal KILL --grace 0s", job.number);
        causes.push(Cause::new(CauseKind::Cancelling, message).remedy(kill));
    }
    if !is_lost {
        causes.push(Cause::new(CauseKind::Running, format!("attempt {} runs{on}", job.life.attempt)));
    }
    Ok(causes)
}

/// Its worker does not renew the lease: it is dead, stopped, or cut off.
fn lost(lease: Holding, attempt: u32, now: Timestamp) -> Cause {
    let message = format!(
        "attempt {attempt} runs on {}, which is lost: it does not renew its lease, and the job is free when that is over",
        lease.name
    );
    let remedy = format!("orx worker --name {} on its machine takes the job back at once", lease.name);
    Cause::new(CauseKind::WorkerLost, message).remedy(remedy).until(Some(now.plus(lease.remains)))
}

/// How its last attempt ended.
fn last_words(tx: &mut dyn Tx, job: &Record) -> Result<String> {
    let Some((Some(last), _)) = tx.latest(&[job.number])?.pop() else { return Ok(String::new()) };
    let code = last.exit_code.map(|code| format!("exit code {code}"));
    let signal = last.signal.map(|signal| format!("signal {signal}"));
    let words: Vec<String> = code.or(signal).into_iter().chain(last.error).collect();
    Ok(if words.is_empty() { String::new() } else { format!("; the last attempt: {}", words.join(": ")) })
}

/// Its program never ran, and it waits for the next attempt.
fn not_started(tx: &mut dyn Tx, job: &Record) -> Result<Cause> {
    let last = tx.latest(&[job.number])?.pop().and_then(|(attempt, _)| attempt);
    let (worker, error) = last.map(|attempt| (attempt.worker, attempt.error)).unwrap_or_default();
    let on = worker.map(|worker| format!(" on {worker}")).unwrap_or_default();
    let why = error.map(|error| format!(": {error}")).unwrap_or_default();
    let message = format!("attempt {} did not start{on}{why}; it waits for the next", job.life.attempt);
    Ok(Cause::new(CauseKind::Backoff, message))
}

fn blocked(tx: &mut dyn Tx, job: &Record) -> Result<Cause> {
    let open: Vec<_> = tx.needs(job.number)?.into_iter().filter(|(edge, _)| !edge.satisfied).collect();
    // An edge to itself waits for another run.
    let others: Vec<_> = open.iter().filter(|(edge, _)| edge.needs != job.number).collect();
    let mut words: Vec<String> = others
        .iter()
        .take(MAX_NAMED)
        .map(|(edge, state)| {
            let end = if edge.until == Until::Done { "be done" } else { "end" };
            let state = state.map(|state| format!(" ({state})")).unwrap_or_default();
            format!("job {}{state} to {end}", edge.needs)
        })
        .collect();
    if others.len() < open.len() {
        words.push("the run before its own to end".into());
    }
    let cause = Cause::new(CauseKind::Blocked, format!("it waits for {}", words.join(", ")));
    let first = others.first().map(|(edge, _)| edge.needs);
    let cause = cause.jobs(others.iter().map(|(edge, _)| edge.needs));
    Ok(match first {
        Some(number) => cause.remedy(format!("orx why {number}")),
        None => cause,
    })
}
