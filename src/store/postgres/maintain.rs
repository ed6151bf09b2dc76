//! The schema: made and migrated under a lock, and looked at for contradictions.

use std::time::Duration;

use super::conn::{Call, Conn, Param, values};
use super::place::Place;
use super::sql;
use super::tx::{damaged, get};
use crate::error::{Error, Kind, Result};
use crate::store::migrate::{Plan, SCHEMA, plan};
use crate::store::sound::{self, Look};
use crate::store::{Finding, copy, missing};

/// The steps, from version 0 on.
pub(super) const STEPS: [(&str, &str); SCHEMA as usize] = [("0001_queue", include_str!("migrations/0001_queue.sql"))];

/// What must always hold of the rows, and a statement that finds what breaks it.
const CHECKS: [(&str, &str); 13] = [
    ("jobs and attempts agree with themselves", sql!("check_rows")),
    ("lanes with pending jobs are active", sql!("check_lanes")),
    ("lanes count their jobs by state", sql!("check_totals")),
    ("running jobs have a lease of their attempt, and no others have one", sql!("check_leases")),
    ("ended attempts lie below the fence", sql!("check_attempts")),
    ("dead letters are of failed jobs", sql!("check_letters")),
    ("names belong to unfinished jobs", sql!("check_names")),
    ("blocked jobs wait for as many edges as are open", sql!("check_edges")),
    ("every job says what it does", sql!("check_specs")),
    ("runs count their open tasks", sql!("check_runs")),
    ("every instant of a schedule is recorded once", sql!("check_ledger")),
    ("ids are not zero", sql!("check_ids")),
    ("the trail tells what the rows say", sql!("check_trail")),
];

/// What must be readable, a statement that gives the rows behind a key, and who reads a row.
const READ: [(&str, &str, Look); 6] = [
    ("every job can be read", sql!("check_read_jobs"), sound::job),
    ("what jobs said can be read", sql!("check_read_said"), sound::json),
    ("every event can be read", sql!("check_read_events"), sound::json),
    ("every run can be read", sql!("check_read_runs"), sound::run),
    ("every schedule can be read", sql!("check_read_schedules"), sound::definition),
    ("workers and coordinators can be read", sql!("check_read_fleet"), sound::json),
];

/// How many rows are read at a time.
const BATCH: i64 = 1000;

/// How long the server may take for one of them: it looks at all rows.
const CHECK_LIMIT: Duration = Duration::from_secs(3600);
/// How much later its answer may come.
const MARGIN: Duration = Duration::from_secs(10);

/// Brings the schema up to date, whoever else tries the same at this moment.
pub(super) fn migrate(conn: &mut Conn, place: &Place, make: bool) -> Result<()> {
    let schema = &place.schema;
    let (schema_version, min_compatible) = version(conn, place)?;
    if schema_version == 0 && !make {
        return Err(missing(place));
    }
    let Plan::MigrateFrom(_) = plan(schema_version, min_compatible, &place.to_string())? else { return Ok(()) };
    let lock = format!("SELECT pg_advisory_xact_lock(hashtextextended('orx schema {schema}', 0))");
    conn.enter("BEGIN").map_err(|f| f.error.context(place))?;
    run(conn, place, &lock)?;
    // Only where there is none: the statement needs rights on the database, even if it has nothing to do.
    if run(conn, place, &format!("SELECT 1 WHERE to_regnamespace('{schema}') IS NOT NULL"))?.is_empty() {
        run(conn, place, &format!("CREATE SCHEMA {schema}"))?;
    }
    // Somebody else may have had the lock before.
    let (now, _) = version(conn, place)?;
    for (step, (_, text)) in STEPS.iter().enumerate().skip(now as usize) {
        run(conn, place, text)?;
        let number = step + 1;
        run(
            conn,
            place,
            &format!(
                "INSERT INTO meta VALUES ('schema', '{number}') ON CONFLICT (key) DO UPDATE SET value = excluded.value"
            ),
        )?;
    }
    run(conn, place, "COMMIT")?;
    Ok(())
}

