//! Waking other processes: a datagram after the commit, and a slow look as a safety net.
//!
//! Each listener binds a socket in a directory beside the store; its file name begins with the
//! topics it wants. inotify would be too early: it fires before a commit can be seen.

use std::fs::{DirBuilder, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::store::{Listening, Topics};

/// How long a lost datagram may go unnoticed.
const SAFETY_POLL: Duration = Duration::from_secs(2);
/// What a commit may have been about of which no datagram told. Not what is asked of a worker: it answers that with a
/// heartbeat, which is such a commit too, so that two workers would never come to rest. It looks with its own.
const SAFETY_TOPICS: Topics = Topics(Topics::ALL.0 & !Topics::CONTROL.0);

fn directory(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push("-wake");
    path.into()
}

/// Addresses a socket through its directory's descriptor: the path of a socket has 108 bytes only.
fn through(dir: &File, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())
}

/// Whether somebody listens, or did until it died.
pub(super) fn has_listeners(store: &Path) -> bool {
    std::fs::read_dir(directory(store)).is_ok_and(|mut entries| entries.next().is_some())
}

/// Tells every listener that wants one of `topics`.
pub(super) fn poke(store: &Path, topics: Topics) {
    let path = directory(store);
    let Ok(entries) = std::fs::read_dir(&path) else {
        return; // nobody has ever listened
    };
    let mut sender = None;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(wanted) = wanted(name) else { continue };
        if !wanted.meets(topics) {
            continue;
        }
        if sender.is_none() {
            sender = open_sender(&path);
        }
        let Some((socket, dir)) = &sender else { return };
        if let Err(e) = socket.send_to(&[topics.0], through(dir, name))
            && e.kind() == std::io::ErrorKind::ConnectionRefused
        {
            let _ = std::fs::remove_file(entry.path()); // its process is dead
        }
    }
}

fn open_sender(path: &Path) -> Option<(UnixDatagram, File)> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, File::open(path).ok()?))
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
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(cannot(e)),
        _ => {}
    }
    let dir = File::open(&path).map_err(cannot)?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}.{}.{count}", topics.0, std::process::id());
    let file = path.join(&name);
    let _ = std::fs::remove_file(&file); // left by a process that had our pid
    let socket = UnixDatagram::bind(through(&dir, &name)).map_err(cannot)?;
    socket.set_read_timeout(Some(SAFETY_POLL)).map_err(cannot)?;
    let ended = Arc::new(AtomicBool::new(false));
    let ear = Ear { socket, writer, topics, sink, ended: Arc::clone(&ended) };
    std::thread::Builder::new().name("orx-wake".into()).spawn(move || ear.listen()).map_err(cannot)?;
    Ok(Listening(Box::new(Guard { file, dir, name, ended })))
}

struct Ear {
    socket: UnixDatagram,
    writer: Weak<Mutex<Connection>>,
    topics: Topics,
    sink: Box<dyn Fn(Topics) + Send>,
    ended: Arc<AtomicBool>,
}

impl Ear {
    fn listen(self) {
        let mut seen = self.data_version();
        while !self.ended.load(Ordering::Acquire) {
            let mut byte = [0u8; 1];
            match self.socket.recv(&mut byte) {
                Ok(n) if n > 0 && byte[0] != 0 => (self.sink)(Topics(byte[0])),
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
    file: PathBuf,
    dir: File,
    name: String,
    ended: Arc<AtomicBool>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Ok(socket) = UnixDatagram::unbound() {
            let _ = socket.set_nonblocking(true);
            let _ = socket.send_to(&[0], through(&self.dir, &self.name)); // so that recv returns now
        }
        let _ = std::fs::remove_file(&self.file);
    }
}
