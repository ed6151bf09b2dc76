//! What a person asks for when submitting a job, and whether it makes sense.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use super::captured::Captured;
use super::ids::JobId;
use super::json_text::JsonText;
use super::names::text;
use super::origin::Origin;
use super::retry::{Backoff, CodeSet};
pub use super::secrets::secret_name;
pub use super::words::{After, Bytes, KeyLimit};
use super::words::{once, one_or_many};
use crate::error::{Error, Result};
use crate::time::{Span, Timestamp};

/// The largest payload or standard input of a job, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;
/// The largest sum of arguments and environment, in bytes; below Linux's limit for one exec.
pub const MAX_ARGS: usize = 1024 * 1024;
/// The most labels of a job.
pub const MAX_LABELS: usize = 64;
/// The most jobs that one job may wait for.
pub const MAX_AFTER: usize = 10_000;
/// The longest queue, tenant, label key or limit key, in bytes.
pub const MAX_WORD: usize = 128;
/// The longest name, idempotency key or label value, in bytes.
pub const MAX_NAME: usize = 255;
/// How many limit a count of attempts, losses or snoozes may have.
pub(super) const MAX_COUNT: u32 = 1_000_000;

/// A job as asked for: the options of `orx enqueue` and the fields of an NDJSON line, absent where not given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobSpec {
    /// The program and its arguments; never a shell line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// A handler of the worker, instead of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// What the handler gets as JSON.
    #[serde(skip_serializing_if = "Option::is_none", with = "super::json_text::present")]
    #[schemars(with = "Option<JsonText>")]
    pub payload: Option<JsonText>,
    /// The queue; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Who it belongs to; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A name that no other unfinished job of the tenant has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What to do when the name is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<OnConflict>,
    /// −100…100, higher first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How long to wait before it may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// When it may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Cancelled as `expired` when it has not started this long after it was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// Failures that make it a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Waits between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// The only exit codes that are tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_codes: Option<CodeSet>,
    /// Exit codes that are never tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fatal_codes: Option<CodeSet>,
    /// Lost leases that are forgiven; 0: it must not run twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_losses: Option<u32>,
    /// Consecutive exits with 75 that are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_snoozes: Option<u32>,
    /// Labels that its worker must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "once")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub require: BTreeMap<String, String>,
    /// How long an attempt may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Time between SIGTERM and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_grace: Option<Span>,
    /// How long the job may be silent on its socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<Span>,
    /// `always`: a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Jobs to wait for.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<After>")]
    pub after: Vec<After>,
    /// The same key never makes a second job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Metadata for people and selectors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", alias = "labels", deserialize_with = "once")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub label: BTreeMap<String, String>,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "once")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub env: BTreeMap<String, String>,
    /// Environment variables that the worker reads from files of its machine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "once")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub env_from_file: BTreeMap<String, String>,
    /// The directory it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// What it reads from standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Bytes>,
    /// At most N running that share the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<KeyLimit>,
}

/// One job to be stored, under an id that the caller made so that a retry never doubles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Submission {
    /// The job's id.
    pub id: JobId,
    /// What is asked for.
    pub spec: JobSpec,
    /// What surrounds it; jobs submitted together share it.
    #[serde(default)]
    pub captured: Arc<Captured>,
    /// Where it comes from: made by Ops, and never believed of a caller.
    #[serde(skip)]
    pub origin: Origin,
    /// Where it stands in the caller's input (from 1), so that an error can say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// What to do when a name is taken by an unfinished job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Refuse the new one.
    #[default]
    Reject,
    /// Answer with the one that holds it.
    Return,
    /// Cancel the holder and take its place (S12).
    Replace,
}

/// Whether a job runs again after it ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// For ever: a service (S6).
    Always,
}

/// What an edge waits for (S9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Success.
    #[default]
    Done,
    /// Any terminal state.
    Ended,
}

impl JobSpec {
    /// What it runs, on one line, as a person would type it.
    pub fn title(&self) -> String {
        super::view::title(self.command.as_deref(), self.handler.as_deref())
    }

    /// The queue in effect.
    pub fn queue(&self) -> &str {
        self.queue.as_deref().unwrap_or("default")
    }

