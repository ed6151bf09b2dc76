//! Checks that each instant of a schedule is recorded once (I7), from what was told of its rules and its ledger.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::{Event, EventKind, Recurrence, Rule, ScheduleId};
use crate::time::Timestamp;

const ONCE: &str = "each instant of a schedule is recorded once";

/// What the events of schedules tell.
#[derive(Deserialize)]
struct Told {
    schedule_id: ScheduleId,
    #[serde(default)]
    version: Option<u32>,
    /// Of a new version: its rule, and the instant after which it holds.
    #[serde(default)]
    rule: Option<Rule>,
    #[serde(default)]
    after: Option<Timestamp>,
    /// Of a row, or a part of one.
    #[serde(default)]
    due_at: Option<Timestamp>,
    #[serde(default)]
    until: Option<Timestamp>,
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    backfilled: bool,
}

/// What is known of a schedule so far.
#[derive(Debug)]
struct Known {
    versions: HashMap<u32, Version>,
    /// The version of the last row.
    version: u32,
    /// Every instant up to here is recorded.
    recorded: Timestamp,
    /// Instants from before that fired later.
    backfilled: HashSet<Timestamp>,
}

#[derive(Debug)]
struct Version {
    /// None: it means nothing on this machine.
    recurrence: Option<Recurrence>,
    after: Timestamp,
}

/// The ledgers of all schedules.
#[derive(Debug, Default)]
pub(super) struct Ledgers(HashMap<ScheduleId, Known>);

impl Ledgers {
    /// Looks at the next event; gives what must always hold and does not.
    pub(super) fn event(&mut self, event: &Event) -> Option<(&'static str, String)> {
        let told: Told = serde_json::from_value(event.data.clone()).ok()?;
        match event.kind {
            EventKind::ScheduleChanged => {
                self.changed(told);
                None
            }
            _ => self.row(&told).map(|message| (ONCE, message)),
        }
    }

    fn changed(&mut self, told: Told) {
        let (Some(version), Some(rule), Some(after)) = (told.version, told.rule, told.after) else { return };
        let known = self.0.entry(told.schedule_id).or_insert_with(|| Known {
            versions: HashMap::new(),
            version,
            recorded: after,
            backfilled: HashSet::new(),
        });
        known.versions.insert(version, Version { recurrence: Recurrence::new(rule).ok(), after });
    }

    fn row(&mut self, told: &Told) -> Option<String> {
        let (version, due) = (told.version?, told.due_at?);
        let until = told.until.unwrap_or(due);
        // One whose beginning was pruned is not known.
        let known = self.0.get_mut(&told.schedule_id)?;
        if told.backfilled {
            let new = known.backfilled.insert(due);
            return (!new).then(|| format!("{due} was made up for twice"));
        }
        known.versions.get(&version)?; // nor one of a version whose beginning was pruned
        let gap = known.turn(version);
        let before = known.recorded;
        known.recorded = before.max(until);
        if due <= before {
            return Some(format!("{due} is recorded again, after {before}"));
        }
        let recurrence = known.versions.get(&version)?.recurrence.as_ref()?;
        let next = recurrence.next_after(before);
        if let Some(missing) = gap.or(next.filter(|next| *next < due)) {
            return Some(format!("{missing} was due, and {due} follows"));
        }
        if next != Some(due) {
            return Some(format!("{due} was not due"));
        }
        let (count, told) = (recurrence.count(before, until), told.count.unwrap_or(1));
        (count != told).then(|| format!("{count} instants were due up to {until}, and {told} are recorded"))
    }
}

impl Known {
    /// Goes on to `version`; gives an instant of the version before that was not recorded.
    fn turn(&mut self, version: u32) -> Option<Timestamp> {
        if version == self.version {
            return None;
        }
        let after = self.versions.get(&version)?.after;
        let old = self.versions.get(&self.version).and_then(|v| v.recurrence.as_ref());
        let missing = old.and_then(|old| old.next_after(self.recorded)).filter(|missing| *missing <= after);
        self.version = version;
        self.recorded = self.recorded.max(after);
        missing
    }
}
