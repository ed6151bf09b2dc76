//! A few connections, kept for the next who needs one.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::place::Place;
use super::wake::{self, Own};
use crate::error::{Error, Result};

/// How long one waits for a connection that others have.
const LIMIT: Duration = Duration::from_secs(60);

/// The connections.
pub(super) struct Pool {
    place: Place,
    own: Own,
    /// How many there are at most.
    most: usize,
    /// How long their statements wait for a lock.
    lock_limit: Duration,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Conn>,
    open: usize,
}

impl Pool {
    pub(super) fn new(place: Place, own: Own, most: usize, lock_limit: Duration) -> Self {
        Self { place, own, most, lock_limit, state: Mutex::default(), freed: Condvar::new() }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// A connection for the caller alone; it is given back or forgotten.
    pub(super) fn take(&self) -> Result<Conn> {
        let deadline = Instant::now() + LIMIT;
        let mut state = self.lock();
        loop {
            while let Some(conn) = state.idle.pop() {
                if !conn.is_closed() {
                    return Ok(conn);
                }
                state.open -= 1;
                self.disown(&conn);
            }
            if state.open < self.most {
                state.open += 1;
                drop(state);
                return self.open().inspect_err(|_| self.count_down());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::unavailable("all connections to PostgreSQL are busy"));
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A connection beside those of the pool.
    pub(super) fn open(&self) -> Result<Conn> {
        let conn = Conn::open(&self.place, self.lock_limit)?;
        wake::adopt(&self.own, conn.backend, &conn.era).map_err(|e| e.context(&self.place))?;
        Ok(conn)
    }

    /// Ends a connection that is not of the pool.
    pub(super) fn close(&self, conn: Conn) {
        self.disown(&conn);
    }

    /// It can be used again.
    pub(super) fn give(&self, conn: Conn) {
        if conn.is_closed() {
            return self.forget(conn);
        }
        self.lock().idle.push(conn);
        self.freed.notify_one();
    }

    /// It is lost.
    pub(super) fn forget(&self, conn: Conn) {
        self.disown(&conn);
        drop(conn);
        self.count_down();
    }

    /// Ends those that nobody uses: they are at a server that is of no use.
    pub(super) fn drain(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        idle.into_iter().for_each(|conn| self.forget(conn));
    }

    fn disown(&self, conn: &Conn) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).all.remove(&conn.backend);
    }

    fn count_down(&self) {
        self.lock().open -= 1;
        self.freed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
