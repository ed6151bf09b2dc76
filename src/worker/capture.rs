//! Keeps what an attempt writes, up to a cap (S28): the first half as live chunks, the last half in a ring.
//!
//! Memory stays below the cap + 128 KiB however the bytes arrive, one at a time from both streams by turns included:
//! when chunks become too many, the older half of them is merged by stream. That keeps the order within each stream
//! and loosens only the order between them.

use std::collections::VecDeque;
use std::mem;

use crate::job::output::{Chunk, Stream};
use crate::time::Timestamp;

/// The cap if nobody says otherwise, in bytes over both streams.
pub const DEFAULT_CAP: u64 = 10 * 1024 * 1024;
/// No chunk is larger, in bytes.
pub const MAX_CHUNK: usize = 64 * 1024;

/// Chunks of one half before the older ones are merged; 512 of them cost some 40 KiB beside their bytes.
const MAX_PIECES: usize = 512;
/// How a piece grows, in bytes. Doubling would leave up to half of it unused.
const GROWTH: usize = 8 * 1024;
/// Bytes cut off a piece's front before it is moved down.
const MAX_FRONT: usize = 16 * 1024;

/// The output of one attempt.
#[derive(Debug)]
pub struct Capture {
    head_room: u64,
    tail_cap: usize,
    live: Pieces,
    tail: Pieces,
    next_seq: u32,
    total: u64,
    dropped: u64,
    last_at: Timestamp,
}

impl Capture {
    /// Keeps at most `cap` bytes of both streams together; see [`DEFAULT_CAP`].
    pub fn new(cap: u64) -> Self {
        let head_room = cap / 2;
        Self {
            head_room,
            tail_cap: usize::try_from(cap - head_room).unwrap_or(usize::MAX),
            live: Pieces::default(),
            tail: Pieces::default(),
            next_seq: 0,
            total: 0,
            dropped: 0,
            last_at: Timestamp(0),
        }
    }

    /// Takes bytes in reading order, read at `at`.
    pub fn push(&mut self, stream: Stream, at: Timestamp, bytes: &[u8]) {
        self.total = self.total.saturating_add(len(bytes));
        self.last_at = at;
        let room = usize::try_from(self.head_room).unwrap_or(usize::MAX);
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head_room -= len(head);
        self.live.append(stream, at, head);
        self.push_tail(stream, at, rest);
    }

    fn push_tail(&mut self, stream: Stream, at: Timestamp, bytes: &[u8]) {
        // What would be pushed out again at once is not copied in.
        let (skipped, kept) = bytes.split_at(bytes.len().saturating_sub(self.tail_cap));
        let room = self.tail_cap - kept.len();
        let pushed_out = self.tail.bytes.saturating_sub(room);
        self.tail.drop_oldest(pushed_out);
        self.tail.append(stream, at, kept);
        let lost = skipped.len().saturating_add(pushed_out);
        self.dropped = self.dropped.saturating_add(u64::try_from(lost).unwrap_or(u64::MAX));
    }

    /// Takes out the live chunks there are, oldest first; to be stored while the attempt runs.
    pub fn take_live(&mut self) -> Vec<Chunk> {
        let pieces = self.live.take();
        self.number(pieces, 0)
    }

    /// Live bytes not yet taken out.
    pub fn unsent_bytes(&self) -> usize {
        self.live.bytes
    }

    /// Bytes dropped so far between the first half and the last.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes pushed so far, dropped ones included.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Ends the capture: the live chunks left, then the last half, whose first chunk tells the bytes dropped before it.
    ///
    /// If bytes were dropped and none kept after them, as with a cap of 0, an empty chunk carries the mark.
    pub fn finish(mut self) -> Vec<Chunk> {
        let mut chunks = self.take_live();
        let mut tail = self.tail.take();
        if tail.is_empty() && self.dropped > 0 {
            tail.push_back(Piece::new(Stream::Stdout, self.last_at));
        }
        chunks.extend(self.number(tail, self.dropped));
        chunks
    }

