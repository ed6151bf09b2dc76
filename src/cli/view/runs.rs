//! Runs and their tasks: lines in tables, the drawing, the report.

use std::collections::HashMap;

use super::words::{ending, relative, took};
use super::{Row, Text, Tone, View, line, painted, tone_of};
use crate::error::Result;
use crate::job::{RunState, State};
use crate::ops::runs::Started;
use crate::ops::runs::cancel::RunCancelled;
use crate::ops::runs::view::{RunLine, RunTask, RunView};
use crate::time::Timestamp;

/// A deeper tree is drawn no wider.
const MAX_INDENT: usize = 24;

fn tone(state: RunState) -> Tone {
    match state {
        RunState::Running => Tone::Busy,
        RunState::Done => Tone::Good,
        RunState::Failed => Tone::Bad,
        RunState::Cancelled => Tone::Dim,
    }
}

impl Row for RunLine {
    const HEADERS: &'static [&'static str] = &["RUN", "NAME", "STATE", "OPEN", "FAILED", "AGE", "TOOK", "NOTE"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        vec![
            Text::new(self.id.to_string()),
            Text::new(&self.name),
            Text::toned(self.state.as_str(), tone(self.state)),
            Text::new(self.open.to_string()),
            Text::new(self.failed.to_string()),
            Text::dim(relative(self.created_at, now)),
            Text::new(took(self.started_at, self.finished_at, now)),
            Text::dim(self.reason.clone().unwrap_or_default()),
        ]
    }
}

impl Row for RunTask {
    const HEADERS: &'static [&'static str] = &["TASK", "STATE", "JOB", "ATTEMPTS", "TOOK", "ENDED BY", "NOTE"];

    fn id(&self) -> String {
        self.job_id.map(|id| id.to_string()).unwrap_or_default()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        vec![
            Text::new(&self.task),
            Text::state(self.state),
            Text::new(self.job.map(|n| n.to_string()).unwrap_or_default()),
            Text::new(self.attempt.to_string()),
            Text::new(task_took(self, now)),
            Text::new(ended_by(self)),
            Text::dim(why(self)),
        ]
    }
}

impl Row for RunView {
    const HEADERS: &'static [&'static str] = &["RUN", "NAME", "STATE"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        vec![Text::new(self.id.to_string()), Text::new(&self.name), Text::toned(self.state.as_str(), tone(self.state))]
    }
}

impl Row for Started {
    const HEADERS: &'static [&'static str] = &["RUN", "NAME", "STATE", "JOBS"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        vec![
            Text::new(self.id.to_string()),
            Text::new(&self.name),
            Text::toned(self.state.as_str(), tone(self.state)),
            Text::new(self.jobs.to_string()),
        ]
    }
}

impl Row for RunCancelled {
    const HEADERS: &'static [&'static str] = &["RUN", "NAME", "STATE", "OPEN"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        vec![
            Text::new(self.id.to_string()),
            Text::new(&self.name),
            Text::toned(self.state.as_str(), tone(self.state)),
            Text::new(self.open.to_string()),
        ]
    }
}

fn task_took(task: &RunTask, now: Timestamp) -> String {
    match task.state {
        State::Running => took(task.started_at, None, now),
        State::Done | State::Failed | State::Cancelled => took(task.started_at, task.finished_at, now),
        _ => String::new(),
    }
}

fn ended_by(task: &RunTask) -> String {
    if task.state == State::Done { String::new() } else { ending(task.exit_code, task.signal) }
}

/// Why it is as it is, where that says more than its state.
fn why(task: &RunTask) -> String {
    let inherited = task.inherited.then(|| "of the run before".to_owned());
    let always = task.always.then(|| "always".to_owned());
    let said = match task.state {
        State::Failed => task.error.clone().or_else(|| task.reason.clone()),
        State::Cancelled | State::Skipped => task.reason.clone(),
        _ => None,
    };
    inherited.into_iter().chain(always).chain(said).collect::<Vec<_>>().join(", ")
}

