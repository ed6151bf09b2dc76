//! What each kind of thing shows in a table.

use super::words::{ending, relative, took};
use super::{Row, Text, Tone};
use crate::job::audit::Breach;
use crate::job::reading::Misread;
use crate::job::state::reason;
use crate::job::{Attempt, Event, Job, Outcome, State};
use crate::ops::cancel::{CancelReply, Did};
use crate::ops::dead_letters::DeadLetter;
use crate::ops::retry::RetryReply;
use crate::ops::why::Explanation;
use crate::store::{Finding, LetterGroup, NamedLimit, QueueTotals, Tenant, Worker, WorkerState};
use crate::time::Timestamp;
use crate::worker::NOT_STARTED;

impl Row for Job {
    const HEADERS: &'static [&'static str] = &["JOB", "STATE", "QUEUE", "NAME", "AGE", "TOOK", "COMMAND", "NOTE"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let end = (self.state != State::Running).then_some(self.finished_at).flatten();
        let took = match self.state {
            State::Running | State::Done | State::Failed | State::Cancelled => took(self.started_at, end, now),
            _ => String::new(),
        };
        vec![
            Text::new(self.number.to_string()),
            Text::state(self.state),
            Text::new(&self.queue),
            Text::new(self.name.clone().unwrap_or_default()),
            Text::dim(relative(self.created_at, now)),
            Text::new(took),
            Text::new(self.title()),
            Text::dim(note(self, now)),
        ]
    }
}

/// What else a person wants to know of a job, in a few words.
fn note(job: &Job, now: Timestamp) -> String {
    let tries = match (job.failures, job.max_attempts) {
        (1.., 2..) if job.reason.as_deref() != Some(reason::FATAL) => {
            format!("{} of {} failed", job.failures, job.max_attempts)
        }
        _ => String::new(),
    };
    let more = match job.state {
        State::Scheduled => job.due_at.map(|at| relative(at, now)).unwrap_or_default(),
        State::Running if job.cancel_requested_at.is_some() => "cancelling".into(),
        State::Running => job
            .progress
            .as_ref()
            .map(|p| format!("{:.0} % {}", p.percent, p.text.as_deref().unwrap_or_default()).trim_end().to_owned())
            .unwrap_or_default(),
        State::Failed if job.outcome == Some(Outcome::TimedOut) => job.error.clone().unwrap_or_default(),
        State::Failed => {
            let how = ending(job.exit_code, job.signal);
            let why = job.reason.as_deref().filter(|r| *r != reason::ATTEMPTS).unwrap_or_default();
            let started = job.error.as_deref().filter(|e| e.starts_with(NOT_STARTED)).unwrap_or_default();
            [why, &how, started].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ")
        }
        State::Cancelled | State::Skipped => job.reason.clone().unwrap_or_default(),
        _ => String::new(),
    };
    let unread = match &job.unread {
        Some(unread) if unread.why == Misread::Newer => "a newer orx made it",
        Some(_) if !job.state.is_terminal() => reason::UNREADABLE,
        _ => "", // what cannot be read has that as its reason
    };
    [unread.to_owned(), tries, more].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ")
}

impl Row for Attempt {
    const HEADERS: &'static [&'static str] = &["ATTEMPT", "OUTCOME", "WORKER", "STARTED", "TOOK", "ENDED BY", "ERROR"];

    fn id(&self) -> String {
        self.number.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let outcome = match self.outcome {
            None if self.finished_at.is_some() => Text::dim("unknown"), // a word of a newer orx
            None => Text::toned("running", Tone::Busy),
            Some(o @ Outcome::Done) => Text::toned(o.as_str(), Tone::Good),
            Some(o @ (Outcome::Failed | Outcome::TimedOut | Outcome::Lost)) => Text::toned(o.as_str(), Tone::Bad),
            Some(o) => Text::dim(o.as_str()),
        };
        vec![
            Text::new(self.number.to_string()),
            outcome,
            Text::new(self.worker.clone().unwrap_or_default()),
            Text::dim(self.started_at.map(|t| relative(t, now)).unwrap_or_default()),
            Text::new(took(self.started_at, self.finished_at, now)),
            Text::new(ending(self.exit_code, self.signal)),
            Text::dim(self.error.clone().unwrap_or_default()),
        ]
    }
}

impl Row for QueueTotals {
    const HEADERS: &'static [&'static str] = &[
        "QUEUE",
        "BLOCKED",
        "SCHEDULED",
        "PENDING",
        "RUNNING",
        "DONE",
        "FAILED",
        "CANCELLED",
        "SKIPPED",
        "OLDEST",
        "LIMITS",
        "",
    ];

    fn id(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let mut cells = vec![Text::new(&self.name)];
        cells.extend(State::ALL.map(|state| match self.counts.get(&state) {
            Some(0) | None => Text::dim("0"),
            Some(n) => Text::toned(n.to_string(), super::tone_of(state)),
        }));
        cells.push(Text::new(self.oldest_pending_at.map(|t| relative(t, now)).unwrap_or_default()));
        let limit = |what: &str, n: Option<u32>| n.map(|n| format!("{what} {n}"));
        let limits = [
            limit("running", self.limits.max_running),
            limit("queued", self.limits.max_queued),
            limit("a minute", self.limits.per_minute),
            limit("payload", self.limits.max_payload),
        ];
        cells.push(Text::dim(limits.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        let marks = [self.paused.then_some("paused"), (!self.shared).then_some("not shared")];
        cells.push(Text::toned(marks.into_iter().flatten().collect::<Vec<_>>().join(", "), Tone::Waiting));
        cells
    }
}

impl Row for Tenant {
    const HEADERS: &'static [&'static str] = &["TENANT", "QUEUED", "OF", "RUNNING", "OF", "A MINUTE", "PAYLOAD"];

    fn id(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let max = |n: Option<u32>| Text::dim(n.map_or("any".into(), |n| n.to_string()));
        vec![
            Text::new(&self.name),
            Text::new(self.queued.to_string()),
            max(self.limits.max_queued),
            Text::new(self.running.to_string()),
            max(self.limits.max_running),
            max(self.limits.per_minute),
            max(self.limits.max_payload),
        ]
    }
}

