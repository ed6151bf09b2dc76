//! What a store has for other nodes of a cluster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Access, Caller, Op, Scopes, Takes};
use crate::error::Result;
use crate::job::EventKind;
use crate::job::lanes::{Lane, Needs};
use crate::job::spec::word;
use crate::store::{Home, NewEvent, Topics, Tx, Waiting};

/// Gives the jobs of a queue to other nodes too, or keeps them here.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ShareQueue {
    /// The queue; it need not exist yet.
    pub queue: String,
    /// Give, or keep. What other nodes run already they end.
    pub shared: bool,
}

impl Op for ShareQueue {
    type Reply = ();
    const NAME: &'static str = "share_queue";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        word("queue", Some(&self.queue))?;
        tx.share_queue(&self.queue, self.shared)?;
        tx.wake(Topics::WORK | Topics::JOBS);
        let data = json!({ "queue": self.queue, "shared": self.shared });
        tx.append(&[NewEvent { actor: Some(&caller.actor), data, ..NewEvent::of(EventKind::PolicyChanged) }])
    }

    fn check(&self) -> String {
        "orx queue list".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some) // once more changes nothing
    }
}

/// What waits here that other nodes may run, at most 50 kinds of it, the most first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListWaiting {}

/// How many kinds are named.
const MAX_KINDS: usize = 50;
/// How many lanes are looked at.
const MAX_LANES: usize = 1024;
/// How far the jobs of a lane are counted.
const MAX_COUNTED: u32 = 1000;

impl Op for ListWaiting {
    type Reply = Vec<Waiting>;
    const NAME: &'static str = "list_waiting";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let unshared = tx.unshared()?;
        let lanes = tx.lanes(0, MAX_LANES, MAX_COUNTED)?.into_iter();
        Ok(kinds(lanes.filter(|lane| caller.sees(&lane.tenant) && !unshared.contains(&lane.queue))))
    }
}

/// The nodes whose jobs a worker of this store may run, with the tokens for that, as its coordinators say.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListHomes {}

impl Op for ListHomes {
    type Reply = Vec<Home>;
    const NAME: &'static str = "list_homes";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        // The tokens are good for jobs of all tenants, and a node that was let in by one must not go on to the next.
        if caller.tenant.is_some() || caller.takes != Takes::All {
            return Ok(Vec::new());
        }
        let nodes = tx.nodes()?.into_iter().filter(|node| !node.lost && !node.draining);
        // Two coordinators of one store know the same nodes.
        let homes = nodes.flat_map(|node| node.homes).map(|home| (home.node.clone(), home));
        Ok(homes.collect::<BTreeMap<_, _>>().into_values().collect())
    }
}

/// Adds lanes up that differ only in what no worker cares for.
fn kinds(lanes: impl Iterator<Item = Lane>) -> Vec<Waiting> {
    let mut kinds: BTreeMap<(String, String), (Needs, u32)> = BTreeMap::new();
    // A service would stay where it once is.
    for lane in lanes.filter(|lane| !lane.needs.service) {
        let room = [lane.queue_room, lane.tenant_room, lane.key_room].into_iter().flatten().min();
        let count = lane.pending.min(room.unwrap_or(u32::MAX));
        let kind = kinds.entry((lane.queue, lane.needs.key())).or_insert((lane.needs, 0));
        kind.1 = kind.1.saturating_add(count);
    }
    let mut waiting: Vec<Waiting> =
        kinds.into_iter().map(|((queue, _), (needs, pending))| Waiting { queue, needs, pending }).collect();
    waiting.retain(|kind| kind.pending > 0);
    waiting.sort_by_key(|kind| std::cmp::Reverse(kind.pending)); // of equal ones the first by name
    waiting.truncate(MAX_KINDS);
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(queue: &str, tenant: &str, needs: &str, pending: u32) -> Lane {
        Lane {
            id: 1,
            queue: queue.into(),
            tenant: tenant.into(),
            limit_key: None,
            needs: Needs::of_key(needs),
            pending,
            queue_room: None,
            tenant_room: None,
            key_room: None,
        }
    }

    #[test]
    fn lanes_of_one_queue_and_need_are_one_kind_and_the_longest_is_first() {
        let gpu = r#"{"labels":{"gpu":"1"}}"#;
        let lanes = [
            lane("a", "x", "", 2),
            lane("b", "x", "", 4),
            lane("a", "y", "", 3),
            lane("a", "x", gpu, 1),
            lane("a", "x", r#"{"service":true}"#, 9),
            Lane { key_room: Some(0), ..lane("c", "x", "", 9) },
        ];
        let told = kinds(lanes.into_iter());
        let shown: Vec<_> = told.iter().map(|w| (w.queue.as_str(), w.needs.key(), w.pending)).collect();
        assert_eq!(shown, [("a", String::new(), 5), ("b", String::new(), 4), ("a", gpu.into(), 1)]);
        assert_eq!(serde_json::to_string(&told[0]).unwrap(), r#"{"queue":"a","pending":5}"#);
    }

    #[test]
    fn only_so_many_kinds_are_named() {
        let lanes = (0..200).map(|n| lane(&format!("q{n:03}"), "x", "", n));
        let told = kinds(lanes);
        assert_eq!((told.len(), told[0].pending, told[MAX_KINDS - 1].pending), (MAX_KINDS, 199, 150));
    }
}
