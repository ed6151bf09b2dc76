//! Checks what must always hold (docs/semantics.md) from the audit trail: one pass, one small record for each job.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit_ledger::Ledgers;
use super::event::UNREAD;
use super::retry::{Backoff, UNSTARTED_CAP};
use super::spec::{After, KeyLimit, Until};
use super::{Event, EventKind, Number, Outcome, RunId, Selector, State};
use crate::time::{Span, Timestamp};

/// Something that must always hold, and did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breach {
    /// What must always hold.
    pub invariant: String,
    /// The event that shows it.
    pub seq: i64,
    /// The job.
    pub number: Option<Number>,
    /// What was found.
    pub message: String,
}

/// What an `enqueued` event tells beyond the state: only what differs from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Terms {
    /// Failures that end it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Lost leases that are forgiven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_losses: Option<u32>,
    /// Waits between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// It is a service.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub service: bool,
    /// What it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
    /// The limit it shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<KeyLimit>,
    /// Whose limit that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The run that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// It runs when the others of its run have ended, and does not count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

/// What is known of a job so far.
#[derive(Debug)]
struct Known {
    state: State,
    attempt: u32,
    /// An attempt is leased and has not ended.
    open: bool,
    failures: u32,
    losses: u32,
    /// Since this event it waits for its edges.
    waits: i64,
    /// The event that brought it back from an end last.
    back: i64,
    terms: Option<Box<Terms>>,
}

/// Reads events in order and collects breaches.
#[derive(Debug, Default)]
pub struct Auditor {
    jobs: HashMap<Number, Known>,
    running: HashMap<(String, String), u32>,
    /// Named limits that were changed.
    limits: HashMap<(String, String), u32>,
    runs: HashMap<RunId, Vec<Number>>,
    ledgers: Ledgers,
    epoch: i64,
    seq: i64,
    breaches: Vec<Breach>,
}

/// More breaches than this tell nothing new.
const MAX_BREACHES: usize = 10_000;
/// Clocks of the event and of the wait in it are read a moment apart.
const ROUNDING: i64 = 2;

impl Auditor {
    /// Looks at the next event.
    pub fn event(&mut self, event: &Event) {
        if event.seq <= self.seq {
            self.breach("events are in order", event, format!("{} follows {}", event.seq, self.seq));
        }
        self.seq = event.seq;
        if let Some(unread) = event.data.get(UNREAD).filter(|_| event.kind != EventKind::Unknown) {
            self.breach("every event can be read", event, unread.as_str().unwrap_or_default().to_owned());
        }
        match (event.kind, event.number) {
            (EventKind::LeaderElected, _) => self.leader(event),
            (EventKind::RunEnded, _) => self.run_ended(event),
            (EventKind::PolicyChanged, _) => self.policy(event),
            (EventKind::ScheduleChanged | EventKind::OccurrenceFired | EventKind::OccurrenceSkipped, _) => {
                if let Some((invariant, message)) = self.ledgers.event(event) {
                    self.breach(invariant, event, message);
                }
            }
            (EventKind::Enqueued, Some(number)) => self.enqueued(event, number),
            (EventKind::Leased, Some(number)) => self.leased(event, number),
            (EventKind::Settled, Some(number)) => self.settled(event, number),
            (kind, Some(number)) => self.moved(event, kind, number),
            (_, None) => {}
        }
    }

    /// What was found, in the order of the events.
    pub fn finish(self) -> Vec<Breach> {
        self.breaches
    }

    fn breach(&mut self, invariant: &str, event: &Event, message: String) {
        if self.breaches.len() < MAX_BREACHES {
            let invariant = invariant.to_owned();
            self.breaches.push(Breach { invariant, seq: event.seq, number: event.number, message });
        }
    }

    fn leader(&mut self, event: &Event) {
        let epoch = event.data.get("epoch").and_then(Value::as_i64).unwrap_or_default();
        if epoch <= self.epoch {
            self.breach("leader epochs rise", event, format!("epoch {epoch} follows {}", self.epoch));
        }
        self.epoch = self.epoch.max(epoch);
    }

    /// Who changes a named limit changes it for jobs that were stored before, too.
    fn policy(&mut self, event: &Event) {
        self.limits.extend(limit_changed(event));
    }

