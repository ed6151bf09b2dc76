//! What nodes of a cluster show in a table, and things that are at one of them.

use serde::Serialize;

use super::words::{relative, took};
use super::{Row, Text, Tone};
use crate::job::Job;
use crate::ops::nodes::{NodeView, Role};
use crate::ops::status::StatusReply;
use crate::store::{PeerNode, PeerState};
use crate::time::Timestamp;

/// Something with the node at which it is.
#[derive(Serialize)]
pub(in crate::cli) struct Placed<T> {
    pub(in crate::cli) node: String,
    #[serde(flatten)]
    pub(in crate::cli) item: T,
}

impl Row for Placed<Job> {
    const HEADERS: &'static [&'static str] =
        &["NODE", "JOB", "STATE", "QUEUE", "NAME", "AGE", "TOOK", "COMMAND", "NOTE"];

    fn id(&self) -> String {
        self.item.id()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let mut cells = vec![Text::new(&self.node)];
        cells.extend(self.item.cells(now));
        cells
    }
}

impl Row for Placed<&StatusReply> {
    const HEADERS: &'static [&'static str] = &["NODE", "QUEUES", "WORKERS"];

    fn id(&self) -> String {
        self.node.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let counts = [self.item.queues.len(), self.item.workers.len()];
        let counts = counts.into_iter().map(|count| Text::new(count.to_string()));
        [Text::new(&self.node)].into_iter().chain(counts).collect()
    }
}

impl Row for NodeView {
    const HEADERS: &'static [&'static str] = &["NODE", "ROLE", "EPOCH", "AGE", "SEEN", "LOAD", "ADDRESS", "VERSION"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let role = match self.role {
            _ if self.draining => Text::toned("draining", Tone::Waiting),
            Role::Leader => Text::toned("leader", Tone::Good),
            Role::Follower => Text::new("follower"),
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        vec![
            Text::new(&self.name),
            role,
            Text::new(or_none(self.epoch.map(|n| n.to_string()))),
            Text::dim(took(Some(self.started_at), None, now)),
            Text::dim(relative(self.heartbeat_at, now)),
            Text::new(or_none(self.load.map(|n| format!("{n:.2}")))),
            Text::new(or_none(self.address.clone())),
            Text::dim(&self.version),
        ]
    }
}

impl Row for PeerNode {
    const HEADERS: &'static [&'static str] =
        &["PEER", "STATE", "SINCE", "AGE", "FREE", "WAITING", "LOAD", "CLOCK", "KEY", "ADDRESS", "VERSION"];

    fn id(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let state = match self.state {
            PeerState::Live => Text::toned("live", Tone::Good),
            PeerState::Draining => Text::toned("draining", Tone::Waiting),
            PeerState::Gone => Text::toned("gone", Tone::Bad),
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        // A word is on its way for a second or so: less says nothing of the clock.
        let clock = self.clock_skew.map(|skew| if skew.abs() < 2.0 { "0s".into() } else { format!("{skew:+.0}s") });
        vec![
            Text::new(&self.name),
            state,
            Text::dim(relative(self.since, now)),
            Text::dim(self.started_at.map(|at| took(Some(at), None, now)).unwrap_or_default()),
            Text::new(format!("{} of {}", self.free, self.slots)),
            Text::new(self.pending.to_string()),
            Text::new(or_none(self.load.map(|n| format!("{n:.2}")))),
            Text::new(or_none(clock)),
            Text::dim(or_none(self.key.clone())),
            Text::new(or_none(self.url.clone())),
            Text::dim(&self.version),
        ]
    }
}
