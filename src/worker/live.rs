//! A process tree that is watched: when it is signalled, killed, and when nobody is left.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::attempt::Order;
use super::census;
use super::exit::{self, Exit};
use super::kill::Left;
use super::tree::Tree;
use crate::job::state::Cause;
use crate::time::Span;

/// How often leftovers of an ended leader are looked at until they have ended too.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How long killing may take before the attempt is reported anyway.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Somebody killed its process before it became the program.
    NeverRan,
    /// So.
    Ended(Exit),
}

/// A process tree that is watched.
pub(super) struct Live {
    pub(super) pidfd: Arc<OwnedFd>,
    /// Its leader.
    pid: Option<i32>,
    /// Absent while it is being killed.
    tree: Option<Tree>,
    pub(super) killing: Option<JoinHandle<Tree>>,
    cause: Cause,
    /// What it was sent first would have killed it, had it come in time.
    deadly: bool,
    grace: Duration,
    timeout_at: Option<Instant>,
    /// How long the job may say nothing.
    patience: Option<Duration>,
    silent_at: Option<Instant>,
    /// It was ended because it said nothing.
    pub(super) silent: bool,
    kill_at: Option<Instant>,
    look_at: Option<Instant>,
    pub(super) exited: bool,
    /// The leader has ended and nobody is left.
    pub(super) clean: bool,
    tell_ended: Option<oneshot::Sender<()>>,
}

impl Live {
    /// Watches `tree`, whose leader is behind `pidfd`; `tell_ended` hears when only the pipes are left.
    pub(super) fn new(
        pidfd: Arc<OwnedFd>,
        tree: Tree,
        grace: Duration,
        timeout_at: Option<Instant>,
        patience: Option<Duration>,
        tell_ended: oneshot::Sender<()>,
    ) -> Self {
        Self {
            pidfd,
            pid: tree.leader(),
            tree: Some(tree),
            killing: None,
            cause: Cause::Itself,
            deadly: false,
            grace,
            timeout_at,
            patience,
            silent_at: patience.map(|p| Instant::now() + p),
            silent: false,
            kill_at: None,
            look_at: None,
            exited: false,
            clean: false,
            tell_ended: Some(tell_ended),
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Kill => self.end(Cause::Lost),
            Order::End => self.end(Cause::Drain),
            Order::Lose(at) => self.stop(Cause::Lost, Signal::TERM, at.saturating_duration_since(Instant::now())),
            Order::Interrupt => self.stop(Cause::Drain, Signal::TERM, self.grace),
            Order::Cancel(how) => {
                let signal = how.signal.and_then(Signal::from_named_raw).unwrap_or(Signal::TERM);
                let grace = how.grace.map_or(self.grace, Span::duration);
                self.stop(Cause::Cancel, signal, grace);
            }
        }
    }

    /// The job said something.
    pub(super) fn heard(&mut self) {
        if self.silent_at.is_some() {
            self.silent_at = self.patience.map(|p| Instant::now() + p);
        }
    }

    /// Only a process that still runs can be ended by us (S3).
    fn can_be_ended(&self) -> bool {
        let ended = || exit::has_ended(self.pidfd.as_fd()) || self.pid.is_some_and(census::is_ending);
        !self.exited && self.cause == Cause::Itself && !ended()
    }

    /// Kills it now.
    fn end(&mut self, cause: Cause) {
        if self.can_be_ended() {
            (self.cause, self.deadly) = (cause, true);
        }
        self.kill();
    }

