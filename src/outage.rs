//! Whether a store can be used: since when it cannot, how often that is worth a line of the log, and that it is over.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::error::{Error, Kind, Result};
use crate::ops::Access;
use crate::time::Span;

/// How soon a line follows another one; each time the same cause is said the pause doubles, up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// After this long a failure of one kind of calls says nothing any more where calls of other kinds succeed: it may never be
/// tried again.
const STALE: Duration = Duration::from_secs(10);

/// How the calls of one store go.
pub struct Outage {
    /// Whether there is one: what most calls need to know.
    is_on: AtomicBool,
    state: Mutex<State>,
    why: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    /// When calls of each kind failed last. A full disk can be read, and a locked table hinders renewals only.
    failed: [Option<Instant>; 4],
    /// The cause that was said last in this outage, and how long it is not said again.
    said: Option<(String, Duration)>,
    /// When there was a line last, of this outage or the one before.
    line_at: Option<Instant>,
}

impl State {
    /// Whether a line may be said now.
    fn may_say(&mut self, cause: &str, now: Instant) -> bool {
        let same = self.said.as_ref().filter(|(before, _)| before == cause);
        let (least, pause) = match same {
            Some((_, pause)) => (*pause, (*pause * 2).min(PAUSES.1)),
            None => (PAUSES.0, PAUSES.0),
        };
        if self.line_at.is_some_and(|at| now.duration_since(at) < least) {
            return false;
        }
        (self.said, self.line_at) = (Some((cause.to_owned(), pause)), Some(now));
        true
    }
}

impl Default for Outage {
    fn default() -> Self {
        Self { is_on: AtomicBool::new(false), state: Mutex::default(), why: watch::Sender::new(None) }
    }
}

/// Whether the store could not be used.
fn is_one(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Unknown)
}

impl Outage {
    /// Notes how a call went.
    pub(crate) fn note<T>(&self, access: Access, went: &Result<T>) {
        match went {
            Err(error) if is_one(error) => self.failed(access, error),
            _ if self.is_on.load(Ordering::Relaxed) => self.succeeded(access),
            _ => {}
        }
    }

    /// Notes that a call failed, or one try of it.
    pub(crate) fn failed(&self, access: Access, error: &Error) {
        let now = Instant::now();
        let mut state = self.lock();
        state.since.get_or_insert(now);
        state.failed[access as usize] = Some(now);
        self.is_on.store(true, Ordering::Relaxed);
        let text = error.to_string();
        self.why.send_if_modified(|why| {
            let other = why.as_ref() != Some(&text);
            *why = Some(text);
            other
        });
    }

    fn succeeded(&self, access: Access) {
        let now = Instant::now();
        let mut state = self.lock();
        state.failed[access as usize] = None;
        let fresh = |at: &Option<Instant>| at.is_some_and(|at| now.duration_since(at) < STALE);
        if state.failed.iter().any(fresh) {
            return;
        }
        self.is_on.store(false, Ordering::Relaxed);
        let (since, said) = (state.since.take(), state.said.take());
        if said.is_some() {
            state.line_at = Some(now);
        }
        drop(state);
        self.why.send_replace(None);
        if let (Some(since), Some(_)) = (since, said) {
            let away = now.duration_since(since).as_millis().try_into().map_or(Span::MAX, Span::from_millis);
            info!("the store can be used again, after {away}");
        }
    }

    /// Says in the log that something waits for the store or could not be done: `what` and why. Of all that waits for one
    /// store a line is said each second at most, and the same cause ever more seldom.
    pub fn say(&self, what: impl Display, error: &Error) {
        match is_one(error) && !self.lock().may_say(&error.to_string(), Instant::now()) {
            true => debug!("{what}: {error}"),
            false => warn!("{what}: {error}"),
        }
    }

    /// Why the store cannot be used, while that is so.
    pub fn why(&self) -> watch::Receiver<Option<String>> {
        self.why.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Result<()> {
        Err(Error::unavailable("the disk is full"))
    }

    #[test]
    fn an_outage_is_over_when_what_failed_succeeds_again_and_not_when_something_else_does() {
        let outage = Outage::default();
        let why = outage.why();
        outage.note(Access::Write, &down());
        outage.note(Access::Read, &Ok(()));
        assert_eq!(why.borrow().as_deref(), Some("the disk is full"), "it can be read");
        outage.note(Access::Renewal, &down());
        outage.note(Access::Write, &Err::<(), _>(Error::conflict("it was answered")));
        assert!(why.borrow().is_some());
        outage.note(Access::Renewal, &Ok(()));
        assert_eq!(*why.borrow(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_tried_again_holds_up_no_end() {
        let outage = Outage::default();
        outage.note(Access::Renewal, &down());
        outage.note(Access::Write, &Ok(()));
        assert!(outage.why().borrow().is_some());
        tokio::time::advance(STALE).await;
        outage.note(Access::Write, &Ok(()));
        assert_eq!(*outage.why().borrow(), None);
    }

    #[test]
    fn a_line_a_second_is_said_at_most_and_the_same_one_ever_more_seldom() {
        let (mut state, begun) = (State::default(), Instant::now());
        let mut said = Vec::new();
        for tenth in 0..6000 {
            // Two that wait ask ten times a second each.
            let now = begun + Duration::from_millis(100 * tenth);
            said.extend(state.may_say("the disk is full", now).then_some(tenth));
        }
        assert_eq!(said, [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030, 3630, 4230, 4830, 5430]);
        let now = begun + Duration::from_millis(600_000);
        assert!(state.may_say("the disk failed", now), "that is news");
        assert!(!state.may_say("the server is away", now + Duration::from_millis(900)));
        assert!(state.may_say("the server is away", now + Duration::from_secs(1)));
    }
}
