//! Stores what an attempt writes, while it runs and at its end (S28).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument as _, warn};

use super::Shared;
use super::capture::Part;
use super::heard::Heard;
use crate::job::Fence;
use crate::job::output::{Chunk, INLINE_OUTPUT};
use crate::ops::append_output::{AppendOutput, Appended};

/// How long output of a running job may wait before others can see it.
const FLUSH: Duration = Duration::from_millis(100);
/// How much output goes into one append, in bytes.
const APPEND: usize = 512 * 1024;
/// How much is taken out of memory at once, in bytes.
const TAKE: usize = 2 * APPEND;

/// Stores the output of one attempt, one part after the other.
pub(super) struct Sending {
    shared: Arc<Shared>,
    fence: Fence,
    heard: Arc<Heard>,
    flush: Option<JoinHandle<bool>>,
    flush_at: Option<Instant>,
}

impl Sending {
    pub(super) fn new(shared: Arc<Shared>, fence: Fence, heard: Arc<Heard>) -> Self {
        Self { shared, fence, heard, flush: None, flush_at: None }
    }

    /// Whether nothing is being stored.
    pub(super) fn is_idle(&self) -> bool {
        self.flush.is_none()
    }

    /// Something may have been written.
    pub(super) fn plan(&mut self) {
        if !self.is_idle() {
            return;
        }
        let unsent = self.heard.unsent();
        if unsent > APPEND || self.heard.is_pressed() {
            self.flush_at = Some(Instant::now());
        } else if unsent > 0 && self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + FLUSH);
        }
    }

    /// Waits for what comes next, and does it; false when the fence is old. It may be dropped and called again.
    pub(super) async fn next(&mut self) -> bool {
        match (&mut self.flush, self.flush_at) {
            (Some(flush), _) => {
                let stored = flush.await;
                (self.flush, self.flush_at) = (None, None);
                stored.unwrap_or(true)
            }
            (None, Some(at)) => {
                sleep_until(at).await;
                let part = self.heard.take(self.shared.clock.now(), TAKE);
                self.flush = Some(self.store(part));
                true
            }
            (None, None) => std::future::pending().await,
        }
    }

    /// What is left travels with the report, unless it is too much for that, or something stored goes.
    pub(super) async fn finish(self, rest: Part) -> Vec<Chunk> {
        let size: usize = rest.0.iter().map(|c| c.bytes.len()).sum();
        if size <= INLINE_OUTPUT && rest.1.is_none() {
            return rest.0;
        }
        let _ = self.store(rest).await;
        Vec::new()
    }

    /// Stores chunks, and then says what of all that is stored goes; false when the fence is old.
    fn store(&self, (chunks, cut): Part) -> JoinHandle<bool> {
        let (shared, fence) = (Arc::clone(&self.shared), self.fence);
        let flush = async move {
            let mut parts = parts(chunks);
            if parts.is_empty() && cut.is_some() {
                parts.push(Vec::new());
            }
            let last = parts.len().saturating_sub(1);
            for (index, chunks) in parts.into_iter().enumerate() {
                let cut = cut.filter(|_| index == last);
                match shared.persist(&AppendOutput { worker: shared.config.key.clone(), fence, chunks, cut }).await {
                    Ok(Appended::Stale) => return false,
                    Ok(Appended::Stored) => {}
                    Err(e) => warn!("output is lost: {e}"),
                }
            }
            true
        };
        tokio::spawn(flush.in_current_span())
    }
}

/// Splits chunks so that each part is about [`APPEND`] bytes.
fn parts(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let mut parts: Vec<Vec<Chunk>> = Vec::new();
    let mut room = 0;
    for chunk in chunks {
        match parts.last_mut() {
            Some(part) if room >= chunk.bytes.len() => {
                room -= chunk.bytes.len();
                part.push(chunk);
            }
            _ => {
                room = APPEND.saturating_sub(chunk.bytes.len());
                parts.push(vec![chunk]);
            }
        }
    }
    parts
}
