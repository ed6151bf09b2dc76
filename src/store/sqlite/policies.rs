//! What queues, tenants and named limits allow.

use rusqlite::{Row, params};

use super::sql;
use super::tx::SqliteTx;
use crate::error::Result;
use crate::store::{Limits, NamedLimit, Policies, Tenant};

impl Policies for SqliteTx<'_> {
    fn pause(&mut self, queue: &str, paused: bool) -> Result<()> {
        self.execute(sql!("queues_pause"), params![queue, paused])?;
        Ok(())
    }

    fn share_queue(&mut self, queue: &str, shared: bool) -> Result<()> {
        self.execute(sql!("queues_share"), params![queue, shared])?;
        Ok(())
    }

    fn unshared(&mut self) -> Result<Vec<String>> {
        self.all(sql!("queues_unshared"), [], |r| r.get(0))
    }

    fn limit_queue(&mut self, queue: &str, l: &Limits) -> Result<()> {
        let row = params![queue, l.max_running, l.max_queued, l.per_minute, l.max_payload];
        self.execute(sql!("queues_limit"), row)?;
        Ok(())
    }

    fn tenants(&mut self) -> Result<Vec<Tenant>> {
        self.flush()?;
        self.all(sql!("tenants_list"), [], |r| {
            Ok(Tenant { name: r.get(0)?, limits: limits(r, 1)?, queued: r.get(5)?, running: r.get(6)? })
        })
    }

    fn limit_tenant(&mut self, tenant: &str, l: &Limits) -> Result<()> {
        let row = params![tenant, l.max_running, l.max_queued, l.per_minute, l.max_payload];
        self.execute(sql!("tenants_limit"), row)?;
        Ok(())
    }

    fn named_limits(&mut self) -> Result<Vec<NamedLimit>> {
        self.flush()?;
        self.all(sql!("limits_list"), [], |r| {
            Ok(NamedLimit { tenant: r.get(0)?, key: r.get(1)?, max_running: r.get(2)?, running: r.get(3)? })
        })
    }

    fn setting(&mut self, name: &str) -> Result<Option<String>> {
        self.first(sql!("settings_find"), [name], |r| r.get(0))
    }

    fn put_setting(&mut self, name: &str, value: &str) -> Result<()> {
        self.execute(sql!("settings_put"), [name, value])?;
        Ok(())
    }

    fn set_limit(&mut self, tenant: &str, key: &str, max: u32) -> Result<()> {
        self.execute(sql!("limits_set"), params![tenant, key, max])?;
        Ok(())
    }
}

/// The four columns of limits from `at` on.
pub(super) fn limits(r: &Row, at: usize) -> rusqlite::Result<Limits> {
    Ok(Limits {
        max_running: r.get(at)?,
        max_queued: r.get(at + 1)?,
        per_minute: r.get(at + 2)?,
        max_payload: r.get(at + 3)?,
    })
}
