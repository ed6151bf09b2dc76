//! A job as users see it: the JSON of docs/reference/json.md, which every table and answer is made from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JobId, JobSpec, JsonText, Number, OccurrenceId, Outcome, Record, RunId, ScheduleId, State, Unread};
use crate::time::Timestamp;

/// A job as users see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md and of `JobSpec`
pub struct Job {
    pub id: JobId,
    pub number: Number,
    pub queue: String,
    pub tenant: String,
    pub name: Option<String>,
    pub state: State,
    pub priority: i32,
    pub command: Option<Vec<String>>,
    pub handler: Option<String>,
    pub payload: Option<JsonText>,
    pub labels: BTreeMap<String, String>,
    pub attempt: u32,
    pub failures: u32,
    pub losses: u32,
    pub interruptions: u32,
    pub max_attempts: u32,
    pub due_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub worker: Option<String>,
    #[serde(default, deserialize_with = "super::reading::word_given")]
    pub outcome: Option<Outcome>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub error: Option<String>,
    pub run_id: Option<RunId>,
    pub task: Option<String>,
    pub schedule_id: Option<ScheduleId>,
    pub occurrence_id: Option<OccurrenceId>,
    pub idempotency_key: Option<String>,
    pub cancel_requested_at: Option<Timestamp>,
    pub trace_id: Option<String>,
    pub progress: Option<Progress>,
    pub result: Option<JsonText>,
    /// There only where true: it was no JSON, and `result` is the text as a string.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub result_is_text: bool,
    pub reason: Option<String>,
    /// What of it cannot be read here; absent where all is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Unread>,
    /// Given by `status` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Attempt>>,
    /// Given by `status` only: the jobs it waits or waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
    /// Given by `status` only: the directory that it was given; none: the worker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Given by `status` only: the variables that it was given, without values that may be secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

/// How far a job says it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// 0…100
    pub percent: f64,
    /// What it says.
    pub text: Option<String>,
    /// When it said so.
    pub at: Timestamp,
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md
pub struct Attempt {
    pub number: u32,
    pub worker: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "super::reading::word_given")]
    pub outcome: Option<Outcome>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub error: Option<String>,
}

/// What a job said through its socket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// How far it is.
    pub progress: Option<Progress>,
    /// What it made.
    pub result: Option<JsonText>,
    /// That was no JSON: it is a text, as a string.
    pub result_is_text: bool,
}

impl Job {
    /// The view of `record`, with its current or last attempt and what it said.
    pub fn new(record: Record, last: Option<Attempt>, said: Said) -> Job {
        let Record { life, spec, captured, origin, unread, .. } = record;
        let last = last.unwrap_or_else(Attempt::none);
        let max_attempts = spec.max_attempts();
        let priority = spec.priority();
        let JobSpec { name, command, handler, payload, label, idempotency_key, .. } = spec;
        Job {
            id: record.id,
            number: record.number,
            queue: record.queue,
            tenant: record.tenant,
            name,
            state: life.state,
            priority,
            command,
            handler,
            payload,
            labels: label,
            attempt: life.attempt,
            failures: life.failures,
            losses: life.losses,
            interruptions: life.interruptions,
            max_attempts,
            due_at: life.due_at,
            created_at: record.created_at,
            started_at: last.started_at,
            finished_at: life.finished_at,
            worker: last.worker,
            outcome: last.outcome,
            exit_code: last.exit_code,
            signal: last.signal,
            error: last.error,
            run_id: origin.run_id,
            task: origin.task,
            schedule_id: origin.schedule_id,
            occurrence_id: origin.occurrence_id,
            idempotency_key,
            cancel_requested_at: life.cancel_requested_at,
            trace_id: Some(captured.trace_id(record.id)),
            progress: said.progress,
            result_is_text: said.result_is_text,
            result: said.result,
            reason: life.reason,
            unread,
            attempts: None,
            after: None,
            cwd: None,
            env: None,
        }
    }

    /// What it runs, on one line, as a person would type it.
    pub fn title(&self) -> String {
        if self.command.is_none() && self.handler.is_none() && self.unread.is_some() {
            return "(unreadable)".to_owned();
        }
        title(self.command.as_deref(), self.handler.as_deref())
    }
}

/// A command or handler on one line, as a person would type it.
pub(super) fn title(command: Option<&[String]>, handler: Option<&str>) -> String {
    match (command, handler) {
        (Some(command), _) => command.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "),
        (None, Some(handler)) => format!("[{handler}]"),
        (None, None) => String::new(),
    }
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    match !arg.is_empty() && arg.chars().all(plain) {
        true => arg.to_owned(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    }
}

impl Attempt {
    fn none() -> Attempt {
        Attempt {
            number: 0,
            worker: None,
            started_at: None,
            finished_at: None,
            outcome: None,
            exit_code: None,
            signal: None,
            error: None,
        }
    }
}
