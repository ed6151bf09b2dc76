//! Leases, measured by the server's clock as it stood when the transaction began (S1).

use std::collections::HashMap;

use tokio_postgres::Row;

use super::buffer::Fences;
use super::conn::{Call, values};
use super::sql;
use super::tx::{PgTx, get, natural, to_json};
use crate::error::Result;
use crate::job::{Fence, Number, SecretHash, WorkerId, WorkerProof};
use crate::store::restore::{FLOOR, Floor};
use crate::store::{CancelRequest, Holding, Kept, Lease, Leases, Policies as _, Tx as _};
use crate::time::{Span, Timestamp};

impl Leases for PgTx<'_> {
    fn grant(&mut self, worker: &WorkerProof, fences: &[Fence], ttl: Span) -> Result<()> {
        let (ttl, expiry) = (ttl.as_millis(), self.expiry(ttl));
        self.forget_leases(fences);
        if fences.iter().any(|fence| self.buffer.has_saved(fence.number)) {
            self.flush()?; // an attempt of the same job may be ending in there
        }
        if !self.buffer.grant(worker, fences, ttl, expiry) {
            self.flush()?;
            self.buffer.grant(worker, fences, ttl, expiry);
        }
        Ok(())
    }

    fn held(&mut self, fences: &[Fence]) -> Result<Vec<Option<Lease>>> {
        if fences.is_empty() {
            return Ok(Vec::new());
        }
        // Whoever asks writes about the jobs next.
        let mut held: HashMap<Number, Option<Lease>> = match self.writes() {
            true => {
                if !fences.iter().all(|fence| self.leases.contains_key(&fence.number)) {
                    let numbers: Vec<Number> = fences.iter().map(|fence| fence.number).collect();
                    self.hold(&numbers)?;
                }
                fences.iter().filter_map(|fence| self.leases.remove_entry(&fence.number)).collect()
            }
            false => {
                let Fences { numbers, attempts } = Fences::of(fences);
                let rows = self.read_one(sql!("leases_held"), values![numbers, attempts])?;
                let held = |row| get(row, 0).and_then(|number| Ok((number, Some(lease(number, row, 1)?))));
                rows.iter().map(held).collect::<Result<_>>()?
            }
        };
        let mut find = |fence: &Fence| {
            let is_current = held.get(&fence.number)?.as_ref()?.fence == *fence;
            if is_current { held.remove(&fence.number)? } else { None }
        };
        Ok(fences.iter().map(&mut find).collect())
    }

    fn keep(&mut self, fences: &[Fence], to_extend: bool) -> Result<Vec<Kept>> {
        if fences.is_empty() {
            return Ok(Vec::new());
        }
        let columns = || {
            let Fences { numbers, attempts } = Fences::of(fences);
            values![numbers, attempts]
        };
        let calls = vec![
            Call::new(if to_extend { sql!("leases_keep") } else { sql!("leases_share") }, columns()),
            Call::new(sql!("leases_held"), columns()), // a second look: who is not there now is gone
        ];
        let mut answers = self.read(calls)?.into_iter();
        let mut kept = HashMap::new();
        for row in answers.next().unwrap_or_default() {
            let lease = numbered(&row)?;
            kept.insert(lease.fence, Kept::Held(lease));
        }
        for row in answers.next().unwrap_or_default() {
            kept.entry(numbered(&row)?.fence).or_insert(Kept::Busy);
        }
        Ok(fences.iter().map(|fence| kept.remove(fence).unwrap_or(Kept::Gone)).collect())
    }

    fn extend(&mut self, fences: &[Fence], ttl: Span) -> Result<()> {
        if fences.is_empty() {
            return Ok(());
        }
        if self.buffer.has_leases() {
            self.flush()?;
        }
        self.forget_leases(fences);
        let Fences { numbers, attempts } = Fences::of(fences);
        let columns = values![ttl.as_millis(), self.expiry(ttl), numbers, attempts];
        self.rows(sql!("leases_extend"), columns).map(|_| ())
    }

    fn last_sign(&mut self) -> Result<Option<Span>> {
        if self.clock_is_in_doubt() {
            return Ok(None);
        }
        let at: Option<i64> = self.column(sql!("last_sign"), values![])?.into_iter().next().flatten();
        Ok(at.map(|at| Span::from_millis(self.now().0.saturating_sub(at))))
    }

    fn forgive(&mut self, away: Span, patience: Span) -> Result<()> {
        self.flush()?;
        let now = self.now().0;
        let call = |sql| Call::new(sql, values![now, away.as_millis(), patience.as_millis()]);
        self.run(&[call(sql!("leases_forgive")), call(sql!("workers_forgive")), call(sql!("nodes_forgive"))])?;
        Ok(())
    }

    fn release(&mut self, fences: &[Fence]) -> Result<()> {
        self.forget_leases(fences);
        self.buffer.release(fences);
        Ok(())
    }

    fn expired(&mut self, limit: usize) -> Result<Vec<Lease>> {
        self.flush()?;
        let (now, limit) = (self.now().0, limit as i64);
        if !self.writes() {
            return self.rows(sql!("leases_expired"), values![now, limit])?.iter().map(numbered).collect();
        }
        // Who is being settled at this moment needs no reaper; the rest are looked at again under their locks.
        let locked: Vec<Number> = self.column(sql!("leases_expired_lock"), values![now, limit])?;
        if locked.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(sql!("leases_expired_of"), values![locked, now])?.iter().map(numbered).collect()
    }

    fn leases_of(&mut self, worker: WorkerId) -> Result<Vec<Lease>> {
        self.read_one(sql!("leases_of_worker"), values![worker.0])?.iter().map(numbered).collect()
    }

    fn floor(&mut self) -> Result<Floor> {
        match self.foreseen.floor {
            Some(floor) => Ok(floor),
            None => Ok(Floor::read(self.setting(FLOOR)?.as_deref())),
        }
    }

    fn holdings(&mut self, number: Option<Number>, limit: usize) -> Result<Vec<Holding>> {
        let now = self.now().0;
        let rows = self.read_one(sql!("leases_holdings"), values![now, number, limit as i64])?;
        let holding = |row: &Row| {
            Ok(Holding {
                number: get(row, 0)?,
                worker: WorkerId(get(row, 1)?),
                name: get(row, 2)?,
                host: get(row, 3)?,
                remains: Span::from_millis(get::<i64>(row, 4)?.max(0)),
                ttl: Span::from_millis(get(row, 5)?),
            })
        };
        rows.iter().map(holding).collect()
    }

    fn ask_cancel(&mut self, number: Number, request: &CancelRequest) -> Result<()> {
        self.flush()?;
        self.leases.remove(&number);
        self.rows(sql!("leases_ask_cancel"), values![number, to_json(request)?])?;
        Ok(())
    }
}

impl PgTx<'_> {
    /// They will not be as they were read.
    fn forget_leases(&mut self, fences: &[Fence]) {
        for fence in fences {
            self.leases.remove(&fence.number);
        }
    }
}

/// The lease on `number` in the columns from `at` on.
pub(super) fn lease(number: Number, row: &Row, at: usize) -> Result<Lease> {
    let cancel: Option<String> = get(row, at + 4)?;
    Ok(Lease {
        fence: Fence { number, attempt: natural(row, at)? },
        worker: WorkerId(get(row, at + 1)?),
        secret_hash: SecretHash::stored(get(row, at + 5)?),
        worker_name: get(row, at + 2)?,
        started_at: Timestamp(get(row, at + 3)?),
        // Unreadable wishes about how to end it must not keep it from ending.
        cancel: cancel.map(|text| serde_json::from_str(&text).unwrap_or_default()),
    })
}

/// The lease in a row that begins with its number.
fn numbered(row: &Row) -> Result<Lease> {
    lease(get(row, 0)?, row, 1)
}
