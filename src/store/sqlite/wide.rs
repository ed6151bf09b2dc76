//! Many rows with one statement: to begin and end a statement costs SQLite as much as a row.

use rusqlite::types::{ToSqlOutput, Value};

use super::tx::SqliteTx;
use crate::error::Result;

/// The rows of one statement.
pub(super) const ROWS: usize = 16;

/// The statement that inserts [`ROWS`] rows where `one` inserts one: its values in their order, each a parameter.
///
/// One that fails half-way leaves the first rows behind, and its work is undone as a whole. So that it could undo them
/// itself SQLite would keep a journal for it, whose end costs the more, the more the transaction has written. It keeps one
/// all the same where the rows bring their own integer keys: there this is no gain.
pub(super) fn widen(one: &str) -> String {
    let one = one.replacen("INSERT INTO", "INSERT OR FAIL INTO", 1);
    let (head, rest) = one.split_once("VALUES (").unwrap_or((&one, ""));
    let (values, tail) = rest.split_once(')').unwrap_or((rest, ""));
    let row = format!("({})", vec!["?"; values.split(',').count()].join(", "));
    format!("{head}VALUES {}{tail}", vec![row; ROWS].join(", "))
}

/// A statement for one row, and the one that [`widen`] makes of it.
macro_rules! both {
    ($one:expr) => {{
        const ONE: &str = $one;
        static WIDE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| crate::store::sqlite::wide::widen(ONE));
        crate::store::sqlite::wide::Both { one: ONE, wide: &WIDE }
    }};
}
pub(super) use both;

/// A statement for one row and for [`ROWS`].
pub(super) struct Both {
    pub(super) one: &'static str,
    pub(super) wide: &'static str,
}

/// A value, or null.
pub(super) fn maybe<'a, T>(value: Option<T>) -> ToSqlOutput<'a>
where
    ToSqlOutput<'a>: From<T>,
{
    value.map_or(ToSqlOutput::Owned(Value::Null), ToSqlOutput::from)
}

impl SqliteTx<'_> {
    /// Inserts the rows, [`ROWS`] at a time; gives how many were inserted.
    pub(super) fn insert_rows<const N: usize>(&mut self, sql: &Both, rows: &[[ToSqlOutput; N]]) -> Result<usize> {
        let mut inserted = 0;
        for rows in rows.chunks(ROWS) {
            let (text, at_once) = if rows.len() == ROWS { (sql.wide, ROWS) } else { (sql.one, 1) };
            for rows in rows.chunks(at_once) {
                inserted += self.insert_at_once(text, rows)?;
            }
        }
        Ok(inserted)
    }

    fn insert_at_once<const N: usize>(&mut self, sql: &str, rows: &[[ToSqlOutput; N]]) -> Result<usize> {
        let done = self.statement(sql).and_then(|mut statement| {
            for (place, value) in rows.iter().flatten().enumerate() {
                statement.raw_bind_parameter(place + 1, value)?;
            }
            statement.raw_execute()
        });
        done.map_err(|e| self.note(e))
    }
}
