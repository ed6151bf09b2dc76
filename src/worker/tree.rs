//! The process tree of one attempt: who belongs to it, and how to signal or kill all of them.
//!
//! A member is found by kinship (a descendant of the leader or of a member seen before), by process group or session
//! (of a member), or, if it was orphaned before anybody looked, by the marker in its environment. What escapes is a
//! process that in one go clears its environment, leaves its session and loses its parent between two looks.
//!
//! Nobody is signalled by pid: a pidfd is opened, the start time is compared, and only then is the signal sent. The one
//! exception is the leader's group, and only while the unreaped leader keeps its number from being recycled.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use super::census::{self, Census};
use super::kin::Found;
use super::{exit, leaders};

/// Passes that stop newcomers before killing begins anyway.
const MAX_FREEZE_PASSES: usize = 64;
/// How long one pass waits for the killed to end before it looks again.
const KILL_PASS_WAIT: Duration = Duration::from_millis(50);
/// Ends waited for in one pass; the rest is seen by the next one, and descriptors are not used up by a fork bomb.
const MAX_WAITED: usize = 64;

/// A process beyond doubt: its pid may be recycled, the pair is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_time: u64,
}

/// Makes this process the parent of its descendants' orphans, which would go to init otherwise.
///
/// Errors: none on any Linux since 3.4.
pub fn become_subreaper() -> io::Result<()> {
    // Any pid switches it on.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// By what a process no longer related to anybody is recognised.
#[derive(Debug)]
pub(super) enum Marker {
    /// This entry, in an orphan that this process has adopted.
    Adopted(Vec<u8>),
    /// An entry that starts so, in any process of this user.
    Anywhere(Vec<u8>),
}

#[derive(Debug)]
struct Leader {
    process: Process,
    pidfd: OwnedFd,
}

/// The processes of one attempt. It remembers whom it saw, so the more often it looks the less can escape.
#[derive(Debug)]
pub struct Tree {
    leader: Option<Leader>,
    marker: Marker,
    known: HashMap<i32, u64>,
    /// Members' pids, dead ones too while a group or session of theirs lives: only such groups are the attempt's own.
    owned: HashSet<i32>,
}

impl Tree {
    /// The tree of a leader made by the spawner, which is a child of this process and not yet reaped.
    ///
    /// `marker` is an environment entry, `NAME=value`, that only this attempt has. Without a `=` it marks nobody.
    pub fn new(leader_pid: i32, pidfd: OwnedFd, marker: Vec<u8>) -> Self {
        // One that is gone already gets a start time that no process has.
        let start_time = census::start_time(leader_pid).unwrap_or(u64::MAX);
        let process = Process {
            pid: leader_pid,
            start_time,
        };
        Self {
            leader: Some(Leader { process, pidfd }),
            marker: Marker::Adopted(marker),
            known: HashMap::new(),
            owned: HashSet::from([leader_pid]),
        }
    }

    /// The trees of all processes that carry a marker, wherever they are.
    pub(super) fn marked(marker: Marker) -> Self {
        Self {
            leader: None,
            marker,
            known: HashMap::new(),
            owned: HashSet::new(),
        }
    }

    /// Finds the living members, in order of pid. Errors: `/proc` cannot be read.
    pub fn members(&mut self) -> io::Result<Vec<Process>> {
        Census::take().map(|census| self.members_in(&census))
    }

    /// As [`Tree::members`], with a census the caller has, which may serve many trees.
    pub fn members_in(&mut self, census: &Census) -> Vec<Process> {
        let mut found = Found::new(census, matches!(self.marker, Marker::Anywhere(_)));
        let known = self.known.iter().map(|(pid, start)| (*pid, *start));
        let leader = self.leader.iter().map(|leader| leader.process);
        let leader = leader.map(|process| (process.pid, process.start_time));
        for (pid, start) in known.chain(leader) {
            if census.get(pid).is_some_and(|stat| stat.start_time == start) {
                found.descend(pid);
            }
        }
        self.find_marked(&mut found);
        self.find_left_in_group(&mut found);
        found.add_groups(&self.owned);
        self.remember(&found);
        let mut members: Vec<_> = found.living().collect();
        members.sort_unstable();
        members
    }

    fn find_marked(&self, found: &mut Found<'_>) {
        let (marker, anywhere) = match &self.marker {
            Marker::Adopted(marker) => (marker, false),
            Marker::Anywhere(marker) => (marker, true),
        };
        // Without a `=` a marker could be the beginning of any variable's name, and match the whole machine.
        if !marker.contains(&b'=') {
            return;
        }
        for (pid, stat) in found.census.iter() {
            if !stat.alive() || found.members.contains_key(&pid) {
                continue;
            }
            let is_marked = if anywhere {
                census::is_of_this_user(pid)
                    && census::has_environment_entry(pid, |entry| entry.starts_with(marker))
            } else {
                found.is_adopted(pid, stat)
                    && census::has_environment_entry(pid, |entry| entry == marker)
            };
            if is_marked {
                found.descend(pid);
            }
        }
    }

    /// Finds adopted orphans in the leader's group, which no known member may hold any more.
    fn find_left_in_group(&self, found: &mut Found<'_>) {
        let Some(leader) = self.leader.as_ref().map(|leader| leader.process) else {
            return;
        };
        let recycled = found
            .census
            .get(leader.pid)
            .is_some_and(|stat| stat.start_time != leader.start_time);
        if recycled {
            return;
        }
        for (pid, stat) in found.census.iter() {
            if stat.group == leader.pid && found.is_adopted(pid, stat) {
                found.descend(pid);
            }
        }
    }

    fn remember(&mut self, found: &Found<'_>) {
        let members = &found.members;
        let held: HashSet<i32> = members
            .values()
            .flat_map(|stat| [stat.group, stat.session])
            .collect();
        // Bounded by the living: an attempt may run for weeks and start millions.
        self.owned.retain(|id| held.contains(id));
        self.owned.extend(members.keys());
        self.known = members
            .iter()
            .map(|(pid, stat)| (*pid, stat.start_time))
            .collect();
    }

    /// Sends a signal to every member, once each. Returns how many it was sent to outside the leader's group, which counts as 1.
    ///
    /// SIGTERM, SIGINT, SIGHUP and SIGQUIT are followed by SIGCONT, as a stopped process would not see them. Errors:
    /// `/proc` cannot be read; the leader and its group have been signalled then.
    pub fn signal(&mut self, signal: Signal) -> io::Result<usize> {
        let members = match Census::take() {
            Ok(census) => self.with_group(&census),
            Err(error) => {
                self.signal_leader(signal);
                return Err(error);
            }
        };
        let sent = self.send(&members, signal);
        if [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT].contains(&signal) {
            self.send(&members, Signal::CONT);
        }
        Ok(sent)
    }

    fn with_group(&mut self, census: &Census) -> Vec<(Process, i32)> {
        let group = |process: &Process| census.get(process.pid).map_or(0, |stat| stat.group);
        let members = self.members_in(census).into_iter();
        members.map(|process| (process, group(&process))).collect()
    }

    /// Sends to the leader's group at once, which no fork escapes, and then to each member outside it.
    fn send(&self, members: &[(Process, i32)], signal: Signal) -> usize {
        let grouped = self.signal_group(signal);
        let outside = members
            .iter()
            .filter(|(_, group)| Some(*group) != grouped)
            .filter(|(process, _)| open(*process).is_some_and(|fd| send_to(&fd, signal)))
            .count();
        outside + usize::from(grouped.is_some())
    }

    /// Signals the leader's group and returns its number; none if it cannot be certain that it is still that group.
    fn signal_group(&self, signal: Signal) -> Option<i32> {
        let pid = self.leader.as_ref()?.process.pid;
        let group = Pid::from_raw(pid)?;
        leaders::while_unreaped(pid, || kill_process_group(group, signal).is_ok())?.then_some(pid)
    }

    fn signal_leader(&self, signal: Signal) {
        if self.signal_group(signal).is_none()
            && let Some(leader) = &self.leader
        {
            send_to(&leader.pidfd, signal);
        }
    }

    /// Kills every member, and those they start meanwhile. Returns whether nobody is left.
    ///
    /// All are stopped first, so that nobody forks while others die. Blocks until a look finds nobody or the deadline
    /// has passed, so it belongs on a blocking thread. Reaps orphans, not the leader.
    pub fn kill_all(&mut self, deadline: Instant) -> bool {
        self.kill_counting(deadline).1
    }

    /// As [`Tree::kill_all`]; says also how many processes it found.
    pub(super) fn kill_counting(&mut self, deadline: Instant) -> (usize, bool) {
        let mut killed = HashSet::new();
        let mut nobody_before = self.freeze(deadline);
        loop {
            let waited = match Census::take() {
                Ok(census) => {
                    exit::reap_orphans_in(&census);
                    let members = self.with_group(&census);
                    // Twice: one look may miss the child of a process that forked and died while it was under way.
                    if members.is_empty() && nobody_before {
                        return (killed.len(), true);
                    }
                    nobody_before = members.is_empty();
                    if nobody_before {
                        continue;
                    }
                    killed.extend(members.iter().map(|(process, _)| *process));
                    self.kill(&members)
                }
                // Most likely descriptors ran out, which passes. The leader's group takes none.
                Err(_) => {
                    self.signal_leader(Signal::KILL);
                    Vec::new()
                }
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (killed.len(), false);
            }
            wait_for_ends(waited, left.min(KILL_PASS_WAIT));
        }
    }

    /// Stops members until a look finds nobody new, or half of the time is over. Returns whether there was nobody at all.
    fn freeze(&mut self, deadline: Instant) -> bool {
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / 2;
        let mut stopped = HashSet::new();
        for _ in 0..MAX_FREEZE_PASSES {
            let Ok(census) = Census::take() else {
                return false;
            };
            let mut newcomers = self.with_group(&census);
            newcomers.retain(|(process, _)| stopped.insert(*process));
            if newcomers.is_empty() {
                break;
            }
            self.send(&newcomers, Signal::STOP);
            if Instant::now() >= until {
                break;
            }
        }
        stopped.is_empty()
    }

    /// Kills the members and returns pidfds of some to wait for.
    fn kill(&self, members: &[(Process, i32)]) -> Vec<OwnedFd> {
        self.signal_group(Signal::KILL);
        let mut waited = Vec::new();
        for (process, _) in members {
            if let Some(fd) = open(*process)
                && send_to(&fd, Signal::KILL)
                && waited.len() < MAX_WAITED
            {
                waited.push(fd);
            }
        }
        waited
    }
}

/// Opens a process if it is still the one meant. Opened first, compared second: so nobody can take its place between.
fn open(process: Process) -> Option<OwnedFd> {
    let pid = Pid::from_raw(process.pid)?;
    let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let start = census::start_time(process.pid).ok()?;
    (start == process.start_time).then_some(fd)
}

fn send_to(fd: &OwnedFd, signal: Signal) -> bool {
    pidfd_send_signal(fd, signal).is_ok()
}

/// Waits until all have ended or the time is over.
fn wait_for_ends(mut running: Vec<OwnedFd>, limit: Duration) {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else {
            return;
        };
        let mut polled: Vec<_> = running
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
            .collect();
        // Interrupted or out of memory: the next look at /proc says what this could not.
        let _ = poll(&mut polled, Some(&timeout));
        let ended: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        running.retain(|_| !ended.next().unwrap_or(false));
        if running.is_empty() || left.is_zero() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
