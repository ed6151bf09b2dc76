//! The end of the audit trail, read and written down once for all who follow it.
//!
//! A thousand readers that each asked the store after each commit would leave it no time for anything else.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::body::Bytes;
use tokio::time::Instant;

use crate::engine::{Engine, Try};
use crate::error::Result;
use crate::job::Event;
use crate::ops::Caller;
use crate::ops::events::{FollowEvents, Followed};

/// Events of one read.
const BATCH: usize = 256;
/// Events that are kept for readers that are a little behind.
const KEPT: usize = 4096;

/// An event as it is sent.
pub(super) struct Line {
    pub(super) event: Event,
    text: Bytes,
    json: Range<usize>,
}

impl Line {
    fn new(event: Event) -> Arc<Self> {
        let mut text = format!("id: {}\nevent: {}\ndata: ", event.seq, event.kind);
        let start = text.len();
        text.push_str(&serde_json::to_string(&event).unwrap_or_default());
        let json = start..text.len();
        text.push_str("\n\n");
        Arc::new(Self { event, text: text.into(), json })
    }

    /// As a server-sent event.
    pub(super) fn sse(&self) -> Bytes {
        self.text.clone()
    }

    /// As JSON.
    pub(super) fn json(&self) -> Bytes {
        self.text.slice(self.json.clone())
    }
}

/// The ends of the trail that somebody follows: those of one tenant see less of it than others.
#[derive(Default)]
pub(super) struct Trails(Mutex<HashMap<Option<String>, Weak<Trail>>>);

impl Trails {
    /// The trail as `caller` may see it.
    pub(super) fn of(&self, engine: &Arc<Engine>, caller: &Arc<Caller>) -> Arc<Trail> {
        let mut trails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trail) = trails.get(&caller.tenant).and_then(Weak::upgrade) {
            return trail;
        }
        trails.retain(|_, trail| trail.strong_count() > 0);
        let trail = Arc::new(Trail {
            engine: Arc::clone(engine),
            caller: Arc::clone(caller),
            end: tokio::sync::Mutex::default(),
        });
        trails.insert(caller.tenant.clone(), Arc::downgrade(&trail));
        trail
    }
}

/// The end of the trail.
pub(super) struct Trail {
    engine: Arc<Engine>,
    caller: Arc<Caller>,
    end: tokio::sync::Mutex<End>,
}

/// All events after `floor` up to `to`.
#[derive(Default)]
struct End {
    floor: i64,
    to: i64,
    lines: VecDeque<Arc<Line>>,
    /// When a reading began that found nothing after them.
    looked_at: Option<Instant>,
}

/// Some events, and the place up to which they are all that a reader may see.
pub(super) struct Found {
    pub(super) lines: Vec<Arc<Line>>,
    pub(super) to: i64,
}

impl End {
    /// Those that are kept after a place; none if that lies before or behind all of them.
    fn kept(&self, after: i64) -> Option<Found> {
        let known = after >= self.floor && after < self.to;
        known.then(|| {
            let seen = self.lines.partition_point(|line| line.event.seq <= after);
            let lines: Vec<_> = self.lines.range(seen..).take(BATCH).cloned().collect();
            let last = lines.last().filter(|_| seen + lines.len() < self.lines.len());
            let to = last.map_or(self.to, |line| line.event.seq);
            Found { lines, to }
        })
    }

    /// Goes on with what was found after a place.
    fn follow(&mut self, after: i64, found: &Found) {
        if after != self.to {
            self.lines.clear(); // a reader is ahead of all others: those catch up by themselves
            self.floor = after;
        }
        self.lines.extend(found.lines.iter().cloned());
        self.to = found.to;
        while self.lines.len() > KEPT {
            self.floor = self.lines.pop_front().map_or(self.floor, |line| line.event.seq);
        }
    }
}

