//! New schedules, and new versions of old ones.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::enqueue::make_limit;
use super::super::{Access, Caller, Op, Scopes, runs};
use super::look::ScheduleView;
use super::tick::bring_up_to_date;
use super::{Named, changed, check_tenant, scopes_of};
use crate::error::{Error, Result};
use crate::job::schedule::Then;
use crate::job::{Definition, Recurrence, Rule, Schedule, ScheduleId, Target, workflow};
use crate::store::Tx;
use crate::time::Timestamp;

/// Adds a schedule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AddSchedule {
    /// Its id, made by the caller.
    pub id: ScheduleId,
    /// Its name.
    pub name: String,
    /// What it says; the instant in its rule is set to now.
    pub definition: Definition,
}

impl Op for AddSchedule {
    type Reply = ScheduleView;
    const NAME: &'static str = "add_schedule";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::SUBMIT;

    fn scopes(&self) -> Scopes {
        scopes_of(&self.definition)
    }

    fn bind(&mut self, caller: &Caller) {
        self.definition.target.bind(caller.tenant.as_deref());
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<ScheduleView> {
        let tenant = self.definition.target.tenant();
        check_tenant(caller, &tenant)?;
        Schedule::check_name(&self.name)?;
        if let Some(same) = tx.schedule(self.id)? {
            check_tenant(caller, &same.tenant)?;
            return ScheduleView::new(&same);
        }
        if let Some(other) = tx.schedule_named(&tenant, &self.name)?
            && other.removed_at.is_none()
        {
            return Err(Error::conflict(format!("there is a schedule {} already", self.name))
                .hint(format!("change it with: orx schedule update {}", self.name)));
        }
        let now = tx.now();
        let mut definition = self.definition.clone();
        definition.rule.created_at = now;
        let recurrence = definition.check()?;
        check_payloads(caller, &definition)?;
        let recorded_until = Timestamp(now.0 - 1);
        let next = due_again(&recurrence, recorded_until)?;
        share_limit(tx, &definition)?;
        let schedule = Schedule {
            id: self.id,
            tenant,
            name: self.name.clone(),
            version: 1,
            definition: Arc::new(definition),
            then: None,
            paused: false,
            created_at: now,
            recorded_until,
            tail_from: None,
            next_due_at: Some(next),
            last_due_at: None,
            last_skip_reason: None,
            removed_at: None,
            unread: None,
        };
        tx.add_schedule(&schedule)?;
        let rule = &schedule.definition.rule;
        changed(tx, caller, &schedule, "added", json!({ "version": 1, "rule": rule, "after": recorded_until }))?;
        ScheduleView::new(&schedule)
    }

    fn check(&self) -> String {
        format!("orx schedule show {}", self.id)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<ScheduleView>> {
        tx.schedule(self.id)?.filter(|same| caller.sees(&same.tenant)).as_ref().map(ScheduleView::new).transpose()
    }
}

/// From when on a new version holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Apply {
    /// From now on: what is due next is due by the new version.
    #[default]
    Now,
    /// After the next instant of the version before.
    Next,
}

/// Gives a schedule a new version. Runs that were made keep theirs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UpdateSchedule {
    /// The schedule.
    pub schedule: Named,
    /// The version that the caller has seen; another is a conflict.
    pub version: u32,
    /// What it says from then on, all of it.
    pub definition: Definition,
    /// From when on.
    #[serde(default)]
    pub apply: Apply,
}

