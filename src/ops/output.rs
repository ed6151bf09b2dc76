//! Reading what a job wrote.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tenancy::load_mine;
use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Result};
use crate::job::output::Chunk;
use crate::job::{Fence, Number, Outcome, State};
use crate::store::Tx;

/// Reads output of one attempt after a place in it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReadOutput {
    /// The job.
    pub number: Number,
    /// The attempt; the current or last one when absent.
    pub attempt: Option<u32>,
    /// The last chunk seen.
    pub after: Option<u32>,
}

/// A piece of output, and whether more can come.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OutputReply {
    /// The attempt that was read; 0 when there is none yet.
    pub attempt: u32,
    /// The pieces, in order.
    pub chunks: Vec<Chunk>,
    /// Whether this is all there will ever be of this attempt (when `chunks` is empty).
    pub ended: bool,
    /// Whether the attempt was lost (when `chunks` is empty): it may have written more, and nobody knows how much.
    #[serde(default)]
    pub lost: bool,
    /// The job's state.
    pub state: State,
    /// The attempt that follows this one, if there is one.
    #[serde(default)]
    pub next: Option<u32>,
}

/// How much output one call gives, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

impl Op for ReadOutput {
    type Reply = OutputReply;
    const NAME: &'static str = "read_output";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let job = load_mine(caller, tx, self.number)?;
        let current = job.life.attempt;
        let attempt = self.attempt.unwrap_or(current);
        if attempt > current || (attempt == 0 && self.attempt.is_some()) {
            return Err(Error::not_found(format!("job {} has no attempt {attempt}", job.number))
                .hint(format!("it has {current}")));
        }
        let running = job.life.state == State::Running && attempt == current;
        let never = attempt == 0 && !job.life.state.is_terminal();
        let fence = Fence { number: job.number, attempt };
        let chunks = tx.output(fence, self.after, MAX_BYTES)?;
        let ended = !running && !never;
        let lost = ended && chunks.is_empty() && tx.outcome(fence)? == Some(Outcome::Lost);
        let next = following(tx, fence, current)?;
        Ok(OutputReply { attempt, chunks, ended, lost, state: job.life.state, next })
    }
}

/// The attempt after that of `fence`; in a store that was restored many numbers are left out (S38).
fn following(tx: &mut dyn Tx, fence: Fence, current: u32) -> Result<Option<u32>> {
    let Fence { number, attempt } = fence;
    if attempt >= current {
        return Ok(None);
    }
    if attempt + 1 == current || attempt > tx.floor()?.of(number) {
        return Ok(Some(attempt + 1));
    }
    let attempts = tx.attempts(number)?;
    Ok(Some(attempts.iter().map(|other| other.number).find(|other| *other > attempt).unwrap_or(current)))
}
