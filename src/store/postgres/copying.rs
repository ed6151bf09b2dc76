//! All rows of a schema, given to another store or taken from one.

use tokio_postgres::Row as PgRow;
use tokio_postgres::types::FromSqlOwned;
use uuid::Uuid;

use super::conn::{Conn, Failure, LOCK_LIMIT, Param, values};
use super::place::Place;
use super::tx::{get, text, to_json};
use super::{fault, maintain, sql};
use crate::error::{Error, Result};
use crate::store::copy::{
    BATCH_ROWS, Column, Dump, Load, Row, Sink, TABLES, Table, Value, not_empty, taken, unfinished,
};
use crate::store::restore::{Floor, ID, LEAP, MAX_LEAP, Renewal, Renewed};

/// What belongs to processes, or follows from the rest.
const OTHERS: [&str; 7] = ["leases", "workers", "nodes", "unreadable", "lane_turns", "lane_totals", "lane_deltas"];
/// How many rows of large values are fetched at a time.
const FEW_ROWS: usize = 64;

/// A queue that is copied.
pub(in crate::store) struct Copying {
    conn: Conn,
    place: Place,
    /// A transaction is open.
    inside: bool,
}

impl Copying {
    /// The store at `place`, to be read.
    pub(in crate::store) fn source(place: &Place) -> Result<Self> {
        let mut copying = Self::connect(place, false)?;
        match copying.is_marked()? {
            true => Err(unfinished(&place.to_string())),
            false => Ok(copying),
        }
    }

    /// The store at `place`, to be filled.
    pub(in crate::store) fn target(place: &Place) -> Result<Self> {
        let mut copying = Self::connect(place, true)?;
        let lock = format!("SELECT pg_try_advisory_lock(hashtextextended('orx copy {}', 0))", place.schema);
        let got = copying.simple(&lock)?;
        match got.iter().flatten().flatten().any(|cell| cell == "t") {
            true => Ok(copying),
            false => Err(taken(&place.to_string())),
        }
    }

    /// The store at `place`, to be made another one.
    pub(in crate::store) fn existing(place: &Place) -> Result<Self> {
        Self::source(place)
    }

    fn connect(place: &Place, make: bool) -> Result<Self> {
        let mut conn = Conn::open(place, LOCK_LIMIT)?;
        maintain::migrate(&mut conn, place, make)?;
        // Its locks and settings are those of the session: a pooler that lends that to others would give both the same.
        if Conn::open(place, LOCK_LIMIT)?.backend == conn.backend {
            return Err(fault::pooled().context(place));
        }
        conn.settle().map_err(|f| f.error.context(place))?;
        Ok(Self { conn, place: place.clone(), inside: false })
    }

    fn simple(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.conn.simple(sql).map_err(|f| self.named(f))
    }

    fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<PgRow>> {
        self.conn.query(sql, params).map_err(|f| self.named(f))
    }

    fn named(&self, failure: Failure) -> Error {
        failure.error.context(&self.place)
    }

    fn number(&mut self, sql: &str) -> Result<u64> {
        let rows = self.query(sql, &[])?;
        let number: i64 = rows.first().map_or(Ok(0), |row| get(row, 0))?;
        Ok(number.unsigned_abs())
    }

    fn is_marked(&mut self) -> Result<bool> {
        Ok(!self.query(sql!("copy_marked"), &maintain::mark())?.is_empty())
    }

    fn is_empty(&mut self) -> Result<bool> {
        let any: Vec<String> = stored().map(|name| format!("EXISTS (SELECT 1 FROM {name})")).collect();
        let rows = self.query(&format!("SELECT {}", any.join(" OR ")), &[])?;
        rows.first().map_or(Ok(true), |row| get::<bool>(row, 0).map(|any| !any))
    }

