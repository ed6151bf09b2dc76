//! What a schedule owes now: which due instants fire, which are skipped and why (S20).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::{Recurrence, ScheduleId};
use crate::schema::schema;
use crate::time::{Span, Timestamp};

/// An instant that is later than this was missed.
pub const GRACE: Span = Span::from_secs(60);

/// How many missed instants are recovered at most.
pub const MAX_RECOVERED: u32 = 1000;

/// What becomes of an occurrence whose predecessor still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// It waits.
    Queue,
    /// It runs beside it.
    Allow,
    /// The predecessor is cancelled, and it waits for that.
    Cancel,
}

impl Overlap {
    /// All of them, in the order people read them.
    pub const ALL: [Overlap; 4] = [Overlap::Skip, Overlap::Queue, Overlap::Allow, Overlap::Cancel];

    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Allow => "allow",
            Overlap::Cancel => "cancel",
        }
    }
}

impl FromStr for Overlap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|o| o.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is none of skip, queue, allow, cancel"))
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which of the instants that were missed are made up for, written `all`, `last`, `none`, `5` or `2h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// All, but no more than the last [`MAX_RECOVERED`].
    All,
    /// The last one that is due: where one is on time that one, and no other.
    #[default]
    Last,
    /// None.
    None,
    /// The last so many, from 1 to [`MAX_RECOVERED`].
    Count(u32),
    /// Those that are no older than this, but no more than the last [`MAX_RECOVERED`].
    Within(Span),
}

impl FromStr for CatchUp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::All),
            "last" => return Ok(Self::Last),
            "none" => return Ok(Self::None),
            _ if text.is_empty() || text.bytes().any(|b| !b.is_ascii_digit()) => {}
            _ => match text.parse() {
                Ok(n @ 1..=MAX_RECOVERED) => return Ok(Self::Count(n)),
                Ok(0) => return Err("0 is written none".into()),
                _ => return Err(format!("{text} is more than {MAX_RECOVERED}, the most that is made up for")),
            },
        }
        match text.parse::<Span>() {
            Ok(span) if span > Span::ZERO => Ok(Self::Within(span)),
            _ => Err(format!("{text:?} is none of all, last, none, a number such as 5 or a duration such as 2h")),
        }
    }
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::Last => f.pad("last"),
            Self::None => f.pad("none"),
            Self::Count(n) => write!(f, "{n}"),
            // What is shown to people may be rounded; this is read again.
            Self::Within(span) if span.to_string().parse() == Ok(*span) => write!(f, "{span}"),
            Self::Within(span) => write!(f, "{}s", span.duration().as_secs_f64()),
        }
    }
}

schema!(CatchUp, "CatchUp", { "type": "string", "description": "all, last, none, a number or a duration", "examples": ["last"] });

impl Serialize for CatchUp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CatchUp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Count(u32),
            Text(String),
        }
        let text = match Raw::deserialize(d)? {
            Raw::Count(n) => n.to_string(),
            Raw::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

/// Why a due instant did not fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The occurrence before still ran.
    Overlap,
    /// The schedule was paused.
    Paused,
    /// Nobody was there, and it is not made up for.
    Missed,
    /// Nobody was there, and too many were made up for.
    CatchUpLimit,
    /// A limit on queued jobs was reached.
    Limit,
}

impl SkipReason {
    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            SkipReason::Overlap => "overlap",
            SkipReason::Paused => "paused",
            SkipReason::Missed => "missed",
            SkipReason::CatchUpLimit => "catch_up_limit",
            SkipReason::Limit => "limit",
        }
    }

    /// The reason of that name.
    pub fn parse(word: &str) -> Option<SkipReason> {
        use SkipReason::*;
        [Overlap, Paused, Missed, CatchUpLimit, Limit].into_iter().find(|r| r.as_str() == word)
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An instant that fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fire {
    /// When it was due.
    pub due: Timestamp,
    /// It was missed, and is made up for.
    pub recovered: bool,
}

/// Consecutive due instants that do not fire, for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The first of them.
    pub from: Timestamp,
    /// The last of them.
    pub to: Timestamp,
    /// How many there are.
    pub count: u64,
    /// Why.
    pub reason: SkipReason,
}

/// What becomes of each instant that was due and is not recorded yet: it is in exactly one of the two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Those that fire, oldest first: at most [`MAX_RECOVERED`] and those of the last minute.
    pub fire: Vec<Fire>,
    /// Those that do not, oldest first.
    pub skip: Vec<Skip>,
    /// When to look again: the first instant after all that is recorded or planned.
    pub next_due: Option<Timestamp>,
}

/// A schedule at an instant, as far as it decides what fires.
#[derive(Clone, Copy, Debug)]
pub struct Tick<'a> {
    /// When it is due.
    pub recurrence: &'a Recurrence,
    /// The last due instant in its ledger, the end of a range included; none: it never was due.
    pub last_recorded: Option<Timestamp>,
    /// The wall clock. It may have been set back.
    pub now: Timestamp,
    /// What was missed and is made up for.
    pub catch_up: CatchUp,
    /// Whether it is paused: then nothing fires.
    pub paused: bool,
}

impl Tick<'_> {
    /// What fires and what is skipped of the instants in (last recorded, now], and when to look again.
    ///
    /// Costs as much as what fires, however long ago the last instant was recorded.
    pub fn plan(&self) -> Plan {
        let after = self.after();
        let mut plan = Plan { next_due: self.recurrence.next_after(after.max(self.now)), ..Plan::default() };
        if self.now <= after {
            return plan;
        }
        if self.paused {
            plan.skip.extend(self.range(after, self.now, SkipReason::Paused));
            return plan;
        }
        let missed_until = after.max(before(self.now, GRACE));
        if self.catch_up == CatchUp::Last
            && self.recurrence.next_after(after).is_some_and(|first| first <= missed_until)
            && let Some(due) = self.recurrence.last_n(1, after, self.now).pop()
        {
            plan.skip.extend(self.range(after, Timestamp(due.0 - 1), SkipReason::Missed));
            plan.fire.push(Fire { due, recovered: due <= missed_until });
            return plan;
        }
        self.catch_up(after, missed_until, &mut plan);
        let in_time = self.recurrence.between(missed_until, self.now);
        plan.fire.extend(in_time.map(|due| Fire { due, recovered: false }));
        plan
    }

    /// What is due after this is not recorded. A schedule owes nothing from before it was made.
    fn after(&self) -> Timestamp {
        self.last_recorded.unwrap_or(Timestamp(self.recurrence.rule().created_at.0.saturating_sub(1)))
    }

    /// Divides what was due in (after, until] among what is made up for and what is not.
    fn catch_up(&self, after: Timestamp, until: Timestamp, plan: &mut Plan) {
        let most = MAX_RECOVERED as usize;
        // What is made up for lies after the first of these; of that the last so many, and why not more.
        let (from, most, beyond) = match self.catch_up {
            CatchUp::All => (after, most, SkipReason::CatchUpLimit),
            CatchUp::Within(span) => (after.max(before(self.now, span)).min(until), most, SkipReason::CatchUpLimit),
            CatchUp::Count(n) => (after, most.min(n as usize), SkipReason::Missed),
            CatchUp::Last | CatchUp::None => (until, 0, SkipReason::Missed),
        };
        let recovered = self.recurrence.last_n(most, from, until);
        let first = recovered.first().map_or(until, |first| Timestamp(first.0 - 1));
        plan.skip.extend(self.range(after, from, SkipReason::Missed));
        plan.skip.extend(self.range(from, first, beyond));
        plan.fire.extend(recovered.into_iter().map(|due| Fire { due, recovered: true }));
    }

    /// The instants in (from, to] as one range, if there are any.
    fn range(&self, from: Timestamp, to: Timestamp, reason: SkipReason) -> Option<Skip> {
        let first = self.recurrence.next_after(from).filter(|t| *t <= to)?;
        let last = self.recurrence.last_n(1, from, to).pop()?;
        Some(Skip { from: first, to: last, count: self.recurrence.count(from, to), reason })
    }
}

/// The last instant that is more than `span` before `now`.
fn before(now: Timestamp, span: Span) -> Timestamp {
    Timestamp(now.0.saturating_sub(span.as_millis()).saturating_sub(1))
}

/// How long after `due` an occurrence starts: from zero to below `max`, always the same for the same instant.
pub fn jitter(schedule: ScheduleId, due: Timestamp, max: Span) -> Span {
    let id = Uuid::new_v5(&schedule.0, format!("{due} jitter").as_bytes());
    // The first 48 bits of a UUIDv5 are of its hash alone.
    let chance = id.as_u128() >> 80;
    let ms = (chance * max.as_millis() as u128) >> 48;
    Span::from_millis(ms as i64)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
