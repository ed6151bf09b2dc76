//! Names and idempotency keys.

use super::conn::values;
use super::sql;
use super::tx::{PgTx, damaged, get, word};
use crate::error::Result;
use crate::job::{JobId, Number, State};
use crate::store::{KeyHolder, Keys, Tx as _};
use crate::time::Timestamp;

impl Keys for PgTx<'_> {
    fn key_holder(&mut self, tenant: &str, key: &str) -> Result<Option<KeyHolder>> {
        self.one_at_a_time("key", tenant, key)?;
        let rows = self.rows(sql!("keys_holder"), values![tenant.to_owned(), key.to_owned(), self.now().0])?;
        let holder = rows.first().map(|row| {
            let hash: Vec<u8> = get(row, 2)?;
            let fingerprint = hash.try_into().map_err(|_| damaged())?;
            let ended = get::<Option<String>>(row, 3)?.map(|state| word(&state, State::parse)).transpose()?;
            Ok(KeyHolder { number: get(row, 0)?, id: JobId(get(row, 1)?), fingerprint, ended })
        });
        holder.transpose()
    }

    fn keep_key(&mut self, tenant: &str, key: &str, holder: &KeyHolder) -> Result<()> {
        let hash = holder.fingerprint.to_vec();
        self.rows(sql!("keys_keep"), values![tenant.to_owned(), key.to_owned(), holder.number, holder.id.0, hash])?;
        Ok(())
    }

    fn forget_keys(&mut self, number: Number, state: State, at: Timestamp) -> Result<()> {
        self.rows(sql!("keys_forget"), values![number, at.0, state.as_str()])?;
        Ok(())
    }

    fn prune_keys(&mut self, limit: usize) -> Result<usize> {
        Ok(self.rows(sql!("keys_prune"), values![self.now().0, limit as i64])?.len())
    }

    fn name_holder(&mut self, tenant: &str, name: &str) -> Result<Option<Number>> {
        self.one_at_a_time("name", tenant, name)?;
        Ok(self.column(sql!("names_holder"), values![tenant.to_owned(), name.to_owned()])?.pop())
    }

    fn hold_name(&mut self, tenant: &str, name: &str, number: Number) -> Result<()> {
        self.rows(sql!("names_hold"), values![tenant.to_owned(), name.to_owned(), number])?;
        Ok(())
    }

    fn drop_name(&mut self, number: Number) -> Result<()> {
        self.rows(sql!("names_drop"), values![number])?;
        Ok(())
    }
}
