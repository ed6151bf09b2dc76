//! When a schedule is due: its rule, and the instants that follow from it.

use std::fmt;
use std::iter;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cron::Cron;
use super::repeat::Repeat;
use super::zone::{MAX_MS, Zone};
use crate::error::{Error, Result};
use crate::time::{Span, Timestamp};

/// In which language the rule of a schedule is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// A crontab line: 5 fields, 6 with seconds, or `@daily` and the like.
    Cron,
    /// A length of real time.
    Every,
    /// One instant.
    At,
    /// A repeating interval of ISO 8601.
    Iso,
}

impl RuleKind {
    /// The word for it, the same everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            RuleKind::Cron => "cron",
            RuleKind::Every => "every",
            RuleKind::At => "at",
            RuleKind::Iso => "iso",
        }
    }
}

impl fmt::Display for RuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When a schedule is due, as it is written and stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// The language of the expression.
    pub kind: RuleKind,
    /// `0 2 * * mon-fri`, `5m`, a time, or `R5/2026-01-01T00:00:00Z/P1D`.
    pub expression: String,
    /// The IANA name of the time zone it speaks of.
    pub tz: String,
    /// Nothing is due before; `every` counts from here.
    #[serde(default)]
    pub start: Option<Timestamp>,
    /// Nothing is due after.
    #[serde(default)]
    pub end: Option<Timestamp>,
    /// When the schedule was made: `every` without a start is first due one distance later.
    pub created_at: Timestamp,
}

/// A rule that was understood, and can fire.
///
/// An instant is a whole number of milliseconds, and each is due once however often the rule names it: times that fall
/// into one gap of the wall clock are one instant, its end. Cron's last year is 2100.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Rule", into = "Rule")]
#[schemars(with = "Rule")]
pub struct Recurrence {
    rule: Rule,
    zone: Zone,
    times: Times,
}

#[derive(Clone, Debug, PartialEq)]
enum Times {
    /// Each local time that the line names is an instant: once, whether it is skipped or repeated.
    Fixed(Cron),
    /// Each instant whose local time the line names.
    Wild(Cron),
    Repeat(Repeat),
}

/// How long a stretch without transitions must be before a search may jump ahead, and how close to its aim; in milliseconds.
const FAR_MS: i64 = 4 * 86_400_000;

impl Recurrence {
    /// Reads `rule`, and writes its zone, and the time of `at`, in their one form.
    ///
    /// # Errors
    /// Usage: the part that is not understood and why, or that it can never fire.
    pub fn new(mut rule: Rule) -> Result<Self> {
        let zone = Zone::new(&rule.tz)?;
        rule.tz = zone.name().to_owned();
        rule.expression = rule.expression.trim().to_owned();
        if let (Some(start), Some(end)) = (rule.start, rule.end)
            && end < start
        {
            return Err(Error::usage(format!("the end {end} is before the start {start}"))
                .hint("both are part of the schedule; change one of them"));
        }
        let times = Times::parse(&mut rule, &zone)?;
        let recurrence = Self { rule, zone, times };
        match recurrence.next_after(Timestamp(i64::MIN)) {
            Some(_) => Ok(recurrence),
            None => Err(recurrence.never()),
        }
    }

