//! Who may call a coordinator.

use rusqlite::{Row, params};
use uuid::Uuid;

use super::sql;
use super::tx::{Column, SqliteTx};
use crate::error::Result;
use crate::job::WorkerId;
use crate::store::{TokenRow, Tokens};
use crate::time::Timestamp;

impl Tokens for SqliteTx<'_> {
    fn tokens(&mut self) -> Result<Vec<TokenRow>> {
        self.all(sql!("tokens_list"), [], token)
    }

    fn token(&mut self, id: Uuid) -> Result<Option<TokenRow>> {
        self.first(sql!("tokens_find"), [id.as_bytes().as_slice()], token)
    }

    fn add_token(&mut self, t: &TokenRow) -> Result<()> {
        let id = t.id.as_bytes().as_slice();
        let (created, expires) = (t.created_at.0, t.expires_at.map(|at| at.0));
        let row = params![id, t.name, t.hash, t.scopes, t.tenant, created, t.created_by, expires];
        self.execute(sql!("tokens_add"), row)?;
        Ok(())
    }

    fn revoke_token(&mut self, id: Uuid, at: Timestamp) -> Result<()> {
        self.execute(sql!("tokens_revoke"), params![id.as_bytes().as_slice(), at.0])?;
        Ok(())
    }
}

fn token(r: &Row) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        id: r.get::<_, Column<WorkerId>>(0)?.0.0,
        name: r.get(1)?,
        hash: r.get(2)?,
        scopes: r.get(3)?,
        tenant: r.get(4)?,
        created_at: Timestamp(r.get(5)?),
        created_by: r.get(6)?,
        expires_at: r.get::<_, Option<i64>>(7)?.map(Timestamp),
        revoked_at: r.get::<_, Option<i64>>(8)?.map(Timestamp),
    })
}
