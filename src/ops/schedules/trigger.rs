//! A run of a schedule because somebody asks for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::admission::LaneCache;
use super::super::enqueue::Enqueued;
use super::super::runs::{self, Started};
use super::super::tenancy::load_mine;
use super::super::{Access, Caller, Op, Scopes};
use super::Named;
use super::fire::Firing;
use super::overlap::{Made, Runs};
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

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Triggered {
    /// One job.
    Job(Enqueued),
    /// A run of a workflow.
    Run(Started),
}

impl Op for Trigger {
    type Reply = Triggered;
    const NAME: &'static str = "trigger";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Triggered> {
        if let Some(before) = self.found(caller, tx, true)? {
            return Ok(before);
        }
        let schedule = self.schedule.live(caller, tx)?;
        schedule.check_read()?;
        let (_, definition) = schedule.newest();
        let mut runs = Runs::of_one(tx, schedule.id)?;
        let Some(waits) = runs.meet(tx, caller, self.overlap.unwrap_or(definition.overlap))? else {
            return Err(Error::conflict(format!("a run of {} is not finished", schedule.name))
                .hint("--overlap allow starts another beside it, --overlap queue after it"));
        };
        let firing = Firing::new(&schedule, definition, self.run, None, tx.now(), waits);
        let actor = Some(caller.actor.as_str());
        let Some(place) = firing.admit(tx, caller, &mut LaneCache::default(), actor)? else {
            let name = &schedule.name;
            return Err(Error::new(Kind::Limit, format!("a limit on queued jobs keeps {name} from running"))
                .retry_after(std::time::Duration::from_secs(5))
                .hint("some have to end first"));
        };
        match place.make(tx, actor)? {
            Made::Job(number) => answer(caller, tx, number, false).map(Triggered::Job),
            Made::Run(run) => started(caller, tx, run, false)?.ok_or_else(|| Error::failed("no run was made")),
        }
    }

    fn check(&self) -> String {
        format!("orx status {}", JobId::of_task(self.run, Target::MAIN))
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Triggered>> {
        self.found(caller, tx, false)
    }
}

impl Trigger {
    /// What this very call made before.
    fn found(&self, caller: &Caller, tx: &mut dyn Tx, existing: bool) -> Result<Option<Triggered>> {
        if let Some(run) = started(caller, tx, self.run, existing)? {
            return Ok(Some(run));
        }
        let number = tx.find(&Selector::Id(JobId::of_task(self.run, Target::MAIN)), 1)?.pop();
        number.map(|number| answer(caller, tx, number, existing).map(Triggered::Job)).transpose()
    }
}

fn started(caller: &Caller, tx: &mut dyn Tx, run: RunId, existing: bool) -> Result<Option<Triggered>> {
    Ok(runs::existing(caller, tx, run)?.map(|found| Triggered::Run(Started { existing, ..found })))
}

fn answer(caller: &Caller, tx: &mut dyn Tx, number: Number, existing: bool) -> Result<Enqueued> {
    let job = load_mine(caller, tx, number)?;
    Ok(Enqueued { number, id: job.id, state: job.life.state, queue: job.queue, existing })
}
