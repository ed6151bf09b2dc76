//! What a job wrote so far, shared by the reading and the sending of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::capture::Capture;
use crate::job::output::{Chunk, Stream};
use crate::time::Timestamp;

/// The longest error taken from standard error, in bytes.
const MAX_ERROR: usize = 400;

/// What the job wrote.
pub(super) struct Heard(Mutex<(Option<Capture>, Vec<u8>)>);

impl Heard {
    pub(super) fn new(cap: u64) -> Self {
        Self(Mutex::new((Some(Capture::new(cap)), Vec::new())))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, (Option<Capture>, Vec<u8>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, stream: Stream, at: Timestamp, bytes: &[u8]) {
        let (capture, errors) = &mut *self.lock();
        if let Some(capture) = capture {
            capture.push(stream, at, bytes);
        }
        if stream == Stream::Stderr {
            errors.extend_from_slice(&bytes[bytes.len().saturating_sub(MAX_ERROR)..]);
            let old = errors.len().saturating_sub(MAX_ERROR);
            errors.drain(..old);
        }
    }

    pub(super) fn unsent(&self) -> usize {
        self.lock().0.as_ref().map_or(0, Capture::unsent_bytes)
    }

    pub(super) fn take_live(&self) -> Vec<Chunk> {
        self.lock().0.as_mut().map(Capture::take_live).unwrap_or_default()
    }

    /// What has not been sent, and the last line of standard error.
    pub(super) fn finish(&self) -> (Vec<Chunk>, Option<String>) {
        let (capture, errors) = &mut *self.lock();
        let chunks = capture.take().map(Capture::finish).unwrap_or_default();
        let text = String::from_utf8_lossy(errors);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        (chunks, line.map(|l| l.chars().filter(|c| !c.is_control()).collect()))
    }
}