    /// Makes another store of it; a transaction is open.
    fn renew(&mut self, renewal: &Renewal, from: Option<String>) -> Result<Renewed> {
        let Renewal { id, at, by, actor } = renewal;
        let floor: Option<String> = self.cell(sql!("renew_floor"), values![LEAP])?;
        self.tell(sql!("renew_numbers"), values![LEAP, MAX_LEAP])?;
        let jobs = self.cell(sql!("renew_jobs"), values![])?.unwrap_or_default();
        let epochs = self.cell(sql!("renew_epoch"), values![LEAP, at.0])?.unwrap_or_default();
        let store = id.simple().to_string();
        self.tell(sql!("renew_id"), values![store.clone()])?;
        let attempts = Floor::read(floor.as_deref()).attempt;
        let renewed = Renewed { store, from, by: (*by).to_owned(), attempts, jobs, epochs };
        self.tell(sql!("renew_event"), values![at.0, text(actor), to_json(&renewed)?])?;
        Ok(renewed)
    }

    fn tell(&mut self, sql: &str, params: Vec<Param>) -> Result<()> {
        self.query(sql, &params).map(|_| ())
    }

    fn cell<T: FromSqlOwned>(&mut self, sql: &str, params: Vec<Param>) -> Result<Option<T>> {
        self.query(sql, &params)?.first().map(|row| get(row, 0)).transpose()
    }

    fn end_moment(&mut self) -> Result<()> {
        if std::mem::take(&mut self.inside) {
            self.simple("COMMIT")?;
        }
        Ok(())
    }
}

/// The tables that have rows.
fn stored() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.name).filter(|name| !["counters", "pruned"].contains(name)).chain(OTHERS)
}

/// What the rows of a table are selected from.
fn origin(table: &Table) -> &'static str {
    match table.name {
        "lanes" => sql!("copy_lanes"),
        "pruned" => sql!("copy_pruned"),
        "tallies" => sql!("copy_tallies"),
        "counters" => sql!("copy_counters"),
        name => name,
    }
}

fn type_of(column: Column) -> &'static str {
    match column {
        Column::Bool => "boolean",
        Column::Int => "bigint",
        Column::Real => "double precision",
        Column::Text => "text",
        Column::Uuid => "uuid",
        Column::Bytes => "bytea",
    }
}

/// A statement that stores rows given by column.
fn insert(table: &Table) -> String {
    let special = match table.name {
        "counters" => Some(sql!("copy_put_counters")),
        "lanes" => Some(sql!("copy_put_lanes")),
        "pruned" => Some(sql!("copy_put_pruned")),
        "leader" => Some(sql!("copy_put_leader")),
        _ => None,
    };
    if let Some(sql) = special {
        return sql.to_owned();
    }
    let names: Vec<String> = table.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let arrays = table.columns.iter().enumerate().map(|(i, (_, column))| format!("${}::{}[]", i + 1, type_of(*column)));
    let (arrays, names) = (arrays.collect::<Vec<_>>().join(", "), names.join(", "));
    let name = table.name;
    format!("INSERT INTO {name} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM unnest({arrays}) AS u({names})")
}

impl Dump for Copying {
    fn moment(&mut self) -> Result<()> {
        self.end_moment()?;
        // Between two batches the other store is written.
        self.simple(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout TO 0;
             SET LOCAL enable_seqscan TO on",
        )?;
        self.inside = true;
        Ok(())
    }

    fn id(&mut self) -> Result<Option<String>> {
        self.cell(sql!("meta_find"), values![ID.to_owned()])
    }

    fn running(&mut self) -> Result<u64> {
        self.number(sql!("copy_running"))
    }

    fn count(&mut self, table: &Table) -> Result<u64> {
        self.number(&format!("SELECT count(*) FROM {}", origin(table)))
    }

