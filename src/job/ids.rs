//! Ids, numbers, fences, and the ways a person names a job.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// What people call a job: 1, 2, 3… in its store. Gaps occur, reuse does not.
pub type Number = i64;

/// The id of a job for programs: UUIDv7 when a person submits it, UUIDv5 when it follows from something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl JobId {
    /// A new id made at `now` with 10 bytes of chance.
    pub fn new(now: Timestamp, chance: [u8; 10]) -> Self {
        let ms = u64::try_from(now.0).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(ms, &chance).into_uuid())
    }

    /// The id of line `line` (from 1) of a bulk load: the same line makes the same job.
    pub fn of_line(batch: Uuid, line: usize) -> Self {
        Self(Uuid::new_v5(&batch, line.to_string().as_bytes()))
    }

    /// The id of the job of task `task` in `run`: the same task makes the same job.
    pub fn of_task(run: RunId, task: &str) -> Self {
        Self(Uuid::new_v5(&run.0, task.as_bytes()))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one life of a worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a schedule: UUIDv7, for ever, whatever its rule and name become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ScheduleId(pub Uuid);

impl ScheduleId {
    /// A new id made at `now` with 10 bytes of chance.
    pub fn new(now: Timestamp, chance: [u8; 10]) -> Self {
        Self(JobId::new(now, chance).0)
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one instant at which a schedule was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct OccurrenceId(pub Uuid);

impl OccurrenceId {
    /// The id of the instant `due` of `schedule`: whoever finds it due makes the same row.
    pub fn new(schedule: ScheduleId, due: Timestamp) -> Self {
        Self(Uuid::new_v5(&schedule.0, due.to_string().as_bytes()))
    }
}

impl fmt::Display for OccurrenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a group of jobs made together: UUIDv7 when a person submits it, that of its occurrence when a schedule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// A new id made at `now` with 10 bytes of chance.
    pub fn new(now: Timestamp, chance: [u8; 10]) -> Self {
        Self(JobId::new(now, chance).0)
    }
}

impl From<OccurrenceId> for RunId {
    fn from(occurrence: OccurrenceId) -> Self {
        Self(occurrence.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One word of a command line that names a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunName {
    /// A whole id
    Id(RunId),
    /// The first hexadecimal digits of an id, without dashes, in lower case
    Prefix(String),
    /// The run stored last
    Last,
}

impl FromStr for RunName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "last" {
            return Ok(Self::Last);
        }
        if let Ok(id) = Uuid::parse_str(text) {
            return Ok(Self::Id(RunId(id)));
        }
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        match !hex.is_empty() && hex.len() < 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(Self::Prefix(hex.to_ascii_lowercase())),
            false => Err(format!("{text:?} names no run: use its id, the start of it, or \"last\"")),
        }
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Prefix(p) => f.write_str(p),
            Self::Last => f.write_str("last"),
        }
    }
}

/// The right to write about one attempt: every write by a worker carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Fence {
    /// The job's number.
    pub number: Number,
    /// The attempt; a higher one makes this fence stale.
    pub attempt: u32,
}

impl Fence {
    /// The id of the attempt, which follows from the job's.
    pub fn attempt_id(job: JobId, attempt: u32) -> Uuid {
        Uuid::new_v5(&job.0, attempt.to_string().as_bytes())
    }
}

/// One word of a command line that names jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// `42`
    Number(Number),
    /// `5-8`, both ends included
    Range(Number, Number),
    /// A whole id
    Id(JobId),
    /// The first hexadecimal digits of an id, without dashes, in lower case
    Prefix(String),
    /// The job stored last
    Last,
    /// `@label=value`
    Label(String, String),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "last" {
            return Ok(Self::Last);
        }
        if let Some(label) = text.strip_prefix('@') {
            return match label.split_once('=') {
                Some((key, value)) if !key.is_empty() => Ok(Self::Label(key.into(), value.into())),
                _ => Err(format!("{text:?} is not a label such as @team=build")),
            };
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return number(text).map(Self::Number);
        }
        if let Some((from, to)) = text.split_once('-')
            && let (Ok(from), Ok(to)) = (number(from), number(to))
        {
            return match from <= to {
                true => Ok(Self::Range(from, to)),
                false => Err(format!("{text:?} is an empty range")),
            };
        }
        if let Ok(id) = Uuid::parse_str(text) {
            return Ok(Self::Id(JobId(id)));
        }
        let starts = text.starts_with(|c: char| c.is_ascii_hexdigit());
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        if starts && hex.len() < 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Prefix(hex.to_ascii_lowercase()));
        }
        Err(format!(
            "{text:?} names no job: use its number, a range 5-8, its id or the start of it, \"last\" or @label=value"
        ))
    }
}

fn number(text: &str) -> Result<Number, String> {
    match text.parse::<Number>() {
        Ok(n) if n > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
        _ => Err(format!("{text:?} is not a job number")),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Range(a, b) => write!(f, "{a}-{b}"),
            Self::Id(id) => write!(f, "{id}"),
            Self::Prefix(p) => f.write_str(p),
            Self::Last => f.write_str("last"),
            Self::Label(k, v) => write!(f, "@{k}={v}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s27_digits_only_are_a_number_never_a_prefix() {
        assert_eq!("01987654".parse(), Ok(Selector::Number(1_987_654)));
        assert_eq!("0198765a".parse(), Ok(Selector::Prefix("0198765a".into())));
    }

    #[test]
    fn the_ways_to_name_a_job() {
        assert_eq!("5-8".parse(), Ok(Selector::Range(5, 8)));
        assert_eq!("last".parse(), Ok(Selector::Last));
        assert_eq!("@a=b=c".parse(), Ok(Selector::Label("a".into(), "b=c".into())));
        let id = "0190a5d2-7c1e-7000-8000-000000000001";
        assert_eq!(id.parse::<Selector>().unwrap().to_string(), id);
        assert_eq!("0190a5d2-7c1e".parse(), Ok(Selector::Prefix("0190a5d27c1e".into())));
        for bad in ["", "0", "-1", "8-5", "x9", "@", "@=v", "99999999999999999999", "é"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    /// Rows of older stores carry these ids: a change of the recipe would fire everything again.
    #[test]
    fn ids_that_follow_from_others_never_change() {
        let schedule = ScheduleId(Uuid::from_u128(0x0190_a5d2_7c1e_7000_8000_0000_0000_0001));
        let due = Timestamp(1_767_225_600_000);
        assert_eq!(due.to_string(), "2026-01-01T00:00:00.000Z");
        let occurrence = OccurrenceId::new(schedule, due);
        let run = RunId::from(occurrence);
        let job = JobId::of_task(run, "build");
        let shown = [occurrence.to_string(), run.to_string(), job.to_string(), Fence::attempt_id(job, 1).to_string()];
        assert_eq!(
            shown,
            [
                "af99c4fc-15c7-5c53-9393-2bb56809eb9d",
                "af99c4fc-15c7-5c53-9393-2bb56809eb9d",
                "71b69ea5-f565-5570-bffe-68071b830738",
                "be105e7f-79f3-502c-bdd1-366c537f38f0",
            ]
        );
        assert_ne!(OccurrenceId::new(schedule, Timestamp(due.0 + 1)), occurrence);
        assert_ne!(JobId::of_task(run, "test"), job);
    }

    #[test]
    fn ids_made_from_the_same_line_are_equal() {
        let batch = Uuid::from_u128(7);
        assert_eq!(JobId::of_line(batch, 1), JobId::of_line(batch, 1));
        assert_ne!(JobId::of_line(batch, 1), JobId::of_line(batch, 2));
    }
}
