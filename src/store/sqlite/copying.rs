//! All rows of the files, given to another store or taken from one.

use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row as SqliteRow, ToSql, params, params_from_iter};
use uuid::Uuid;

use super::connect::{self, begin, check_library, open_output};
use super::doubt::roll_back;
use super::tx::to_json;
use super::{Sqlite, sql};
use crate::error::{Error, Kind, Result};
use crate::store::copy::{
    BATCH_BYTES, BATCH_ROWS, Column, Dump, Load, MARK, Row, Sink, TABLES, Table, Value, not_empty, size, taken,
};
use crate::store::restore::{Floor, ID, LEAP, MAX_LEAP, Renewal, Renewed};
use crate::store::{Ownership, locks};

/// What belongs to processes and is not copied.
const OF_PROCESSES: [&str; 4] = ["leases", "workers", "nodes", "unreadable"];

/// A queue that is copied.
pub(in crate::store) struct Copying {
    conn: Connection,
    location: String,
    /// The second file is there.
    side: bool,
    /// Held by a target, so that nobody else copies to it.
    lock: Option<Ownership>,
}

impl Copying {
    /// The store at `path`, to be read.
    pub(in crate::store) fn source(path: &Path) -> Result<Self> {
        check_library()?;
        drop(connect::open_queue(path)?); // up to date, and refused when it is itself a copy that was not finished
        let conn = connect::open_reader(path)?;
        let output = Sqlite::output_path(path);
        let side = output.exists() && connect::open_output_reader(&output)?.is_some();
        if side {
            attach(&conn, &output)?;
        }
        Ok(Self { conn, location: path.display().to_string(), side, lock: None })
    }

    /// The store at `path`, to be filled; made where it does not exist.
    pub(in crate::store) fn target(path: &Path) -> Result<Self> {
        check_library()?;
        let path = std::path::absolute(path)?;
        let conn = connect::open_unfinished(&path)?;
        let location = path.display().to_string();
        let lock = Some(locks::own(&path, "copy", None)?.ok_or_else(|| taken(&location))?);
        let output = Sqlite::output_path(&path);
        drop(open_output(&path)?);
        attach(&conn, &output)?;
        Ok(Self { conn, location, side: true, lock })
    }

    /// The store at `path`, to be made another one.
    pub(in crate::store) fn existing(path: &Path) -> Result<Self> {
        check_library()?;
        let conn = connect::open_queue(path)?;
        Ok(Self { conn, location: path.display().to_string(), side: false, lock: None })
    }

    /// Runs `work` in a writing transaction.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        begin(&self.conn)?;
        let done = work(&self.conn).and_then(|done| Ok(self.conn.execute_batch("COMMIT").map(|()| done)?));
        done.inspect_err(|_| roll_back(&self.conn))
    }

    fn number(&self, sql: &str) -> Result<u64> {
        Ok(self.conn.query_row(sql, [], |r| r.get::<_, i64>(0))?.unsigned_abs())
    }

    fn stored(&self) -> Vec<String> {
        let own = TABLES.iter().map(|table| table.name).filter(|name| !["counters", "pruned"].contains(name));
        let own = own.chain(OF_PROCESSES).map(|name| format!("main.{name}"));
        own.chain(["side.output".to_owned()]).collect()
    }

    fn is_empty(&self) -> Result<bool> {
        let any: Vec<String> = self.stored().iter().map(|name| format!("EXISTS (SELECT 1 FROM {name})")).collect();
        Ok(!self.conn.query_row(&format!("SELECT {}", any.join(" OR ")), [], |r| r.get(0))?)
    }

    /// What the rows of a table are selected from.
    fn origin(&self, table: &Table) -> &'static str {
        match table.name {
            "pruned" => sql!("copy_pruned"),
            "counters" => sql!("copy_counters"),
            "output" if self.side => sql!("copy_output"),
            name => name,
        }
    }
}

fn attach(conn: &Connection, output: &Path) -> Result<()> {
    let path = output.to_str().ok_or_else(|| Error::usage("the path is not UTF-8"))?;
    conn.execute("ATTACH ?1 AS side", [path])?;
    Ok(())
}

impl Dump for Copying {
    fn moment(&mut self) -> Result<()> {
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("COMMIT")?;
        }
        Ok(self.conn.execute_batch("BEGIN")?)
    }

    fn id(&mut self) -> Result<Option<String>> {
        Ok(self.conn.query_row(sql!("meta_find"), [ID], |r| r.get(0)).optional()?)
    }

    fn running(&mut self) -> Result<u64> {
        self.number(sql!("copy_running"))
    }

    fn count(&mut self, table: &Table) -> Result<u64> {
        self.number(&format!("SELECT count(*) FROM {}", self.origin(table)))
    }

    fn dump(&mut self, table: &Table, sink: &mut Sink) -> Result<()> {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let select = format!("SELECT {} FROM {}", columns.join(", "), self.origin(table));
        let mut statement = self.conn.prepare(&select)?;
        let mut rows = statement.query([])?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let row = read(table, row)?;
            bytes += row.iter().map(size).sum::<usize>();
            batch.push(row);
            if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                sink(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        match batch.is_empty() {
            true => Ok(()),
            false => sink(batch),
        }
    }
}

