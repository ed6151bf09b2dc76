//! Names and idempotency keys.

use rusqlite::params;

use super::sql;
use super::tx::{Column, SqliteTx};
use crate::error::Result;
use crate::job::{JobId, Number, State};
use crate::store::{KeyHolder, Keys, Tx as _};
use crate::time::Timestamp;

impl Keys for SqliteTx<'_> {
    fn key_holder(&mut self, tenant: &str, key: &str) -> Result<Option<KeyHolder>> {
        let now = self.now().0;
        self.first(sql!("keys_holder"), params![tenant, key, now], |r| {
            let ended = r.get::<_, Option<Column<State>>>(3)?.map(|state| state.0);
            Ok(KeyHolder { number: r.get(0)?, id: r.get::<_, Column<JobId>>(1)?.0, fingerprint: r.get(2)?, ended })
        })
    }

    fn keep_key(&mut self, tenant: &str, key: &str, holder: &KeyHolder) -> Result<()> {
        let id = holder.id.0.as_bytes().as_slice();
        self.execute(sql!("keys_keep"), params![tenant, key, holder.number, id, holder.fingerprint.as_slice()])?;
        Ok(())
    }

    fn forget_keys(&mut self, number: Number, state: State, at: Timestamp) -> Result<()> {
        self.execute(sql!("keys_forget"), params![number, at.0, state.as_str()])?;
        Ok(())
    }

    fn prune_keys(&mut self, limit: usize) -> Result<usize> {
        let now = self.now().0;
        self.execute(sql!("keys_prune"), params![now, limit as i64])
    }

    fn name_holder(&mut self, tenant: &str, name: &str) -> Result<Option<Number>> {
        self.first(sql!("names_holder"), [tenant, name], |r| r.get(0))
    }

    fn hold_name(&mut self, tenant: &str, name: &str, number: Number) -> Result<()> {
        self.execute(sql!("names_hold"), params![tenant, name, number])?;
        Ok(())
    }

    fn drop_name(&mut self, number: Number) -> Result<()> {
        self.execute(sql!("names_drop"), [number])?;
        Ok(())
    }
}