    /// When a run ends, every task of it has ended, and well if the run is done.
    fn run_ended(&mut self, event: &Event) {
        let read = |key: &str| event.data.get(key).cloned().unwrap_or_default();
        let Ok(run) = serde_json::from_value::<RunId>(read("run")) else { return };
        let Some(tasks) = self.runs.get(&run) else { return }; // the store was pruned
        let bad = |state: State| !state.is_terminal() || (read("result") == "done" && state != State::Done);
        let states = tasks.iter().filter_map(|n| self.jobs.get(n).map(|known| (*n, known.state)));
        let bad: Vec<String> =
            states.filter(|(_, state)| bad(*state)).take(5).map(|(n, state)| format!("{n} is {state}")).collect();
        if !bad.is_empty() {
            self.breach("a run ends as its tasks ended", event, bad.join(", "));
        }
    }

    fn enqueued(&mut self, event: &Event, number: Number) {
        let Some(state) = state_of(event) else {
            return self.breach("every change tells its state", event, "no state is told".into());
        };
        let terms: Terms = serde_json::from_value(event.data.clone()).unwrap_or_default();
        if let Some(run) = terms.run.filter(|_| !terms.last) {
            self.runs.entry(run).or_default().push(number);
        }
        let terms = (terms != Terms::default()).then(|| Box::new(terms));
        let known = Known { state, attempt: 0, open: false, failures: 0, losses: 0, waits: event.seq, back: 0, terms };
        self.check_edges(event, &known);
        if self.jobs.insert(number, known).is_some() {
            self.breach("a job is stored once", event, format!("job {number} was stored before"));
        }
    }

    fn leased(&mut self, event: &Event, number: Number) {
        let Some(mut known) = self.jobs.remove(&number) else {
            return self.unknown(event, number);
        };
        let attempt = event.attempt.unwrap_or_default();
        if known.open {
            let message = format!("attempt {attempt} was leased while {} had not ended", known.attempt);
            self.breach("no second lease before the first has ended", event, message);
        }
        if attempt <= known.attempt {
            self.breach("attempt numbers rise", event, format!("attempt {attempt} follows {}", known.attempt));
        }
        if !matches!(known.state, State::Pending | State::Scheduled) && !known.open {
            self.breach("only what may run is leased", event, format!("it was {}", known.state));
        }
        if !known.open {
            self.take_limit(event, &known);
        }
        known.open = true;
        known.attempt = known.attempt.max(attempt);
        known.state = State::Running;
        self.jobs.insert(number, known);
    }

    /// Everything a job waits for must have come true before it may start.
    fn check_edges(&mut self, event: &Event, known: &Known) {
        if !matches!(known.state, State::Pending | State::Scheduled) {
            return;
        }
        let after = known.terms.iter().flat_map(|t| &t.after);
        let open: Vec<String> = after
            .filter_map(|edge| {
                let Selector::Number(needs) = edge.job else { return None };
                let source = self.jobs.get(&needs)?;
                let met = match edge.until {
                    Until::Done => source.state == State::Done,
                    // That it had ended and was run again takes nothing back.
                    Until::Ended => source.state.is_terminal() || source.back > known.waits,
                };
                (!met).then(|| format!("{needs} is {}", source.state))
            })
            .collect();
        if !open.is_empty() {
            self.breach("a job starts after what it waits for", event, open.join(", "));
        }
    }

    /// A job that is run again waits no longer for what has ended, well or not.
    fn waive_edges(&self, known: &mut Known) {
        let over = |needs| self.jobs.get(&needs).is_none_or(|source| source.state.is_terminal());
        if let Some(terms) = &mut known.terms {
            terms.after.retain(|edge| !matches!(edge.job, Selector::Number(needs) if over(needs)));
        }
    }

    fn take_limit(&mut self, event: &Event, known: &Known) {
        let Some((place, max)) = limit_of(known) else { return };
        let max = self.limits.get(&place).copied().unwrap_or(max);
        let count = self.running.entry(place).or_default();
        *count += 1;
        let count = *count;
        if count > max {
            self.breach("running jobs never exceed a limit", event, format!("{count} run, and {max} may"));
        }
    }

    fn settled(&mut self, event: &Event, number: Number) {
        let Some(mut known) = self.jobs.remove(&number) else {
            return self.unknown(event, number);
        };
        let attempt = event.attempt.unwrap_or_default();
        if !known.open || attempt != known.attempt {
            let message = format!("attempt {attempt} ended, and {} was leased last", known.attempt);
            self.breach("only the current attempt is settled", event, message);
        }
        if known.open
            && let Some((place, _)) = limit_of(&known)
            && let Some(count) = self.running.get_mut(&place)
        {
            *count = count.saturating_sub(1);
        }
        known.open = false;
        let state = state_of(event).unwrap_or(State::Done);
        self.count(event, &mut known, state);
        known.state = state;
        self.jobs.insert(number, known);
    }

