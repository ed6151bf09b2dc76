//! Works in a transaction: one that reads, or some that share a commit.

use rusqlite::Connection;

use super::doubt::{Doubt, roll_back};
use super::tx::{Reach, SqliteTx};
use crate::error::{Error, Result};
use crate::store::{Topics, Work, Written};
use crate::time::Clock;

/// Runs a work that reads, in one snapshot.
pub(super) fn read_in(queue: &Connection, reach: Reach, clock: &dyn Clock, work: &mut dyn Work) -> Result<()> {
    queue.prepare_cached("BEGIN")?.execute([])?;
    let result = work.run(&mut SqliteTx::new(queue, reach, clock));
    let ended = queue.prepare_cached("COMMIT").and_then(|mut s| s.execute([]));
    if ended.is_err() {
        roll_back(queue); // it wrote nothing
    }
    result
}

/// Runs each work in a savepoint of its own inside the transaction that `conn` has begun; the only one without.
pub(super) fn run_batch(conn: &Connection, doubt: &Doubt, mut tx: SqliteTx, batch: &mut [&mut dyn Work]) -> Written {
    let alone = batch.len() == 1 && !doubt.is_open();
    let mut topics = Topics::NONE;
    for work in batch.iter_mut() {
        let ran = if alone { run_alone(conn, &mut tx, *work) } else { savepoint(conn, &mut tx, *work) };
        match ran {
            Ok(touched) => topics = topics | touched,
            Err(ended) => {
                roll_back(conn);
                return match ended {
                    Ended::Gone(error) => Written::Nothing(error),
                    Ended::Refused => Written::Refused,
                };
            }
        }
    }
    match conn.prepare_cached("COMMIT").and_then(|mut s| s.execute([])) {
        Ok(_) => {
            doubt.committed();
            Written::Committed(topics)
        }
        Err(error) => doubt.failed(conn, error),
    }
}

/// Why the transaction ends without a commit.
enum Ended {
    /// It is no more, whatever the work said.
    Gone(Error),
    /// The only work in it failed.
    Refused,
}

/// The transaction ends as the work does: a savepoint would copy each page that it touches.
fn run_alone(conn: &Connection, tx: &mut SqliteTx, work: &mut dyn Work) -> Result<Topics, Ended> {
    match work.run(tx) {
        Ok(()) => flush(tx),
        Err(error) if conn.is_autocommit() || tx.is_broken() => Err(Ended::Gone(error)),
        Err(_) => Err(Ended::Refused),
    }
}

/// Writes what a work left to be written; one that thinks it is done must not be told so where that fails.
fn flush(tx: &mut SqliteTx) -> Result<Topics, Ended> {
    tx.flush().map_err(Ended::Gone)?;
    Ok(tx.take_topics())
}

fn savepoint(conn: &Connection, tx: &mut SqliteTx, work: &mut dyn Work) -> Result<Topics, Ended> {
    let run = |sql| conn.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(|e| Ended::Gone(e.into()));
    run("SAVEPOINT work")?;
    match work.run(tx) {
        Ok(()) => {
            let topics = flush(tx)?;
            run("RELEASE work")?;
            Ok(topics)
        }
        Err(error) => {
            tx.forget();
            if conn.is_autocommit() || tx.is_broken() {
                return Err(Ended::Gone(error));
            }
            run("ROLLBACK TO work")?;
            run("RELEASE work")?;
            Ok(Topics::NONE)
        }
    }
}
