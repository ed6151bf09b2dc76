//! What a job wrote so far, shared by the reading and the sending of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::capture::Capture;
use super::mask::{Filter, Mask};
use super::tee::Mouth;
use crate::job::output::{Chunk, Stream};
use crate::time::Timestamp;

/// The longest error taken from standard error, in bytes.
const MAX_ERROR: usize = 400;

/// What the job wrote, its secrets hidden.
pub(super) struct Heard(Mutex<Inner>);

struct Inner {
    capture: Option<Capture>,
    /// Somebody in this process is given all of it.
    mouth: Option<Arc<Mouth>>,
    /// The end of standard error.
    errors: Vec<u8>,
    filter: Filter,
    last_at: Timestamp,
}

impl Heard {
    pub(super) fn new(cap: u64, mask: Mask, mouth: Option<Mouth>) -> Self {
        let (capture, filter) = (Some(Capture::new(cap)), Filter::new(mask));
        let mouth = mouth.map(Arc::new);
        Self(Mutex::new(Inner { capture, mouth, errors: Vec::new(), filter, last_at: Timestamp(0) }))
    }

    /// Waits until whoever is given it has room for more.
    pub(super) async fn room(&self) {
        let mouth = self.lock().mouth.clone();
        if let Some(mouth) = mouth {
            mouth.room().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    pub(super) fn take_live(&self) -> Vec<Chunk> {
        self.lock().capture.as_mut().map(Capture::take_live).unwrap_or_default()
    }

    /// What has not been sent, and the last line of standard error.
    pub(super) fn finish(&self) -> (Vec<Chunk>, Option<String>) {
        let mut inner = self.lock();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (rest, at) = (inner.filter.pass(stream, &[], true), inner.last_at);
            inner.keep(stream, at, &rest);
        }
        inner.mouth = None; // that was all
        let chunks = inner.capture.take().map(Capture::finish).unwrap_or_default();
        let text = String::from_utf8_lossy(&inner.errors);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        (chunks, line.map(|l| l.chars().filter(|c| !c.is_control()).collect()))
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