    /// Gives chunks their numbers, and the first of them the gap.
    fn number(&mut self, pieces: VecDeque<Piece>, mut gap: u64) -> Vec<Chunk> {
        let number = |piece: Piece| {
            let seq = self.next_seq;
            self.next_seq = self.next_seq.saturating_add(1);
            Chunk { seq, stream: piece.stream, at: piece.at, gap: mem::take(&mut gap), bytes: piece.into_bytes() }
        };
        pieces.into_iter().map(number).collect()
    }
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A run of bytes of one stream, a chunk to be.
#[derive(Debug)]
struct Piece {
    stream: Stream,
    at: Timestamp,
    /// Bytes of the front already dropped.
    front: usize,
    bytes: Vec<u8>,
}

impl Piece {
    fn new(stream: Stream, at: Timestamp) -> Self {
        Self { stream, at, front: 0, bytes: Vec::new() }
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.front
    }

    /// Adds what there is room for and returns the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = MAX_CHUNK.saturating_sub(self.bytes.len());
        let (taken, rest) = bytes.split_at(room.min(bytes.len()));
        let spare = self.bytes.capacity() - self.bytes.len();
        if taken.len() > spare {
            // The first bytes of a piece get their exact place: pieces of a few bytes may be many.
            let growth = if self.bytes.is_empty() { 0 } else { GROWTH };
            let wanted = taken.len().max(growth).min(room);
            self.bytes.reserve_exact(wanted);
        }
        self.bytes.extend_from_slice(taken);
        rest
    }

    fn drop_front(&mut self, count: usize) {
        self.front += count;
        if self.front >= MAX_FRONT {
            self.bytes.drain(..self.front);
            self.bytes.shrink_to_fit();
            self.front = 0;
        }
    }

    fn live_bytes(&self) -> &[u8] {
        self.bytes.get(self.front..).unwrap_or_default()
    }

    fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.drain(..self.front);
        self.bytes.shrink_to_fit();
        self.bytes
    }
}

/// Pieces in reading order.
#[derive(Debug, Default)]
struct Pieces {
    queue: VecDeque<Piece>,
    /// Bytes in them all.
    bytes: usize,
}

impl Pieces {
    fn append(&mut self, stream: Stream, at: Timestamp, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            match self.queue.back_mut() {
                Some(last) if last.stream == stream && last.bytes.len() < MAX_CHUNK => {
                    bytes = last.fill(bytes);
                }
                last => {
                    if let Some(last) = last {
                        last.bytes.shrink_to_fit();
                    }
                    self.make_room();
                    self.queue.push_back(Piece::new(stream, at));
                }
            }
        }
    }

    /// Drops this many of the oldest bytes.
    fn drop_oldest(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(first) = self.queue.front_mut() {
            if first.len() > count {
                first.drop_front(count);
                return;
            }
            count -= first.len();
            self.queue.pop_front();
        }
    }

    fn take(&mut self) -> VecDeque<Piece> {
        mem::take(self).queue
    }

    /// Merges the older half by stream when there are too many pieces.
    fn make_room(&mut self) {
        if self.queue.len() < MAX_PIECES.max(self.full_pieces()) {
            return;
        }
        let newer = self.queue.split_off(self.queue.len() / 2);
        let older = mem::replace(&mut self.queue, VecDeque::with_capacity(MAX_PIECES));
        let mut open: [Option<Piece>; 2] = [None, None];
        for piece in older {
            let slot = match piece.stream {
                Stream::Stdout => 0,
                Stream::Stderr => 1,
            };
            self.merge(&mut open[slot], &piece);
        }
        let mut open: Vec<Piece> = open.into_iter().flatten().collect();
        open.sort_by_key(|piece| piece.at);
        self.queue.extend(open);
        self.queue.extend(newer);
    }

    /// Adds a piece to the open one of its stream, which goes to the queue when it is full.
    fn merge(&mut self, open: &mut Option<Piece>, piece: &Piece) {
        let mut rest = piece.live_bytes();
        while !rest.is_empty() {
            let target = open.get_or_insert_with(|| Piece::new(piece.stream, piece.at));
            rest = target.fill(rest);
            if !rest.is_empty() {
                self.queue.extend(open.take());
            }
        }
    }

    /// How many pieces these bytes would fill twice over: with so many, merging gains little.
    fn full_pieces(&self) -> usize {
        self.bytes / MAX_CHUNK * 2
    }
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
