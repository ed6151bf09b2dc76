//! Dead letters.

use super::conn::values;
use super::sql;
use super::tx::{PgTx, get, text};
use crate::error::Result;
use crate::job::Number;
use crate::store::{DeadLetter, Letter, LetterFilter, LetterGroup, Letters, Tx as _};
use crate::time::Timestamp;

impl Letters for PgTx<'_> {
    fn bury(&mut self, letters: &[DeadLetter]) -> Result<()> {
        for letter in letters {
            let error = letter.error.map(text);
            let row = values![letter.number, letter.reason.to_owned(), text(&letter.fingerprint), error, self.now().0];
            self.rows(sql!("letters_insert"), row)?;
        }
        Ok(())
    }

    fn unbury(&mut self, numbers: &[Number]) -> Result<usize> {
        Ok(self.rows(sql!("letters_delete"), values![numbers.to_vec()])?.len())
    }

    fn letters(&mut self, filter: &LetterFilter, before: Option<Number>, limit: usize) -> Result<Vec<Letter>> {
        let LetterFilter { queue, tenant, reason, fingerprint, since } = filter.clone();
        let before = before.unwrap_or(Number::MAX);
        let row = values![before, queue, tenant, reason, fingerprint, since.map(|t| t.0), limit as i64];
        let rows = self.rows(sql!("letters_list"), row)?;
        rows.iter()
            .map(|row| {
                Ok(Letter {
                    number: get(row, 0)?,
                    reason: get(row, 1)?,
                    fingerprint: get(row, 2)?,
                    error: get(row, 3)?,
                    died_at: Timestamp(get(row, 4)?),
                })
            })
            .collect()
    }

    fn letter_groups(&mut self, filter: &LetterFilter, limit: usize) -> Result<Vec<LetterGroup>> {
        let LetterFilter { queue, tenant, reason, fingerprint, since } = filter.clone();
        let row = values![queue, tenant, reason, fingerprint, since.map(|t| t.0), limit as i64];
        let rows = self.rows(sql!("letters_groups"), row)?;
        rows.iter()
            .map(|row| {
                Ok(LetterGroup {
                    fingerprint: get(row, 0)?,
                    count: get(row, 1)?,
                    first_at: Timestamp(get(row, 2)?),
                    last_at: Timestamp(get(row, 3)?),
                    sample: get(row, 4)?,
                })
            })
            .collect()
    }
}
