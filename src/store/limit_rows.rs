//! Rows about what queues, tenants and named limits allow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{Span, Timestamp};

/// Limits of a queue or tenant; none where there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md
pub struct Limits {
    pub max_running: Option<u32>,
    pub max_queued: Option<u32>,
    pub per_minute: Option<u32>,
    pub max_payload: Option<u32>,
}

/// What a tenant may and has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// What it may.
    pub limits: Limits,
    /// Its jobs that have not finished.
    pub queued: i64,
    /// Those of them that run.
    pub running: i64,
}

/// How many running jobs of a tenant may share a key (S16).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamedLimit {
    /// Whose it is.
    pub tenant: String,
    /// What they share.
    pub key: String,
    /// How many may run.
    pub max_running: u32,
    /// How many do.
    pub running: i64,
}

/// What a queue or tenant admits, and how much of it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// `queue` or `tenant`.
    pub scope: &'static str,
    /// Its name.
    pub name: String,
    /// How many jobs may be queued.
    pub max_queued: Option<u32>,
    /// How many are; 0 where there is no limit.
    pub queued: u32,
    /// How many may be submitted in [`RATE_WINDOW`].
    pub per_minute: Option<u32>,
    /// How many were in the one that ends now; 0 where there is no limit.
    pub submitted: u32,
    /// When the first of them was.
    pub first_at: Option<Timestamp>,
    /// How large a payload or input may be, in bytes.
    pub max_payload: Option<u32>,
}

/// Over which time submissions are counted; the window slides.
pub const RATE_WINDOW: Span = Span::from_secs(60);

/// The tenant whose limits new tenants get; no job can be of it.
pub const NEW_TENANTS: &str = "*";
