//! Who does the upkeep (S30).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::EventKind;
use crate::store::{NewEvent, Topics, Tx};
use crate::time::Span;

/// A leader that has been silent for as long as the shortest lease may be replaced, within these bounds: it is not to hold
/// up for long what moves when a lease is over, nor to be replaced because its machine was busy for a moment.
const SILENT: (Span, Span) = (Span::from_secs(3), Span::from_secs(15));

/// How long a worker has been there before others go by its lease: the leader, which says at least every 5 s that it lives,
/// has seen it by then and says so as often as that takes.
const SETTLED: Span = Span::from_secs(6);

/// The silence after which a leader may be replaced, and which means that the store could not be written (S2).
pub fn silent(tx: &mut dyn Tx) -> Result<Span> {
    silent_after(tx, SETTLED)
}

/// What that comes to once the workers that came just now count too.
pub fn soon_silent(tx: &mut dyn Tx) -> Result<Span> {
    silent_after(tx, Span::ZERO)
}

fn silent_after(tx: &mut dyn Tx, settled: Span) -> Result<Span> {
    let (least, most) = SILENT;
    Ok(tx.shortest_lease(settled)?.map_or(most, |lease| lease.clamp(least, most)))
}

/// What lets a process lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// It holds the lock: the leader before it is dead or has let go.
    Lock,
    /// Another holds the lock, and may be stopped.
    Silence,
}

/// Makes the caller the leader under the next epoch, where it may be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Lead {
    /// The caller's name.
    pub name: String,
    /// What lets it.
    pub right: Right,
}

impl Op for Lead {
    /// The epoch; none: another leads.
    type Reply = Option<i64>;
    const NAME: &'static str = "lead";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<i64>> {
        if !is_free(self.right, tx)? {
            return Ok(None);
        }
        let epoch = tx.lead(&self.name)?;
        tx.append(&[NewEvent {
            worker: Some(&self.name),
            data: json!({ "epoch": epoch }),
            ..NewEvent::of(EventKind::LeaderElected)
        }])?;
        Ok(Some(epoch))
    }

    fn reread(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Self::Reply>> {
        let leader = tx.leader()?;
        Ok(leader.filter(|l| l.name == self.name && !l.released).map(|l| Some(l.epoch)))
    }
}

fn is_free(right: Right, tx: &mut dyn Tx) -> Result<bool> {
    if right == Right::Lock {
        return Ok(true);
    }
    let Some(leader) = tx.leader()? else { return Ok(false) };
    let limit = silent(tx)?;
    Ok(leader.age.is_none_or(|age| age > limit))
}

/// Whether [`Lead`] would be allowed; writes nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MayLead {
    /// What lets the caller.
    pub right: Right,
}

impl Op for MayLead {
    type Reply = bool;
    const NAME: &'static str = "may_lead";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<bool> {
        is_free(self.right, tx)
    }
}

/// Lets go of the lead, so that another takes it at once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Resign {
    /// The epoch that ends.
    pub epoch: i64,
}

impl Op for Resign {
    type Reply = ();
    const NAME: &'static str = "resign";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        tx.resign(self.epoch)?;
        tx.wake(Topics::CONTROL);
        Ok(())
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some) // never wrong
    }
}
