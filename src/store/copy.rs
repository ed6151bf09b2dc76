//! Moving a queue to another store: all rows, table by table, as typed values that every backend can give and take.
//!
//! The source is read as of one moment, in bounded batches. Until everything was read back and compared, the target
//! says of itself that it is unfinished, and nothing but another copy uses it.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::restore::{Renewal, Renewed};
use super::{Location, postgres, sqlite};
use crate::error::{Error, Kind, Result};
pub use crate::store::copy_tables::{Column, TABLES, Table};

/// How many rows a batch has at most.
pub(super) const BATCH_ROWS: usize = 1000;
/// How many bytes end a batch before that.
pub(super) const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The key of `meta` that an unfinished copy has.
pub(super) const MARK: &str = "copying";

/// What stands in a column, whichever database it is from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Real(f64),
    Text(String),
    Uuid(Uuid),
    Bytes(Vec<u8>),
}

/// The values of a row, in the order of its table's columns.
pub(super) type Row = Vec<Value>;

/// Takes a batch of rows.
pub(super) type Sink<'a> = dyn FnMut(Vec<Row>) -> Result<()> + 'a;

/// A store that can be read as a whole.
pub(super) trait Dump {
    /// Ends the moment that is looked at, if there is one, and begins another.
    fn moment(&mut self) -> Result<()>;

    /// The id of the store.
    fn id(&mut self) -> Result<Option<String>>;

    /// How many jobs are running now.
    fn running(&mut self) -> Result<u64>;

    /// How many rows a table has.
    fn count(&mut self, table: &Table) -> Result<u64>;

    /// Gives all rows of a table to `sink`, a batch at a time.
    fn dump(&mut self, table: &Table, sink: &mut Sink) -> Result<()>;
}

/// A store that is filled with the rows of another.
pub(super) trait Load: Dump {
    /// Marks it as unfinished, empty and ours alone.
    ///
    /// # Errors
    /// `Conflict` when there is something in it, or another copy is under way.
    fn begin(&mut self) -> Result<()>;

    /// Stores rows, all or none.
    fn load(&mut self, table: &Table, rows: &[Row]) -> Result<()>;

    /// Fills in what follows from the rows: counters, places in line.
    fn derive(&mut self) -> Result<()>;

    /// Takes the mark away: it is a store like any other, and another one than that of which it was made, which is `from`
    /// unless it was in its place before.
    fn finish(&mut self, renewal: &Renewal, from: Option<String>) -> Result<Renewed>;
}

/// What was copied of a table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// The table.
    pub table: &'static str,
    /// Its rows in the source.
    pub rows: u64,
    /// Its rows in the target, read back.
    pub copied: u64,
    /// Whether they are equal, value by value.
    pub same: bool,
}

/// Copies the queue at `from` to the empty store at `to`, reads it back and compares; `progress` hears of steps done
/// and in all. What comes after it is numbered as `renewal` has it.
///
/// # Errors
/// `Conflict` when the target is not empty, jobs are running, or the source changed meanwhile; `Unavailable` when one of
/// them cannot be used; `Corrupt` when the copy differs.
pub fn copy(
    from: &Location,
    to: &Location,
    renewal: &Renewal,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Vec<Copied>, Renewed)> {
    let mut source = source(from)?;
    source.moment()?;
    idle(&mut *source)?;
    let mut target = target(to)?;
    target.begin()?;
    let mut total = 0;
    for table in TABLES {
        total += source.count(table)?;
    }
    let mut done = 0;
    let mut step = |rows: usize| {
        done += rows as u64;
        progress(done, 2 * total); // each row is written and read back
    };
    let mut sums = Vec::new();
    for table in TABLES {
        let mut sum = Sum::default();
        source.dump(table, &mut |rows| {
            sum.add(&rows);
            target.load(table, &rows)?;
            step(rows.len());
            Ok(())
        })?;
        sums.push(sum);
    }
    target.derive()?;
    target.moment()?;
    let mut copied = Vec::new();
    for (table, sum) in TABLES.iter().zip(&sums) {
        let mut back = Sum::default();
        target.dump(table, &mut |rows| {
            back.add(&rows);
            step(rows.len());
            Ok(())
        })?;
        copied.push(Copied { table: table.name, rows: sum.rows, copied: back.rows, same: *sum == back });
    }
    unchanged(&mut *source, &sums)?;
    if let Some(bad) = copied.iter().find(|table| !table.same) {
        let Copied { table, rows, copied, .. } = bad;
        return Err(Error::new(Kind::Corrupt, format!("the copy differs in {table}: {copied} rows for {rows}"))
            .hint("did somebody write to the target meanwhile? it stays unfinished; copy it again"));
    }
    let from = source.id()?;
    Ok((copied, target.finish(renewal, from)?))
}

