//! The connection beside the pool: it tells other processes what changed, and holds the lock of the leader.
//!
//! The server releases the lock when the connection ends, and so at once when the leader's process dies (S30).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::conn::{Conn, Failure};
use super::fault::Fault;
use super::pool::Pool;
use super::{lock, sql, wake};
use crate::error::{Error, Result};
use crate::store::{Claim, Ownership, Topics};

/// What a statement without values answers.
type Rows = Vec<Vec<Option<String>>>;

/// The connection, made when it is needed first.
pub(super) struct Side {
    pool: Arc<Pool>,
    conn: Mutex<Option<Conn>>,
    /// Topics that are to be told, by whoever tells next.
    untold: Mutex<Topics>,
    /// The lock belongs to the connection, so the server cannot tell two claims of one process apart.
    claimed: AtomicBool,
}

impl Side {
    pub(super) fn new(pool: Arc<Pool>) -> Arc<Self> {
        let (conn, untold) = (Mutex::default(), Mutex::new(Topics::NONE));
        Arc::new(Self { pool, conn, untold, claimed: AtomicBool::new(false) })
    }

    /// Tells others that `topics` were touched.
    pub(super) fn tell(&self, topics: Topics) -> Result<(), Failure> {
        {
            let mut untold = lock(&self.untold);
            *untold = *untold | topics;
        }
        let mut conn = lock(&self.conn);
        // Whoever had the connection before may have told ours too.
        let topics = std::mem::replace(&mut *lock(&self.untold), Topics::NONE);
        if topics == Topics::NONE {
            return Ok(());
        }
        self.simple(&mut conn, &wake::notice(self.pool.place(), topics)).map(|_| ())
    }

    /// Tries to get the lock of the leader.
    pub(super) fn claim(self: &Arc<Self>) -> Result<Claim> {
        if self.claimed.swap(true, Ordering::AcqRel) {
            return Ok(Claim::Taken);
        }
        let got = self.inside(&mut lock(&self.conn), sql!("leader_claim"));
        if let Ok(rows) = &got
            && rows.iter().flatten().flatten().any(|cell| cell == "t")
        {
            return Ok(Claim::Lock(Ownership { predecessors: Vec::new(), lock: Box::new(Held(Arc::clone(self))) }));
        }
        self.claimed.store(false, Ordering::Release);
        got.map(|_| Claim::Taken).map_err(|failure| failure.error)
    }

    fn simple(&self, conn: &mut Option<Conn>, sql: &str) -> Result<Rows, Failure> {
        self.with(conn, |conn| conn.simple(sql))
    }

    /// The same in a transaction, which knows the schema; a lock that belongs to the session outlives it.
    fn inside(&self, conn: &mut Option<Conn>, sql: &str) -> Result<Rows, Failure> {
        self.with(conn, |conn| {
            conn.enter("BEGIN")?;
            let rows = conn.simple(sql)?;
            conn.simple("COMMIT").map(|_| rows)
        })
    }

    fn with(
        &self,
        conn: &mut Option<Conn>,
        ask: impl FnOnce(&mut Conn) -> Result<Rows, Failure>,
    ) -> Result<Rows, Failure> {
        if conn.as_ref().is_some_and(Conn::is_closed) {
            self.close(conn);
        }
        let gone = |error: Error| Failure { fault: Fault::Gone, error };
        let opened = match conn.take() {
            Some(conn) => conn,
            None => self.pool.open().map_err(gone)?,
        };
        let answer = ask(conn.insert(opened));
        if answer.is_err() {
            self.close(conn);
        }
        answer
    }

    fn close(&self, conn: &mut Option<Conn>) {
        if let Some(conn) = conn.take() {
            self.pool.close(conn);
        }
    }

    /// Ends the connection: it is at a server that only reads, and a lock there says nothing.
    pub(super) fn drop_connection(&self) {
        self.close(&mut lock(&self.conn));
    }

    fn release(&self) {
        {
            let mut conn = lock(&self.conn);
            // Without a connection there is no lock either.
            if conn.is_some() {
                let _ = self.inside(&mut conn, sql!("leader_unclaim")); // closed if that fails, which releases it too
            }
        }
        self.claimed.store(false, Ordering::Release);
    }
}

/// The lock, until dropped. Its connection may have been lost meanwhile: then the epoch tells who leads.
struct Held(Arc<Side>);

impl Drop for Held {
    fn drop(&mut self) {
        // On a thread of its own: a task must not block on another runtime.
        std::thread::scope(|scope| {
            scope.spawn(|| self.0.release());
        });
    }
}
