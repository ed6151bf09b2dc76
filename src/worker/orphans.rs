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

use super::census::{Census, Mark, mark_of};
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
        let mut orphans = lock();
        let unsure = orphans.note(self.0, found);
        found.unsure |= unsure;
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

impl Orphans {
    /// Notes who came here since the last look, which is that of `me`. Returns whether one ended before it was known.
    fn note(&mut self, me: u64, found: &Found<'_>) -> bool {
        let here: HashSet<Process> = adopted(found).into_iter().collect();
        self.suspects.retain(|process, _| here.contains(process)); // pids are used again
        let mut unsure = false;
        for process in here {
            if self.suspects.contains_key(&process) {
                continue;
            }
            let mut owner = None;
            let mark = mark_of(process.pid, |entry| {
                owner = self.attempts.iter().find(|(_, attempt)| attempt.mark.accepts(entry)).map(|(id, _)| *id);
                owner.is_some()
            });
            let suspects = match (mark, owner) {
                (Mark::Gone, _) => {
                    unsure = true;
                    continue;
                }
                (_, Some(owner)) => HashSet::from([owner]),
                (_, None) => {
                    let run = self.attempts.iter().filter(|(_, attempt)| !attempt.ending).map(|(id, _)| *id);
                    let run: HashSet<u64> = run.collect();
                    if run.is_empty() { HashSet::from([me]) } else { run }
                }
            };
            self.suspects.insert(process, suspects);
        }
        unsure
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
