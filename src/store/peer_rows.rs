//! The nodes of a cluster as one of them sees the others.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::lanes::Needs;
use crate::time::Timestamp;

/// A node of a cluster, as another sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerNode {
    /// Its id.
    pub name: String,
    /// Whether it is there.
    pub state: PeerState,
    /// Since when it is so.
    pub since: Timestamp,
    /// Where its API is.
    pub url: Option<String>,
    /// The version of orx.
    pub version: String,
    /// When its process began.
    pub started_at: Option<Timestamp>,
    /// Its slots.
    pub slots: u32,
    /// Those of them that are free.
    pub free: u32,
    /// Jobs that wait there and that others may take.
    pub pending: u64,
    /// The machine's load over the last minute.
    pub load: Option<f64>,
    /// How many seconds its wall clock is ahead of ours, more or less.
    pub clock_skew: Option<f64>,
    /// The fingerprint of the key that it uses first.
    pub key: Option<String>,
}

/// Whether a node of a cluster is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// It is heard.
    Live,
    /// It takes no more jobs.
    Draining,
    /// It has not been heard for a while, or said good-bye.
    Gone,
}

/// A node whose jobs may be run here, by what it says and what its coordinator hands out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Home {
    /// Its id.
    pub node: String,
    /// The id of the node that helps it.
    pub helper: String,
    /// Where its API is.
    pub url: String,
    /// The token that is good there, to work and for nothing else.
    pub token: String,
    /// What waits there.
    pub waiting: Vec<Waiting>,
    /// The version of that word.
    pub version: u64,
}

impl fmt::Debug for Home {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Home({} at {}, {:?})", self.node, self.url, self.waiting)
    }
}

/// Jobs of one queue that need the same and may be leased now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// Their queue.
    pub queue: String,
    /// What they need of a worker.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub needs: Needs,
    /// How many there are; not counted further than a thousand in a lane.
    pub pending: u32,
}

fn is_nothing(needs: &Needs) -> bool {
    *needs == Needs::default()
}
