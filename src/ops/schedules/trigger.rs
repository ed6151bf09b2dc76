//! A run of a schedule because somebody asks for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::enqueue::{Enqueued, LaneCache};
use super::super::transition::load_one;
use super::super::{Access, Caller, Op, Scopes};
use super::Named;
use super::fire::{Firing, admit, fire};
use super::overlap::Runs;
use crate::error::{Error, Kind, Result};
use crate::job::plan::Overlap;
use crate::job::{JobId, Number, RunId, Selector, Target};
use crate::store::Tx;

/// Makes a run of a schedule now, paused or not, without an occurrence.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Trigger {
    /// The schedule.
    pub schedule: Named,
    /// The run's id, made by the caller.
    pub run: RunId,
    /// What becomes of it where another run is not finished; as the schedule says when absent.
    pub overlap: Option<Overlap>,
}

impl Op for Trigger {
    type Reply = Enqueued;
    const NAME: &'static str = "trigger";
    const ACCESS: Access = Access::Write;

    fn scopes(&self) -> Scopes {
        Scopes::OPERATE
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Enqueued> {
        if let Some(before) = self.found(tx)? {
            return answer(tx, before, true);
        }
        let schedule = self.schedule.live(caller, tx)?;
        let (_, definition) = schedule.newest();
        let mut runs = Runs::of_one(tx, schedule.id)?;
        let Some(waits_for) = runs.meet(tx, caller, self.overlap.unwrap_or(definition.overlap))? else {
            return Err(Error::conflict(format!("a run of {} is not finished", schedule.name))
                .hint("--overlap allow starts another beside it, --overlap queue after it"));
        };
        let Some(lane) = admit(tx, &mut LaneCache::default(), definition)? else {
            let name = &schedule.name;
            return Err(Error::new(Kind::Limit, format!("a limit on queued jobs keeps {name} from running"))
                .retry_after(std::time::Duration::from_secs(5))
                .hint("some have to end first"));
        };
        let now = tx.now();
        let firing = Firing::new(&schedule, definition, self.run, None, now, (lane, waits_for));
        let number = fire(tx, Some(&caller.actor), &[firing])?.pop();
        answer(tx, number.ok_or_else(|| Error::failed("no job was made"))?, false)
    }

    fn check(&self) -> String {
        format!("orx status {}", JobId::of_task(self.run, Target::MAIN))
    }

    fn reread(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Enqueued>> {
        self.found(tx)?.map(|number| answer(tx, number, false)).transpose()
    }
}

impl Trigger {
    /// The job that this very call made before.
    fn found(&self, tx: &mut dyn Tx) -> Result<Option<Number>> {
        Ok(tx.find(&Selector::Id(JobId::of_task(self.run, Target::MAIN)), 1)?.pop())
    }
}

fn answer(tx: &mut dyn Tx, number: Number, existing: bool) -> Result<Enqueued> {
    let job = load_one(tx, number)?;
    Ok(Enqueued { number, id: job.id, state: job.life.state, queue: job.queue, existing })
}
