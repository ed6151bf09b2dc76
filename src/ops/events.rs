//! The audit trail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, Caller, Op, Scopes, tenancy};
use crate::error::Result;
use crate::job::Event;
use crate::store::Tx;

/// Reads events after a place in the trail, oldest first; nothing only at its end.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReadEvents {
    /// The last one seen.
    pub after: i64,
    /// At most so many; at most [`MAX_EVENTS`].
    pub limit: usize,
}

/// The most events of one call.
pub const MAX_EVENTS: usize = 1000;

impl Op for ReadEvents {
    type Reply = Vec<Event>;
    const NAME: &'static str = "read_events";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        tenancy::events(caller, tx, self.after, self.limit.clamp(1, MAX_EVENTS))
    }
}
