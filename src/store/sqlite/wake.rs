//! Waking other processes: a datagram after the commit, and a slow look as a safety net.
//!
//! Each listener binds a socket in a directory beside the store; its file name begins with the
//! topics it wants. inotify would be too early: it fires before a commit can be seen.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::net::{RecvFlags, recv};

use crate::error::{Error, Result};
use crate::private::{self, Beside, open_dir, within};
use crate::store::{Listening, Topics};

/// How long a lost datagram may go unnoticed.
const SAFETY_POLL: Duration = Duration::from_secs(4);
/// File systems tell changes apart that are further apart than this, and by far.
const SAME_TIME: Duration = Duration::from_secs(3);
/// What a commit may have been about of which no datagram told. Not what is asked of a worker: it answers that with a
/// heartbeat, which is such a commit too, so that two workers would never come to rest. It looks with its own.
const SAFETY_TOPICS: Topics = Topics(Topics::ALL.0 & !Topics::CONTROL.0);

/// So many may listen and look after each commit. Where there are more, each looks less often, by so much for each of them,
/// or a crowd would be busy with looking at what the others do.
const FEW: usize = 8;
const FOR_EACH: Duration = Duration::from_millis(1);
const RAREST: Duration = Duration::from_millis(500);
/// How long a count of those who listen is good.
const COUNTED: Duration = Duration::from_secs(1);
/// How many datagrams may wait for a listener; of more, Linux may drop some.
const WAITING: usize = 10;

fn directory(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push("-wake");
    path.into()
}

/// Whether somebody listens, or did until it died.
pub(super) fn has_listeners(store: &Path) -> bool {
    std::fs::read_dir(directory(store)).is_ok_and(|mut entries| entries.next().is_some())
}

/// Those who listen, as far as they are known: a commit costs less than to read a directory.
#[derive(Default)]
pub(super) struct Listeners {
    /// When the directory was changed last (seconds, nanoseconds), and since when we know that time.
    changed: Option<((i64, i64), Instant)>,
    /// Their names, where nobody can have come or gone since they were read.
    names: Option<Vec<String>>,
}

impl Listeners {
    /// Tells every listener that wants one of `topics`.
    pub(super) fn poke(&mut self, store: &Path, topics: Topics) {
        let path = directory(store);
        let Ok(changed) = std::fs::metadata(&path).map(|dir| (dir.mtime(), dir.mtime_nsec())) else {
            return; // nobody has ever listened
        };
        let since = match self.changed {
            Some((at, since)) if at == changed => since,
            _ => {
                self.names = None;
                self.changed.insert((changed, Instant::now())).1
            }
        };
        if let Some(names) = &self.names {
            return tell(&path, names, topics);
        }
        let long_ago = since.elapsed() > SAME_TIME;
        let Ok(entries) = std::fs::read_dir(&path) else { return };
        let names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        tell(&path, &names, topics);
        self.names = long_ago.then_some(names);
    }
}

fn tell(path: &Path, names: &[String], topics: Topics) {
    let mut sender = None;
    for name in names {
        if !wanted(name).is_some_and(|wanted| wanted.meets(topics)) {
            continue;
        }
        if sender.is_none() {
            sender = open_sender(path);
        }
        let Some((socket, dir)) = &sender else { return };
        if let Err(e) = socket.send_to(&[topics.0], within(dir, name))
            && e.kind() == std::io::ErrorKind::ConnectionRefused
        {
            let _ = std::fs::remove_file(within(dir, name)); // its process is dead
        }
    }
}

fn open_sender(path: &Path) -> Option<(UnixDatagram, File)> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, open_dir(path).ok()?))
}

/// The topics in a socket's name, `TOPICS.PID.N`; none for a listener of this process.
fn wanted(name: &str) -> Option<Topics> {
    let mut parts = name.split('.');
    let topics = parts.next()?.parse().ok()?;
    let pid: u32 = parts.next()?.parse().ok()?;
    (pid != std::process::id()).then_some(Topics(topics))
}

/// Calls `sink` from a thread of its own whenever another process touched one of `topics`; `writer` is the connection
/// by which this one writes.
pub(super) fn listen(
    store: &Path,
    topics: Topics,
    writer: Weak<Mutex<Connection>>,
    sink: Box<dyn Fn(Topics) + Send>,
) -> Result<Listening> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let path = directory(store);
    let cannot = |e: std::io::Error| Error::unavailable(format!("cannot listen in {}", path.display())).source(e);
    let beside = Beside::of(store);
    let dir = beside.dir(&path).map_err(cannot)?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}.{}.{count}", topics.0, std::process::id());
    let file = within(&dir, &name);
    let _ = std::fs::remove_file(&file); // left by a process that had our pid
    let socket = UnixDatagram::bind(&file).map_err(cannot)?;
    private::close(&file).map_err(cannot)?;
    beside.give(&file);
    socket.set_read_timeout(Some(SAFETY_POLL)).map_err(cannot)?;
    let ended = Arc::new(AtomicBool::new(false));
    let ear = Ear { socket, writer, topics, sink, ended: Arc::clone(&ended), pace: Pace::new(path.clone()) };
    std::thread::Builder::new().name("orx-wake".into()).spawn(move || ear.listen()).map_err(cannot)?;
    Ok(Listening(Box::new(Guard { dir, name, ended })))
}

