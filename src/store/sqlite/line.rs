//! The order in which processes write: lines that they stand in before they begin a transaction.
//!
//! SQLite's lock is had by whoever asks at the right moment. Among hundreds the unlucky ask for longer than a lease lasts,
//! so each takes a place in a line first: it locks one byte of a file beside the store, whose number says when it came,
//! and waits while a byte before its own is locked. What a process had that died, the kernel lets go.
//!
//! There are two lines. Writers stand in the first one and, once nobody is before them there, in the second one too.
//! Renewals of leases stand in the second one only, so at most one transaction of writers is before them.
//!
//! A line gives order, never exclusion: that is for BEGIN IMMEDIATE. Who cannot stand in it goes without, and who has seen
//! the same one at its head for too long, which may be stopped, passes that one. Each wait has a bound, which is why the kernel's own
//! queue of a lock (`flock`, `F_SETLKW`) is not used: only a signal ends a wait there, and whoever is stopped in it holds
//! up all behind it.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::store::locks;
use crate::time::Clock;

/// The files of the two lines; the names begin with that of the store.
const FIRST: &str = "line";
const SECOND: &str = "next";

/// How long the same one may be before a writer. Transactions take some milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for renewals: a lease may last no longer than a second.
const HASTE: Duration = Duration::from_millis(250);
/// Where nobody has left for so many times that, the line is full of those that do not move.
const STUCK: u32 = 3;
/// The longest that anybody stands in a line.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks whether it is our turn.
const PAUSE: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(20));
/// How many places are tried that somebody has: only a process of another PID namespace can have come at the same time.
const TRIES: i64 = 64;
/// So many bits of a place are the process, and the rest is when it came: Linux has no larger ids.
const PID_BITS: u32 = 22;
/// The last millisecond that a place can tell; 69 years after the machine started.
const LAST: i64 = (1 << (63 - PID_BITS)) - 1;

/// The lines that somebody stands in. Used by one thread at a time.
#[derive(Default)]
pub(super) struct Lines {
    first: Option<Line>,
    second: Option<Line>,
    patience: Duration,
}

/// The right to begin a transaction, until it is dropped.
pub(super) struct Turn<'l> {
    _second: Option<Place<'l>>,
    _first: Option<Place<'l>>,
}

impl Lines {
    /// For those who write to `store`.
    pub(super) fn of_writers(store: &Path) -> Self {
        let line = |name| Some(Line::new(store, name));
        Self { first: line(FIRST), second: line(SECOND), patience: PATIENCE }
    }

    /// For those who renew leases in `store`.
    pub(super) fn of_renewals(store: &Path) -> Self {
        Self { first: None, second: Some(Line::new(store, SECOND)), patience: HASTE }
    }

    /// Waits until it is our turn.
    pub(super) fn turn(&self, clock: &dyn Clock) -> Turn<'_> {
        let first = self.first.as_ref().and_then(|line| line.stand(clock, self.patience));
        let second = self.second.as_ref().and_then(|line| line.stand(clock, self.patience));
        Turn { _second: second, _first: first }
    }
}

struct Line {
    store: PathBuf,
    name: &'static str,
    /// Opened once; none where it cannot be.
    file: OnceLock<Option<File>>,
    /// The last place that was waited for in vain: it and those before it are waited for no more.
    passed: AtomicI64,
}

impl Line {
    fn new(store: &Path, name: &'static str) -> Self {
        Self { store: store.into(), name, file: OnceLock::new(), passed: AtomicI64::new(0) }
    }

    fn file(&self) -> Option<&File> {
        self.file.get_or_init(|| locks::file(&self.store, self.name).ok()).as_ref()
    }

    /// Takes a place, and waits until nobody is before it; none where there is no line.
    fn stand(&self, clock: &dyn Clock, patience: Duration) -> Option<Place<'_>> {
        let file = self.file()?;
        let (came, pid) = (clock.boot().ms.clamp(0, LAST - TRIES), i64::from(std::process::id()));
        let numbers = (came..came + TRIES).map(|ms| ms << PID_BITS | pid);
        let mut free = numbers.filter(|number| set(file, libc::F_WRLCK, *number));
        let place = Place { file, number: free.next()? };
        place.wait(&self.passed, patience);
        Some(place)
    }
}

/// A place in a line, until it is dropped.
struct Place<'l> {
    file: &'l File,
    number: i64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        set(self.file, libc::F_UNLCK, self.number);
    }
}

impl Place<'_> {
    fn wait(&self, passed: &AtomicI64, patience: Duration) {
        let begun = Instant::now();
        let (mut first, mut last, mut since, mut moved) = (None, 0, begun, begun);
        loop {
            let floor = passed.load(Ordering::Relaxed);
            let Some(ahead) = before(self.file, floor, self.number) else { return };
            if ahead != last {
                if last > floor {
                    moved = Instant::now(); // it was not passed, but left
                }
                (last, since) = (ahead, Instant::now());
            }
            if since.elapsed() >= patience {
                passed.store(ahead, Ordering::Relaxed);
                continue;
            }
            if moved.elapsed() >= patience * STUCK || begun.elapsed() >= LIMIT {
                return;
            }
            let done = ahead - *first.get_or_insert(ahead);
            std::thread::sleep(pause(begun.elapsed(), done, self.number - ahead));
        }
    }
}