impl Row for NamedLimit {
    const HEADERS: &'static [&'static str] = &["LIMIT", "TENANT", "RUNNING", "OF"];

    fn id(&self) -> String {
        self.key.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        vec![
            Text::new(&self.key),
            Text::new(&self.tenant),
            Text::new(self.running.to_string()),
            Text::dim(self.max_running.to_string()),
        ]
    }
}

impl Row for Worker {
    const HEADERS: &'static [&'static str] =
        &["WORKER", "STATE", "SLOTS", "JOBS", "QUEUES", "LABELS", "PID", "SEEN", "VERSION"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let tone = match self.state {
            _ if self.trouble.is_some() => Tone::Bad,
            WorkerState::Active => Tone::Good,
            WorkerState::Draining => Tone::Waiting,
            WorkerState::Lost => Tone::Bad,
        };
        let some = |list: Vec<String>, none: &str| if list.is_empty() { none.to_owned() } else { list.join(",") };
        let labels = self.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let running = self.running.iter().map(i64::to_string).collect();
        vec![
            Text::new(&self.name),
            Text::toned(self.state.as_str(), tone),
            Text::new(format!("{}/{}", self.running.len(), self.slots)),
            Text::new(some(running, "-")),
            Text::new(some(self.queues.clone(), "all")),
            Text::new(some(labels, "")),
            Text::dim(self.pid.to_string()),
            Text::dim(relative(self.heartbeat_at, now)),
            Text::dim(&self.version),
        ]
    }
}

impl Row for CancelReply {
    const HEADERS: &'static [&'static str] = &["JOB", "STATE", "DID"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let did = match self.did {
            Did::Cancelled => "cancelled",
            Did::Requested => "its worker has been asked to end it",
            Did::TooLate => "too late: it had ended",
        };
        vec![Text::new(self.number.to_string()), Text::state(self.state), Text::new(did)]
    }
}

impl Row for RetryReply {
    const HEADERS: &'static [&'static str] = &["JOB", "STATE", "DID"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let did = if self.revived { "revived with the job that it needs" } else { "retried" };
        vec![Text::new(self.number.to_string()), Text::state(self.state), Text::new(did)]
    }
}

impl Row for Explanation {
    const HEADERS: &'static [&'static str] = &["OF", "STATE", "CAUSE"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let cause = self.causes.first().map(|cause| cause.message.clone()).unwrap_or_default();
        vec![Text::new(&self.what), Text::new(&self.state), Text::new(cause)]
    }
}

impl Row for DeadLetter {
    const HEADERS: &'static [&'static str] = &["JOB", "REASON", "QUEUE", "NAME", "DIED", "COMMAND", "ERROR"];

    fn id(&self) -> String {
        self.job.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        vec![
            Text::new(self.job.number.to_string()),
            Text::toned(&self.reason, Tone::Bad),
            Text::new(&self.job.queue),
            Text::new(self.job.name.clone().unwrap_or_default()),
            Text::dim(relative(self.died_at, now)),
            Text::new(self.job.title()),
            Text::dim(self.error.clone().unwrap_or_else(|| ending(self.job.exit_code, self.job.signal))),
        ]
    }
}

impl Row for LetterGroup {
    const HEADERS: &'static [&'static str] = &["COUNT", "FINGERPRINT", "FIRST", "LAST", "SAMPLE"];

    fn id(&self) -> String {
        self.sample.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        vec![
            Text::toned(self.count.to_string(), Tone::Bad),
            Text::new(&self.fingerprint),
            Text::dim(relative(self.first_at, now)),
            Text::dim(relative(self.last_at, now)),
            Text::new(self.sample.to_string()),
        ]
    }
}

impl Row for Finding {
    const HEADERS: &'static [&'static str] = &["BROKEN", "FOUND"];

    fn id(&self) -> String {
        self.check.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        vec![Text::toned(&self.check, Tone::Bad), Text::new(&self.message)]
    }
}

impl Row for Breach {
    const HEADERS: &'static [&'static str] = &["SEQ", "JOB", "BROKEN", "FOUND"];

    fn id(&self) -> String {
        self.seq.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        vec![
            Text::new(self.seq.to_string()),
            Text::new(self.number.map(|n| n.to_string()).unwrap_or_default()),
            Text::toned(&self.invariant, Tone::Bad),
            Text::new(&self.message),
        ]
    }
}

impl Row for Event {
    const HEADERS: &'static [&'static str] = &["SEQ", "AT", "KIND", "JOB", "ATTEMPT", "WORKER", "ACTOR", "DATA"];

    fn id(&self) -> String {
        self.seq.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default();
        vec![
            Text::dim(self.seq.to_string()),
            Text::dim(self.at.to_string()),
            Text::new(self.kind.as_str()),
            Text::new(number(self.number)),
            Text::new(number(self.attempt.map(i64::from))),
            Text::new(self.worker.clone().unwrap_or_default()),
            Text::new(self.actor.clone().unwrap_or_default()),
            Text::dim(self.data.to_string()),
        ]
    }
}
