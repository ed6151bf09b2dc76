//! Waits for processes: for leaders through their pidfd, for orphans by their pid, never for "any child".

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

use super::census::Census;
use super::files::is_shortage;
use super::leaders;
use super::tree::Process;

/// Orphans reaped, by whichever thread: a look during which one vanished may have missed its child.
static ORPHANS_REAPED: AtomicU64 = AtomicU64::new(0);
/// How often a program is looked at that has ended under a debugger, or that the kernel does not watch.
const RETRY: Duration = Duration::from_millis(20);
/// How many orphans are reaped before other tasks have their turn.
const REAPED_AT_ONCE: usize = 256;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Its code and its signal: one of the two.
    pub fn parts(self) -> (Option<i32>, Option<i32>) {
        match self {
            Self::Code(code) => (Some(code), None),
            Self::Signal(signal) => (None, Some(signal)),
        }
    }
}

/// Waits until the program has ended, and leaves it unreaped.
///
/// Until it is reaped its pid and process group cannot be recycled, so this is the moment to kill what it left behind.
/// At most one wait per pidfd at a time, on a runtime with io enabled. Errors: the runtime cannot watch the descriptor.
pub async fn ended(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the borrow keeps the descriptor open for as long as the watch, which this function drops, lives.
    match unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::from) {
        Ok(watched) => watched.readable().await?.retain_ready(),
        // The kernel watches no more for this user, or has no memory for that: the program runs all the same.
        Err(e) if is_shortage(&e) => look_until_ended(pidfd).await,
        Err(e) => return Err(e),
    }
    Ok(())
}

/// As [`ended`], without the kernel's watch.
pub(super) async fn look_until_ended(pidfd: BorrowedFd<'_>) {
    while !has_ended(pidfd) {
        tokio::time::sleep(RETRY).await;
    }
}

/// Whether the program has ended, reaped or not.
pub(super) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
}

/// Waits until the program has ended, reaps it and says how it ended.
///
/// Dropping the future loses nothing. On a runtime with io and time enabled. Errors: it is no child of this process, or was reaped before.
pub async fn wait_exit(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    loop {
        ended(pidfd).await?;
        if let Some(exit) = reap(pidfd)? {
            return Ok(exit);
        }
        // Ended but not yet ours to reap: a debugger holds it. Its pidfd stays readable, so waiting for that would spin.
        tokio::time::sleep(RETRY).await;
    }
}

/// Reaps a program and says how it ended; none if it still runs. Does not block.
///
/// Errors: it is no child of this process, or was reaped before.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    leaders::reaping(|| {
        let result = wait_id(libc::P_PIDFD, id);
        let pid = match &result {
            Ok(Some((pid, _))) => Some(*pid),
            Ok(None) | Err(_) => None,
        };
        (pid, result.map(|ended| ended.map(|(_, exit)| exit)))
    })
}

fn wait_id(kind: libc::idtype_t, id: libc::id_t) -> io::Result<Option<(i32, Exit)>> {
    // SAFETY: zeroes are a valid `siginfo_t`; the call writes to it and touches nothing else.
    let (outcome, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let outcome = libc::waitid(kind, id, &raw mut info, libc::WEXITED | libc::WNOHANG);
        (outcome, info)
    };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `waitid` succeeded, so these fields are set, or zero as before if nothing has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(status),
        _ => Exit::Signal(status),
    };
    Ok((pid != 0).then_some((pid, exit)))
}

/// Reaps dead orphans this process has adopted as a subreaper. Returns how many.
///
/// Never a leader of an attempt, nor a child in this process's own group (so none made by other code here, unless it
/// asked for a new group); the dead of that group are left to `reap_adopted`. Errors: `/proc` cannot be read.
pub fn reap_orphans() -> io::Result<usize> {
    Census::take().map(|census| reap_orphans_in(&census))
}

/// As [`reap_orphans`], with a census the caller has.
pub fn reap_orphans_in(census: &Census) -> usize {
    reap_strangers(dead_children(census).map(|process| process.pid))
}

/// Reaps those that are dead children of this process, no leaders, and outside its own process group. Returns how many.
pub(super) fn reap_strangers(pids: impl Iterator<Item = i32>) -> usize {
    let dead = pids.filter(is_of_another_group);
    let mut reaped = 0;
    leaders::for_each_stranger(dead, |pid| reaped += usize::from(reap_pid(pid)));
    reaped
}

