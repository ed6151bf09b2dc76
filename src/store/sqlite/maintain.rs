//! Looking after the files: whether they are sound, and how large they are.

use std::path::Path;

use rusqlite::Connection;

use super::doubt::roll_back;
use super::tx::Lossy;
use super::{connect, sql};
use crate::error::Result;
use crate::store::Finding;
use crate::store::sound::{self, Look};

/// What must always hold of the rows, and a statement that finds what breaks it.
const CHECKS: [(&str, &str); 14] = [
    ("lanes count their jobs", sql!("check_lanes")),
    ("queues count their jobs by state", sql!("check_queues")),
    ("tenants count their jobs", sql!("check_tenants")),
    ("limits count what runs, and hold", sql!("check_limits")),
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

/// What must be readable, a statement that gives it all, and who reads a row.
const READ: [(&str, &str, Look); 6] = [
    ("every job can be read", sql!("check_read_jobs"), sound::job),
    ("what jobs said can be read", sql!("check_read_said"), sound::json),
    ("every event can be read", sql!("check_read_events"), sound::json),
    ("every run can be read", sql!("check_read_runs"), sound::run),
    ("every schedule can be read", sql!("check_read_schedules"), sound::definition),
    ("workers and coordinators can be read", sql!("check_read_fleet"), sound::json),
];

/// Looks at the queue's file and at the one for output.
pub(super) fn check(queue: &Path, output: &Path) -> Result<Vec<Finding>> {
    let conn = connect::open_reader(queue)?;
    conn.execute_batch("BEGIN")?; // one moment for all checks
    let mut findings = pages(&conn, "the queue's file is whole")?;
    findings.extend(contradictions(&conn)?);
    findings.extend(output_pages(output)?);
    Ok(findings)
}

/// Whether no row contradicts another, and all can be read.
pub(super) fn contradictions(conn: &Connection) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (check, sql) in CHECKS {
        findings.extend(all(conn, check, sql)?);
    }
    for (check, sql, look) in READ {
        findings.extend(read(conn, check, sql, look)?);
    }
    Ok(findings)
}

/// Looks at one row after the other.
fn read(conn: &Connection, check: &str, sql: &str, look: Look) -> Result<Vec<Finding>> {
    let mut statement = conn.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut findings = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at: usize| Ok::<_, rusqlite::Error>(row.get_ref(at)?.as_bytes_or_null()?);
        let texts = (2..columns).map(text).collect::<rusqlite::Result<Vec<_>>>()?;
        if let Some(flaw) = look(&texts) {
            let name: Lossy = row.get(1)?;
            findings.push(Finding { check: check.to_owned(), message: format!("{} cannot be read: {flaw}", name.0) });
        }
        if findings.len() >= sound::TOLD {
            break;
        }
    }
    Ok(findings)
}

fn output_pages(output: &Path) -> Result<Vec<Finding>> {
    match output.exists() {
        true => pages(&connect::open_reader(output)?, "the file of output is whole"),
        false => Ok(Vec::new()),
    }
}

/// What is wrong with the pages of a file.
pub(super) fn pages(conn: &Connection, check: &str) -> Result<Vec<Finding>> {
    let mut found = all(conn, check, "PRAGMA integrity_check(20)")?;
    found.retain(|f| f.message != "ok");
    Ok(found)
}

fn all(conn: &Connection, check: &str, sql: &str) -> Result<Vec<Finding>> {
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |r| Ok(Finding { check: check.to_owned(), message: r.get(0)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many free pages are given back at a time.
const SHRINK_STEP: u32 = 1000;
/// How often at most: a file of a few GiB.
const MAX_STEPS: u32 = 1000;

/// Gives free pages back to the file system, a bounded step at a time so that writers get their turn.
pub(super) fn shrink<T>(conn: &Connection, turn: impl Fn() -> T) -> Result<()> {
    for _ in 0..MAX_STEPS {
        let free: i64 = conn.query_row("PRAGMA freelist_count", [], |r| r.get(0))?;
        if free == 0 {
            break;
        }
        let _turn = turn();
        connect::begin(conn)?;
        shrink_step(conn).inspect_err(|_| roll_back(conn))?;
    }
    // The file is cut when the log goes into it. It waits for nobody: what readers hold back goes next time.
    Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

fn shrink_step(conn: &Connection) -> Result<()> {
    let mut step = conn.prepare(&format!("PRAGMA incremental_vacuum({SHRINK_STEP})"))?;
    let mut rows = step.query([])?;
    while rows.next()?.is_some() {}
    drop(rows);
    Ok(conn.execute_batch("COMMIT")?)
}
