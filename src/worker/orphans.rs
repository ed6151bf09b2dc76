//! Whose the orphans are that became children of this process.
//!
//! One that carries the mark of an attempt is that attempt's. One that carries none, or cannot be looked at (it cleared its
//! environment, changed its user, or hides its memory as `ssh-agent` does), is of one of the attempts that ran when it was
//! first seen here. Nobody can tell which, so it ends when the last of those does.
//!
//! A process has one set of children, so this is one set for the process.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rustix::process::Signal;

use super::census::{self, Census, Mark, mark_of};
use super::exit;
use super::kin::Found;
use super::tree::{Marker, Process, open, send_to};

/// Whether every orphan that this process adopts is one of its jobs.
static ARE_OF_JOBS: OnceLock<bool> = OnceLock::new();

/// Says, before there is any job, whether orphans will be those of jobs only.
///
/// The first process of a machine or a container is given those of everybody else too. One that had children before it
/// became orx (`sh -c 'helper & exec orx worker'`) is given theirs.
pub(super) fn begin() {
    ARE_OF_JOBS.get_or_init(|| std::process::id() != 1 && !exit::has_children());
}

#[derive(Default)]
struct Orphans {
    /// The marks of the attempts that run, by their numbers here.
    attempts: HashMap<u64, Attempt>,
    /// Whose each orphan may be.
    suspects: HashMap<Process, HashSet<u64>>,
    last: u64,
}

/// An attempt, as far as orphans are concerned.
struct Attempt {
    mark: Marker,
    /// Its first process has ended, or it is being killed: orphans of others are left to them.
    ending: bool,
}

static ORPHANS: LazyLock<Mutex<Orphans>> = LazyLock::new(Mutex::default);

fn lock() -> MutexGuard<'static, Orphans> {
    // Every critical section leaves it whole, so a poisoned lock protects sound data.
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of an attempt among those that orphans may belong to, until it is dropped.
#[derive(Debug)]
pub(super) struct Parent(u64);

impl Parent {
    /// An attempt begins whose processes carry this entry in their environment.
    pub(super) fn new(mark: &[u8]) -> Self {
        let mut orphans = lock();
        orphans.last += 1;
        let id = orphans.last;
        orphans.attempts.insert(id, Attempt { mark: Marker::Adopted(mark.to_vec()), ending: false });
        Self(id)
    }

    /// The attempt ends: what may be of another one that runs is left to that.
    pub(super) fn ends(&self) {
        let mut orphans = lock();
        if let Some(attempt) = orphans.attempts.get_mut(&self.0) {
            attempt.ending = true;
        }
        orphans.suspects.values_mut().filter(|suspects| suspects.len() > 1).for_each(|suspects| {
            suspects.remove(&self.0);
        });
    }

    /// Adds the orphans that can only be of this attempt.
    pub(super) fn find(&self, found: &mut Found<'_>) {
        if ARE_OF_JOBS.get() != Some(&true) {
            return;
        }
        // What they are is looked at without the lock: it takes long where a job starts daemons all the time.
        let (unknown, marks) = lock().unknown(adopted(found));
        let seen: Vec<_> = unknown.into_iter().map(|process| (process, owner(process, &marks))).collect();
        let mut orphans = lock();
        for (process, owner) in seen {
            match owner {
                Owner::Gone => found.unsure = true,
                Owner::One(owner) => orphans.note(process, Some(owner), self.0),
                Owner::Nobody => orphans.note(process, None, self.0),
            }
        }
        let own = orphans.suspects.iter().filter(|(_, suspects)| suspects.len() == 1 && suspects.contains(&self.0));
        own.for_each(|(process, _)| found.descend(process.pid));
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let mut orphans = lock();
        orphans.attempts.remove(&self.0);
        orphans.suspects.values_mut().for_each(|suspects| {
            suspects.remove(&self.0);
        });
    }
}

/// Who an orphan says that it is of.
enum Owner {
    /// It ended before it could say so.
    Gone,
    /// The attempt of this number.
    One(u64),
    Nobody,
}

fn owner(process: Process, marks: &[(u64, Marker)]) -> Owner {
    let mut owner = None;
    let mark = mark_of(process.pid, |entry| {
        owner = marks.iter().find(|(_, mark)| mark.accepts(entry)).map(|(id, _)| *id);
        owner.is_some()
    });
    match (mark, owner) {
        (Mark::Gone, _) => Owner::Gone,
        (_, Some(owner)) => Owner::One(owner),
        (_, None) => Owner::Nobody,
    }
}

impl Orphans {
    /// Those of the orphans that are `here` which came since the last look, and the marks to know them by.
    fn unknown(&mut self, here: Vec<Process>) -> (Vec<Process>, Vec<(u64, Marker)>) {
        let all: HashSet<Process> = here.iter().copied().collect();
        // Pids are used again; and somebody else may have looked later than this.
        let is_there = |one: &Process| census::start_time(one.pid).is_ok_and(|start| start == one.start_time);
        self.suspects.retain(|process, _| all.contains(process) || is_there(process));
        let unknown: Vec<Process> = here.into_iter().filter(|one| !self.suspects.contains_key(one)).collect();
        let marks = || self.attempts.iter().map(|(id, attempt)| (*id, attempt.mark.clone())).collect();
        let marks = if unknown.is_empty() { Vec::new() } else { marks() };
        (unknown, marks)
    }

    /// Notes whose an orphan is that `me` has seen, unless somebody did meanwhile.
    fn note(&mut self, process: Process, owner: Option<u64>, me: u64) {
        let running = || self.attempts.iter().filter(|(_, attempt)| !attempt.ending).map(|(id, _)| *id).collect();
        let owner = owner.filter(|owner| self.attempts.contains_key(owner));
        let suspects: HashSet<u64> = owner.map_or_else(running, |owner| HashSet::from([owner]));
        let suspects = if suspects.is_empty() { HashSet::from([me]) } else { suspects };
        self.suspects.entry(process).or_insert(suspects);
    }
}

/// The living orphans of jobs in a census.
///
/// They are children of the first thread, and what is just being started is one of the spawner's. Nobody leaves the session
/// of this process and comes back to it, so whoever is in it was made by no job.
fn adopted(found: &Found<'_>) -> Vec<Process> {
    let session = found.census.get(found.me).map(|stat| stat.session);
    let strangers = exit::children_of_first_thread().unwrap_or_default(); // not every kernel tells
    let known = strangers.into_iter().filter_map(|pid| Some((pid, found.census.get(pid)?)));
    known
        .filter(|(pid, stat)| found.is_adopted(*pid, stat) && stat.alive() && Some(stat.session) != session)
        .map(|(pid, stat)| Process { pid, start_time: stat.start_time })
        .collect()
}

/// Kills the orphans that are left when no attempt runs any more, until the deadline. Returns how many.
pub(super) fn kill_left(deadline: Instant) -> usize {
    let mut killed = HashSet::new();
    while ARE_OF_JOBS.get() == Some(&true) && lock().attempts.is_empty() {
        let Ok(census) = Census::take() else { break };
        exit::reap_orphans_in(&census);
        let mut found = Found::new(&census, false);
        adopted(&found).iter().for_each(|orphan| found.descend(orphan.pid));
        let left: Vec<Process> = found.living().collect();
        if left.is_empty() || Instant::now() >= deadline {
            break;
        }
        for process in left {
            if open(process).is_some_and(|fd| send_to(&fd, Signal::KILL)) {
                killed.insert(process);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    killed.len()
}
