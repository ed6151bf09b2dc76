//! Who does the upkeep (S30).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::EventKind;
use crate::store::{NewEvent, Topics, Tx};
use crate::time::Span;

/// A leader that has been silent for so long may be replaced.
pub const SILENT: Span = Span::from_secs(15);

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
    const SHARED: bool = true;

    fn scopes(&self) -> Scopes {
        Scopes::ADMIN
    }

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
    Ok(match (right, tx.leader()?) {
        (Right::Lock, _) => true,
        (Right::Silence, Some(leader)) => leader.age.is_none_or(|age| age > SILENT),
        (Right::Silence, None) => false,
    })
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
    const SHARED: bool = true;

    fn scopes(&self) -> Scopes {
        Scopes::ADMIN
    }

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
    const SHARED: bool = true;

    fn scopes(&self) -> Scopes {
        Scopes::ADMIN
    }

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        tx.resign(self.epoch)?;
        tx.wake(Topics::CONTROL);
        Ok(())
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some) // never wrong
    }
}
