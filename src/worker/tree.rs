//! The process tree of one attempt: who belongs to it, and how to signal or kill all of them.
//!
//! A member is found by kinship (a descendant of the leader or of a member seen before), by process group or session
//! (of a member), or, if it was orphaned before anybody looked, by the marker in its environment, or because no other
//! attempt can have left it here (see `orphans`); and by the cgroup of the attempt where it has one. When the worker is
//! dead, and without a cgroup, what escapes is a process that cleared its environment, left its session and lost its parent.
//!
//! Nobody is signalled by pid: a pidfd is opened, the start time is compared, and only then is the signal sent. The one
//! exception is the leader's group, and only while the unreaped leader keeps its number from being recycled.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use super::census::{self, Census, Mark};
use super::cgroup::Cgroup;
use super::kin::Found;
use super::leaders;
use super::orphans::{self, Parent};
use crate::mutant::{Mutant, planted};

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
    orphans::begin();
    Ok(())
}

/// By what a process no longer related to anybody is recognised.
#[derive(Clone, Debug)]
pub(super) enum Marker {
    /// This entry, in an orphan that this process has adopted.
    Adopted(Vec<u8>),
    /// An entry that starts like one of these, in any process, whoever owns it.
    Anywhere(Vec<Vec<u8>>),
}

impl Marker {
    /// Whether it is this environment entry. The only judge: whoever asks may kill on its word.
    pub(super) fn accepts(&self, entry: &[u8]) -> bool {
        // Without a whole name it could be the beginning of any variable, or the nothing after the last one, and match
        // the whole machine.
        let has_name = |marker: &[u8]| marker.iter().position(|byte| *byte == b'=') > Some(0);
        match self {
            Self::Adopted(marker) => has_name(marker) && entry == marker,
            Self::Anywhere(markers) => markers.iter().any(|marker| has_name(marker) && entry.starts_with(marker)),
        }
    }
}

/// What one look at a tree found.
pub(super) struct Survey {
    pub(super) members: Vec<Process>,
    /// Whether one ended that could not be told from a member.
    pub(super) unsure: bool,
}

#[derive(Debug)]
struct Leader {
    process: Process,
    pidfd: Arc<OwnedFd>,
}

/// The start time of a leader that could not be read, for want of a descriptor or because it is gone: no process has it.
const UNREAD: u64 = u64::MAX;

/// The processes of one attempt. It remembers whom it saw, so the more often it looks the less can escape.
#[derive(Debug)]
pub struct Tree {
    leader: Option<Leader>,
    /// The claim of the attempt to orphans.
    parent: Option<Parent>,
    pub(super) marker: Marker,
    /// Where all members are, unless they moved themselves.
    pub(super) cgroup: Option<Cgroup>,
    known: HashMap<i32, u64>,
    /// Members' pids, dead ones too while a group or session of theirs lives: only such groups are the attempt's own.
    owned: HashSet<i32>,
}

impl Tree {
    /// The tree of a leader made by the spawner, which is a child of this process and not yet reaped.
    ///
    /// `marker` is an environment entry, `NAME=value`, that only this attempt has. Without a `=` it marks nobody.
    pub fn new(leader_pid: i32, pidfd: impl Into<Arc<OwnedFd>>, marker: Vec<u8>) -> Self {
        let start_time = census::start_time(leader_pid).unwrap_or(UNREAD);
        let (process, pidfd) = (Process { pid: leader_pid, start_time }, pidfd.into());
        Self {
            leader: Some(Leader { process, pidfd }),
            parent: Some(Parent::new(&marker)),
            marker: Marker::Adopted(marker),
            cgroup: None,
            known: HashMap::new(),
            owned: HashSet::from([leader_pid]),
        }
    }

    /// The pid of its leader.
    pub(super) fn leader(&self) -> Option<i32> {
        self.leader.as_ref().map(|leader| leader.process.pid)
    }

    /// The trees of all processes that carry a marker, wherever they are.
    pub(super) fn marked(marker: Marker) -> Self {
        Self { leader: None, parent: None, marker, cgroup: None, known: HashMap::new(), owned: HashSet::new() }
    }

    /// It is over with the attempt: what may be of another one is left to that.
    pub(super) fn ends(&self) {
        self.parent.iter().for_each(Parent::ends);
    }

    /// Finds the living members, in order of pid. Errors: `/proc` cannot be read.
    pub fn members(&mut self) -> io::Result<Vec<Process>> {
        Census::take().map(|census| self.members_in(&census))
    }

    /// As [`Tree::members`], with a census the caller has, which may serve many trees.
    pub fn members_in(&mut self, census: &Census) -> Vec<Process> {
        self.survey(census).members
    }

    /// As [`Tree::members_in`]; says also whether somebody may have been missed.
    pub(super) fn survey(&mut self, census: &Census) -> Survey {
        self.read_start_again(census);
        let mut found = Found::new(census, matches!(self.marker, Marker::Anywhere(_)));
        let known = self.known.iter().map(|(pid, start)| (*pid, *start));
        let leader = self.leader.iter().map(|leader| leader.process);
        let leader = leader.map(|process| (process.pid, process.start_time));
        for (pid, start) in known.chain(leader) {
            if census.get(pid).is_some_and(|stat| stat.start_time == start) {
                found.descend(pid);
            }
        }
        self.find_in_cgroup(&mut found);
        self.find_marked(&mut found);
        self.find_left_in_group(&mut found);
        self.parent.iter().for_each(|parent| parent.find(&mut found));
        found.add_groups(&self.owned);
        self.remember(&found);
        let mut members: Vec<_> = found.living().collect();
        members.sort_unstable();
        if planted(Mutant::LeaderOnly) {
            members.retain(|member| self.leader.as_ref().is_none_or(|leader| leader.process == *member));
        }
        Survey { members, unsure: found.unsure }
    }

