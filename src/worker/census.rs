//! One look at all processes through `/proc`.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};

use super::spawn::THREAD;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its parent's pid.
    pub(super) parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// Its session.
    pub(super) session: i32,
    /// When it started, in clock ticks since boot.
    pub(super) start_time: u64,
    dead_main: bool,
    /// Its main thread is on its way out: it has no memory to show any more, and is no zombie yet.
    exiting: bool,
    /// It is a copy of its parent, and no program of its own yet.
    unborn: bool,
    threads: u64,
}

/// In the flags of a thread that is ending.
const PF_EXITING: u64 = 4;
/// In the flags of a process that was made and has not executed anything.
const PF_FORKNOEXEC: u64 = 0x40;

impl Stat {
    /// Whether it can still do anything. A main thread that ended looks like a zombie while other threads run on.
    pub(super) fn alive(&self) -> bool {
        !self.dead_main || self.threads > 1
    }

    /// Parses the file; none if it is not of the known form.
    fn parse(text: &[u8]) -> Option<Self> {
        // The name stands in parentheses and may itself contain any of them, so the last one ends it.
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        // Fields 3 to 6 of proc(5) are taken; flags are field 9, threads field 20, the start time is field 22.
        let flags: u64 = fields.nth(2)?.parse().ok()?;
        let threads = fields.nth(10)?.parse().ok()?;
        let start_time = fields.nth(1)?.parse().ok()?;
        Some(Self {
            parent,
            group,
            session,
            start_time,
            dead_main: matches!(state, "Z" | "X" | "x"),
            exiting: flags & PF_EXITING != 0,
            unborn: flags & PF_FORKNOEXEC != 0,
            threads,
        })
    }
}

/// All processes there were during one pass over `/proc`.
///
/// Not a snapshot: a process born during the pass may be missed, so "nobody is left" takes a frozen or dead tree.
#[derive(Clone, Debug, Default)]
pub struct Census {
    processes: HashMap<i32, Stat>,
    children: HashMap<i32, Vec<i32>>,
}

impl Census {
    /// Makes the pass: some 10 µs a process. Errors: `/proc` cannot be listed, as when descriptors run out.
    pub fn take() -> io::Result<Self> {
        let mut census = Self::default();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match stat(pid) {
                Ok(stat) => {
                    census.children.entry(stat.parent).or_default().push(pid);
                    census.processes.insert(pid, stat);
                }
                // It ended since the listing.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(census)
    }

    /// The process with this pid.
    pub(super) fn get(&self, pid: i32) -> Option<&Stat> {
        self.processes.get(&pid)
    }

    /// The children of this pid.
    pub(super) fn children(&self, pid: i32) -> &[i32] {
        self.children.get(&pid).map_or(&[], Vec::as_slice)
    }

    /// Those that may be the first process of an attempt: it leads its session for as long as it lives.
    pub(super) fn session_leaders(&self) -> impl Iterator<Item = (i32, &Stat)> {
        self.iter().filter(|(pid, stat)| stat.session == *pid && stat.alive())
    }

    /// All processes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, &Stat)> {
        self.processes.iter().map(|(pid, stat)| (*pid, stat))
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EACCES | libc::EPERM))
}

fn stat(pid: i32) -> io::Result<Stat> {
    let mut buffer = [0; 1024];
    let mut file = fs::File::open(format!("/proc/{pid}/stat"))?;
    // The kernel gives the whole line, at most some 400 bytes, in one read.
    let length = file.read(&mut buffer)?;
    let text = buffer.get(..length).unwrap_or_default();
    Stat::parse(text).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Reads when a process started, in clock ticks since boot. Errors: not found if there is no such process.
pub(super) fn start_time(pid: i32) -> io::Result<u64> {
    stat(pid).map(|stat| stat.start_time)
}

/// Clock ticks in milliseconds.
pub(super) fn millis(ticks: u64) -> i64 {
    // SAFETY: it reads a constant of the system.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(0).max(1);
    i64::try_from(ticks.saturating_mul(1000) / per_second).unwrap_or(i64::MAX)
}

/// Whether a process that has ended, and is not reaped yet, did so before it executed any program.
pub(super) fn never_executed(pid: i32) -> bool {
    stat(pid).is_ok_and(|stat| stat.unborn)
}

/// Whether a process is on its way out, or gone: no signal reaches it any more.
pub(super) fn is_ending(pid: i32) -> bool {
    stat(pid).map_or(true, |stat| stat.exiting || stat.dead_main && stat.threads <= 1)
}

/// Signals that end nobody who did not ask for them.
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// Whether this signal is sure to kill the process: it is neither caught, nor ignored, nor blocked.
pub(super) fn dies_of(pid: i32, signal: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let has = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_none_or(|mask| mask.checked_shr(signal.unsigned_abs().wrapping_sub(1)).is_none_or(|bit| bit & 1 == 1))
    };
    !HARMLESS.contains(&signal) && !["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().any(has)
}

/// What the environment of a process says of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It has it.
    Has,
    /// It has not.
    Lacks,
    /// It may not be read, as that of another user: nobody knows.
    Unreadable,
    /// It may not be read, and is an orx of this user that hides its secrets. One in a job does not hide.
    Hidden,
    /// It has ended.
    Gone,
}

/// Whether a process is of our user and bears our name, or that of a child which another orx is just making.
fn is_like_us(pid: i32) -> bool {
    let about = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
        Some((field("Name:")?, field("Uid:")?))
    };
    let (Some((name, user)), Some((own_name, own_user))) = (about(&pid.to_string()), about("self")) else {
        return false;
    };
    user == own_user && (name == own_name || name == THREAD)
}

/// Whether a process's environment, as it was when it last executed, has an entry that `accept`s.
pub(super) fn mark_of(pid: i32, mut accept: impl FnMut(&[u8]) -> bool) -> Mark {
    let mut any = |environment: &[u8]| environment.split(|byte| *byte == 0).any(&mut accept);
    let mut unreadable = false;
    // The second reading is for a process that was executing during the first, and had no environment at all.
    for _ in 0..2 {
        match fs::read(format!("/proc/{pid}/environ")) {
            Ok(environment) if !environment.is_empty() => {
                return if any(&environment) { Mark::Has } else { Mark::Lacks };
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unreadable = true,
            Err(_) => return Mark::Gone,
        }
    }
    // A main thread that has ended has no memory to show, its other threads have.
    let in_a_thread = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|task| fs::read(task.path().join("environ")).is_ok_and(|text| any(&text)));
    match stat(pid) {
        Ok(_) if in_a_thread => Mark::Has,
        Ok(stat) if stat.alive() && !stat.exiting => match unreadable {
            true if is_like_us(pid) => Mark::Hidden,
            true => Mark::Unreadable,
            false => Mark::Lacks,
        },
        Ok(_) | Err(_) => Mark::Gone,
    }
}
