//! Ids, numbers, fences, and the ways a person names a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// What people call a job: 1, 2, 3… in its store. Gaps occur, reuse does not.
pub type Number = i64;

/// The id of a job for programs: UUIDv7 when a person submits it, UUIDv5 when it follows from something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one life of a worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to write about one attempt: every write by a worker carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    #[test]
    fn ids_made_from_the_same_line_are_equal() {
        let batch = Uuid::from_u128(7);
        assert_eq!(JobId::of_line(batch, 1), JobId::of_line(batch, 1));
        assert_ne!(JobId::of_line(batch, 1), JobId::of_line(batch, 2));
    }
}
