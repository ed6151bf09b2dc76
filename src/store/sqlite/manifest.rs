//! What is in a backup: how many rows each table has, and a sum of their digests.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};

use super::sql;
use crate::error::{Error, Kind, Result};
use crate::store::Finding;
use crate::store::restore::Counted;

/// The check that a finding is of.
const CHECK: &str = "the backup is what its manifest says";

/// Writes the manifest of all that there is.
pub(super) fn write(conn: &Connection) -> Result<Vec<Counted>> {
    conn.execute_batch(sql!("manifest_make"))?;
    let counted = count(conn)?.into_iter().map(|(_, counted)| counted).collect::<Result<Vec<_>>>()?;
    for Counted { table, rows, checksum } in &counted {
        conn.execute(sql!("manifest_put"), params![table, *rows as i64, checksum])?;
    }
    Ok(counted)
}

/// What differs from the manifest.
pub(super) fn compare(conn: &Connection) -> Result<Vec<Finding>> {
    let mut statement = conn.prepare(sql!("manifest_all"))?;
    let told = statement.query_map([], |r| {
        Ok(Counted { table: r.get(0)?, rows: r.get::<_, i64>(1)?.unsigned_abs(), checksum: r.get(2)? })
    })?;
    let mut told: Vec<Counted> = told.collect::<rusqlite::Result<_>>()?;
    let mut found = Vec::new();
    for (table, counted) in count(conn)? {
        let place = told.iter().position(|t| t.table == table).map(|place| told.swap_remove(place));
        found.extend(match (place, counted) {
            (_, Err(e)) if e.kind() != Kind::Corrupt => return Err(e),
            (_, Err(e)) => Some(format!("{table} cannot be read: {e}")),
            (None, Ok(_)) => Some(format!("{table} is not in it")),
            (Some(t), Ok(c)) if t.rows != c.rows => Some(format!("{table} has {} rows for {}", c.rows, t.rows)),
            (Some(t), Ok(c)) if t.checksum != c.checksum => Some(format!("{table} has other bytes in it")),
            _ => None,
        });
    }
    found.extend(told.into_iter().map(|t| format!("{} is missing", t.table)));
    Ok(found.into_iter().map(|message| Finding { check: CHECK.to_owned(), message }).collect())
}

type Named = (String, Result<Counted>);

/// Every table but the manifest, and the schema.
fn count(conn: &Connection) -> Result<Vec<Named>> {
    let mut statement = conn.prepare(sql!("manifest_tables"))?;
    let names = statement.query_map([], |r| r.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let schema = ("schema".to_owned(), sum(conn, "schema", sql!("manifest_schema")));
    let tables = names.into_iter().map(|name| {
        let select = format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""));
        let counted = sum(conn, &name, &select);
        (name, counted)
    });
    Ok(std::iter::once(schema).chain(tables).collect())
}

/// The rows of a statement, whatever their order.
fn sum(conn: &Connection, table: &str, select: &str) -> Result<Counted> {
    let mut statement = conn.prepare(select)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let (mut count, mut sum) = (0, 0u128);
    while let Some(row) = rows.next()? {
        let mut hash = Sha256::new();
        for at in 0..columns {
            add(&mut hash, row.get_ref(at)?);
        }
        let digest = hash.finalize();
        let mut half = [0; 16];
        half.copy_from_slice(digest.get(..16).ok_or_else(|| Error::failed("a digest is too short"))?);
        sum = sum.wrapping_add(u128::from_le_bytes(half));
        count += 1;
    }
    Ok(Counted { table: table.to_owned(), rows: count, checksum: format!("{sum:032x}") })
}

fn add(hash: &mut Sha256, value: ValueRef) {
    let mut field = |tag: u8, bytes: &[u8]| {
        hash.update([tag]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match value {
        ValueRef::Null => field(0, &[]),
        ValueRef::Integer(n) => field(1, &n.to_le_bytes()),
        ValueRef::Real(x) => field(2, &x.to_bits().to_le_bytes()),
        ValueRef::Text(text) => field(3, text),
        ValueRef::Blob(bytes) => field(4, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_told() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE a (x, y); INSERT INTO a VALUES (1, 'ab'), (2, NULL); CREATE TABLE b (x)")
            .unwrap();
        let counted = write(&conn).unwrap();
        assert_eq!(
            counted.iter().map(|c| (&*c.table, c.rows)).collect::<Vec<_>>(),
            [("schema", 2), ("a", 2), ("b", 0)]
        );
        let found = |change: &str| {
            conn.execute_batch(&format!("SAVEPOINT s; {change}")).unwrap();
            let found = compare(&conn).unwrap().into_iter().map(|f| f.message).collect::<Vec<_>>().join(", ");
            conn.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
            found
        };
        assert_eq!(found(""), "");
        assert_eq!(found("UPDATE a SET y = 'ac' WHERE x = 1"), "a has other bytes in it");
        assert_eq!(found("UPDATE a SET y = x'6162' WHERE x = 1"), "a has other bytes in it");
        assert_eq!(found("DELETE FROM a WHERE x = 1"), "a has 1 rows for 2");
        assert_eq!(found("DROP TABLE b"), "schema has 1 rows for 2, b is missing");
        assert_eq!(found("CREATE TABLE c (x)"), "schema has 3 rows for 2, c is not in it");
        assert_eq!(found("UPDATE manifest SET checksum = 'x' WHERE name = 'b'"), "b has other bytes in it");
    }
}
