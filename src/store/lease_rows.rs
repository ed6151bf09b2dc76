//! What a store says of leases to those who do not hold them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::{Number, WorkerId};
use crate::time::Span;

/// Who holds the lease of a job, and for how long it lasts unless it is renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holding {
    /// The job.
    pub number: Number,
    /// The worker.
    pub worker: WorkerId,
    /// Its name.
    pub name: String,
    /// Its machine; none where the worker is not known any more.
    pub host: Option<String>,
    /// What is left of the lease; nothing once it is over.
    pub remains: Span,
    /// How long it lasts from a renewal on.
    pub ttl: Span,
}

impl Holding {
    /// Whether its holder does not renew it: one that lives does so every third of its time, and never lets it fall under
    /// a half.
    pub fn is_neglected(&self) -> bool {
        self.remains.as_millis() < self.ttl.as_millis() / 2
    }
}
