//! Workers, as they present themselves and as others see them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::lanes::Offer;
use crate::job::{Number, SecretHash, WorkerId};
use crate::time::Timestamp;

/// A worker as it presents itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NewWorker {
    /// The id of this life of it.
    pub id: WorkerId,
    /// Its name, unique on its host.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// What it serves.
    pub offer: Offer,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The version of orx.
    pub version: String,
    /// Whether it runs one job of its own only (`orx run`).
    pub solo: bool,
}

/// A worker as whoever asks who it is sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownWorker {
    /// Its name.
    pub name: String,
    /// The machine that it runs on.
    pub host: String,
    /// The only tenant whose jobs it runs; none: all.
    pub tenant: Option<String>,
    /// The hash of the secret that it registered with.
    pub secret: SecretHash,
}

impl KnownWorker {
    /// One with this offer, which may be one that cannot be read.
    pub(super) fn new(name: String, host: String, offer: &[u8], secret: SecretHash) -> Self {
        let Offer { tenant, .. } = serde_json::from_slice(offer).unwrap_or_default();
        Self { name, host, tenant, secret }
    }
}

/// A worker as users see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md
pub struct Worker {
    pub id: WorkerId,
    pub name: String,
    pub host: String,
    pub pid: u32,
    pub state: WorkerState,
    pub queues: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub handlers: Vec<String>,
    pub slots: u32,
    pub running: Vec<Number>,
    pub version: String,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    #[serde(default)]
    pub solo: bool,
    /// Why it starts no jobs, or fewer than it has slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The only tenant it serves; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Takes jobs.
    Active,
    /// Takes no more.
    Draining,
    /// Its heartbeat has ended.
    Lost,
}

impl WorkerState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerState::Active => "active",
            WorkerState::Draining => "draining",
            WorkerState::Lost => "lost",
        }
    }
}
