//! Who does the upkeep (S30).

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::EventKind;
use crate::store::{NewEvent, Tx};

/// Makes the caller the leader under the next epoch. It holds the lock that says it may.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lead {
    /// The caller's name.
    pub name: String,
}

impl Op for Lead {
    /// The epoch.
    type Reply = i64;
    const NAME: &'static str = "lead";
    const ACCESS: Access = Access::Write;

    fn scopes(&self) -> Scopes {
        Scopes::WORK
    }

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<i64> {
        let epoch = tx.lead(&self.name)?;
        tx.append(&[NewEvent {
            worker: Some(&self.name),
            data: json!({ "epoch": epoch }),
            ..NewEvent::of(EventKind::LeaderElected)
        }])?;
        Ok(epoch)
    }

    fn reread(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<i64>> {
        let leader = tx.leader()?;
        Ok(leader.filter(|l| l.name == self.name).map(|l| l.epoch))
    }
}