/// How long it is until it is worth looking again: a part of what is left to wait at the pace of the line so far.
fn pause(waited: Duration, done: i64, left: i64) -> Duration {
    let (shortest, longest) = PAUSE;
    let left = if done > 0 { waited.mul_f64((left as f64 / done as f64).min(1000.0)) } else { waited };
    (left / 4).clamp(shortest, longest)
}

/// The place of one that is before `number`, and not passed: of those, who has stood the longest.
fn before(file: &File, passed: i64, number: i64) -> Option<i64> {
    let between = number.checked_sub(passed + 1).filter(|between| *between > 0)?;
    let mut lock = range(libc::F_WRLCK, passed + 1, between);
    (control(file, libc::F_OFD_GETLK, &mut lock) && lock.l_type != libc::F_UNLCK as libc::c_short)
        .then_some(lock.l_start)
}

/// Locks one byte, or lets it go, without waiting; whether it was done.
fn set(file: &File, kind: libc::c_int, number: i64) -> bool {
    control(file, libc::F_OFD_SETLK, &mut range(kind, number, 1))
}

fn range(kind: libc::c_int, start: i64, length: i64) -> libc::flock {
    let (l_type, l_whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    libc::flock { l_type, l_whence, l_start: start, l_len: length, l_pid: 0 }
}

/// Locks belong to the open file and not to the process: one that writes and renews stands in a line twice.
fn control(file: &File, command: libc::c_int, lock: &mut libc::flock) -> bool {
    // SAFETY: the descriptor is open, and these commands take a lock that lives for the call.
    unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) == 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::time::SystemClock;

    fn writers(dir: &tempfile::TempDir) -> Lines {
        Lines::of_writers(&dir.path().join("orx.db"))
    }

    #[test]
    fn who_came_first_is_first_and_a_renewal_waits_for_one_only() {
        let dir = tempfile::tempdir().unwrap();
        let renewals = Lines::of_renewals(&dir.path().join("orx.db"));
        let (done, order) = mpsc::channel();
        std::thread::scope(|scope| {
            let lines = writers(&dir);
            let turn = lines.turn(&SystemClock);
            let stands = |name: &str, count: usize| {
                let file = locks::file(&dir.path().join("orx.db"), name).unwrap();
                let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
                let locks = || std::fs::read_to_string("/proc/locks").unwrap();
                let mine = move |line: &&str| line.contains(&format!(":{inode} "));
                let begun = Instant::now();
                while locks().lines().filter(mine).count() < count {
                    assert!(begun.elapsed() < PATIENCE / 2, "{}", locks());
                }
            };
            for name in 1..=3 {
                let (dir, done) = (&dir, done.clone());
                scope.spawn(move || {
                    let lines = writers(dir);
                    let _turn = lines.turn(&SystemClock);
                    done.send(name).unwrap();
                });
                stands(FIRST, 1 + name);
            }
            scope.spawn(|| {
                let _turn = renewals.turn(&SystemClock);
                done.send(0).unwrap();
            });
            stands(SECOND, 2);
            drop(turn);
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn one_that_does_not_move_is_waited_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let (stopped, lines) = (writers(&dir), writers(&dir));
        let renewals = Lines::of_renewals(&dir.path().join("orx.db"));
        let held = stopped.turn(&SystemClock);
        let turn = |lines: &Lines| {
            let begun = Instant::now();
            drop(lines.turn(&SystemClock));
            begun.elapsed()
        };
        assert!((PATIENCE * 2..LIMIT).contains(&turn(&lines)), "once in each line");
        assert!(turn(&lines) < PATIENCE, "it is known by now");
        assert!((HASTE..PATIENCE).contains(&turn(&renewals)));
        drop(held);
        let _moves = stopped.turn(&SystemClock);
        assert!(turn(&lines) >= PATIENCE, "it has moved since, and is waited for again");
    }

    #[test]
    fn a_crowd_that_does_not_move_is_not_waited_for_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let renewals = Lines::of_renewals(&dir.path().join("orx.db"));
        let crowd = locks::file(&dir.path().join("orx.db"), SECOND).unwrap();
        assert!((1..=20).all(|n| set(&crowd, libc::F_WRLCK, n * 2)));
        let begun = Instant::now();
        drop(renewals.turn(&SystemClock));
        assert!((HASTE * STUCK..HASTE * 10).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[test]
    fn the_dead_and_those_without_a_file_hold_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let dead = writers(&dir);
        std::mem::forget(dead.turn(&SystemClock));
        drop(dead); // closes its files, as the end of a process does
        let begun = Instant::now();
        drop(writers(&dir).turn(&SystemClock));
        std::fs::create_dir(dir.path().join("other-line")).unwrap();
        std::fs::create_dir(dir.path().join("other-next")).unwrap();
        let without = Lines::of_writers(&dir.path().join("other"));
        drop((without.turn(&SystemClock), Lines::default().turn(&SystemClock)));
        assert!(begun.elapsed() < PATIENCE);
    }
}
