//! Whether programs start on this worker, and how it goes on where they do not.
//!
//! A worker may lack what a start takes: descriptors, processes, memory. Then it runs no more jobs than it could start,
//! and none until one of those ends where it could start none. After a pause it tries one more; when that is well it tries
//! twice as many more each second, and when it is not it comes back to what it could, and the next pause is longer.
//! So a lasting shortage costs a start that fails now and then, and one that passes is forgotten in seconds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::job::Number;

/// The first pause after a start that failed; it doubles with each try that fails too.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long a number of jobs is tried before more are.
const TRIAL: Duration = Duration::from_secs(1);
/// How long the start of another job speaks for the worker, and against a job that does not start.
const LATELY: Duration = Duration::from_secs(60);

/// The starts of a worker.
pub(super) struct Starts {
    /// Its slots.
    slots: u32,
    state: Mutex<State>,
    /// More may be started than before.
    eased: Notify,
}

#[derive(Default)]
struct State {
    /// The job that started last.
    latest: Option<(Number, Instant)>,
    /// The last one that is another.
    other: Option<(Number, Instant)>,
    /// Since a start failed.
    limit: Option<Limit>,
}

struct Limit {
    /// How many jobs may run.
    ceiling: u32,
    /// By how many it is raised next.
    step: u32,
    raise_at: Instant,
    /// It was raised since a start failed last.
    raised: bool,
    pause: Duration,
    /// Nothing has started since a start failed last.
    failing: bool,
    why: String,
}

impl State {
    /// Lets more jobs run where it is time for that.
    fn ease(&mut self, slots: u32) {
        let now = Instant::now();
        while let Some(limit) = self.limit.as_mut().filter(|limit| limit.raise_at <= now) {
            limit.ceiling = limit.ceiling.saturating_add(limit.step);
            (limit.step, limit.raised) = (limit.step.saturating_mul(2), true);
            if limit.failing {
                limit.raise_at = now + limit.pause;
            } else if limit.ceiling >= slots {
                self.limit = None;
            } else {
                limit.raise_at += TRIAL;
            }
        }
    }
}

impl Starts {
    /// Of a worker with so many slots.
    pub(super) fn new(slots: u32) -> Self {
        Self { slots, state: Mutex::default(), eased: Notify::new() }
    }

    /// A program runs.
    pub(super) fn started(&self, job: Number) {
        let mut state = self.lock();
        let now = Instant::now();
        match state.latest {
            Some((latest, _)) if latest == job => {}
            latest => state.other = latest,
        }
        state.latest = Some((job, now));
        if let Some(limit) = &mut state.limit {
            if limit.failing && limit.raised {
                limit.raise_at = now + TRIAL; // the try was well
            }
            limit.failing = false;
            self.eased.notify_one();
        }
    }

    /// A program did not start, while `running` jobs ran; true: others have started lately, so that it may be the job.
    pub(super) fn failed(&self, job: Number, running: u32, why: String) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let pause = match &state.limit {
            Some(limit) if limit.raised => (limit.pause * 2).min(MAX_PAUSE),
            Some(limit) => limit.pause,
            None => PAUSE,
        };
        state.limit =
            Some(Limit { ceiling: running, step: 1, raise_at: now + pause, raised: false, pause, failing: true, why });
        let started = [state.latest, state.other].into_iter().flatten().find(|(other, _)| *other != job);
        started.is_some_and(|(_, at)| now.duration_since(at) <= LATELY)
    }

    /// Whether it may start fewer jobs than it has slots.
    pub(super) fn is_limited(&self) -> bool {
        self.lock().limit.is_some()
    }

    /// How many more jobs it may ask for, beside those that run and those that are asked for or about to start.
    pub(super) fn room(&self, running: u32, starting: u32) -> u32 {
        let mut state = self.lock();
        state.ease(self.slots);
        let Some(limit) = &state.limit else { return u32::MAX };
        let room = limit.ceiling.saturating_sub(running + starting);
        if limit.failing { room.min(1_u32.saturating_sub(starting)) } else { room }
    }

    /// When there may be more room though nothing happens.
    pub(super) fn room_at(&self) -> Option<Instant> {
        self.lock().limit.as_ref().map(|limit| limit.raise_at)
    }

    /// Why it starts no jobs, or fewer than it has slots.
    pub(super) fn trouble(&self) -> Option<String> {
        let mut state = self.lock();
        state.ease(self.slots);
        state.limit.as_ref().map(|limit| match limit.failing {
            true => format!("cannot start jobs: {}", limit.why),
            false => format!("starts no more than {} at once: {}", limit.ceiling, limit.why),
        })
    }

    /// Waits until more may be started than before.
    pub(super) async fn eased(&self) {
        self.eased.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(starts: &Starts, job: Number, running: u32) -> bool {
        starts.failed(job, running, "making a pipe".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_starts_nothing_tries_one_at_a_time_after_growing_pauses() {
        let starts = Starts::new(8);
        assert_eq!((starts.room(0, 0), starts.trouble()), (u32::MAX, None));
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            for job in 1..=3 {
                failed(&starts, job, 0); // those that were leased together count once
            }
            tokio::time::advance(Duration::from_millis(pause * 1000 - 1)).await;
            assert_eq!(starts.room(0, 0), 0, "{pause} s");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!((starts.room(0, 0), starts.room(0, 1)), (1, 0));
        }
        assert_eq!(starts.trouble().as_deref(), Some("cannot start jobs: making a pipe"));
        starts.started(4);
        tokio::time::advance(TRIAL).await;
        assert_eq!(starts.room(1, 0), 2, "it is over, and no pause is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_keeps_what_runs_and_one_that_passes_is_forgotten() {
        let starts = Starts::new(8);
        (1..=3).for_each(|job| starts.started(job));
        failed(&starts, 4, 3);
        assert_eq!(starts.room(3, 0), 0, "as many run as could be started");
        assert_eq!((starts.room(1, 0), starts.room(1, 1)), (1, 0), "of those that end one is followed");
        starts.started(5);
        assert_eq!(starts.room(2, 0), 1);
        assert_eq!(starts.trouble().as_deref(), Some("starts no more than 3 at once: making a pipe"));
        for more in [1, 3, u32::MAX] {
            assert!(starts.trouble().is_some());
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(starts.room(3, 0), more);
        }
        assert_eq!(starts.trouble(), None);
        failed(&starts, 6, 3);
        starts.started(6);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(starts.trouble(), None, "also where nobody asks for jobs");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_alone_in_not_starting_where_another_started_within_a_minute() {
        let starts = Starts::new(8);
        assert!(!failed(&starts, 1, 0));
        starts.started(1);
        assert!(!failed(&starts, 1, 0), "it is the only one that ever started");
        starts.started(2);
        starts.started(1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(failed(&starts, 1, 0) && failed(&starts, 3, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!failed(&starts, 1, 0) && !failed(&starts, 3, 0));
    }
}
