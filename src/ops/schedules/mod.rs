//! Schedules: what they are, what is due, and what became of it.

pub mod backfill;
pub mod change;
mod fire;
pub mod life;
pub mod look;
mod overlap;
pub mod tick;
pub mod trigger;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::runs::submit;
use super::{Caller, Scopes};
use crate::error::{Error, Kind, Result};
use crate::job::{Definition, EventKind, Schedule, ScheduleId, Target};
use crate::store::{NewEvent, Topics, Tx};

/// How a person names a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// Who it belongs to; `default` when absent.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Its name or id.
    pub name: String,
}

impl Named {
    /// The schedule; where it was removed, the one of that name removed last.
    pub(super) fn find(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Schedule> {
        let tenant = self.tenant.as_deref().or(caller.tenant.as_deref()).unwrap_or("default");
        let found = match Uuid::parse_str(&self.name) {
            Ok(id) => tx.schedule(ScheduleId(id))?,
            Err(_) => tx.schedule_named(tenant, &self.name)?,
        };
        let mine = |s: &Schedule| caller.sees(&s.tenant);
        found.filter(mine).ok_or_else(|| {
            let of = if tenant == "default" { String::new() } else { format!(" of tenant {tenant}") };
            Error::not_found(format!("no schedule {}{of}", self.name)).hint("'orx schedule list' shows what there is")
        })
    }

    /// The schedule, unless it was removed.
    fn live(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Schedule> {
        let schedule = self.find(caller, tx)?;
        match schedule.removed_at {
            None => Ok(schedule),
            Some(at) => Err(Error::conflict(format!("schedule {} was removed at {at}", self.name))
                .hint("its history is kept; add it anew to run it")),
        }
    }
}

/// What a caller needs to have it run.
fn scopes_of(Definition { target, captured, .. }: &Definition) -> Scopes {
    match target {
        Target::Job(spec) if !spec.needs_exec(captured) => Scopes::SUBMIT,
        Target::Job(_) => Scopes::SUBMIT.and(Scopes::EXEC),
        Target::Workflow(given) => submit::scopes(given, captured),
    }
}

fn check_tenant(caller: &Caller, tenant: &str) -> Result<()> {
    match !caller.sees(tenant) {
        true => Err(Error::new(Kind::Denied, format!("you may not schedule for tenant {tenant}"))),
        false => Ok(()),
    }
}

/// Records what was done to a schedule, and has its clock look again.
fn changed(tx: &mut dyn Tx, caller: &Caller, schedule: &Schedule, did: &str, more: Value) -> Result<()> {
    let mut data = json!({ "schedule_id": schedule.id, "name": schedule.name, "did": did });
    if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
        data.extend(more);
    }
    tx.wake(Topics::SCHEDULES);
    tx.append(&[NewEvent { actor: Some(&caller.actor), data, ..NewEvent::of(EventKind::ScheduleChanged) }])
}