fn is_of_another_group(pid: &i32) -> bool {
    let group = rustix::process::Pid::from_raw(*pid).map(|pid| rustix::process::getpgid(Some(pid)));
    matches!(group, Some(Ok(group)) if group != rustix::process::getpgrp())
}

fn reap_pid(pid: i32) -> bool {
    // One that is gone was reaped by another call.
    let reaped = libc::id_t::try_from(pid).is_ok_and(|id| matches!(wait_id(libc::P_PID, id), Ok(Some(_))));
    if reaped {
        ORPHANS_REAPED.fetch_add(1, Ordering::AcqRel);
    }
    reaped
}

/// How many orphans this process has reaped so far.
pub(super) fn orphans_reaped() -> u64 {
    ORPHANS_REAPED.load(Ordering::Acquire)
}

/// Dead children of this process that are not leaders.
pub(super) fn dead_orphans(census: &Census) -> impl Iterator<Item = Process> {
    let leaders = leaders::all();
    dead_children(census).filter(move |process| !leaders.contains(&process.pid))
}

fn dead_children(census: &Census) -> impl Iterator<Item = Process> {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    census.children(me).iter().filter_map(|pid| {
        let stat = census.get(*pid)?;
        (!stat.alive()).then_some(Process { pid: *pid, start_time: stat.start_time })
    })
}

/// Whether this process has adopted anybody: a descendant that outlived its parent, living or not.
///
/// One call instead of a walk through /proc, which would cost more than a short job: leaders are children of the
/// spawner's thread, orphans become children of the first thread, and only that thread's own are asked for. Anywhere
/// but on the first thread the answer is yes, which is always safe.
pub fn has_adopted() -> bool {
    !matches!(first_dead_adopted(), Adopted::Nobody)
}

/// Reaps the dead among those this process has adopted, [`REAPED_AT_ONCE`] at most. Returns how many.
///
/// For the first thread, to be called whenever a child has ended: a job that starts daemons all day would fill the
/// table of processes with their remains. Whoever is dead there is reaped, also a child that this process had before it
/// became orx (`sh -c 'helper & exec orx worker'`): as long as one is left, [`has_adopted`] says yes for every job.
pub(super) fn reap_adopted() -> usize {
    (0..REAPED_AT_ONCE).take_while(|_| matches!(first_dead_adopted(), Adopted::Dead(pid) if reap_pid(pid))).count()
}

/// Reaps the adopted as they die, until it is dropped. On a runtime of the first thread.
pub(super) async fn keep_reaping() {
    let mut deaths = match signal(SignalKind::child()) {
        Ok(deaths) => deaths,
        Err(e) => return tracing::warn!("orphans of jobs are reaped late: {e}"),
    };
    loop {
        while reap_adopted() == REAPED_AT_ONCE {
            tokio::task::yield_now().await;
        }
        if deaths.recv().await.is_none() {
            return;
        }
    }
}

/// Whether this process has any children at all.
pub(super) fn has_children() -> bool {
    // SAFETY: an all-zero siginfo is valid, and waitid only fills it in; WNOWAIT leaves the child as it is.
    let result = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL)
    };
    result == 0
}

/// The children of the first thread: the kernel gives it the orphans. None where the kernel does not tell, which takes
/// CONFIG_PROC_CHILDREN.
pub(super) fn children_of_first_thread() -> Option<Vec<i32>> {
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).ok()?;
    Some(children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// What this thread, if it is the first one, has adopted.
enum Adopted {
    Nobody,
    /// Nobody who is dead; or this is another thread, which cannot know.
    Living,
    Dead(i32),
}

fn first_dead_adopted() -> Adopted {
    // Not libc's gettid: it is younger than the oldest glibc that the packages run on.
    if rustix::thread::gettid() != rustix::process::getpid() {
        return Adopted::Living;
    }
    // SAFETY: an all-zero siginfo is valid, and waitid only fills it in; WNOWAIT leaves the child as it is.
    let (result, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WNOTHREAD | libc::__WALL;
        let result = libc::waitid(libc::P_ALL, 0, &raw mut info, flags);
        (result, info)
    };
    if result != 0 {
        let nobody = io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD);
        return if nobody { Adopted::Nobody } else { Adopted::Living };
    }
    // SAFETY: `waitid` succeeded, so the field is set, or zero as before if nobody is dead.
    match unsafe { info.si_pid() } {
        0 => Adopted::Living,
        pid => Adopted::Dead(pid),
    }
}