    /// The rule it was made from.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The first instant after `at`. Costs a few steps, however far away it is.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let after = at.0.clamp(self.before_all(), MAX_MS);
        let next = match &self.times {
            Times::Fixed(cron) => cron.next(self.zone.furthest(after)).map(|local| self.zone.first(local)),
            Times::Wild(cron) => next_wild(cron, &self.zone, after),
            Times::Repeat(repeat) => repeat.nth(repeat.count(after, &self.zone), &self.zone),
        };
        next.map(Timestamp).filter(|t| *t <= self.last())
    }

    /// The instants in (from, to], in order.
    pub fn between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        iter::successors(self.next_after(from), |t| self.next_after(*t)).take_while(move |t| *t <= to)
    }

    /// How many instants lie in (from, to].
    ///
    /// Costs O(1) for `every`; else one cheap step for each day and for each transition of the zone between: an
    /// every-second schedule is no dearer than a daily one.
    pub fn count(&self, from: Timestamp, to: Timestamp) -> u64 {
        let (from, to) = (from.0.max(self.before_all()), to.min(self.last()).0);
        if to <= from {
            return 0;
        }
        match &self.times {
            Times::Wild(cron) => count_wild(cron, &self.zone, from, to),
            Times::Fixed(_) => self.named(from, to) - self.doubles(from, to),
            Times::Repeat(repeat) if repeat.is_calendar() => self.named(from, to) - self.doubles(from, to),
            Times::Repeat(_) => self.named(from, to),
        }
    }

    /// The last `n` instants in (from, to], in order. Costs about as much as counting over them twice.
    pub fn last_n(&self, n: usize, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let from = Timestamp(from.0.max(self.before_all()));
        let to = to.min(self.last());
        if n == 0 || to <= from {
            return Vec::new();
        }
        self.between(self.back(n as u64, from, to), to).collect()
    }

    /// The latest instant a such that (a, to] has `n` of them, or `from` where there are fewer.
    ///
    /// Looks back over stretches that double, then bisects the last; what was counted is not counted again.
    fn back(&self, n: u64, from: Timestamp, to: Timestamp) -> Timestamp {
        let (mut late, mut left, mut stretch) = (to.0, n, 1000);
        let mut early = loop {
            let early = late.saturating_sub(stretch).max(from.0);
            let here = self.count(Timestamp(early), Timestamp(late));
            if here >= left {
                break early;
            }
            if early == from.0 {
                return from;
            }
            (late, left, stretch) = (early, left - here, stretch.saturating_mul(2));
        };
        while late - early > 1 {
            let mid = early.midpoint(late);
            match self.count(Timestamp(mid), Timestamp(late)) {
                here if here >= left => early = mid,
                here => (late, left) = (mid, left - here),
            }
        }
        Timestamp(early)
    }

    /// How many times the rule names an instant in (from, to]: more than there are instants where gaps unite them.
    fn named(&self, from: i64, to: i64) -> u64 {
        match &self.times {
            Times::Fixed(cron) | Times::Wild(cron) => cron.count(self.zone.furthest(from), self.zone.furthest(to)),
            Times::Repeat(repeat) => repeat.count(to, &self.zone) - repeat.count(from, &self.zone),
        }
    }

    fn doubles(&self, from: i64, to: i64) -> u64 {
        self.zone.gaps(from, to).map(|end| self.named(end - 1, end).saturating_sub(1)).sum()
    }

    fn before_all(&self) -> i64 {
        self.rule.start.map_or(-MAX_MS / 10, |t| t.0.clamp(-MAX_MS / 10, MAX_MS).saturating_sub(1))
    }

    fn last(&self) -> Timestamp {
        self.rule.end.unwrap_or(Timestamp(MAX_MS)).min(Timestamp(MAX_MS))
    }

    fn never(&self) -> Error {
        let text = |t: Option<Timestamp>| t.map_or("…".into(), |t| t.to_string());
        Error::usage(format!("the {} schedule {:?} never fires", self.rule.kind, self.rule.expression)).hint(format!(
            "nothing is due from {} to {}",
            text(self.rule.start),
            text(self.rule.end)
        ))
    }
}

impl Times {
    fn parse(rule: &mut Rule, zone: &Zone) -> Result<Self> {
        let text = rule.expression.as_str();
        Ok(match rule.kind {
            RuleKind::Cron => match Cron::parse(text)? {
                cron if cron.is_wild() => Times::Wild(cron),
                cron => Times::Fixed(cron),
            },
            RuleKind::Every => {
                let step: Span = text.parse().map_err(Error::usage)?;
                Times::Repeat(Repeat::every(rule.start.unwrap_or(rule.created_at.plus(step)).0, step)?)
            }
            RuleKind::At => {
                let at = Timestamp::parse_next(text, Some(&rule.tz), rule.created_at).map_err(Error::usage)?;
                rule.expression = at.to_string();
                Times::Repeat(Repeat::once(at.0))
            }
            RuleKind::Iso => Times::Repeat(Repeat::iso(text, zone)?),
        })
    }
}

/// The first instant after `after` whose local time is named.
fn next_wild(cron: &Cron, zone: &Zone, after: i64) -> Option<i64> {
    let mut from = after + 1;
    loop {
        let (offset, end) = (zone.offset(from), zone.ends(from));
        let due = cron.next(from + offset - 1)? - offset;
        if due < end {
            return Some(due);
        }
        // No local time from this stretch until the named one is named, and four days after its start no clock shows
        // an earlier one: so what lies between need not be looked at. Rare lines skip years in one step.
        from = if end - from > FAR_MS { end.max(due - FAR_MS) } else { end };
    }
}

fn count_wild(cron: &Cron, zone: &Zone, from: i64, to: i64) -> u64 {
    let (mut from, mut count) = (from, 0);
    while from < to {
        let (offset, end) = (zone.offset(from + 1), zone.ends(from + 1));
        let until = to.min(end - 1);
        count += cron.count(from + offset, until + offset);
        from = until;
    }
    count
}

impl TryFrom<Rule> for Recurrence {
    type Error = String;

    fn try_from(rule: Rule) -> Result<Self, String> {
        Self::new(rule).map_err(|e| e.to_string())
    }
}

impl From<Recurrence> for Rule {
    fn from(recurrence: Recurrence) -> Self {
        recurrence.rule
    }
}

#[cfg(test)]
#[path = "recurrence_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod oracle_tests;