    /// The tenant in effect.
    pub fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or("default")
    }

    /// Gives it to the tenant of whoever is bound to one, where it says nothing.
    pub fn bind(&mut self, tenant: Option<&str>) {
        self.tenant = self.tenant.take().or_else(|| tenant.map(str::to_owned));
    }

    /// The priority in effect.
    pub fn priority(&self) -> i32 {
        self.priority.unwrap_or(0)
    }

    /// The number of failures that end it.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(1)
    }

    /// The number of lost leases that are forgiven.
    pub fn max_losses(&self) -> u32 {
        self.max_losses.unwrap_or(3)
    }

    /// The number of consecutive snoozes that are allowed.
    pub fn max_snoozes(&self) -> u32 {
        self.max_snoozes.unwrap_or(100)
    }

    /// The time between SIGTERM and SIGKILL.
    pub fn kill_grace(&self) -> Span {
        self.kill_grace.unwrap_or(Span::from_secs(10))
    }

    /// Whether it is a service.
    pub fn is_service(&self) -> bool {
        self.restart.is_some()
    }

    /// Whether whoever submits it decides what is executed: by a command, or by what surrounds a handler, such as its PATH.
    pub fn needs_exec(&self, captured: &Captured) -> bool {
        self.command.is_some()
            || !self.env.is_empty()
            || !self.env_from_file.is_empty()
            || self.cwd.is_some()
            || captured.has_surroundings()
    }

    /// What an idempotency key compares: the SHA-256 of the options as given (S13).
    pub fn fingerprint(&self) -> [u8; 32] {
        // Maps are ordered and absent options are left out, so equal specs have equal text once their payloads have.
        let payload = self.payload.as_ref().and_then(|payload| payload.canonical().parse().ok());
        let text = match payload {
            Some(payload) => serde_json::to_vec(&Self { payload: Some(payload), ..self.clone() }),
            None => serde_json::to_vec(self),
        };
        Sha256::digest(text.unwrap_or_default()).into()
    }

    /// Refuses what can never run or is out of range.
    ///
    /// # Errors
    /// `Usage`, naming the field.
    pub fn check(&self) -> Result<()> {
        self.check_program()?;
        word("queue", self.queue.as_deref())?;
        word("tenant", self.tenant.as_deref())?;
        word("limit", self.limit.as_ref().map(|l| l.key.as_str()))?;
        text("name", self.name.as_deref())?;
        text("idempotency_key", self.idempotency_key.as_deref())?;
        for (field, map) in [("label", &self.label), ("require", &self.require)] {
            if map.len() > MAX_LABELS {
                return Err(field_error(field, format!("has more than {MAX_LABELS} entries")));
            }
            for (key, value) in map {
                word(field, Some(key))?;
                if !value.is_empty() {
                    text(field, Some(value))?;
                }
            }
        }
        if !(-100..=100).contains(&self.priority()) {
            return Err(field_error("priority", "is not between -100 and 100"));
        }
        if self.delay.is_some() && self.at.is_some() {
            return Err(field_error("delay", "and at exclude each other"));
        }
        if self.after.len() > MAX_AFTER {
            return Err(field_error("after", format!("names more than {MAX_AFTER} jobs")));
        }
        self.check_counts()
    }

    fn check_program(&self) -> Result<()> {
        match (&self.command, &self.handler) {
            (Some(command), None) => {
                if command.first().is_none_or(String::is_empty) {
                    return Err(field_error("command", "is empty"));
                }
                if self.payload.is_some() {
                    return Err(field_error("payload", "needs a handler").hint("give a command its input with --stdin"));
                }
            }
            (None, Some(handler)) => {
                word("handler", Some(handler))?;
                if self.stdin.is_some() {
                    return Err(field_error("stdin", "is the payload of a handler already"));
                }
            }
            (None, None) => {
                return Err(field_error("command", "is missing").hint("put the command after --, as in: -- make test"));
            }
            (Some(_), Some(_)) => {
                return Err(field_error("handler", "and command exclude each other"));
            }
        }
        self.check_env()?;
        let args = self.command.iter().flatten();
        let size: usize = args
            .clone()
            .chain(self.env.keys())
            .chain(self.env.values())
            .chain(self.env_from_file.values())
            .map(|s| s.len() + 1)
            .sum();
        if size > MAX_ARGS {
            return Err(field_error("command", "and env are larger than 1 MiB"));
        }
        let nul = |s: &String| s.contains('\0');
        if args.clone().any(nul) || self.cwd.iter().any(nul) || self.env.values().any(nul) {
            return Err(field_error("command", "contains a NUL character"));
        }
        if let Some(payload) = &self.payload {
            if payload.as_str().len() > MAX_PAYLOAD {
                return Err(field_error("payload", "is larger than 1 MiB").hint("store it in a file and pass its path"));
            }
            if let Some(flaw) = payload.flaw() {
                return Err(field_error("payload", flaw));
            }
        }
        if self.stdin.as_ref().is_some_and(|s| s.0.len() > MAX_PAYLOAD) {
            return Err(
                field_error("stdin", "is larger than 1 MiB").hint("store it in a file and let the command read that")
            );
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<()> {
        for (field, value, least) in [
            ("max_attempts", self.max_attempts, 1),
            ("max_losses", self.max_losses, 0),
            ("max_snoozes", self.max_snoozes, 0),
        ] {
            if value.is_some_and(|n| !(least..=MAX_COUNT).contains(&n)) {
                return Err(field_error(field, format!("is not between {least} and {MAX_COUNT}")));
            }
        }
        for (field, value) in
            [("timeout", self.timeout), ("heartbeat_timeout", self.heartbeat_timeout), ("deadline", self.deadline)]
        {
            if value.is_some_and(|d| d.as_millis() == 0) {
                return Err(field_error(field, "is zero"));
            }
        }
        if self.is_service() && self.max_attempts.is_some() {
            return Err(field_error("max_attempts", "has no meaning with restart always"));
        }
        Ok(())
    }
}

pub(super) fn field_error(field: &str, what: impl fmt::Display) -> Error {
    Error::usage(format!("{field} {what}")).field(field)
}

/// Queues, tenants and keys: short, printable, and free of what shells and URLs treat specially.
pub fn word(field: &str, value: Option<&str>) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    let plain = |c: char| c.is_alphanumeric() || "-_.:/@+".contains(c);
    match value {
        "" => Err(field_error(field, "is empty")),
        v if v.len() > MAX_WORD => Err(field_error(field, format!("is longer than {MAX_WORD} bytes"))),
        v if !v.chars().all(plain) => {
            Err(field_error(field, format!("{v:?} may have letters, digits and - _ . : / @ + only")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> JobSpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_line_reads_every_option_and_writes_back_the_same() {
        let json = r#"{"command":["a","b"],"queue":"q","tenant":"t","name":"n","on_conflict":"return",
            "priority":5,"delay":"90s","deadline":3600,"max_attempts":3,"backoff":"1s..90sx3",
            "retry_codes":[1,2],"fatal_codes":"3-5","max_losses":0,"max_snoozes":2,"require":{"os":"linux"},
            "timeout":1.5,"kill_grace":"1m","heartbeat_timeout":"5s","after":[1,"5:ended"],
            "idempotency_key":"k","label":{"a":"b"},"env":{"A":"B"},"env_from_file":{"C":"/run/c"},"cwd":"/","stdin":"in","limit":"db=2"}"#;
        let spec = parse(json);
        spec.check().unwrap();
        let again: JobSpec = parse(&serde_json::to_string(&spec).unwrap());
        assert_eq!(spec, again);
        assert_eq!(spec.fingerprint(), again.fingerprint());
    }

    #[test]
    fn bytes_that_are_not_text_survive_json() {
        let spec = JobSpec { stdin: Some(Bytes(vec![0xff, 0])), ..parse(r#"{"command":["cat"]}"#) };
        assert_eq!(parse(&serde_json::to_string(&spec).unwrap()), spec);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (json, field) in [
            (r#"{}"#, "command"),
            (r#"{"command":[]}"#, "command"),
            (r#"{"command":["a\u0000"]}"#, "command"),
            (r#"{"command":["a"],"handler":"h"}"#, "handler"),
            (r#"{"command":["a"],"payload":null}"#, "payload"),
            (r#"{"command":["a"],"queue":"a b"}"#, "queue"),
            (r#"{"command":["a"],"tenant":""}"#, "tenant"),
            (r#"{"command":["a"],"priority":101}"#, "priority"),
            (r#"{"command":["a"],"max_attempts":0}"#, "max_attempts"),
            (r#"{"command":["a"],"timeout":0}"#, "timeout"),
            (r#"{"command":["a"],"restart":"always","max_attempts":2}"#, "max_attempts"),
            (r#"{"command":["a"],"env":{"A=":"x"}}"#, "env"),
            (r#"{"command":["a"],"name":"x\ny"}"#, "name"),
            (r#"{"command":["a"],"env":{"A":"secret://../x"}}"#, "env"),
            (r#"{"command":["a"],"env":{"A":"secret://"}}"#, "env"),
            (r#"{"command":["a"],"env_from_file":{"A":"x"}}"#, "env_from_file"),
            (r#"{"command":["a"],"env":{"A":"x"},"env_from_file":{"A":"/x"}}"#, "env_from_file"),
        ] {
            let error = parse(json).check().unwrap_err();
            assert!(error.message().starts_with(field), "{json}: {error}");
        }
        for json in [r#"{"comand":["a"]}"#, r#"{"priority":"high"}"#, r#"{"after":[0]}"#, r#"{"limit":"x=0"}"#] {
            assert!(serde_json::from_str::<JobSpec>(json).is_err(), "{json}");
        }
    }
}
