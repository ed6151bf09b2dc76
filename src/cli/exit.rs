//! The exit code of `run`, and of `wait` on one job (docs/reference/exit-codes.md).

use crate::error::Kind;
use crate::job::state::reason;
use crate::job::{Job, Outcome, State};
use crate::worker::NOT_STARTED;

/// An attempt took too long.
const TIMED_OUT: u8 = 124;
/// orx ended it: it says why on standard error.
const ORX: u8 = 125;
/// Somebody cancelled it.
const CANCELLED: u8 = 130;

/// The exit code of orx's own errors where the small numbers are the job's.
pub(super) fn own_error(kind: Kind) -> u8 {
    match kind {
        Kind::TimedOut => kind.exit_code(), // the job lives on
        _ => ORX,
    }
}

/// The exit code that stands for how `job` ended.
pub(super) fn exit_code(job: &Job) -> u8 {
    let why = job.reason.as_deref();
    match job.state {
        State::Done => 0,
        State::Cancelled if why == Some(reason::EXPIRED) => ORX,
        State::Cancelled => CANCELLED,
        State::Failed
            if matches!(why, Some(reason::POISON | reason::LOST | reason::CANNOT_START | reason::UNREADABLE)) =>
        {
            ORX
        }
        State::Failed if job.outcome == Some(Outcome::TimedOut) => TIMED_OUT,
        State::Failed => own_code(job).unwrap_or(ORX),
        _ => ORX,
    }
}

/// What a person should read when the exit code is not the program's own: nothing else says it.
pub(super) fn explain(job: &Job) -> Option<String> {
    let said = job.error.as_deref();
    let why = match job.state {
        State::Failed if job.outcome == Some(Outcome::TimedOut) => said?.to_owned(),
        State::Failed if said.is_some_and(|e| e.starts_with(NOT_STARTED)) => said?.to_owned(),
        State::Failed if exit_code(job) == ORX => job.reason.clone()?,
        State::Failed => format!("ended by {}", super::cancel::signal_name(job.signal?)),
        State::Skipped => format!("skipped: {}", job.reason.as_deref()?),
        State::Cancelled => format!("cancelled: {}", job.reason.as_deref()?),
        _ => return None,
    };
    Some(format!("orx: job {}: {why}", job.number))
}

fn own_code(job: &Job) -> Option<u8> {
    match (job.exit_code, job.signal) {
        (Some(code), _) => u8::try_from(code).ok().filter(|c| *c != 0),
        (None, Some(signal)) => u8::try_from(128 + signal).ok(),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(json: &str) -> Job {
        let all = r#"{"id":"00000000-0000-0000-0000-000000000000","number":1,"queue":"q","tenant":"t","priority":0,
            "labels":{},"attempt":1,"failures":0,"losses":0,"interruptions":0,"max_attempts":1,
            "created_at":"2026-01-01T00:00:00Z"}"#;
        let mut value: serde_json::Value = serde_json::from_str(all).unwrap();
        let more: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
        value.as_object_mut().unwrap().extend(more);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn codes_are_those_of_the_reference() {
        for (json, code) in [
            (r#"{"state":"done","exit_code":0}"#, 0),
            (r#"{"state":"failed","outcome":"failed","exit_code":7}"#, 7),
            (r#"{"state":"failed","outcome":"failed","exit_code":126}"#, 126),
            (r#"{"state":"failed","outcome":"failed","exit_code":127}"#, 127),
            (r#"{"state":"failed","outcome":"failed","signal":9}"#, 137),
            (r#"{"state":"failed","outcome":"timed_out","signal":15}"#, 124),
            (r#"{"state":"failed","outcome":"timed_out","exit_code":0}"#, 124),
            (r#"{"state":"failed","outcome":"lost","reason":"poison"}"#, 125),
            (r#"{"state":"failed","outcome":"lost","reason":"lost"}"#, 125),
            (r#"{"state":"failed","outcome":"not_started","reason":"cannot start","error":"making a pipe"}"#, 125),
            (r#"{"state":"failed","outcome":"snoozed","exit_code":75,"reason":"snoozed out"}"#, 75),
            (r#"{"state":"cancelled","reason":"expired"}"#, 125),
            (r#"{"state":"cancelled","signal":15,"reason":"because"}"#, 130),
            (r#"{"state":"skipped"}"#, 125),
        ] {
            assert_eq!(exit_code(&job(json)), code, "{json}");
        }
    }
}
