//! The socket by which a job talks to its worker (S35).
//!
//! One socket serves all attempts of a worker. What is said carries the fence of its attempt, which every process
//! of a job has in its environment; a fence that does not run here any more is refused.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tracing::warn;

use super::Config;
use super::mask::Mask;
use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::job::spec::MAX_PAYLOAD;
use crate::job::{Fence, JsonText, WorkerKey};
use crate::ops::say::{Heard, Say};
use crate::private;
use crate::queue::Queue;

/// The longest line, in bytes: a result of 1 MiB, which may have a backslash before every character, and what surrounds it.
pub const MAX_LINE: usize = 2 * MAX_PAYLOAD + 64 * 1024;
/// How long a job may take to say one thing, once it is heard.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the store has for that; then the job is told that it does not answer.
const STORE_PATIENCE: Duration = Duration::from_secs(8);
/// How long it may be silent before it says that.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// How many processes of one attempt may talk at once, and how many of whom nobody knows the attempt.
const MAX_TALKING: usize = 16;

/// What a job says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Message {
    /// The value of ORX_FENCE.
    pub fence: String,
    /// How far it is, and a few words.
    pub progress: Option<(f64, Option<String>)>,
    /// What it made, as it was handed over: JSON, or else text. A string, so that the line breaks in it end no line.
    pub result: Option<String>,
}

/// What it is answered: nothing when all is well.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Why not.
    pub error: Option<Refusal>,
}

