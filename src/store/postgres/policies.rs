//! What queues, tenants and named limits allow.

use tokio_postgres::Row;

use super::conn::{Param, values};
use super::sql;
use super::tx::{PgTx, get};
use crate::error::Result;
use crate::store::{Limits, NamedLimit, Policies, Tenant};

impl Policies for PgTx<'_> {
    fn pause(&mut self, queue: &str, paused: bool) -> Result<()> {
        self.rows(sql!("queues_pause"), values![queue.to_owned(), paused])?;
        Ok(())
    }

    fn share_queue(&mut self, queue: &str, shared: bool) -> Result<()> {
        self.rows(sql!("queues_share"), values![queue.to_owned(), shared])?;
        Ok(())
    }

    fn unshared(&mut self) -> Result<Vec<String>> {
        self.rows(sql!("queues_unshared"), values![])?.iter().map(|row| get(row, 0)).collect()
    }

    fn hold_limits(&mut self) -> Result<()> {
        self.one_at_a_time("limits", "", "")
    }

    fn limit_queue(&mut self, queue: &str, l: &Limits) -> Result<()> {
        self.rows(sql!("queues_limit"), row(queue, l))?;
        Ok(())
    }

    fn tenants(&mut self) -> Result<Vec<Tenant>> {
        self.flush()?;
        let rows = self.rows(sql!("tenants_list"), values![])?;
        rows.iter()
            .map(|row| {
                Ok(Tenant { name: get(row, 0)?, limits: limits(row, 1)?, queued: get(row, 5)?, running: get(row, 6)? })
            })
            .collect()
    }

    fn limit_tenant(&mut self, tenant: &str, l: &Limits) -> Result<()> {
        self.rows(sql!("tenants_limit"), row(tenant, l))?;
        Ok(())
    }

    fn named_limits(&mut self) -> Result<Vec<NamedLimit>> {
        self.flush()?;
        let rows = self.rows(sql!("limits_list"), values![])?;
        rows.iter()
            .map(|row| {
                Ok(NamedLimit {
                    tenant: get(row, 0)?,
                    key: get(row, 1)?,
                    max_running: limit(row, 2)?.unwrap_or_default(),
                    running: get(row, 3)?,
                })
            })
            .collect()
    }

    fn setting(&mut self, name: &str) -> Result<Option<String>> {
        Ok(self.column(sql!("settings_find"), values![name.to_owned()])?.pop())
    }

    fn put_setting(&mut self, name: &str, value: &str) -> Result<()> {
        self.rows(sql!("settings_put"), values![name.to_owned(), value.to_owned()])?;
        Ok(())
    }

    fn set_limit(&mut self, tenant: &str, key: &str, max: u32) -> Result<()> {
        self.rows(sql!("limits_set"), values![tenant.to_owned(), key.to_owned(), i64::from(max)])?;
        Ok(())
    }
}

fn row(name: &str, l: &Limits) -> Vec<Param> {
    let [running, queued, minute, payload] =
        [l.max_running, l.max_queued, l.per_minute, l.max_payload].map(|n| n.map(i64::from));
    values![name.to_owned(), running, queued, minute, payload]
}

/// The four columns of limits from `at` on.
pub(super) fn limits(row: &Row, at: usize) -> Result<Limits> {
    Ok(Limits {
        max_running: limit(row, at)?,
        max_queued: limit(row, at + 1)?,
        per_minute: limit(row, at + 2)?,
        max_payload: limit(row, at + 3)?,
    })
}

/// One of them.
pub(super) fn limit(row: &Row, at: usize) -> Result<Option<u32>> {
    Ok(get::<Option<i64>>(row, at)?.map(|n| u32::try_from(n).unwrap_or(u32::MAX)))
}