    fn count(&mut self, event: &Event, known: &mut Known, state: State) {
        let plain = Terms::default();
        let terms = known.terms.as_deref().unwrap_or(&plain);
        let (max_attempts, max_losses) = (terms.max_attempts.unwrap_or(1), terms.max_losses.unwrap_or(3));
        let (service, backoff) = (terms.service, terms.backoff.unwrap_or_default());
        let outcome = event.data.get("outcome").and_then(Value::as_str).and_then(Outcome::parse);
        match outcome {
            Some(Outcome::Failed | Outcome::TimedOut) if !service => known.failures += 1,
            Some(Outcome::Lost) => known.losses += 1,
            _ => {}
        }
        if known.failures > max_attempts {
            let message = format!("{} failures, and {max_attempts} are allowed", known.failures);
            self.breach("failures stay within max_attempts", event, message);
        }
        if !service && known.losses > max_losses + 1 {
            let message = format!("{} losses, and {max_losses} are forgiven", known.losses);
            self.breach("losses stay within max_losses + 1", event, message);
        }
        let waits = [Outcome::Failed, Outcome::TimedOut, Outcome::Snoozed, Outcome::NotStarted];
        if state == State::Scheduled
            && outcome.is_some_and(|outcome| waits.contains(&outcome))
            && let Some(due) =
                event.data.get("due_at").and_then(|d| serde_json::from_value::<Timestamp>(d.clone()).ok())
        {
            let wait = due.0 - event.at.0;
            let bound = if outcome == Some(Outcome::NotStarted) { UNSTARTED_CAP } else { Span::MAX };
            let (base, cap) = (backoff.base.min(bound), backoff.cap.min(bound));
            if !(base.as_millis() - ROUNDING..=cap.as_millis() + ROUNDING).contains(&wait) {
                let message = format!("waits {}, not {base}..{cap}", Span::from_millis(wait));
                self.breach("waits lie between base and cap", event, message);
            }
        }
    }

    /// Every other change of state.
    fn moved(&mut self, event: &Event, kind: EventKind, number: Number) {
        let Some(state) = state_of(event) else { return };
        let Some(mut known) = self.jobs.remove(&number) else {
            return self.unknown(event, number);
        };
        let back = matches!(kind, EventKind::Retried | EventKind::Revived);
        if known.state.is_terminal() != back {
            let invariant = "nothing follows an end but a retry";
            self.breach(invariant, event, format!("{kind} though it was {}", known.state));
        }
        if back {
            (known.failures, known.losses, known.back) = (0, 0, event.seq);
        }
        known.state = state;
        match kind {
            EventKind::Retried => self.waive_edges(&mut known),
            EventKind::Revived => known.waits = event.seq,
            _ => {}
        }
        if matches!(kind, EventKind::Unblocked | EventKind::Revived) {
            self.check_edges(event, &known);
        }
        self.jobs.insert(number, known);
    }

    fn unknown(&mut self, event: &Event, number: Number) {
        // A store that was pruned begins in the middle: what is not known was stored before.
        if self.epoch == 0 && self.jobs.is_empty() {
            return;
        }
        self.breach("a job is stored before anything happens to it", event, format!("job {number} is not known"));
    }
}

/// The tenant and key of the named limit that `event` tells a change of, and what it is from there on.
pub fn limit_changed(event: &Event) -> Option<((String, String), u32)> {
    let word = |key: &str| event.data.get(key).and_then(Value::as_str).map(str::to_owned);
    let max = event.data.get("max_running").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    match event.kind {
        EventKind::PolicyChanged => Some(((word("tenant")?, word("limit")?), max?)),
        _ => None,
    }
}

fn state_of(event: &Event) -> Option<State> {
    event.data.get("state").and_then(Value::as_str).and_then(State::parse)
}

fn limit_of(known: &Known) -> Option<((String, String), u32)> {
    let terms = known.terms.as_ref()?;
    let limit = terms.limit.as_ref()?;
    Some(((terms.tenant.clone().unwrap_or_default(), limit.key.clone()), limit.max))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
