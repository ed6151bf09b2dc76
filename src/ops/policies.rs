//! Pausing queues, and limits on queues, tenants and keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Kind, Result};
use crate::job::EventKind;
use crate::job::spec::word;
use crate::store::{Limits, NEW_TENANTS, NamedLimit, NewEvent, QueueTotals, Tenant, Topics, Tx};

/// Stops or resumes handing out the jobs of a queue; running ones go on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PauseQueue {
    /// The queue; it need not exist yet.
    pub queue: String,
    /// Stop, or resume.
    pub paused: bool,
}

impl Op for PauseQueue {
    type Reply = ();
    const NAME: &'static str = "pause_queue";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;
    const SHARED: bool = true;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        word("queue", Some(&self.queue))?;
        tx.pause(&self.queue, self.paused)?;
        changed(tx, Some(&caller.actor), json!({ "queue": self.queue, "paused": self.paused }))
    }

    fn check(&self) -> String {
        "orx queue list".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some) // once more changes nothing
    }
}

/// What is to be changed of some limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitChange {
    /// Jobs at once: leave (none), lift (0), or set.
    pub max_running: Option<u32>,
    /// Unfinished jobs: leave (none), lift (0), or set.
    pub max_queued: Option<u32>,
    /// Jobs submitted in any minute: leave (none), lift (0), or set.
    pub per_minute: Option<u32>,
    /// Bytes of a payload or input: leave (none), lift (0), or set.
    pub max_payload: Option<u32>,
}

impl LimitChange {
    fn apply(&self, limits: &mut Limits) {
        let set = |old: &mut Option<u32>, new: Option<u32>| {
            if let Some(n) = new {
                *old = (n > 0).then_some(n);
            }
        };
        set(&mut limits.max_running, self.max_running);
        set(&mut limits.max_queued, self.max_queued);
        set(&mut limits.per_minute, self.per_minute);
        set(&mut limits.max_payload, self.max_payload);
    }
}

/// Changes what a queue allows. Jobs that run or wait already are left alone (S15).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SetQueue {
    /// The queue; it need not exist yet.
    pub queue: String,
    /// What changes.
    pub change: LimitChange,
}

impl Op for SetQueue {
    type Reply = ();
    const NAME: &'static str = "set_queue";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        word("queue", Some(&self.queue))?;
        tx.hold_limits()?;
        let known = tx.totals(None)?.into_iter().find(|q| q.name == self.queue);
        let mut limits = known.map(|q| q.limits).unwrap_or_default();
        self.change.apply(&mut limits);
        tx.limit_queue(&self.queue, &limits)?;
        changed(tx, Some(&caller.actor), json!({ "queue": self.queue, "limits": limits }))
    }

    fn check(&self) -> String {
        "orx queue list".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some)
    }
}

/// Changes what a tenant may, or what new tenants may.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SetTenant {
    /// The tenant; it need not exist yet. [`NEW_TENANTS`] stands for those that do not.
    pub tenant: String,
    /// What changes.
    pub change: LimitChange,
}

impl Op for SetTenant {
    type Reply = ();
    const NAME: &'static str = "set_tenant";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        if self.tenant != NEW_TENANTS {
            word("tenant", Some(&self.tenant))?;
        }
        tx.hold_limits()?;
        let tenants = tx.tenants()?;
        // One that is new begins as others do.
        let find = |name: &str| tenants.iter().find(|t| t.name == name).map(|t| t.limits.clone());
        let mut limits = find(&self.tenant).or_else(|| find(NEW_TENANTS)).unwrap_or_default();
        self.change.apply(&mut limits);
        tx.limit_tenant(&self.tenant, &limits)?;
        changed(tx, Some(&caller.actor), json!({ "tenant": self.tenant, "limits": limits }))
    }

    fn check(&self) -> String {
        "orx tenant list".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some)
    }
}

/// Changes how many running jobs of a tenant may share a key (S16).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SetLimit {
    /// Whose limit.
    pub tenant: String,
    /// What they share.
    pub key: String,
    /// How many may run, from 1.
    pub max_running: u32,
}

impl Op for SetLimit {
    type Reply = ();
    const NAME: &'static str = "set_limit";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        if self.max_running == 0 {
            return Err(Error::usage("a named limit is at least 1").hint("to stop jobs, pause their queue"));
        }
        word("limit", Some(&self.key))?;
        word("tenant", Some(&self.tenant))?;
        if !caller.sees(&self.tenant) {
            return Err(Error::new(Kind::Denied, format!("you may not limit tenant {}", self.tenant)));
        }
        change_limit(tx, Some(&caller.actor), &self.tenant, &self.key, self.max_running)
    }

    fn check(&self) -> String {
        "orx limit list".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some)
    }
}

/// Changes a named limit; an auditor judges all that comes after by it.
pub(super) fn change_limit(tx: &mut dyn Tx, actor: Option<&str>, tenant: &str, key: &str, max: u32) -> Result<()> {
    tx.set_limit(tenant, key, max)?;
    changed(tx, actor, json!({ "tenant": tenant, "limit": key, "max_running": max }))
}

/// Records the change; there may be room for more jobs now.
fn changed(tx: &mut dyn Tx, actor: Option<&str>, data: serde_json::Value) -> Result<()> {
    tx.wake(Topics::WORK | Topics::JOBS);
    tx.append(&[NewEvent { actor, data, ..NewEvent::of(EventKind::PolicyChanged) }])
}

/// Everything that is limited.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListPolicies {}

/// Everything that is limited.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Policies {
    /// The queues.
    pub queues: Vec<QueueTotals>,
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The named limits.
    pub limits: Vec<NamedLimit>,
}

impl Op for ListPolicies {
    type Reply = Policies;
    const NAME: &'static str = "list_policies";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Policies> {
        let queues = tx.totals(caller.tenant.as_deref())?;
        let (mut tenants, mut limits) = (tx.tenants()?, tx.named_limits()?);
        tenants.retain(|tenant| caller.sees(&tenant.name));
        limits.retain(|limit| caller.sees(&limit.tenant));
        Ok(Policies { queues, tenants, limits })
    }
}
