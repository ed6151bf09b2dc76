//! Dead letters.

use rusqlite::{Row, params};

use super::sql;
use super::tx::{Column, Lossy, SqliteTx, text};
use crate::error::Result;
use crate::job::Number;
use crate::store::{DeadLetter, Letter, LetterFilter, LetterGroup, Letters, Tx as _};
use crate::time::Timestamp;

impl Letters for SqliteTx<'_> {
    fn bury(&mut self, letters: &[DeadLetter]) -> Result<()> {
        let now = self.now().0;
        for letter in letters {
            self.execute(
                sql!("letters_insert"),
                params![letter.number, letter.reason, letter.fingerprint, letter.error, now],
            )?;
        }
        Ok(())
    }

    fn unbury(&mut self, numbers: &[Number]) -> Result<usize> {
        let mut count = 0;
        for number in numbers {
            count += self.execute(sql!("letters_delete"), [number])?;
        }
        Ok(count)
    }

    fn letters(&mut self, filter: &LetterFilter, before: Option<Number>, limit: usize) -> Result<Vec<Letter>> {
        let LetterFilter { queue, tenant, reason, fingerprint, since } = filter;
        let before = before.unwrap_or(Number::MAX);
        let since = since.map(|t| t.0);
        self.all(sql!("letters_list"), params![before, queue, tenant, reason, fingerprint, since, limit as i64], |r| {
            Ok(Letter {
                number: r.get(0)?,
                reason: r.get::<_, Lossy>(1)?.0,
                fingerprint: r.get::<_, Lossy>(2)?.0,
                error: text(r, 3)?,
                died_at: at(r, 4)?,
            })
        })
    }

    fn letter_groups(&mut self, filter: &LetterFilter, limit: usize) -> Result<Vec<LetterGroup>> {
        let LetterFilter { queue, tenant, reason, fingerprint, since } = filter;
        let since = since.map(|t| t.0);
        self.all(sql!("letters_groups"), params![queue, tenant, reason, fingerprint, since, limit as i64], |r| {
            Ok(LetterGroup {
                fingerprint: r.get::<_, Lossy>(0)?.0,
                count: r.get(1)?,
                first_at: at(r, 2)?,
                last_at: at(r, 3)?,
                sample: r.get(4)?,
            })
        })
    }
}

fn at(r: &Row, index: usize) -> rusqlite::Result<Timestamp> {
    Ok(r.get::<_, Column<Timestamp>>(index)?.0)
}
