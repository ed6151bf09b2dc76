//! Kills a whole tree, however fast it grows, and knows when nobody is left.
//!
//! A look at `/proc` takes longer than a process that only forks and exits needs for a generation, so "I saw nobody" is
//! no proof. It is one if nobody who could have been a member died during the look: a child missed by it was born
//! after it began, of a parent that was alive then, is not now, and so has become a dead orphan of this process.
//! Such a death makes the look worthless and another one necessary; where such deaths never stop, many looks must do.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::census::{self, Census, Mark};
use super::cgroup::Cgroup;
use super::tree::{Marker, Process, Survey, Tree, open, send_to};
use super::{exit, leaders};

/// Passes that stop newcomers before killing begins anyway.
const MAX_FREEZE_PASSES: usize = 64;
/// How long one pass waits for the killed to end before it looks again.
const KILL_PASS_WAIT: Duration = Duration::from_millis(50);
/// Ends waited for in one pass; the rest is seen by the next one, and descriptors are not used up by a fork bomb.
const MAX_WAITED: usize = 64;
/// Certain looks in a row that must find nobody. The second starts when the leader was dead beyond doubt.
const CERTAIN_LOOKS: usize = 2;
/// Looks in a row that must find nobody where deaths cannot be seen, as those of another process's orphans, or where
/// they never stop, as those of another attempt that starts daemons all the time.
const BLIND_LOOKS: usize = 16;
/// Quick looks at this process's own children, some 20 µs each, after a look at everybody was worthless.
const QUICK_LOOKS: usize = 200;

impl Tree {
    /// Kills every member, and those they start meanwhile. Returns whether nobody is left.
    ///
    /// All are stopped first, so that nobody forks while others die. Blocks until nobody is left or the deadline has
    /// passed, so it belongs on a blocking thread. Reaps orphans, not the leader. This process must be a subreaper.
    pub fn kill_all(&mut self, deadline: Instant) -> bool {
        self.kill_counting(deadline).1
    }

    /// As [`Tree::kill_all`]; says also how many processes it found.
    pub(super) fn kill_counting(&mut self, deadline: Instant) -> (usize, bool) {
        self.ends();
        let mut killed = HashSet::new();
        let mut quiet = Quiet::default();
        if !self.cgroup.as_ref().is_some_and(|cgroup| cgroup.kill(deadline)) {
            self.freeze(deadline);
        }
        loop {
            let reaped_before = exit::orphans_reaped();
            let waited = match Census::take() {
                Ok(census) => {
                    let Survey { members, unsure } = self.survey(&census);
                    let unsure = quiet.saw_deaths(&census, reaped_before) || unsure;
                    exit::reap_orphans_in(&census);
                    let blind = matches!(self.marker, Marker::Anywhere(_));
                    if quiet.is_certain(members.is_empty(), unsure, blind) {
                        return (killed.len(), true);
                    }
                    killed.extend(members.iter().copied());
                    let waited = self.kill(&Self::grouped(members, &census));
                    if unsure && self.snatch(deadline) > 0 {
                        quiet.blind = 0;
                    }
                    waited
                }
                // Most likely descriptors ran out, which passes. The leader's group takes none.
                Err(_) => {
                    self.signal_leader(Signal::KILL);
                    std::thread::sleep(left(deadline).min(KILL_PASS_WAIT));
                    Vec::new()
                }
            };
            if left(deadline).is_zero() {
                return (killed.len(), false);
            }
            wait_for_ends(waited, left(deadline).min(KILL_PASS_WAIT));
        }
    }

