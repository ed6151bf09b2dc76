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
        let (mut events, to) = tenancy::events(caller, tx, self.after, self.limit.clamp(1, MAX_EVENTS))?;
        // Where there are thousands of others the reader is not to look at them again. At the end of the trail, it is: that
        // there are some now is nothing for it.
        if events.is_empty() && to > self.after && !tx.events(to, 1)?.is_empty() {
            events.push(tenancy::hidden(to, tx.now()));
        }
        Ok(events)
    }
}

/// Reads on in the trail, for those whom the coordinator tells of it. It is no route: where it got to says how much others
/// do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct FollowEvents {
    /// The place up to which all was read; none: the end of the trail.
    pub after: Option<i64>,
    /// At most so many; at most [`MAX_EVENTS`].
    pub limit: usize,
}

/// What was found in the trail.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Followed {
    /// What the caller may see, oldest first.
    pub events: Vec<Event>,
    /// The place up to which that is all; where it began only at the end of the trail.
    pub to: i64,
}

impl Op for FollowEvents {
    type Reply = Followed;
    const NAME: &'static str = "follow_events";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let Some(after) = self.after else { return Ok(Followed { events: Vec::new(), to: end(tx)? }) };
        let (events, to) = tenancy::events(caller, tx, after, self.limit.clamp(1, MAX_EVENTS))?;
        Ok(Followed { events, to })
    }
}

/// The end of the trail: the first place behind which there is nothing.
fn end(tx: &mut dyn Tx) -> Result<i64> {
    let (mut low, mut high) = (0, 1);
    while !tx.events(high, 1)?.is_empty() {
        (low, high) = (high, high.saturating_mul(2));
    }
    while low < high {
        let middle = low + (high - low) / 2;
        match tx.events(middle, 1)?.is_empty() {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Ok(low)
}
