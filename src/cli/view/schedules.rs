//! What schedules, their instants and their history show in a table.

use super::words::relative;
use super::{Row, Text, Tone};
use crate::cli::schedule::Instant;
use crate::job::json_text::members;
use crate::job::{JobSpec, JsonText, RuleKind};
use crate::ops::schedules::look::{OccurrenceView, ScheduleState, ScheduleView};
use crate::time::{Span, Timestamp};

impl Row for ScheduleView {
    const HEADERS: &'static [&'static str] =
        &["SCHEDULE", "STATE", "NEXT", "LAST", "LAST SKIPPED", "WHEN", "ZONE", "COMMAND"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let tone = match self.state {
            ScheduleState::Active => Tone::Good,
            ScheduleState::Paused => Tone::Waiting,
            ScheduleState::Ended | ScheduleState::Removed => Tone::Dim,
        };
        let at = |t: Option<Timestamp>| t.map_or("-".into(), |t| relative(t, now));
        let skipped = self.last_skip_reason.map(|reason| reason.as_str()).unwrap_or_default();
        vec![
            Text::new(&self.name),
            Text::toned(self.state.as_str(), tone),
            Text::new(at(self.next_due_at)),
            Text::new(at(self.last_due_at)),
            Text::toned(skipped, Tone::Waiting),
            Text::new(when(self.kind, &self.expression)),
            Text::dim(&self.tz),
            Text::new(title(&self.task)),
        ]
    }
}

/// What it runs, on one line.
pub(in crate::cli) fn title(task: &JsonText) -> String {
    match task.members().unwrap_or_default().get("workflow") {
        Some(workflow) => {
            let name = members(workflow).and_then(|all| serde_json::from_str::<String>(all.get("name")?.get()).ok());
            format!("workflow {}", name.unwrap_or_default())
        }
        None => task.read::<JobSpec>().unwrap_or_default().title(),
    }
}

/// A rule as a person says it.
pub(in crate::cli) fn when(kind: RuleKind, expression: &str) -> String {
    match kind {
        RuleKind::Cron | RuleKind::Iso => expression.to_owned(),
        RuleKind::Every => format!("every {}", expression.parse::<Span>().map_or(expression.into(), |s| s.to_string())),
        RuleKind::At => format!("at {expression}"),
    }
}

impl Row for OccurrenceView {
    const HEADERS: &'static [&'static str] = &["DUE", "UNTIL", "COUNT", "STATE", "WHY", "FLAGS", "JOB", "RUN"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let until = if self.until == self.due_at { String::new() } else { self.until.to_string() };
        let tone = if self.reason.is_none() { Tone::Good } else { Tone::Waiting };
        vec![
            Text::new(self.due_at.to_string()),
            Text::new(until),
            Text::new(self.count.to_string()),
            Text::toned(&self.state, tone),
            Text::new(self.reason.map(|reason| reason.as_str()).unwrap_or_default()),
            Text::dim(self.flags.join(",")),
            Text::new(self.job.map(|number| number.to_string()).unwrap_or_default()),
            Text::dim(self.run_id.map(|run| run.to_string()).unwrap_or_default()),
        ]
    }
}

impl Row for Instant {
    const HEADERS: &'static [&'static str] = &["DUE", "IN"];

    fn id(&self) -> String {
        self.due_at.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        vec![Text::new(&self.local), Text::dim(relative(self.due_at, now))]
    }
}
