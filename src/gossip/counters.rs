//! What was refused and what went by: always counted, said once a minute at most.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

/// How often one kind of refusal is said.
pub const SAY_EVERY: Duration = Duration::from_secs(60);

/// Why something from a peer, or for one, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A connection came while as many were open as may be.
    TooManyConnections,
    /// A connection did not finish its handshake in time.
    HandshakeTimedOut,
    /// Whoever connected does not hold the cluster key, or has another cluster label.
    WrongKey,
    /// A peer hung up during our handshake: it holds another cluster key, or has another label.
    RefusedByPeer,
    /// A peer did not introduce itself in a way that is understood.
    BadHello,
    /// A peer speaks only a newer protocol.
    NewerProtocol,
    /// A frame was not sealed by the peer for this place in the stream: changed, replayed or out of order.
    Forged,
    /// A frame said that it is longer than frames may be.
    FrameTooLong,
    /// A sealed message makes no sense, or would unpack to far too much.
    Malformed,
    /// A message names more nodes than a cluster may have.
    TooManyNodes,
    /// A node has more values than a node may have.
    TooManyValues,
    /// A message of ours is longer than frames may be.
    MessageTooLong,
    /// A queue was full, and a message dropped.
    QueueFull,
    /// A peer said nothing for so long that its connection was given up.
    Silent,
    /// Two processes gossip under one node id.
    SameId,
    /// A node that is banned came, or was spoken of.
    Banned,
    /// The token of a node's worker came after its end.
    ExpiredToken,
    /// A peer says that it is reached where nobody can reach it.
    BadAddress,
    /// A peer's API does not answer where it says that it is.
    Unreachable,
    /// A peer said that jobs wait for us, and there were none.
    NothingThere,
    /// A connection led back to this process.
    OwnAddress,
    /// The name of a peer did not resolve, or the list of peers was not readable.
    Unresolved,
    /// The gossip itself ended and was started again.
    Restarted,
}

impl Refusal {
    /// All of them, in the order of their definition.
    pub const ALL: [Refusal; 23] = [
        Refusal::TooManyConnections,
        Refusal::HandshakeTimedOut,
        Refusal::WrongKey,
        Refusal::RefusedByPeer,
        Refusal::BadHello,
        Refusal::NewerProtocol,
        Refusal::Forged,
        Refusal::FrameTooLong,
        Refusal::Malformed,
        Refusal::TooManyNodes,
        Refusal::TooManyValues,
        Refusal::MessageTooLong,
        Refusal::QueueFull,
        Refusal::Silent,
        Refusal::SameId,
        Refusal::Banned,
        Refusal::ExpiredToken,
        Refusal::BadAddress,
        Refusal::Unreachable,
        Refusal::NothingThere,
        Refusal::OwnAddress,
        Refusal::Unresolved,
        Refusal::Restarted,
    ];

    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::TooManyConnections => "too_many_connections",
            Refusal::HandshakeTimedOut => "handshake_timed_out",
            Refusal::WrongKey => "wrong_key",
            Refusal::RefusedByPeer => "refused_by_peer",
            Refusal::BadHello => "bad_hello",
            Refusal::NewerProtocol => "newer_protocol",
            Refusal::Forged => "forged",
            Refusal::FrameTooLong => "frame_too_long",
            Refusal::Malformed => "malformed",
            Refusal::TooManyNodes => "too_many_nodes",
            Refusal::TooManyValues => "too_many_values",
            Refusal::MessageTooLong => "message_too_long",
            Refusal::QueueFull => "queue_full",
            Refusal::Silent => "silent",
            Refusal::SameId => "same_id",
            Refusal::Banned => "banned",
            Refusal::ExpiredToken => "expired_token",
            Refusal::BadAddress => "bad_address",
            Refusal::Unreachable => "unreachable",
            Refusal::NothingThere => "nothing_there",
            Refusal::OwnAddress => "own_address",
            Refusal::Unresolved => "unresolved",
            Refusal::Restarted => "restarted",
        }
    }

    /// Whether nobody needs to hear of it.
    fn is_ordinary(self) -> bool {
        matches!(self, Refusal::OwnAddress | Refusal::QueueFull | Refusal::NothingThere)
    }
}

/// What went over the wire, sealed and framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Connections on which a peer has shown the key, ever.
    pub connections: u64,
}

/// Everything that a member counts.
#[derive(Debug, Default)]
pub struct Counters {
    refused: [AtomicU64; Refusal::ALL.len()],
    said: Mutex<[Quiet; Refusal::ALL.len()]>,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    /// How often something was refused for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    /// All reasons with how often each was met.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().map(|why| (why, self.refused(why)))
    }

    /// What went over the wire so far.
    pub fn traffic(&self) -> Traffic {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            frames_in: of(&self.frames_in),
            frames_out: of(&self.frames_out),
            bytes_in: of(&self.bytes_in),
            bytes_out: of(&self.bytes_out),
            connections: of(&self.connections),
        }
    }

    /// Counts a refusal, and says it if that kind was not said for a minute.
    pub fn refuse(&self, why: Refusal, detail: impl fmt::Display) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        if why.is_ordinary() {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said[why as usize].hear(Instant::now());
        drop(said);
        if let Some(times) = due {
            warn!(reason = why.as_str(), times, "gossip: {detail}");
        }
    }

    pub(super) fn received(&self, bytes: usize) {
        self.frames_in.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.frames_out.fetch_add(1, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }
}

/// Decides when something that happens often is said.
#[derive(Debug, Default)]
struct Quiet {
    said_at: Option<Instant>,
    unsaid: u64,
}

impl Quiet {
    /// It happened again: how often since it was last said, if it is to be said now.
    fn hear(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said_at.is_some_and(|at| now.duration_since(at) < SAY_EVERY) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_a_minute_with_the_count() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(quiet.hear(at(0)), Some(1));
        for second in 1..60 {
            assert_eq!(quiet.hear(at(second)), None);
        }
        assert_eq!(quiet.hear(at(60)), Some(60));
        assert_eq!(quiet.hear(at(61)), None);
        assert_eq!(quiet.hear(at(500)), Some(2));
    }

    #[test]
    fn every_reason_is_counted_apart_and_has_its_own_word() {
        let counters = Counters::default();
        for (n, why) in Refusal::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| counters.refuse(why, "because"));
        }
        let words: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|why| why.as_str()).collect();
        assert_eq!(words.len(), Refusal::ALL.len());
        assert!(counters.refusals().enumerate().all(|(n, (_, times))| times == n as u64 + 1));
    }
}
