//! Who may call a coordinator.

use tokio_postgres::Row;
use uuid::Uuid;

use super::conn::values;
use super::sql;
use super::tx::{PgTx, get};
use crate::error::Result;
use crate::store::{TokenRow, Tokens};
use crate::time::Timestamp;

impl Tokens for PgTx<'_> {
    fn tokens(&mut self) -> Result<Vec<TokenRow>> {
        self.rows(sql!("tokens_list"), values![])?.iter().map(token).collect()
    }

    fn token(&mut self, id: Uuid) -> Result<Option<TokenRow>> {
        self.rows(sql!("tokens_find"), values![id])?.first().map(token).transpose()
    }

    fn add_token(&mut self, t: &TokenRow) -> Result<()> {
        let row = values![
            t.id,
            t.name.clone(),
            t.hash.clone(),
            i32::from(t.scopes),
            t.tenant.clone(),
            t.created_at.0,
            t.created_by.clone(),
            t.expires_at.map(|at| at.0),
        ];
        self.rows(sql!("tokens_add"), row)?;
        Ok(())
    }

    fn revoke_token(&mut self, id: Uuid, at: Timestamp) -> Result<()> {
        self.rows(sql!("tokens_revoke"), values![id, at.0])?;
        Ok(())
    }
}

fn token(row: &Row) -> Result<TokenRow> {
    Ok(TokenRow {
        id: get(row, 0)?,
        name: get(row, 1)?,
        hash: get(row, 2)?,
        scopes: u8::try_from(get::<i32>(row, 3)?).unwrap_or_default(),
        tenant: get(row, 4)?,
        created_at: Timestamp(get(row, 5)?),
        created_by: get(row, 6)?,
        expires_at: get::<Option<i64>>(row, 7)?.map(Timestamp),
        revoked_at: get::<Option<i64>>(row, 8)?.map(Timestamp),
    })
}
