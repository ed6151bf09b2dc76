//! Figures about the whole, for monitoring: read from counters, and written as Prometheus reads them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::exposition::{Number, Text};
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::{EventKind, Outcome, State};
use crate::store::{Tx, WorkerState, tallies};
use crate::time::Span;

/// Measures the store. It costs the same however many jobs there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Measure {}

/// What was measured. Spans are seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// The queues with the most jobs, at most [`MAX_QUEUES`]; the others are one, named [`OTHER`].
    pub queues: Vec<QueueMeasure>,
    /// Ended attempts by outcome, since the store was made.
    pub attempts: BTreeMap<String, i64>,
    /// Attempts that failed, timed out or were lost, and were followed by another.
    pub retries: i64,
    /// Jobs that people had run again.
    pub operator_retries: i64,
    /// Dead letters that there are; counted up to [`MAX_LETTERS`].
    pub dead_letters: i64,
    /// Writes that carried an old fence.
    pub stale_writes: i64,
    /// Calls that a token's scopes did not allow.
    pub denied_calls: i64,
    /// The leader's epoch; 0 where there never was one.
    pub leader_epoch: i64,
    /// How long ago the leader led last; none where nobody leads.
    pub leader_age: Option<Span>,
    /// For how long the schedule that should have fired first is due.
    pub schedule_lag: Span,
    /// Room that the store takes, in bytes.
    pub store_bytes: i64,
    /// Workers by state.
    pub workers: BTreeMap<String, i64>,
    /// Live workers that start no jobs, or fewer than they have slots.
    #[serde(default)]
    pub workers_in_trouble: i64,
    /// Slots of live workers.
    pub slots: i64,
    /// Those of them that run a job.
    pub slots_used: i64,
}

/// What was measured of one queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueueMeasure {
    /// The queue.
    pub name: String,
    /// Jobs by state, all states present.
    pub jobs: BTreeMap<State, i64>,
    /// For how long the pending job that was stored first is there.
    pub oldest_pending: Option<Span>,
}

/// How many queues have figures of their own.
pub const MAX_QUEUES: usize = 100;
/// The name that the other queues share.
pub const OTHER: &str = "other";
/// How far dead letters are counted.
pub const MAX_LETTERS: i64 = 100_000;

impl Op for Measure {
    type Reply = Measured;
    const NAME: &'static str = "measure";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Measured> {
        let now = tx.now();
        let queues = tx.totals(None)?.into_iter().map(|queue| QueueMeasure {
            name: queue.name,
            jobs: queue.counts,
            oldest_pending: queue.oldest_pending_at.map(|at| now.since(at)),
        });
        let queues = largest(queues.collect());
        let told = tx.tallies()?;
        let tally = |name: &str| told.get(name).copied().unwrap_or_default();
        let leader = tx.leader()?;
        let leads = leader.as_ref().filter(|leader| !leader.released);
        let all = tx.workers()?;
        let states = [WorkerState::Active, WorkerState::Draining, WorkerState::Lost];
        let count = |state: WorkerState| all.iter().filter(|w| w.state == state).count() as i64;
        let live = || all.iter().filter(|w| w.state != WorkerState::Lost);
        Ok(Measured {
            queues,
            attempts: Outcome::ALL.iter().map(|o| (o.as_str().to_owned(), tally(o.as_str()))).collect(),
            retries: tally(tallies::RETRIES),
            operator_retries: tally(EventKind::Retried.as_str()),
            dead_letters: tx.count_letters(MAX_LETTERS)?,
            stale_writes: tally(EventKind::RejectedStale.as_str()),
            denied_calls: tally(EventKind::CallDenied.as_str()),
            leader_epoch: leader.as_ref().map_or(0, |leader| leader.epoch),
            leader_age: leads.and_then(|leader| leader.age),
            schedule_lag: tx.next_schedule()?.map_or(Span::ZERO, |due| now.since(due)),
            store_bytes: tx.size()?,
            workers: states.map(|state| (state.as_str().to_owned(), count(state))).into(),
            workers_in_trouble: live().filter(|w| w.trouble.is_some()).count() as i64,
            slots: live().map(|w| i64::from(w.slots)).sum(),
            slots_used: live().map(|w| w.running.len() as i64).sum(),
        })
    }
}

/// The queues with the most jobs that have not ended, then the most at all; the rest as one. In the order of names.
fn largest(mut queues: Vec<QueueMeasure>) -> Vec<QueueMeasure> {
    if queues.len() > MAX_QUEUES {
        queues.sort_by_key(|queue| {
            let open: i64 = queue.jobs.iter().filter(|(state, _)| !state.is_terminal()).map(|(_, n)| n).sum();
            std::cmp::Reverse((open, queue.jobs.values().sum::<i64>()))
        });
        let rest = queues.split_off(MAX_QUEUES);
        // One that is really named so is counted with them: two lines of one name are no metric.
        let (named, kept): (Vec<_>, Vec<_>) = queues.into_iter().partition(|queue| queue.name == OTHER);
        queues = kept;
        let mut other = QueueMeasure { name: OTHER.into(), ..QueueMeasure::default() };
        for queue in rest.into_iter().chain(named) {
            queue.jobs.into_iter().for_each(|(state, n)| *other.jobs.entry(state).or_default() += n);
            let oldest = [other.oldest_pending, queue.oldest_pending];
            other.oldest_pending = oldest.into_iter().flatten().max();
        }
        queues.push(other);
    }
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    queues
}