impl Op for UpdateSchedule {
    type Reply = ScheduleView;
    const NAME: &'static str = "update_schedule";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn scopes(&self) -> Scopes {
        match scopes_of(&self.definition).cover(Scopes::EXEC) {
            true => Self::SCOPES.and(Scopes::EXEC),
            false => Self::SCOPES,
        }
    }

    fn bind(&mut self, caller: &Caller) {
        self.definition.target.bind(caller.tenant.as_deref());
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<ScheduleView> {
        let schedule = self.schedule.live(caller, tx)?;
        if self.definition.target.tenant() != schedule.tenant {
            return Err(Error::usage("a schedule stays with its tenant").hint("add another for the other tenant"));
        }
        let (newest, before) = schedule.newest();
        if newest != self.version {
            return Err(Error::conflict(format!(
                "schedule {} has version {newest} by now, not {}",
                schedule.name, self.version
            ))
            .hint(format!("look at it again: orx schedule show {}", schedule.name)));
        }
        let (version, before, now) = (newest + 1, before.rule.clone(), tx.now());
        let mut definition = self.definition.clone();
        definition.rule.created_at = now;
        definition.check()?;
        check_payloads(caller, &definition)?;
        let rule = definition.rule.clone();
        let is = |other: &Rule| Rule { created_at: other.created_at, ..rule.clone() } == *other;
        // A rule that means nothing here any more must not keep it from being replaced.
        let mut schedule = match bring_up_to_date(tx, caller, schedule.clone()) {
            Err(_) if !is(&before) && schedule.clone().take_owed(now).is_err() => schedule,
            result => result?,
        };
        let waits = match self.apply {
            Apply::Next if !schedule.paused && schedule.unread.is_none() => {
                schedule.then.as_ref().map(|t| t.from).or(schedule.next_due_at)
            }
            _ => None,
        };
        let from = waits.unwrap_or(now);
        // At once it follows the rule in force, and not one that waits and never will be.
        let before = if waits.is_some() { before } else { schedule.definition.rule.clone() };
        let same_rule = is(&before);
        definition.rule.created_at = if same_rule { before.created_at } else { from };
        let recurrence = definition.check()?;
        // Nobody is asked to make up for what the new rule would have named before.
        let after = if same_rule { schedule.recorded_until } else { schedule.recorded_until.max(from) };
        let next = match same_rule {
            true => recurrence.next_after(after.max(now)),
            false => Some(due_again(&recurrence, after)?),
        };
        share_limit(tx, &definition)?;
        tx.add_version(schedule.id, version, &definition)?;
        let rule = definition.rule.clone();
        match waits {
            Some(from) => schedule.then = Some(Then { version, definition: Arc::new(definition), from }),
            None => {
                (schedule.version, schedule.definition, schedule.then) = (version, Arc::new(definition), None);
                schedule.unread = None;
                (schedule.recorded_until, schedule.tail_from, schedule.next_due_at) = (after, None, next);
            }
        }
        tx.save_schedules(&[&schedule])?;
        let after = if waits.is_some() { from } else { after };
        changed(tx, caller, &schedule, "updated", json!({ "version": version, "rule": rule, "after": after }))?;
        ScheduleView::new(&schedule)
    }

    fn check(&self) -> String {
        format!("orx schedule show {}", self.schedule.name)
    }
}

/// The next instant after `at`; a schedule without one would do nothing.
fn due_again(recurrence: &Recurrence, at: Timestamp) -> Result<Timestamp> {
    recurrence.next_after(at).ok_or_else(|| {
        let last = recurrence.last_n(1, Timestamp(0), at).pop();
        let last = last.map_or(String::new(), |t| format!("its last instant was {t}; "));
        Error::usage(format!("{} {:?} is never due again", recurrence.rule().kind, recurrence.rule().expression))
            .hint(format!("{last}give it a time to come"))
    })
}

fn share_limit(tx: &mut dyn Tx, definition: &Definition) -> Result<()> {
    match &definition.target {
        Target::Job(spec) => make_limit(tx, spec),
        Target::Workflow(given) => workflow::read(given)?.jobs().try_for_each(|(_, spec)| make_limit(tx, spec)),
    }
}

/// What fits no schema now would fit none at any instant.
fn check_payloads(caller: &Caller, definition: &Definition) -> Result<()> {
    definition.captured.check()?;
    match &definition.target {
        Target::Job(spec) => caller.schemas.check(spec),
        Target::Workflow(given) => runs::check_payloads(caller, &workflow::read(given)?),
    }
}
