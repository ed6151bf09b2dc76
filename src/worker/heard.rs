//! What a job wrote so far, shared by the reading and the sending of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::capture::{Beyond, Capture, Part};
use super::mask::{Filter, Mask};
use super::tee::Mouth;
use crate::job::output::Stream;
use crate::time::Timestamp;

/// The longest error taken from standard error, in bytes.
const MAX_ERROR: usize = 400;

/// How long a job that writes faster than the store takes it waits for the store, before the oldest of it is lost.
const STALL: Duration = Duration::from_secs(1);

/// What the job wrote, its secrets hidden.
pub(super) struct Heard {
    inner: Mutex<Inner>,
    /// Some of it was taken.
    taken: Notify,
}

struct Inner {
    capture: Option<Capture>,
    /// Somebody in this process is given all of it.
    mouth: Option<Arc<Mouth>>,
    /// The end of standard error.
    errors: Vec<u8>,
    filter: Filter,
    last_at: Timestamp,
    /// The store takes nothing: it is not waited for until it does.
    stalled: bool,
}

impl Heard {
    pub(super) fn new(cap: u64, mask: Mask, mouth: Option<Mouth>) -> Self {
        let beyond = if mouth.is_some() { Beyond::AtEnd } else { Beyond::Live };
        let (capture, filter) = (Some(Capture::new(cap, beyond)), Filter::new(mask));
        let (mouth, last_at) = (mouth.map(Arc::new), Timestamp(0));
        let inner = Inner { capture, mouth, errors: Vec::new(), filter, last_at, stalled: false };
        Self { inner: Mutex::new(inner), taken: Notify::new() }
    }

    /// Waits until whoever is given it has room for more; for the store not long.
    pub(super) async fn room(&self) {
        let mouth = self.lock().mouth.clone();
        if let Some(mouth) = mouth {
            return mouth.room().await;
        }
        while self.is_pressed() && !self.lock().stalled {
            if tokio::time::timeout(STALL, self.taken.notified()).await.is_err() {
                self.lock().stalled = true;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, stream: Stream, at: Timestamp, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.last_at = at;
        match inner.filter.is_idle() {
            true => inner.keep(stream, at, bytes),
            false => {
                let shown = inner.filter.pass(stream, bytes, false);
                inner.keep(stream, at, &shown);
            }
        }
    }

    pub(super) fn unsent(&self) -> usize {
        self.lock().capture.as_ref().map_or(0, Capture::unsent_bytes)
    }

    /// Whether much waits to be stored.
    pub(super) fn is_pressed(&self) -> bool {
        self.lock().capture.as_ref().is_some_and(Capture::is_pressed)
    }

    /// What is to be stored now, of about `most` bytes.
    pub(super) fn take(&self, now: Timestamp, most: usize) -> Part {
        let mut inner = self.lock();
        inner.stalled = false;
        self.taken.notify_one();
        inner.capture.as_mut().map(|capture| capture.take(now, most)).unwrap_or_default()
    }

    /// What has not been stored, and the last line of standard error.
    pub(super) fn finish(&self) -> (Part, Option<String>) {
        let mut inner = self.lock();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (rest, at) = (inner.filter.pass(stream, &[], true), inner.last_at);
            inner.keep(stream, at, &rest);
        }
        inner.mouth = None; // that was all
        let rest = inner.capture.take().map(Capture::finish).unwrap_or_default();
        let text = String::from_utf8_lossy(&inner.errors);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        (rest, line.map(|l| l.chars().filter(|c| !c.is_control()).collect()))
    }
}

impl Inner {
    fn keep(&mut self, stream: Stream, at: Timestamp, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(mouth) = &self.mouth {
            mouth.say(stream, bytes);
        }
        if let Some(capture) = &mut self.capture {
            capture.push(stream, at, bytes);
        }
        if stream == Stream::Stderr {
            self.errors.extend_from_slice(&bytes[bytes.len().saturating_sub(MAX_ERROR)..]);
            let old = self.errors.len().saturating_sub(MAX_ERROR);
            self.errors.drain(..old);
        }
    }
}