/// Why what a job said was not recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Refusal {
    fn of(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.to_string(), hint: error.hint_text().map(str::to_owned) }
    }

    /// The error that it tells of.
    pub fn error(self) -> Error {
        let error = Error::new(self.kind, self.message);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// The attempts that run, by the value of ORX_FENCE.
#[derive(Clone, Default)]
pub(super) struct Talkers(Arc<Mutex<Table>>);

/// An attempt that may talk.
#[derive(Clone)]
pub(super) struct Talker {
    pub(super) fence: Fence,
    /// To be told that the job lives.
    pub(super) alive: Arc<Notify>,
    /// Its secrets, set before its program starts.
    pub(super) mask: Arc<OnceLock<Mask>>,
    /// For how many of its processes there is room.
    room: Arc<Semaphore>,
}

impl Talker {
    pub(super) fn new(fence: Fence, alive: Arc<Notify>, mask: Arc<OnceLock<Mask>>) -> Self {
        Self { fence, alive, mask, room: Arc::new(Semaphore::new(MAX_TALKING)) }
    }
}

type Table = HashMap<String, Talker>;

impl Talkers {
    pub(super) fn add(&self, marker: &str, talker: Talker) {
        self.lock().insert(value(marker).to_owned(), talker);
    }

    pub(super) fn remove(&self, marker: &str) {
        self.lock().remove(value(marker));
    }

    fn find(&self, value: &str) -> Option<Talker> {
        self.lock().get(value).cloned()
    }

    /// The attempt whose fence is in the environment of the process at the other end.
    fn of_peer(&self, stream: &UnixStream) -> Option<Talker> {
        let pid = stream.peer_cred().ok()?.pid()?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut entries = environment.split(|byte| *byte == 0);
        let fence = entries.find_map(|entry| entry.strip_prefix(b"ORX_FENCE="))?;
        self.find(std::str::from_utf8(fence).ok()?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `NAME=value` → `value`.
fn value(marker: &str) -> &str {
    marker.split_once('=').map_or(marker, |(_, value)| value)
}

/// A socket in a directory of its own; both go when this is dropped.
pub(super) struct Socket {
    dir: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Socket {
    /// The socket of a worker; what a dead worker of its name left is removed.
    ///
    /// Where TMPDIR is not fit for one, it lies elsewhere.
    ///
    /// # Errors
    /// When no directory or socket can be made.
    pub(super) fn open(queue: Queue, talkers: Talkers, config: &Config) -> io::Result<Self> {
        let key = &config.key;
        let prefix = prefix(config);
        let places = places();
        places.iter().for_each(|place| remove_left(place, &prefix));
        let mut refused = io::Error::other("no directory for it");
        for place in places {
            match Self::bind_in(&place, &prefix) {
                Ok((dir, listener)) => {
                    let task = tokio::spawn(serve(listener, queue, talkers, key.clone()));
                    return Ok(Self { dir, task });
                }
                Err(e) => refused = io::Error::new(e.kind(), format!("{}: {e}", place.display())),
            }
        }
        Err(refused)
    }

    fn bind_in(place: &Path, prefix: &str) -> io::Result<(tempfile::TempDir, UnixListener)> {
        let dir = private::temp_dir_in(place, prefix)?;
        let path = Self::path_in(dir.path());
        let listener = UnixListener::bind(&path)?; // too long, perhaps
        private::close(&path)?;
        Ok((dir, listener))
    }

    pub(super) fn path(&self) -> PathBuf {
        Self::path_in(self.dir.path())
    }

    fn path_in(dir: &Path) -> PathBuf {
        dir.join("socket")
    }
}

/// How the names of all temporary files of a worker begin: a worker of the same name removes what a dead one left.
pub(super) fn prefix(config: &Config) -> String {
    let Config { store_id, name, .. } = config;
    format!("orx-{}-", hex(&Sha256::digest(format!("{store_id}.{name}"))[..6]))
}

/// Where sockets may lie, the best place first. A path of one has 107 bytes at most, and TMPDIR may be anything: too long,
/// missing, empty, read-only.
fn places() -> Vec<PathBuf> {
    let given = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let usual = ["/tmp", "/var/tmp", "/dev/shm", "/run"].into_iter().map(PathBuf::from);
    let mut places: Vec<PathBuf> = Vec::new();
    // That of the user's login last, as it goes when they log out.
    let all = given("TMPDIR").into_iter().chain(usual).chain(given("XDG_RUNTIME_DIR"));
    for place in all.filter(|place| place.is_absolute()) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Removes what is ours and begins so: its owner cannot live, as its name is ours now.
fn remove_left(place: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    let uid = rustix::process::getuid().as_raw();
    let left = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    for entry in left {
        // Of the entry itself: all may make links in there.
        let Some(meta) = entry.metadata().ok().filter(|meta| meta.uid() == uid) else { continue };
        let path = entry.path();
        // What cannot be removed stays.
        let _ = if meta.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, queue: Queue, talkers: Talkers, key: WorkerKey) {
    let strangers = Arc::new(Semaphore::new(MAX_TALKING));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let room = talkers.of_peer(&stream).map_or_else(|| Arc::clone(&strangers), |talker| talker.room);
                // Who keeps too many connections is hung up on: one that waited here would silence all other jobs.
                let Ok(permit) = room.try_acquire_owned() else { continue };
                let (queue, talkers, key) = (queue.clone(), talkers.clone(), key.clone());
                tokio::spawn(async move {
                    let _ = hear(stream, &queue, &talkers, &key).await; // who hangs up has said nothing
                    drop(permit);
                });
            }
            Err(e) => {
                warn!("the socket of jobs: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors, perhaps
            }
        }
    }
}

async fn hear(stream: UnixStream, queue: &Queue, talkers: &Talkers, key: &WorkerKey) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(MAX_LINE as u64));
    tokio::time::timeout(SHORT_PATIENCE, read.read_line(&mut line)).await??;
    let answered = async {
        let answer = match record(&line, queue, talkers, key).await {
            Ok(()) => Answer::default(),
            Err(e) => Answer { error: Some(Refusal::of(&e)) },
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        write.write_all(text.as_bytes()).await
    };
    tokio::time::timeout(PATIENCE, answered).await?
}

async fn record(line: &str, queue: &Queue, talkers: &Talkers, key: &WorkerKey) -> Result<()> {
    let message: Message = serde_json::from_str(line).map_err(|e| Error::usage("not understood").source(e))?;
    let stale = || Error::new(Kind::Conflict, "this attempt does not run here any more");
    let Talker { fence, alive, mask, .. } = talkers.find(&message.fence).ok_or_else(stale)?;
    alive.notify_one(); // whatever it says shows that it lives
    if message.progress.is_none() && message.result.is_none() {
        return Ok(());
    }
    let mask = mask.get().cloned().unwrap_or_default();
    let progress = message.progress.map(|(percent, text)| (percent, text.map(|text| mask.text(&text))));
    let (result, result_is_text) = match message.result.map(|text| (text.parse::<JsonText>(), text)) {
        None => (None, false),
        Some((Ok(json), _)) => (Some(mask.json(json)), false),
        // As the shell does with `$(…)`.
        Some((Err(_), text)) => (Some(JsonText::of(mask.text(text.trim_end_matches(['\n', '\r'])).as_str())?), true),
    };
    let op = Say { worker: key.clone(), fence, progress, result, result_is_text };
    let in_time = tokio::time::timeout(STORE_PATIENCE, queue.call(op)).await;
    match in_time.unwrap_or_else(|_| Err(Error::unavailable("it does not answer in time"))) {
        Ok(Heard::Recorded) => Ok(()),
        Ok(Heard::Stale) => Err(stale()),
        // Locked, full or away: to a job it is all the same.
        Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unknown) => {
            let error = Error::unavailable("the store cannot be used now").source(e.to_string());
            Err(error.hint("this may not be recorded; the job goes on: say it again later"))
        }
        Err(e) => Err(e),
    }
}
