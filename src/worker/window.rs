//! What is in the store of an output that is longer than its cap, beyond the first half, while the attempt runs (S28).
//!
//! The last half is kept always. What came before it goes when it is old, or when there is much of it, so that whoever
//! follows has the time to read it.

use std::collections::VecDeque;

use crate::job::output::{Chunk, Cut};
use crate::time::{Span, Timestamp};

/// How long whoever follows has to read what is stored.
const YOUNG: Span = Span::from_secs(10);
/// How much may be there because it is young, in caps.
const MOST: u64 = 4;
/// How many parts the last half is divided into: what goes, goes in whole parts.
const PARTS: u64 = 128;

/// The part of an output beyond its first half that is in the store.
#[derive(Debug)]
pub(super) struct Window {
    /// The last half, in bytes.
    half: u64,
    /// The most that is there, in bytes.
    most: u64,
    /// From the oldest on.
    parts: VecDeque<Part>,
    /// The first chunk that may be there.
    from: u32,
}

/// Chunks that go together.
#[derive(Debug)]
struct Part {
    /// The first of them, and its place.
    seq: u32,
    place: u64,
    end: u64,
    /// When the last of them was stored.
    at: Timestamp,
}

impl Window {
    /// That of an output with this cap, whose last half has `half` bytes.
    pub(super) fn new(cap: u64, half: u64) -> Self {
        Self { half, most: cap.saturating_mul(MOST), parts: VecDeque::new(), from: 0 }
    }

    /// These are being stored now.
    pub(super) fn add(&mut self, chunks: &[Chunk], now: Timestamp) {
        if let (true, Some(first)) = (self.parts.is_empty(), chunks.first()) {
            self.from = first.seq;
        }
        for chunk in chunks {
            match self.parts.back_mut() {
                Some(part) if part.end.saturating_sub(part.place) < self.half / PARTS => {
                    (part.end, part.at) = (chunk.end(), now);
                }
                _ => {
                    let part = Part { seq: chunk.seq, place: chunk.place, end: chunk.end(), at: now };
                    self.parts.push_back(part);
                }
            }
        }
    }

    /// What goes now, where the output is `end` bytes long.
    pub(super) fn shrink(&mut self, end: u64, now: Timestamp) -> Option<Cut> {
        let from = self.from;
        while let (Some(first), Some(second)) = (self.parts.front(), self.parts.get(1)) {
            let is_last_half = first.end.saturating_add(self.half) > end;
            let is_much = end.saturating_sub(first.place) > self.most;
            if is_last_half || !(is_much || now.since(first.at) > YOUNG) {
                break;
            }
            self.from = second.seq;
            self.parts.pop_front();
        }
        let first = self.parts.front().filter(|first| first.seq == self.from && self.from > from)?;
        Some(Cut { from, below: first.seq, to: first.place })
    }

    /// What goes at the end, where the output is `end` bytes long and its next chunk were `next`: all but the last half.
    pub(super) fn close(self, end: u64, next: u32) -> Option<Cut> {
        let to = end.saturating_sub(self.half);
        self.parts.front().filter(|first| first.place < to)?;
        let below = self.parts.iter().find(|part| part.place >= to).map_or(next, |part| part.seq);
        Some(Cut { from: self.from, below, to })
    }
}