impl Trail {
    /// Some events after a place, oldest first; it goes on to that place only where there was nothing at `since`.
    ///
    /// # Errors
    /// When the trail cannot be read.
    pub(super) async fn after(&self, after: i64, since: Instant) -> Result<Found> {
        let mut end = self.end.lock().await;
        if let Some(found) = end.kept(after) {
            return Ok(found);
        }
        if after < end.to {
            drop(end);
            return self.read(after).await;
        }
        if after == end.to && end.looked_at.is_some_and(|at| at >= since) {
            return Ok(Found { lines: Vec::new(), to: after });
        }
        let looked_at = Instant::now();
        let found = self.read(after).await?;
        if found.to > after {
            end.follow(after, &found);
            end.looked_at = None;
        } else if after == end.to {
            end.looked_at = Some(looked_at);
        }
        Ok(found)
    }

    /// Where the trail ends now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn end(&self) -> Result<i64> {
        Ok(self.ask(None).await?.to)
    }

    async fn read(&self, after: i64) -> Result<Found> {
        let Followed { events, to } = self.ask(Some(after)).await?;
        Ok(Found { lines: events.into_iter().map(Line::new).collect(), to })
    }

    async fn ask(&self, after: Option<i64>) -> Result<Followed> {
        self.engine.call_as(Arc::clone(&self.caller), FollowEvents { after, limit: BATCH }, Try::First).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::EventKind;
    use crate::time::Timestamp;

    fn line(seq: i64) -> Arc<Line> {
        let (at, data) = (Timestamp(0), serde_json::Value::Null);
        let kind = EventKind::Hidden;
        Line::new(Event { seq, at, kind, job_id: None, number: None, attempt: None, worker: None, actor: None, data })
    }

    fn found(places: impl IntoIterator<Item = i64>, to: i64) -> Found {
        Found { lines: places.into_iter().map(line).collect(), to }
    }

    fn places(found: Option<Found>) -> Option<(Vec<i64>, i64)> {
        found.map(|found| (found.lines.iter().map(|line| line.event.seq).collect(), found.to))
    }

    #[test]
    fn what_was_read_is_there_for_others_but_for_those_who_are_too_far_behind_or_ahead() {
        let mut end = End::default();
        assert_eq!(places(end.kept(0)), None);
        end.follow(0, &found([3, 4, 7], 7));
        assert_eq!(places(end.kept(0)), Some((vec![3, 4, 7], 7)));
        assert_eq!(places(end.kept(3)), Some((vec![4, 7], 7)));
        assert_eq!(places(end.kept(5)), Some((vec![7], 7)), "a place between two");
        assert_eq!(places(end.kept(7)), None, "nobody knows what is after it");
        assert_eq!(places(end.kept(9)), None);
        // Those of others are passed though there is nothing to tell of them.
        end.follow(7, &found([], 20));
        assert_eq!(places(end.kept(7)), Some((vec![], 20)));
        end.follow(20, &found([21], 25));
        assert_eq!(places(end.kept(4)), Some((vec![7, 21], 25)));
        end.follow(100, &found([101], 101));
        assert_eq!(places(end.kept(7)), None, "there may be others between");
        assert_eq!(places(end.kept(100)), Some((vec![101], 101)));
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        let mut end = End::default();
        let most = i64::try_from(KEPT).unwrap();
        for seq in 1..=most + 10 {
            end.follow(seq - 1, &found([seq], seq));
        }
        assert_eq!(end.lines.len(), KEPT);
        assert_eq!(places(end.kept(9)), None);
        let some = end.kept(10).unwrap();
        assert_eq!((some.lines.len(), some.to), (BATCH, 10 + i64::try_from(BATCH).unwrap()));
    }

    #[test]
    fn an_event_is_written_once_for_both_ways_of_sending_it() {
        let line = line(5);
        let (sse, json) = (line.sse(), line.json());
        let (sse, json) = (std::str::from_utf8(&sse).unwrap(), std::str::from_utf8(&json).unwrap());
        assert_eq!(sse, format!("id: 5\nevent: hidden\ndata: {json}\n\n"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(json).unwrap()["seq"], 5);
    }
}