/// The key of an unfinished copy's mark, as a value for a statement.
pub(super) fn mark() -> [Param; 1] {
    [Box::new(copy::MARK.to_owned())]
}

/// Refuses what another store is being copied to.
pub(super) fn refuse_unfinished(conn: &mut Conn, place: &Place) -> Result<()> {
    let marked = format!("SELECT key FROM {}.meta WHERE key = '{}'", place.schema, copy::MARK);
    match run(conn, place, &marked)?.is_empty() {
        true => Ok(()),
        false => Err(copy::unfinished(&place.to_string())),
    }
}

type Rows = Vec<Vec<Option<String>>>;

fn run(conn: &mut Conn, place: &Place, sql: &str) -> Result<Rows> {
    conn.simple(sql).map_err(|f| f.error.context(place))
}

/// The schema's version and the oldest that may use it.
pub(super) fn version(conn: &mut Conn, place: &Place) -> Result<(u32, u32)> {
    let schema = &place.schema;
    // A statement that names what is not there is an error.
    let there = run(conn, place, &format!("SELECT 1 WHERE to_regclass('{schema}.meta') IS NOT NULL"))?;
    if there.is_empty() {
        return Ok((0, 0));
    }
    let rows = run(conn, place, &format!("SELECT key, value FROM {schema}.meta"))?;
    let find = |key: &str| {
        let row = rows.iter().find(|row| row.first().is_some_and(|cell| cell.as_deref() == Some(key)))?;
        row.get(1)?.as_ref()?.parse().ok()
    };
    Ok((find("schema").unwrap_or_default(), find("min_compatible").unwrap_or_default()))
}

/// Looks at one moment of the store.
pub(super) fn check(conn: &mut Conn) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let limit = CHECK_LIMIT.as_millis();
    conn.enter("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").map_err(|f| f.error)?;
    conn.simple(&format!("SET LOCAL enable_seqscan TO on; SET LOCAL statement_timeout TO {limit}"))
        .map_err(|f| f.error)?;
    for (check, sql) in CHECKS {
        let rows = match conn.simple_within(CHECK_LIMIT + MARGIN, sql) {
            Ok(rows) => rows,
            Err(failure) => {
                let _ = conn.simple("ROLLBACK"); // it wrote nothing
                return Err(failure.error);
            }
        };
        let messages = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
        findings.extend(messages.map(|message| Finding { check: check.to_owned(), message }));
    }
    for (check, sql, look) in READ {
        match read(conn, check, sql, look) {
            Ok(found) => findings.extend(found),
            Err(error) => {
                let _ = conn.simple("ROLLBACK"); // it wrote nothing
                return Err(error);
            }
        }
    }
    conn.simple("COMMIT").map_err(|f| f.error)?;
    Ok(findings)
}

/// Looks at one row after the other.
fn read(conn: &mut Conn, check: &str, sql: &'static str, look: Look) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut after = i64::MIN;
    loop {
        let mut answers = conn.run(&[Call::new(sql, values![after, BATCH])]).map_err(|f| f.error)?;
        let rows = answers.pop().unwrap_or_default();
        for row in &rows {
            let text = |at: usize| row.try_get::<_, Option<&str>>(at).map_err(|e| damaged().source(e));
            let texts = (2..row.len()).map(|at| text(at).map(|text| text.map(str::as_bytes)));
            if let Some(flaw) = look(&texts.collect::<Result<Vec<_>>>()?) {
                let name = text(1)?.unwrap_or_default();
                findings.push(Finding { check: check.to_owned(), message: format!("{name} cannot be read: {flaw}") });
            }
            after = get(row, 0)?;
        }
        if rows.len() < BATCH as usize || findings.len() >= sound::TOLD {
            findings.truncate(sound::TOLD);
            return Ok(findings);
        }
    }
}

/// The server has its own tools for copies.
pub(super) fn no_backup(place: &Place) -> Error {
    Error::new(Kind::Usage, "a PostgreSQL store is copied by PostgreSQL itself")
        .hint(format!("pg_dump --schema={} makes a copy, pg_restore reads it", place.schema))
}
