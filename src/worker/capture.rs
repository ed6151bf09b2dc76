//! Keeps what an attempt writes, up to a cap (S28): the first half as live chunks, the last half in a ring. Where others
//! are to read it all while it comes, the ring is emptied into the store again and again, and `window.rs` says what of
//! that goes.
//!
//! Memory stays below the cap + 128 KiB however the bytes arrive, one at a time from both streams by turns included:
//! when chunks become too many, the older half of them is merged by stream. That keeps the order within each stream
//! and loosens only the order between them.

use std::collections::VecDeque;
use std::mem;

use super::pump::TURN;
use super::window::Window;
use crate::job::output::{Chunk, Cut, Stream};
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

/// When the output beyond the first half is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// As it comes, so that whoever follows can read it.
    Live,
    /// At the end, the last half of it: who wants all is given it otherwise.
    AtEnd,
}

/// Chunks that are to be stored, and what is kept no more of those that are.
pub type Part = (Vec<Chunk>, Option<Cut>);

/// The output of one attempt.
#[derive(Debug)]
pub struct Capture {
    head_room: u64,
    tail_cap: usize,
    live: Pieces,
    tail: Pieces,
    /// What of the tail is stored; none: that is done at the end.
    window: Option<Window>,
    next_seq: u32,
    /// The place after the last chunk that was taken out.
    taken: u64,
    total: u64,
    last_at: Timestamp,
}

impl Capture {
    /// Keeps at most `cap` bytes of both streams together; see [`DEFAULT_CAP`].
    pub fn new(cap: u64, beyond: Beyond) -> Self {
        let head_room = cap / 2;
        let half = cap - head_room;
        Self {
            head_room,
            tail_cap: usize::try_from(half).unwrap_or(usize::MAX),
            live: Pieces::default(),
            tail: Pieces::default(),
            window: (beyond == Beyond::Live).then(|| Window::new(cap, half)),
            next_seq: 0,
            taken: 0,
            total: 0,
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
        let (_, kept) = bytes.split_at(bytes.len().saturating_sub(self.tail_cap));
        let room = self.tail_cap - kept.len();
        self.tail.drop_oldest(self.tail.bytes.saturating_sub(room));
        self.tail.append(stream, at, kept);
    }

    /// Takes out what is to be stored now, while the attempt runs, oldest first, and about `most` bytes of it.
    pub fn take(&mut self, now: Timestamp, most: usize) -> Part {
        let mut chunks = self.take_live(most);
        let taken: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        if self.live.bytes > 0 {
            return (chunks, None);
        }
        let Some(mut window) = self.window.take() else { return (chunks, None) };
        let tail = self.take_tail(most.saturating_sub(taken));
        window.add(&tail, now);
        let cut = window.shrink(self.taken, now);
        self.window = Some(window);
        chunks.extend(tail);
        (chunks, cut)
    }

    fn take_live(&mut self, most: usize) -> Vec<Chunk> {
        let pieces = self.live.take(most);
        self.number(pieces)
    }

    fn take_tail(&mut self, most: usize) -> Vec<Chunk> {
        // It is the end of all that there was; what came before it was taken out, or is lost.
        self.taken = self.total - u64::try_from(self.tail.bytes).unwrap_or(u64::MAX).min(self.total);
        let pieces = self.tail.take(most);
        self.number(pieces)
    }

    /// Bytes that [`Capture::take`] would take out.
    pub fn unsent_bytes(&self) -> usize {
        self.live.bytes + if self.window.is_some() { self.tail.bytes } else { 0 }
    }

    /// Whether much waits to be taken out, and what comes would soon be lost. With a small cap nothing helps against that.
    pub fn is_pressed(&self) -> bool {
        self.window.is_some() && self.tail_cap >= 2 * TURN && self.tail.bytes > self.tail_cap / 2
    }

    /// Bytes pushed so far, dropped ones included.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Ends the capture: what is left to be stored, and what goes so that only the halves are kept.
    ///
    /// If nothing is kept of the end, as with a cap of 0, an empty chunk tells how much there was.
    pub fn finish(mut self) -> Part {
        let mut chunks = self.take_live(usize::MAX);
        let mut tail = self.take_tail(usize::MAX);
        if tail.is_empty() && self.tail_cap == 0 && self.total > 0 {
            tail = self.number([Piece::new(Stream::Stdout, self.last_at)].into());
        }
        let cut = self.window.take().and_then(|mut window| {
            window.add(&tail, self.last_at);
            window.close(self.total, self.next_seq)
        });
        chunks.extend(tail);
        (chunks, cut)
    }

    /// Gives chunks their numbers and places.
    fn number(&mut self, pieces: VecDeque<Piece>) -> Vec<Chunk> {
        let number = |piece: Piece| {
            let (seq, place, stream, at) = (self.next_seq, self.taken, piece.stream, piece.at);
            let chunk = Chunk { seq, stream, at, place, bytes: piece.into_bytes() };
            self.next_seq = self.next_seq.saturating_add(1);
            self.taken = chunk.end();
            chunk
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

    /// Takes the oldest pieces, and no more of them than it needs for `most` bytes.
    fn take(&mut self, most: usize) -> VecDeque<Piece> {
        if self.bytes <= most {
            return mem::take(self).queue;
        }
        let mut taken = 0;
        let fits = |len: &usize| {
            let before = taken;
            taken += len;
            before < most
        };
        let count = self.queue.iter().map(Piece::len).take_while(fits).count();
        let newer = self.queue.split_off(count);
        let older = mem::replace(&mut self.queue, newer);
        self.bytes -= older.iter().map(Piece::len).sum::<usize>();
        older
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