struct Ear {
    socket: UnixDatagram,
    writer: Weak<Mutex<Connection>>,
    topics: Topics,
    sink: Box<dyn Fn(Topics) + Send>,
    ended: Arc<AtomicBool>,
    pace: Pace,
}

/// How often a listener looks.
struct Pace {
    directory: PathBuf,
    /// When it looked last.
    last: Option<Instant>,
    /// How many listen, and since when that is known.
    crowd: Option<(usize, Instant)>,
}

impl Pace {
    fn new(directory: PathBuf) -> Self {
        Self { directory, last: None, crowd: None }
    }

    /// Waits until it is time to look again; the first look after a while is at once.
    fn rest(&mut self) {
        let since = self.last.map(|last| last.elapsed()).filter(|since| *since < RAREST);
        if let Some(since) = since {
            std::thread::sleep(between(self.crowd()).saturating_sub(since));
        }
        self.last = Some(Instant::now());
    }

    fn crowd(&mut self) -> usize {
        match self.crowd {
            Some((crowd, at)) if at.elapsed() < COUNTED => crowd,
            _ => {
                let crowd = std::fs::read_dir(&self.directory).map_or(0, Iterator::count);
                self.crowd.insert((crowd, Instant::now())).0
            }
        }
    }
}

/// How long it is from one look to the next where so many listen.
fn between(crowd: usize) -> Duration {
    let more = u32::try_from(crowd.saturating_sub(FEW)).unwrap_or(u32::MAX);
    FOR_EACH.saturating_mul(more).min(RAREST)
}

impl Ear {
    fn listen(mut self) {
        let mut seen = self.data_version();
        while !self.ended.load(Ordering::Acquire) {
            let mut byte = [0u8; 1];
            match self.socket.recv(&mut byte) {
                Ok(n) if n > 0 && byte[0] != 0 => {
                    self.pace.rest();
                    (self.sink)(Topics(byte[0]) | self.waiting());
                }
                Ok(_) => {}
                Err(_) => {
                    let now = self.data_version();
                    if now.is_some() && now != seen {
                        seen = now;
                        (self.sink)(self.topics & SAFETY_TOPICS);
                    }
                }
            }
        }
    }

    /// What others told meanwhile; all, where some of it may have been dropped.
    fn waiting(&self) -> Topics {
        let mut topics = Topics::NONE;
        for _ in 0..WAITING {
            let mut byte = [0u8; 1];
            match recv(&self.socket, &mut byte, RecvFlags::DONTWAIT) {
                Ok(_) => topics = topics | Topics(byte[0]),
                Err(_) => return topics,
            }
        }
        self.topics
    }

    /// Changes with every commit of another process: the connection that writes does not count its own. None while it
    /// is in use.
    fn data_version(&self) -> Option<i64> {
        let writer = self.writer.upgrade()?;
        let conn = match writer.try_lock() {
            Ok(conn) => conn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        conn.prepare_cached("PRAGMA data_version").and_then(|mut s| s.query_row([], |r| r.get(0))).ok()
    }
}

/// Ends the thread and removes the socket.
struct Guard {
    dir: File,
    name: String,
    ended: Arc<AtomicBool>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Ok(socket) = UnixDatagram::unbound() {
            let _ = socket.set_nonblocking(true);
            let _ = socket.send_to(&[0], within(&self.dir, &self.name)); // so that recv returns now
        }
        let _ = std::fs::remove_file(within(&self.dir, &self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_listen_the_less_often_each_looks() {
        let dir = tempfile::tempdir().unwrap();
        let mut pace = Pace::new(dir.path().into());
        let mut looks = |crowd: usize| {
            (0..crowd).for_each(|n| drop(std::fs::write(dir.path().join(n.to_string()), "")));
            (pace.crowd, pace.last) = (None, None);
            pace.rest();
            let begun = Instant::now();
            (0..3).for_each(|_| pace.rest());
            begun.elapsed()
        };
        assert!(looks(FEW) < Duration::from_millis(100));
        assert!(looks(FEW + 100) >= Duration::from_millis(300));
        assert_eq!((between(0), between(10_000)), (Duration::ZERO, RAREST));
    }

    #[test]
    fn who_begins_to_listen_later_is_told_too() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("orx.db");
        let listen = |name: &str| {
            let socket = UnixDatagram::bind(directory(&store).join(name)).unwrap();
            socket.set_nonblocking(true).unwrap();
            move || socket.recv(&mut [0]).is_ok()
        };
        std::fs::create_dir(directory(&store)).unwrap();
        let mut listeners = Listeners::default();
        let mut poke = |long_ago: bool| {
            if long_ago && let Some((_, since)) = &mut listeners.changed {
                *since -= SAME_TIME * 2;
            }
            listeners.poke(&store, Topics::WORK);
            listeners.names.as_ref().map(Vec::len)
        };
        let first = listen("255.1.0"); // of process 1, which is not this one
        assert_eq!((poke(false), first()), (None, true), "another may come at the same time of the file system");
        assert_eq!((poke(true), first()), (Some(1), true));
        assert_eq!((poke(false), first()), (Some(1), true));
        let second = listen("255.1.1");
        assert_eq!((poke(false), first(), second()), (None, true, true));
        assert_eq!((poke(true), first(), second()), (Some(2), true, true));
        drop(second);
        poke(false);
        assert!(first() && !directory(&store).join("255.1.1").exists(), "its process is dead");
    }
}