impl Load for Copying {
    fn begin(&mut self) -> Result<()> {
        let marked = |conn: &Connection| conn.query_row(sql!("meta_find"), [MARK], |_| Ok(())).optional();
        self.write(|conn| {
            if marked(conn)?.is_none() && !self.is_empty()? {
                return Err(not_empty(&self.location));
            }
            conn.execute(sql!("copy_mark"), [MARK])?;
            Ok(())
        })?;
        // Only now, when nobody takes it for a store any more.
        self.write(|conn| {
            for table in self.stored() {
                conn.execute_batch(&format!("DELETE FROM {table}"))?;
            }
            Ok(conn.execute_batch("DELETE FROM sqlite_sequence")?)
        })
    }

    fn load(&mut self, table: &Table, rows: &[Row]) -> Result<()> {
        let insert = match table.name {
            "pruned" => sql!("copy_put_pruned").to_owned(),
            "counters" => sql!("copy_put_counters").to_owned(),
            "leader" => sql!("copy_put_leader").to_owned(),
            "output" => sql!("copy_put_output").to_owned(),
            name => {
                let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
                let values: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
                format!("INSERT INTO {name} ({}) VALUES ({})", columns.join(", "), values.join(", "))
            }
        };
        self.write(|conn| {
            let mut statement = conn.prepare_cached(&insert)?;
            for row in rows {
                statement.execute(params_from_iter(row))?;
            }
            Ok(())
        })
    }

    fn derive(&mut self) -> Result<()> {
        self.write(|conn| Ok(conn.execute_batch(sql!("copy_derive"))?))
    }

    fn finish(&mut self, renewal: &Renewal, from: Option<String>) -> Result<Renewed> {
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("COMMIT")?;
        }
        let from = from.map_or_else(|| self.id(), |from| Ok(Some(from)))?;
        let renewed = self.write(|conn| {
            conn.execute(sql!("copy_unmark"), [MARK])?;
            renew(conn, renewal, from)
        })?;
        self.lock = None;
        Ok(renewed)
    }
}

/// Makes another store of the one that `conn` has a transaction open on.
fn renew(conn: &Connection, renewal: &Renewal, from: Option<String>) -> Result<Renewed> {
    let Renewal { id, at, by, actor } = renewal;
    let floor: String = conn.query_row(sql!("renew_floor"), [LEAP], |r| r.get(0))?;
    conn.execute_batch(sql!("renew_sequences"))?;
    conn.execute(sql!("renew_numbers"), [LEAP, MAX_LEAP])?;
    let jobs = conn.query_row(sql!("renew_jobs"), [], |r| r.get(0))?;
    let epochs = conn.query_row(sql!("renew_epoch"), [LEAP, at.0], |r| r.get(0))?;
    let store = id.simple().to_string();
    conn.execute(sql!("renew_id"), [&store])?;
    let attempts = Floor::read(Some(&floor)).attempt;
    let renewed = Renewed { store, from, by: (*by).to_owned(), attempts, jobs, epochs };
    conn.execute(sql!("renew_event"), params![at.0, actor, to_json(&renewed)?])?;
    Ok(renewed)
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Bool(b) => ValueRef::Integer(i64::from(*b)),
            Value::Int(n) => ValueRef::Integer(*n),
            Value::Real(x) => ValueRef::Real(*x),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Uuid(id) => ValueRef::Blob(id.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn read(table: &Table, row: &SqliteRow) -> Result<Row> {
    table.columns.iter().enumerate().map(|(i, (name, column))| value(row.get_ref(i)?, table, name, *column)).collect()
}

fn value(cell: ValueRef, table: &Table, name: &str, column: Column) -> Result<Value> {
    let damaged = || Error::new(Kind::Corrupt, format!("{}.{name} of a row cannot be read", table.name));
    Ok(match (column, cell) {
        (_, ValueRef::Null) => Value::Null,
        (Column::Bool, ValueRef::Integer(n)) => Value::Bool(n != 0),
        (Column::Int, ValueRef::Integer(n)) => Value::Int(n),
        (Column::Real, ValueRef::Real(x)) => Value::Real(x),
        (Column::Text, ValueRef::Text(text)) => {
            Value::Text(std::str::from_utf8(text).map_err(|_| damaged())?.to_owned())
        }
        (Column::Uuid, ValueRef::Blob(bytes)) => Value::Uuid(Uuid::from_slice(bytes).map_err(|_| damaged())?),
        (Column::Bytes, ValueRef::Blob(bytes)) => Value::Bytes(bytes.to_vec()),
        _ => return Err(damaged()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What follows from the rest, or is made anew.
    const DERIVED: &[&str] = &[
        "lanes.blocked",
        "lanes.scheduled",
        "lanes.pending",
        "lanes.running",
        "lanes.done",
        "lanes.failed",
        "lanes.cancelled",
        "lanes.skipped",
        "tenants.queued",
        "tenants.running",
        "limits.running",
        "leader.released",
        "leader.boot",
        "leader.seen_boot",
    ];

    #[test]
    fn a_copy_leaves_no_column_of_the_schema_out() {
        let (queue, _) = connect::memory().unwrap();
        let columns =
            "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'";
        let mut select = queue.prepare(columns).unwrap();
        let of_schema = select.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?))).unwrap();
        let known: BTreeSet<String> =
            TABLES.iter().flat_map(|t| t.columns.iter().map(|(c, _)| format!("{}.{c}", t.name))).collect();
        for column in of_schema {
            let (table, column) = column.unwrap();
            let name = format!("{table}.{column}");
            let elsewhere = OF_PROCESSES.contains(&&*table)
                || table == "meta" // of the program that made the store
                || table.starts_with("sqlite_")
                || (table == "queues" && !known.contains(&name)) // counters
                || DERIVED.contains(&&*name);
            assert_ne!(known.contains(&name), elsewhere, "{name}");
        }
    }
}