/// Facts about a run above its tasks.
fn head(view: &View, run: &RunView) -> Result<()> {
    let now = view.now();
    let at = |t: Option<Timestamp>| t.map(|t| Text::new(format!("{t} ({})", relative(t, now))));
    let state = match (&run.reason, run.waiting) {
        (_, true) => "running: waits for the run before".to_owned(),
        (Some(reason), _) => format!("{}: {reason}", run.state),
        (None, _) => run.state.to_string(),
    };
    let facts = [
        ("run", Some(Text::new(format!("{}  {}", run.name, run.id)))),
        ("state", Some(Text::toned(state, tone(run.state)))),
        ("started", at(run.started_at)),
        ("finished", at(run.finished_at)),
        ("took", run.finished_at.and(run.started_at).map(|_| Text::new(took(run.started_at, run.finished_at, now)))),
        ("replay of", run.replay_of.map(|id| Text::new(id.to_string()))),
        ("because", run.replay_reason.clone().map(Text::new)),
        ("schedule", run.schedule_id.map(|id| Text::new(id.to_string()))),
        ("due", at(run.scheduled_for)),
    ];
    view.facts(facts.into_iter().filter_map(|(key, text)| Some((key, text?))).collect())
}

/// What became of the tasks of a run.
pub(in crate::cli) fn report(view: &View, run: &RunView) -> Result<()> {
    head(view, run)?;
    line("")?;
    view.table(&run.tasks)?;
    line("")?;
    line(&sum(run))
}

/// `3 done, 1 failed`
fn sum(run: &RunView) -> String {
    let count = |state: State| run.tasks.iter().filter(|task| task.state == state).count();
    let some = State::ALL.into_iter().map(|s| (count(s), s)).filter(|(n, _)| *n > 0);
    some.map(|(n, state)| format!("{n} {state}")).collect::<Vec<_>>().join(", ")
}

/// Draws the tasks as a tree: each below the last of those that it needs, the others named beside it.
pub(in crate::cli) fn draw(view: &View, run: &RunView) -> Result<()> {
    head(view, run)?;
    line("")?;
    let rows = tree(&run.tasks);
    let wide = rows.iter().map(|(prefix, i)| prefix.chars().count() + run.tasks[*i].task.chars().count()).max();
    let wide = wide.unwrap_or_default();
    for (prefix, i) in rows {
        let task = &run.tasks[i];
        let pad = wide - prefix.chars().count() - task.task.chars().count();
        let also = match task.needs.len() {
            0 | 1 => String::new(),
            _ => format!("needs {}", task.needs.join(", ")),
        };
        let notes = [task_took(task, view.now()), ended_by(task), also, why(task)];
        let notes = notes.into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("  ");
        let text = format!(
            "{}{} {}{:pad$}  {}  {}",
            view.paint(Text::dim(prefix)),
            view.paint(Text::toned(mark(task.state), tone_of(task.state))),
            super::words::one_line(&task.task),
            "",
            view.paint(Text::toned(format!("{:<9}", task.state), tone_of(task.state))),
            view.paint(Text::dim(notes)),
        );
        painted(text.trim_end())?;
    }
    line("")?;
    line(&sum(run))
}

fn mark(state: State) -> &'static str {
    match state {
        State::Done => "✔",
        State::Failed => "✖",
        State::Running => "▶",
        State::Pending | State::Scheduled | State::Blocked => "○",
        State::Cancelled => "■",
        State::Skipped => "–",
    }
}

/// The tasks as lines of a tree: what stands before each, and its place.
fn tree(tasks: &[RunTask]) -> Vec<(String, usize)> {
    let places: HashMap<&str, usize> = tasks.iter().enumerate().map(|(i, t)| (t.task.as_str(), i)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
    let mut roots = Vec::new();
    for (i, task) in tasks.iter().enumerate() {
        // Tasks stand in an order in which they can run, so the last need has the most before it.
        match task.needs.iter().filter_map(|need| places.get(need.as_str())).max() {
            Some(parent) => children[*parent].push(i),
            None => roots.push(i),
        }
    }
    let mut lines = Vec::with_capacity(tasks.len());
    // (place, what stands before it, what stands before its children)
    let mut open: Vec<(usize, String, String)> =
        roots.into_iter().rev().map(|i| (i, String::new(), String::new())).collect();
    while let Some((i, prefix, inner)) = open.pop() {
        let last = children[i].last().copied();
        for child in children[i].iter().rev() {
            let is_last = Some(*child) == last;
            let (own, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let more = if inner.chars().count() < MAX_INDENT { format!("{inner}{below}") } else { inner.clone() };
            open.push((*child, format!("{inner}{own}"), more));
        }
        lines.push((prefix, i));
    }
    lines
}