fn source(location: &Location) -> Result<Box<dyn Dump>> {
    match location {
        Location::File(path) if !path.exists() => {
            Err(Error::not_found(format!("there is no store at {}", path.display()))
                .hint("--store or ORX_STORE names the one to copy"))
        }
        Location::File(path) => Ok(Box::new(sqlite::Copying::source(path)?)),
        Location::Server(place) => Ok(Box::new(postgres::Copying::source(place)?)),
        _ => Err(cannot("from")),
    }
}

fn target(location: &Location) -> Result<Box<dyn Load>> {
    match location {
        Location::File(path) => Ok(Box::new(sqlite::Copying::target(path)?)),
        Location::Server(place) => Ok(Box::new(postgres::Copying::target(place)?)),
        _ => Err(cannot("to")),
    }
}

fn cannot(way: &str) -> Error {
    Error::usage(format!("a queue is copied {way} a file or a PostgreSQL server"))
        .hint("as in: orx --store orx.db db copy postgres://orx@db.example/jobs")
}

/// A lease cannot move: its worker would not know.
fn idle(source: &mut dyn Dump) -> Result<()> {
    let what = match source.running()? {
        0 => return Ok(()),
        1 => "a job is running".to_owned(),
        n => format!("{n} jobs are running"),
    };
    Err(Error::conflict(what).hint("drain the workers first: orx workers drain NAME, or stop them"))
}

/// What was stored in the source after the moment of the copy would be lost without a word.
fn unchanged(source: &mut dyn Dump, sums: &[Sum]) -> Result<()> {
    source.moment()?;
    idle(source)?;
    for (table, sum) in TABLES.iter().zip(sums) {
        let mut now = Sum::default();
        if table.name == "counters" {
            source.dump(table, &mut |rows| {
                now.add(&rows);
                Ok(())
            })?;
        }
        if source.count(table)? != sum.rows || (table.name == "counters" && now != *sum) {
            return Err(Error::conflict("the queue changed while it was copied")
                .hint("end the workers and whoever submits to it, and copy it again"));
        }
    }
    Ok(())
}

/// The refusal of a store that is an unfinished copy.
pub(super) fn unfinished(location: &str) -> Error {
    Error::unavailable(format!("{location} is an unfinished copy of another store, or of a backup"))
        .hint("make it again with: orx --store FROM db copy TO, or orx db restore FILE")
        .lasting()
}

/// The refusal to overwrite something.
pub(super) fn not_empty(location: &str) -> Error {
    Error::conflict(format!("{location} is not empty")).hint("name a new file, or another schema with ?schema=NAME")
}

/// The refusal to copy twice at once.
pub(super) fn taken(location: &str) -> Error {
    Error::conflict(format!("another process is copying to {location}"))
}

/// Rows without their order: how many, and the sum of their digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    digests: u128,
}

impl Sum {
    fn add(&mut self, rows: &[Row]) {
        for row in rows {
            self.rows += 1;
            self.digests = self.digests.wrapping_add(digest(row));
        }
    }
}

fn digest(row: &Row) -> u128 {
    let mut hash = Sha256::new();
    let mut field = |tag: u8, bytes: &[u8]| {
        hash.update([tag]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for value in row {
        match value {
            Value::Null => field(0, &[]),
            Value::Bool(b) => field(1, &[u8::from(*b)]),
            Value::Int(n) => field(2, &n.to_le_bytes()),
            Value::Real(x) => field(3, &x.to_bits().to_le_bytes()),
            // PostgreSQL takes no NUL: there it is stored as this.
            Value::Text(text) => field(4, text.replace('\0', "\u{fffd}").as_bytes()),
            Value::Uuid(id) => field(5, id.as_bytes()),
            Value::Bytes(bytes) => field(6, bytes),
        }
    }
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    u128::from_le_bytes(half)
}

/// Room that a value takes, roughly.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[Row]) -> Sum {
        let mut sum = Sum::default();
        sum.add(rows);
        sum
    }

    #[test]
    fn a_sum_tells_every_difference_but_that_of_the_order() {
        let text = |t: &str| Value::Text(t.into());
        let (one, two) = (vec![Value::Int(1), text("ab"), text("c")], vec![Value::Int(2), text("x"), Value::Null]);
        let whole = sum(&[one.clone(), two.clone()]);
        assert_eq!(whole, sum(&[two.clone(), one.clone()]));
        for other in [
            vec![one.clone()],
            vec![one.clone(), one.clone()],
            vec![vec![Value::Int(1), text("a"), text("bc")], two.clone()],
            vec![one.clone(), vec![Value::Int(2), text("x"), text("")]],
        ] {
            assert_ne!(whole, sum(&other));
        }
        assert_eq!(sum(&[vec![text("a\0b")]]), sum(&[vec![text("a\u{fffd}b")]]));
    }
}
