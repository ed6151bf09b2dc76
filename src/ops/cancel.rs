//! Ending jobs on request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::select::MAX_SELECTED;
use super::tenancy::load_mine;
use super::transition::{By, change};
use super::{Access, Caller, Op, Scopes, status_of};
use crate::error::Result;
use crate::job::many::at_most;
use crate::job::state::Cancelled;
use crate::job::{EventKind, JobId, Number, State, names};
use crate::store::{CancelRequest, Topics, Tx};

/// Cancels jobs: at once where they wait, by asking their worker where they run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Cancel {
    /// The jobs.
    #[serde(deserialize_with = "at_most::<MAX_SELECTED, _, _>")]
    pub numbers: Vec<Number>,
    /// Why, for the record.
    pub reason: Option<String>,
    /// How a running one is to be ended.
    #[serde(default)]
    pub how: CancelRequest,
}

/// What a cancel did to one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelReply {
    /// The job.
    pub number: Number,
    /// Its id.
    pub id: JobId,
    /// Its state now.
    pub state: State,
    /// What was done.
    pub did: Did,
}

/// What a cancel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// It is cancelled.
    Cancelled,
    /// Its worker has been asked to end it.
    Requested,
    /// Nothing: it had ended.
    TooLate,
}

impl Op for Cancel {
    type Reply = Vec<CancelReply>;
    const NAME: &'static str = "cancel";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        names::reason(self.reason.as_deref())?;
        tx.hold_runs(&self.numbers)?;
        self.numbers.iter().map(|n| self.cancel(caller, tx, *n)).collect()
    }

    fn check(&self) -> String {
        status_of(&self.numbers)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Self::Reply>> {
        // Asking again changes nothing that the first asking did.
        self.run(caller, tx).map(Some)
    }
}

impl Cancel {
    fn cancel(&self, caller: &Caller, tx: &mut dyn Tx, number: Number) -> Result<CancelReply> {
        let job = load_mine(caller, tx, number)?;
        let by = By { actor: Some(&caller.actor), worker: None };
        let data = self.reason.as_ref().map_or(json!(null), |r| json!({ "reason": r }));
        let now = tx.now();
        let (state, did) = match job.life.clone().cancel(self.reason.clone(), now) {
            Ok(Cancelled::Ended(life)) => {
                change(tx, &job, &life, EventKind::Cancelled, by, data)?;
                (life.state, Did::Cancelled)
            }
            Ok(Cancelled::Requested(life)) => {
                tx.ask_cancel(number, &self.how)?;
                change(tx, &job, &life, EventKind::CancelRequested, by, data)?;
                tx.wake(Topics::CONTROL);
                (life.state, Did::Requested)
            }
            Err(refused) => (refused.state, Did::TooLate),
        };
        Ok(CancelReply { number, id: job.id, state, did })
    }
}
