//! What is measured of a store.

use std::collections::BTreeMap;

use super::sql;
use super::tx::{Reach, SqliteTx};
use crate::error::Result;
use crate::store::Measures;

impl Measures for SqliteTx<'_> {
    fn tallies(&mut self) -> Result<BTreeMap<String, i64>> {
        self.flush()?;
        let rows = self.all(sql!("tallies_list"), [], |r| Ok((r.get(0)?, r.get(1)?)))?;
        Ok(rows.into_iter().collect())
    }

    fn count_letters(&mut self, most: i64) -> Result<i64> {
        Ok(self.first(sql!("letters_count"), [most], |r| r.get(0))?.unwrap_or_default())
    }

    fn size(&mut self) -> Result<i64> {
        let queue: i64 = self.first(sql!("size"), [], |r| r.get(0))?.unwrap_or_default();
        let output: i64 = match self.reach {
            Reach::Read(Some(output)) | Reach::Output(output) => output.query_row(sql!("size"), [], |r| r.get(0))?,
            _ => 0,
        };
        Ok(queue + output)
    }
}