    /// As long as the leader is not reaped its pid is nobody else's.
    fn read_start_again(&mut self, census: &Census) {
        let unread = self.leader.as_mut().filter(|leader| leader.process.start_time == UNREAD);
        if let Some(leader) = unread
            && let Some(stat) = leaders::while_unreaped(leader.process.pid, || census.get(leader.process.pid)).flatten()
        {
            leader.process.start_time = stat.start_time;
        }
    }

    fn find_in_cgroup(&self, found: &mut Found<'_>) {
        for pid in self.cgroup.iter().flat_map(Cgroup::pids) {
            // One born since the census is seen by the next one.
            found.unsure |= found.census.get(pid).is_none();
            found.descend(pid);
        }
    }

    fn find_marked(&self, found: &mut Found<'_>) {
        let anywhere = matches!(self.marker, Marker::Anywhere(_));
        for (pid, stat) in found.census.iter() {
            if !stat.alive() || found.members.contains_key(&pid) {
                continue;
            }
            // One whose parent nobody saw is about to be adopted: the parent was born and ended during the pass.
            let is_orphan = || stat.parent != 0 && found.census.get(stat.parent).is_none();
            let is_adopted = found.is_adopted(pid, stat);
            if !(anywhere || is_adopted || is_orphan()) {
                continue;
            }
            match census::mark_of(pid, |entry| self.marker.accepts(entry)) {
                Mark::Has => found.descend(pid),
                Mark::Lacks | Mark::Hidden => {}
                // An orphan that is here has its suspects, see `Parent`; a search by mark says whom it could not look at.
                Mark::Unreadable => found.unsure |= !anywhere && !is_adopted,
                // It ended while it was looked at, and may have forked before.
                Mark::Gone => found.unsure = true,
            }
        }
    }

    /// Finds adopted orphans in the leader's group, which no known member may hold any more.
    fn find_left_in_group(&self, found: &mut Found<'_>) {
        let Some(leader) = self.leader.as_ref().map(|leader| leader.process) else {
            return;
        };
        let recycled = found.census.get(leader.pid).is_some_and(|stat| stat.start_time != leader.start_time);
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
        let held: HashSet<i32> = members.values().flat_map(|stat| [stat.group, stat.session]).collect();
        // Bounded by the living: an attempt may run for weeks and start millions.
        self.owned.retain(|id| held.contains(id));
        self.owned.extend(members.keys());
        self.known = members.iter().map(|(pid, stat)| (*pid, stat.start_time)).collect();
    }

    /// Sends a signal to every member, once each. Returns how many it was sent to outside the leader's group, which counts as 1.
    ///
    /// SIGTERM, SIGINT, SIGHUP and SIGQUIT are followed by SIGCONT, as a stopped process would not see them. Errors:
    /// `/proc` cannot be read; the leader and its group have been signalled then.
    pub fn signal(&mut self, signal: Signal) -> io::Result<usize> {
        self.signal_after(signal, || ())
    }

    /// As [`Tree::signal`]; calls `before` when it is known who the members are, right before the first signal.
    ///
    /// The walk comes first though it takes a while: whoever loses its parent by the signal is not found afterwards, if it
    /// has left its group and its environment.
    pub(super) fn signal_after(&mut self, signal: Signal, before: impl FnOnce()) -> io::Result<usize> {
        let census = Census::take();
        let members = census.map(|census| self.with_group(&census));
        before();
        let members = members.inspect_err(|_| self.signal_leader(signal))?;
        let sent = self.send(&members, signal);
        if [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT].contains(&signal) {
            self.send(&members, Signal::CONT);
        }
        Ok(sent)
    }

    pub(super) fn with_group(&mut self, census: &Census) -> Vec<(Process, i32)> {
        let members = self.members_in(census);
        Self::grouped(members, census)
    }

    /// Puts to each member its process group.
    pub(super) fn grouped(members: Vec<Process>, census: &Census) -> Vec<(Process, i32)> {
        let group = |process: &Process| census.get(process.pid).map_or(0, |stat| stat.group);
        let members = members.into_iter();
        members.map(|process| (process, group(&process))).collect()
    }

    /// Sends to the leader's group at once, which no fork escapes, and then to each member outside it.
    pub(super) fn send(&self, members: &[(Process, i32)], signal: Signal) -> usize {
        let grouped = self.signal_group(signal);
        let outside = members
            .iter()
            .filter(|(_, group)| Some(*group) != grouped)
            .filter(|(process, _)| open(*process).is_some_and(|fd| send_to(&fd, signal)))
            .count();
        outside + usize::from(grouped.is_some())
    }

    /// Signals the leader's group and returns its number; none if it cannot be certain that it is still that group.
    pub(super) fn signal_group(&self, signal: Signal) -> Option<i32> {
        let pid = self.leader.as_ref()?.process.pid;
        let group = Pid::from_raw(pid)?;
        leaders::while_unreaped(pid, || kill_process_group(group, signal).is_ok())?.then_some(pid)
    }

    pub(super) fn signal_leader(&self, signal: Signal) {
        if self.signal_group(signal).is_none()
            && let Some(leader) = &self.leader
        {
            send_to(&leader.pidfd, signal);
        }
    }
}

/// Opens a process if it is still the one meant. Opened first, compared second: so nobody can take its place between.
pub(super) fn open(process: Process) -> Option<OwnedFd> {
    let pid = Pid::from_raw(process.pid)?;
    let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let start = census::start_time(process.pid).ok()?;
    (start == process.start_time).then_some(fd)
}

pub(super) fn send_to(fd: &OwnedFd, signal: Signal) -> bool {
    pidfd_send_signal(fd, signal).is_ok()
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
