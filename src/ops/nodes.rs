//! Coordinators, and who of all processes leads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Result};
use crate::store::{NewNode, PeerNode, Topics, Tx};
use crate::time::{Span, Timestamp};

/// Says that a coordinator is there.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Announce {
    /// The coordinator.
    pub node: NewNode,
    /// How long this holds.
    pub ttl: Span,
}

impl Op for Announce {
    /// Whether it is asked to end.
    type Reply = bool;
    const NAME: &'static str = "announce";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<bool> {
        tx.announce(&self.node, self.ttl)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<bool>> {
        self.run(caller, tx).map(Some) // saying it once more is never wrong
    }
}

/// Removes a coordinator that ends.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Retire {
    /// The coordinator.
    pub id: Uuid,
}

impl Op for Retire {
    type Reply = ();
    const NAME: &'static str = "retire";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        tx.retire(self.id)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some)
    }
}

/// A process that serves or leads, as users see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md
pub struct NodeView {
    pub id: Uuid,
    pub name: String,
    pub role: Role,
    /// Of the leader only.
    pub epoch: Option<i64>,
    pub address: Option<String>,
    pub version: String,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    /// The machine's load over the last minute; none for a worker.
    pub load: Option<f64>,
    pub draining: bool,
    /// The other nodes of its cluster, as it sees them.
    #[serde(default)]
    pub peers: Vec<PeerNode>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The upkeep.
    Leader,
    /// It takes over when the leader ends.
    Follower,
}

/// Lists the coordinators, and the worker that leads if one does.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListNodes {}

impl Op for ListNodes {
    type Reply = Vec<NodeView>;
    const NAME: &'static str = "list_nodes";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<NodeView>> {
        let leader = tx.leader()?.filter(|leader| !leader.released);
        let leads = |name: &str| leader.as_ref().filter(|l| l.name == name).map(|l| l.epoch);
        let role = |epoch: Option<i64>| if epoch.is_some() { Role::Leader } else { Role::Follower };
        let nodes = tx.nodes()?.into_iter().filter(|node| !node.lost).map(|node| {
            let epoch = leads(&node.name);
            NodeView {
                id: node.id,
                name: node.name,
                role: role(epoch),
                epoch,
                address: node.address,
                version: node.version,
                started_at: node.started_at,
                heartbeat_at: node.heartbeat_at,
                load: Some(node.load),
                draining: node.draining,
                peers: node.peers,
            }
        });
        let mut nodes: Vec<NodeView> = nodes.collect();
        if nodes.iter().all(|node| node.epoch.is_none()) {
            let led = tx.workers()?.into_iter().filter_map(|w| Some((leads(&w.name)?, w))).next();
            nodes.extend(led.map(|(epoch, w)| NodeView {
                id: w.id.0,
                name: w.name,
                role: Role::Leader,
                epoch: Some(epoch),
                address: None,
                version: w.version,
                started_at: w.started_at,
                heartbeat_at: w.heartbeat_at,
                load: None,
                draining: w.state == crate::store::WorkerState::Draining,
                peers: Vec::new(),
            }));
        }
        Ok(nodes)
    }
}

/// Asks a coordinator to end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DrainNode {
    /// Its name or id.
    pub node: String,
}

impl Op for DrainNode {
    /// Its name.
    type Reply = String;
    const NAME: &'static str = "drain_node";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<String> {
        let named = |id: &Uuid, name: &str| name == self.node || id.to_string() == self.node;
        let found = tx.nodes()?.into_iter().find(|node| !node.lost && named(&node.id, &node.name));
        let Some(node) = found else {
            return Err(Error::not_found(format!("no coordinator {}", self.node))
                .hint("'orx nodes' shows what there is; workers are drained by 'orx workers drain'"));
        };
        tx.drain_node(node.id)?;
        tx.wake(Topics::CONTROL);
        Ok(node.name)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<String>> {
        self.run(caller, tx).map(Some)
    }
}