    /// Stops members until a look finds nobody new, or half of the time is over.
    pub(super) fn freeze(&mut self, deadline: Instant) {
        let until = Instant::now() + left(deadline) / 2;
        let mut stopped = HashSet::new();
        for _ in 0..MAX_FREEZE_PASSES {
            let Ok(census) = Census::take() else { return };
            let mut newcomers = self.with_group(&census);
            newcomers.retain(|(process, _)| stopped.insert(*process));
            if newcomers.is_empty() {
                return;
            }
            self.send(&newcomers, Signal::STOP);
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// Kills the members and returns pidfds of some to wait for, those that could not be signalled included.
    fn kill(&self, members: &[(Process, i32)]) -> Vec<OwnedFd> {
        self.signal_group(Signal::KILL);
        let mut waited = Vec::new();
        for (process, _) in members {
            let Some(fd) = open(*process) else { continue };
            send_to(&fd, Signal::KILL);
            if waited.len() < MAX_WAITED {
                waited.push(fd);
            }
        }
        waited
    }

    /// Looks who outlived the leader, which has ended. On the first thread, as [`exit::reap_adopted`].
    ///
    /// Nobody is nobody twice: a pass over all processes has more gaps than can be closed one by one.
    pub(super) fn look(&mut self) -> Left {
        self.ends();
        match self.look_once() {
            Left::Nobody if exit::has_adopted() => self.look_once(),
            left => left,
        }
    }

    fn look_once(&mut self) -> Left {
        exit::reap_adopted();
        // A child may also be born to the leader's parent; the cgroup knows it.
        if !exit::has_adopted() && self.cgroup.as_ref().is_none_or(Cgroup::is_empty) {
            return Left::Nobody;
        }
        let reaped_before = exit::orphans_reaped();
        let Ok(census) = Census::take() else { return Left::Unsure };
        let Survey { members, unsure } = self.survey(&census);
        let unsure = unsure
            || Quiet::default().saw_deaths(&census, reaped_before)
            || (members.is_empty() && !are_known_strangers(&census));
        match members.is_empty() {
            false => Left::Somebody,
            true if unsure => Left::Unsure,
            true => Left::Nobody,
        }
    }

    /// Kills marked orphans as soon as they are adopted: the only way to catch one that lives for less than a look.
    /// Returns how many it found.
    pub(super) fn snatch(&self, deadline: Instant) -> usize {
        if matches!(self.marker, Marker::Anywhere(_)) {
            return 0;
        }
        let mut killed = 0;
        let leaders = leaders::all();
        let mut looked_at = HashSet::new();
        for _ in 0..QUICK_LOOKS {
            // Where it is not known the looks at everybody must do.
            let Some(children) = exit::children_of_first_thread() else { return killed };
            let mut dead = Vec::new();
            for pid in children {
                let is_stranger = !leaders.contains(&pid) && !looked_at.contains(&pid);
                match is_stranger.then(|| kill_if_marked(pid, &self.marker)) {
                    Some(Looked::Killed) => {
                        killed += 1;
                        dead.push(pid);
                    }
                    Some(Looked::Dead) => dead.push(pid),
                    Some(Looked::Alive) => {
                        looked_at.insert(pid);
                    }
                    None => {}
                }
            }
            // The longer the list of children, the slower the look.
            exit::reap_strangers(dead.into_iter());
            if left(deadline).is_zero() {
                break;
            }
        }
        killed
    }
}

/// Whether the processes that were given to this one by now were all seen, and so found to be strangers: each link of a
/// chain is given to us as the one before it ends.
fn are_known_strangers(census: &Census) -> bool {
    let Some(children) = exit::children_of_first_thread() else { return true }; // the look at everybody must do
    let leaders = leaders::all();
    children.iter().all(|pid| leaders.contains(pid) || census.get(*pid).is_some())
}

/// Who is left of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nobody,
    Somebody,
    /// Nobody was seen, and somebody may have been missed.
    Unsure,
}

enum Looked {
    Alive,
    /// And not dead yet, most likely.
    Killed,
    Dead,
}

/// Opened first, looked at second: if the pid changes hands between, the signal goes to a dead process.
fn kill_if_marked(pid: i32, marker: &Marker) -> Looked {
    let fd = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    match (fd, census::mark_of(pid, |entry| marker.accepts(entry))) {
        // To be looked at again, so that it is reaped.
        (Some(fd), Mark::Has) if send_to(&fd, Signal::KILL) => Looked::Killed,
        (_, Mark::Gone) => Looked::Dead,
        (_, Mark::Has | Mark::Lacks | Mark::Unreadable | Mark::Hidden) => Looked::Alive,
    }
}

/// How long nobody has been seen.
#[derive(Default)]
struct Quiet {
    certain: usize,
    blind: usize,
    /// Dead orphans seen by an earlier look, which say nothing about a later one.
    dead: HashSet<Process>,
}

impl Quiet {
    /// Whether an orphan of this process died since the last look, or was reaped by others after `reaped_before`.
    fn saw_deaths(&mut self, census: &Census, reaped_before: u64) -> bool {
        let dead: HashSet<Process> = exit::dead_orphans(census).collect();
        let new = dead.difference(&self.dead).next().is_some();
        self.dead = dead;
        new || exit::orphans_reaped() != reaped_before
    }

    fn is_certain(&mut self, nobody: bool, unsure: bool, blind: bool) -> bool {
        self.certain = if nobody && !unsure { self.certain + 1 } else { 0 };
        self.blind = if nobody { self.blind + 1 } else { 0 };
        self.blind >= BLIND_LOOKS || (!blind && self.certain >= CERTAIN_LOOKS)
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Waits until all have ended or the time is over.
fn wait_for_ends(mut running: Vec<OwnedFd>, limit: Duration) {
    let until = Instant::now() + limit;
    while !running.is_empty() && !left(until).is_zero() {
        let Ok(timeout) = Timespec::try_from(left(until)) else {
            return;
        };
        let mut polled: Vec<_> = running.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        if poll(&mut polled, Some(&timeout)).is_err() {
            // Interrupted or out of memory: the next look at /proc says what this could not.
            return;
        }
        let ended: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        running.retain(|_| !ended.next().unwrap_or(false));
    }
}
