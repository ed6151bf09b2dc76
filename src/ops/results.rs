//! What a task made that another one needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proof::{check_holder, not_the_holder};
use super::tenancy::{check_worker, load_mine};
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::{Fence, JsonText, Number, State, WorkerKey};
use crate::store::Tx;

/// Reads the result of a needed task for an attempt that runs. A worker may do that which may look at nothing else.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GetResult {
    /// The worker that runs it.
    pub worker: WorkerKey,
    /// The attempt that needs it.
    pub fence: Fence,
    /// The job that made it.
    pub number: Number,
}

/// What a job handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Handed {
    /// As it was written.
    pub result: JsonText,
    /// That was no JSON: it is a text, as a string.
    #[serde(default)]
    pub is_text: bool,
}

impl Op for GetResult {
    /// None: there is no such attempt any more, it does not need that job, or that job made nothing.
    type Reply = Option<Handed>;
    const NAME: &'static str = "get_result";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        check_worker(caller, tx, self.worker.id)?;
        let Fence { number, attempt } = self.fence;
        let life = load_mine(caller, tx, number)?.life;
        if life.state != State::Running || life.attempt != attempt {
            return Ok(None);
        }
        let held = tx.held(&[self.fence])?.pop().flatten();
        check_holder(&self.worker.proof(), &held.ok_or_else(|| not_the_holder(number))?)?;
        if !tx.results(&[number])?.iter().any(|(_, _, source)| *source == self.number) {
            return Ok(None);
        }
        let made = tx.latest(&[self.number])?.pop().map(|(_, said)| said);
        Ok(made.and_then(|said| said.result.map(|result| Handed { result, is_text: said.result_is_text })))
    }
}