    fn stop(&mut self, cause: Cause, signal: Signal, grace: Duration) {
        let again = self.cause != Cause::Itself;
        self.timeout_at = None;
        self.silent_at = None;
        if let Some(mut tree) = self.tree.take() {
            // The walk through /proc takes a while, in which the job may end by itself: it is looked at after that.
            let signalled = tree.signal_after(signal, || {
                if self.can_be_ended() {
                    self.deadly = self.pid.is_some_and(|pid| census::dies_of(pid, signal.as_raw()));
                    self.cause = cause;
                }
            });
            if let Err(e) = signalled {
                warn!("signalling failed: {e}");
            }
            self.tree = Some(tree);
        }
        let at = Instant::now() + grace;
        self.kill_at = Some(match self.kill_at {
            Some(before) if again => before.min(at),
            _ => at,
        });
    }

    fn kill(&mut self) {
        self.kill_at = None;
        self.timeout_at = None;
        self.silent_at = None;
        if let Some(mut tree) = self.tree.take() {
            // It reads /proc and waits, so it belongs on a thread of its own.
            self.killing = Some(tokio::task::spawn_blocking(move || {
                if !tree.kill_all(std::time::Instant::now() + KILL_LIMIT) {
                    warn!("processes of the job may be left after {KILL_LIMIT:?} of killing");
                }
                tree
            }));
        }
    }

    pub(super) fn killed(&mut self, tree: Option<Tree>) {
        self.killing = None;
        self.tree = tree;
        self.exited |= exit::has_ended(self.pidfd.as_fd());
        // What the leader left behind may outlive SIGKILL, in an uninterruptible call or as another user. The attempt does
        // not hang with that; for the leader itself it waits, see `reap`.
        self.clean = true;
        self.look_at = None;
        self.tell();
    }

    pub(super) fn leader_ended(&mut self, result: io::Result<()>) {
        if let Err(e) = result {
            warn!("watching a process failed: {e}");
        }
        self.exited = true;
        self.timeout_at = None;
        self.silent_at = None;
        if self.killing.is_some() {
            return;
        }
        if self.look() {
            self.stop(self.cause, Signal::TERM, self.grace);
        }
    }

    /// Looks whether anybody outlived the leader; true when so.
    fn look(&mut self) -> bool {
        let Some(tree) = &mut self.tree else { return false };
        self.look_at = None;
        match tree.look() {
            Left::Somebody => {
                self.look_at = Some(Instant::now() + LOOK_AGAIN);
                return true;
            }
            Left::Nobody => {
                self.clean = true;
                self.tell();
            }
            // Who cannot be seen cannot be asked to end, and killing takes care to find him.
            Left::Unsure => self.kill(),
        }
        false
    }

    /// From now on the pipes are read for a short time only.
    fn tell(&mut self) {
        if let Some(tell) = self.tell_ended.take() {
            let _ = tell.send(()); // the pipes may have ended before
        }
    }

    /// Reaps the leader, and says what ended it and how: the last thing to be done.
    ///
    /// There is no end without it. While a debugger holds what has ended, or where the kernel does not let go of what was
    /// killed, the attempt goes on. Errors: somebody else has reaped it, so that nobody knows.
    pub(super) async fn reap(&mut self) -> io::Result<(Cause, Fate)> {
        exit::ended(self.pidfd.as_fd()).await?;
        let never_ran = self.pid.is_some_and(census::never_executed);
        let exit = exit::wait_exit(self.pidfd.as_fd()).await?;
        // It was about to end when the signal was sent, and never saw it (S3).
        if self.deadly && exit == Exit::Code(0) {
            self.cause = Cause::Itself;
        }
        Ok((self.cause, if never_ran { Fate::NeverRan } else { Fate::Ended(exit) }))
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        [self.timeout_at, self.silent_at, self.kill_at, self.look_at].into_iter().flatten().min()
    }

    pub(super) fn timer(&mut self) {
        let now = Instant::now();
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.kill_at) {
            self.kill();
        } else if passed(self.timeout_at) || passed(self.silent_at) {
            self.silent = !passed(self.timeout_at);
            self.stop(Cause::Timeout, Signal::TERM, self.grace);
        } else if passed(self.look_at) {
            self.look();
        }
        if self.clean {
            self.kill_at = None;
        }
    }
}