    fn dump(&mut self, table: &Table, sink: &mut Sink) -> Result<()> {
        let columns = table.columns.iter().map(|(name, column)| format!("\"{name}\"::{}", type_of(*column)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        self.simple(&format!("DECLARE dump NO SCROLL CURSOR FOR SELECT {columns} FROM {}", origin(table)))?;
        let page = if ["output", "job_specs"].contains(&table.name) { FEW_ROWS } else { BATCH_ROWS };
        loop {
            let rows = self.query(&format!("FETCH {page} FROM dump"), &[])?;
            let last = rows.len() < page;
            if !rows.is_empty() {
                sink(rows.iter().map(|row| read(table, row)).collect::<Result<_>>()?)?;
            }
            if last {
                break;
            }
        }
        self.simple("CLOSE dump").map(|_| ())
    }
}

impl Load for Copying {
    fn begin(&mut self) -> Result<()> {
        if !self.is_marked()? && !self.is_empty()? {
            return Err(not_empty(&self.place.to_string()));
        }
        self.query(sql!("copy_mark"), &maintain::mark())?;
        // Only now, when nobody takes it for a store any more.
        let tables = stored().collect::<Vec<_>>().join(", ");
        self.simple(&format!("BEGIN; TRUNCATE {tables} RESTART IDENTITY; {}; COMMIT", sql!("copy_clear"))).map(|_| ())
    }

    fn load(&mut self, table: &Table, rows: &[Row]) -> Result<()> {
        let columns = table.columns.iter().enumerate();
        let arrays: Vec<Param> =
            columns.map(|(i, (_, column))| array(*column, rows.iter().map(|row| &row[i]))).collect();
        self.query(&insert(table), &arrays).map(|_| ())
    }

    fn derive(&mut self) -> Result<()> {
        self.simple(&format!("BEGIN; SET LOCAL enable_seqscan TO on; {}; COMMIT", sql!("copy_derive"))).map(|_| ())
    }

    fn finish(&mut self, renewal: &Renewal, from: Option<String>) -> Result<Renewed> {
        self.end_moment()?;
        let from = from.map_or_else(|| self.id(), |from| Ok(Some(from)))?;
        self.simple("BEGIN")?;
        let renewed = self.renew(renewal, from)?;
        self.query(sql!("copy_unmark"), &maintain::mark())?;
        self.simple("COMMIT")?;
        Ok(renewed)
    }
}

/// A column of several rows.
fn array<'a>(column: Column, cells: impl Iterator<Item = &'a Value>) -> Param {
    macro_rules! all {
        ($type:ty, $pattern:pat => $value:expr) => {{
            let all: Vec<Option<$type>> = cells
                .map(|cell| match cell {
                    $pattern => Some($value),
                    _ => None,
                })
                .collect();
            Box::new(all)
        }};
    }
    match column {
        Column::Bool => all!(bool, Value::Bool(b) => *b),
        Column::Int => all!(i64, Value::Int(n) => *n),
        Column::Real => all!(f64, Value::Real(x) => *x),
        Column::Text => all!(String, Value::Text(t) => text(t)),
        Column::Uuid => all!(Uuid, Value::Uuid(id) => *id),
        Column::Bytes => all!(Vec<u8>, Value::Bytes(bytes) => bytes.clone()),
    }
}

fn read(table: &Table, row: &PgRow) -> Result<Row> {
    fn cell<T: FromSqlOwned>(row: &PgRow, i: usize, make: impl Fn(T) -> Value) -> Result<Value> {
        Ok(get::<Option<T>>(row, i)?.map_or(Value::Null, make))
    }
    let columns = table.columns.iter().enumerate();
    columns
        .map(|(i, (_, column))| match column {
            Column::Bool => cell(row, i, Value::Bool),
            Column::Int => cell(row, i, Value::Int),
            Column::Real => cell(row, i, Value::Real),
            Column::Text => cell(row, i, Value::Text),
            Column::Uuid => cell(row, i, Value::Uuid),
            Column::Bytes => cell(row, i, Value::Bytes),
        })
        .collect()
}
