//! Putting aside what no orx can read, so that it stands in nobody's way (S29).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::transition::{By, change};
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::state::reason;
use crate::job::{EventKind, Number};
use crate::store::{DeadLetter, NewEvent, Topics, Tx};

/// After so many jobs an operator is asked: an orx that is wrong itself must not empty a queue.
pub const MOST: u32 = 100;
/// How many are counted that wait for that.
const COUNTED: usize = 1000;
/// The setting that says how many were put aside since an operator was asked.
const SETTING: &str = "quarantined";

/// How many were put aside since an operator was asked. What is said of it and is no number stands for enough.
fn count(tx: &mut dyn Tx) -> Result<u32> {
    Ok(tx.setting(SETTING)?.map_or(0, |text| text.parse().unwrap_or(MOST)))
}

/// Whether jobs are to be put aside, and may be.
pub(super) fn is_due(tx: &mut dyn Tx) -> Result<bool> {
    Ok(!tx.noted_unreadable(1)?.is_empty() && count(tx)? < MOST)
}

/// Whether an operator has to say that it may go on.
pub(super) fn is_stopped(tx: &mut dyn Tx) -> Result<bool> {
    Ok(count(tx)? >= MOST)
}

/// Makes dead letters of jobs that were found unreadable, by the leader, in whose transaction its epoch was checked. What
/// they are to do stays as it is stored.
pub(super) fn put_aside(tx: &mut dyn Tx) -> Result<Vec<Number>> {
    if !is_due(tx)? {
        return Ok(Vec::new());
    }
    let before = count(tx)?;
    let mut noted = tx.noted_unreadable(MOST.saturating_sub(before) as usize)?;
    let leader = tx.leader()?.map(|leader| leader.name);
    tx.hold_runs(&noted)?; // before the jobs: nobody may wait in a circle
    let busy = tx.lock_free(&noted)?;
    noted.retain(|number| !busy.contains(number));
    let mut put = Vec::new();
    for number in &noted {
        // Each as it is now: the end of one may be what another waited for.
        let Some(job) = tx.load(&[*number])?.pop() else { continue };
        let Some(unread) = job.unread.as_ref().filter(|unread| unread.is_unreadable()) else { continue };
        let Ok(life) = job.life.clone().quarantine(tx.now()) else { continue };
        let reason = reason::UNREADABLE;
        let part = unread.what.split(':').next().unwrap_or_default();
        let fingerprint = format!("{reason}: {part}");
        tx.bury(&[DeadLetter { number: *number, reason, fingerprint, error: Some(&unread.what) }])?;
        let by = By { worker: leader.as_deref(), actor: None };
        change(tx, &job, &life, EventKind::Quarantined, by, json!({ "reason": reason, "what": unread.what }))?;
        put.push(*number);
    }
    tx.forget_unreadable(&noted)?;
    let count = before.saturating_add(u32::try_from(put.len()).unwrap_or(MOST));
    tx.put_setting(SETTING, &count.to_string())?;
    Ok(put)
}

/// How many jobs were put aside because no orx can read them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GetQuarantine {}

/// What was put aside, and what is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantine {
    /// Jobs put aside since an operator said that it may go on.
    pub put_aside: u32,
    /// After so many an operator is asked.
    pub most: u32,
    /// Jobs that were found unreadable and are not put aside yet, counted up to 1,000.
    pub waiting: u32,
}

impl Quarantine {
    /// Whether it waits for an operator.
    pub fn is_stopped(&self) -> bool {
        self.put_aside >= self.most
    }
}

impl Op for GetQuarantine {
    type Reply = Quarantine;
    const NAME: &'static str = "get_quarantine";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Quarantine> {
        let waiting = u32::try_from(tx.noted_unreadable(COUNTED)?.len()).unwrap_or(u32::MAX);
        Ok(Quarantine { put_aside: count(tx)?, most: MOST, waiting })
    }
}

/// Lets the leader put aside as many once more.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ResumeQuarantine {}

impl Op for ResumeQuarantine {
    type Reply = ();
    const NAME: &'static str = "resume_quarantine";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        tx.put_setting(SETTING, "0")?;
        tx.append(&[NewEvent {
            actor: Some(&caller.actor),
            data: json!({ "quarantine": "resumed" }),
            ..NewEvent::of(EventKind::PolicyChanged)
        }])?;
        tx.wake(Topics::WORK); // the leader looks
        Ok(())
    }

    fn check(&self) -> String {
        "orx db quarantine".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some) // once more changes nothing
    }
}
