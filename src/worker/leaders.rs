//! Which children of this process are leaders of attempts, and so must never be reaped as orphans.
//!
//! A process has one set of children, so this is one set for the process. It must be exact: an orphan taken for a leader
//! stays a zombie, a leader taken for an orphan loses its exit status. The lock is never held while a child is made (a
//! hung `chdir` would stop every reaper); a count of unfinished clones says when the set cannot be trusted.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Leaders {
    pids: HashSet<i32>,
    cloning: usize,
}

static LEADERS: LazyLock<Mutex<Leaders>> = LazyLock::new(Mutex::default);

fn lock() -> MutexGuard<'static, Leaders> {
    // Every critical section leaves the set whole, so a poisoned lock protects sound data.
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by the spawner from before a clone until its child is registered or reaped.
pub(super) struct Cloning(());

impl Cloning {
    /// Announces that a child not yet in the set may appear.
    pub(super) fn begin() -> Self {
        lock().cloning += 1;
        Self(())
    }

    /// Registers the new child as a leader.
    pub(super) fn born(self, pid: i32) {
        lock().pids.insert(pid);
    }
}

impl Drop for Cloning {
    fn drop(&mut self) {
        let mut leaders = lock();
        leaders.cloning = leaders.cloning.saturating_sub(1);
    }
}

/// Forgets a leader nobody will wait for, so that it is reaped like an orphan.
pub(super) fn forget(pid: i32) {
    lock().pids.remove(&pid);
}

/// The pids of all leaders not yet reaped.
pub(super) fn all() -> HashSet<i32> {
    lock().pids.clone()
}

/// Runs `reap`, which returns the pid it reaped, and takes that pid off the set.
///
/// One critical section: otherwise the pid could be given to a new leader between the two steps, and that one struck off.
pub(super) fn reaping<T>(reap: impl FnOnce() -> (Option<i32>, T)) -> T {
    let mut leaders = lock();
    let (pid, result) = reap();
    if let Some(pid) = pid {
        leaders.pids.remove(&pid);
    }
    result
}

/// Runs `act` if `pid` is an unreaped leader; its pid and process group cannot be recycled meanwhile.
pub(super) fn while_unreaped<T>(pid: i32, act: impl FnOnce() -> T) -> Option<T> {
    let leaders = lock();
    leaders.pids.contains(&pid).then(act)
}

/// Calls `reap` for each pid that is certainly no leader; for none while a clone is unfinished.
pub(super) fn for_each_stranger(pids: impl Iterator<Item = i32>, mut reap: impl FnMut(i32)) {
    let leaders = lock();
    if leaders.cloning == 0 {
        pids.filter(|pid| !leaders.pids.contains(pid)).for_each(&mut reap);
    }
}
