//! What is measured of a store.

use std::collections::BTreeMap;

use super::conn::values;
use super::sql;
use super::tx::{PgTx, get};
use crate::error::Result;
use crate::store::Measures;

impl Measures for PgTx<'_> {
    fn tallies(&mut self) -> Result<BTreeMap<String, i64>> {
        let rows = self.read_one(sql!("tallies_list"), values![])?;
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
    }

    fn count_letters(&mut self, most: i64) -> Result<i64> {
        Ok(self.column(sql!("letters_count"), values![most])?.pop().unwrap_or_default())
    }

    fn size(&mut self) -> Result<i64> {
        Ok(self.column(sql!("size"), values![])?.pop().unwrap_or_default())
    }
}