/// The figures for Prometheus.
pub fn text(measured: &Measured) -> Text {
    let m = measured;
    let mut text = Text::default();
    text.family("orx_jobs", "gauge", "Jobs by queue and state.");
    for queue in &m.queues {
        for (state, n) in &queue.jobs {
            text.line("orx_jobs", &[("queue", &queue.name), ("state", state.as_str())], n);
        }
    }
    text.family("orx_queue_oldest_pending_seconds", "gauge", "Age of the job that is pending for longest.");
    for queue in &m.queues {
        let age = queue.oldest_pending.map_or(0.0, seconds);
        text.line("orx_queue_oldest_pending_seconds", &[("queue", &queue.name)], age);
    }
    text.family("orx_attempts_total", "counter", "Ended attempts by outcome.");
    for (outcome, n) in &m.attempts {
        text.line("orx_attempts_total", &[("outcome", outcome)], n);
    }
    text.one("orx_retries_total", "counter", "Failed attempts that were followed by another.", m.retries);
    text.one("orx_operator_retries_total", "counter", "Jobs that people had run again.", m.operator_retries);
    text.one("orx_dead_letters", "gauge", "Dead letters.", m.dead_letters);
    text.one("orx_stale_writes_total", "counter", "Writes that carried an old fence.", m.stale_writes);
    text.one("orx_denied_calls_total", "counter", "Calls that a token did not allow.", m.denied_calls);
    text.one("orx_leader_epoch", "gauge", "Epoch of the leader; it rises with each change.", m.leader_epoch);
    text.one("orx_leader", "gauge", "Whether a process leads.", i64::from(m.leader_age.is_some()));
    let age = m.leader_age.map_or(f64::NAN, seconds);
    text.one("orx_leader_age_seconds", "gauge", "Time since the leader led last.", Number(age));
    text.one("orx_schedule_lag_seconds", "gauge", "Time for which a schedule is due.", seconds(m.schedule_lag));
    text.one("orx_store_size_bytes", "gauge", "Room that the store takes.", m.store_bytes);
    text.family("orx_workers", "gauge", "Workers by state.");
    for (state, n) in &m.workers {
        text.line("orx_workers", &[("state", state)], n);
    }
    text.one(
        "orx_workers_in_trouble",
        "gauge",
        "Live workers that cannot start all they have slots for.",
        m.workers_in_trouble,
    );
    text.one("orx_worker_slots", "gauge", "Slots of live workers.", m.slots);
    text.one("orx_worker_slots_used", "gauge", "Slots that run a job.", m.slots_used);
    text
}

fn seconds(span: Span) -> f64 {
    span.duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn queue(name: &str, pending: i64) -> QueueMeasure {
        let jobs = State::ALL.map(|state| (state, if state == State::Pending { pending } else { 0 })).into();
        QueueMeasure { name: name.into(), jobs, oldest_pending: Some(Span::from_secs(pending as u64)) }
    }

    /// What `promtool check metrics` complains of.
    fn check(text: &str) {
        let (mut families, mut kinds, mut samples) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(families.insert(name) && !help.is_empty(), "{line}");
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(families.contains(name) && matches!(kind, "gauge" | "counter"), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                for unit in ["_ms", "_milliseconds", "_minutes", "_kb", "_count", "_bucket", "_sum"] {
                    assert!(!name.ends_with(unit), "{line}");
                }
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
                kinds.insert(name, kind);
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value == "NaN" || value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(series), "twice: {line}");
            assert!(kinds.contains_key(series.split('{').next().unwrap()), "{line}");
        }
        assert_eq!(families.len(), kinds.len());
    }

    #[test]
    fn the_text_is_clean_and_labels_are_escaped() {
        let queues = vec![queue("a\"b\\c\nd", 3)];
        let text = text(&Measured { queues, ..Measured::default() }).finish();
        check(&text);
        assert!(text.contains(r#"orx_jobs{queue="a\"b\\c\nd",state="pending"} 3"#), "{text}");
        assert!(text.contains("orx_leader 0\n") && text.contains("orx_leader_age_seconds NaN\n"), "{text}");
    }

    #[test]
    fn at_most_a_hundred_queues_have_figures_of_their_own() {
        let mut queues: Vec<QueueMeasure> = (0..250).map(|n| queue(&format!("q{n:03}"), n)).collect();
        queues.push(queue(OTHER, 1000));
        let total: i64 = queues.iter().map(|q| q.jobs[&State::Pending]).sum();
        let few = largest(queues);
        assert!(few.len() <= MAX_QUEUES + 1, "{}", few.len());
        assert_eq!(few.iter().map(|q| q.jobs[&State::Pending]).sum::<i64>(), total);
        let other = few.iter().find(|q| q.name == OTHER).unwrap();
        assert_eq!(other.oldest_pending, Some(Span::from_secs(1000)));
        check(&text(&Measured { queues: few, ..Measured::default() }).finish());
    }
}
