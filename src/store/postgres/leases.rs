//! Leases, measured by the server's clock as it stood when the transaction began (S1).

use tokio_postgres::Row;

use super::buffer::Fences;
use super::conn::{Call, values};
use super::sql;
use super::tx::{PgTx, get, natural, to_json};
use crate::error::Result;
use crate::job::{Fence, Number, WorkerId};
use crate::store::{CancelRequest, Lease, Leases, Tx as _};
use crate::time::{Span, Timestamp};

impl Leases for PgTx<'_> {
    fn grant(&mut self, worker: WorkerId, fences: &[Fence], ttl: Span) -> Result<()> {
        let (ttl, expiry) = (ttl.as_millis(), self.expiry(ttl));
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
        let Fences { numbers, attempts } = Fences::of(fences);
        let held = Call::new(sql!("leases_held"), values![numbers.clone(), attempts]);
        // Whoever asks writes about the jobs next.
        let rows = match self.writes() {
            true => self.lock_and_read(&numbers, Some(held))?,
            false => self.read(vec![held])?.pop().unwrap_or_default(),
        };
        let mut held = rows.iter().map(lease).collect::<Result<Vec<_>>>()?;
        let find = |fence: &Fence| {
            let place = held.iter().position(|lease| lease.fence == *fence)?;
            Some(held.swap_remove(place))
        };
        Ok(fences.iter().map(find).collect())
    }

    fn extend(&mut self, fences: &[Fence], ttl: Span) -> Result<()> {
        if fences.is_empty() {
            return Ok(());
        }
        if self.buffer.has_leases() {
            self.flush()?;
        }
        let Fences { numbers, attempts } = Fences::of(fences);
        self.rows(sql!("leases_extend"), values![ttl.as_millis(), self.expiry(ttl), numbers, attempts])?;
        Ok(())
    }

    fn forgive(&mut self) -> Result<()> {
        self.flush()?;
        let now = self.now().0;
        let call = |sql| Call::new(sql, values![now]);
        self.run(&[call(sql!("leases_forgive")), call(sql!("workers_forgive")), call(sql!("nodes_forgive"))])?;
        Ok(())
    }

    fn release(&mut self, fences: &[Fence]) -> Result<()> {
        self.buffer.release(fences);
        Ok(())
    }

    fn expired(&mut self, limit: usize) -> Result<Vec<Lease>> {
        self.flush()?;
        let (now, limit) = (self.now().0, limit as i64);
        if !self.writes() {
            return self.rows(sql!("leases_expired"), values![now, limit])?.iter().map(lease).collect();
        }
        // Who is being settled at this moment needs no reaper; the rest are looked at again under their locks.
        let locked: Vec<Number> = self.column(sql!("leases_expired_lock"), values![now, limit])?;
        if locked.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(sql!("leases_expired_of"), values![locked, now])?.iter().map(lease).collect()
    }

    fn leases_of(&mut self, worker: WorkerId) -> Result<Vec<Lease>> {
        self.flush()?;
        let call = |sql| Call::new(sql, values![worker.0]);
        let mut calls = vec![call(sql!("leases_of_worker"))];
        if self.writes() {
            calls.insert(0, call(sql!("leases_of_worker_lock")));
        }
        self.run(&calls)?.pop().unwrap_or_default().iter().map(lease).collect()
    }

    fn ask_cancel(&mut self, number: Number, request: &CancelRequest) -> Result<()> {
        self.flush()?;
        self.rows(sql!("leases_ask_cancel"), values![number, to_json(request)?])?;
        Ok(())
    }
}

fn lease(row: &Row) -> Result<Lease> {
    let cancel: Option<String> = get(row, 5)?;
    Ok(Lease {
        fence: Fence { number: get(row, 0)?, attempt: natural(row, 1)? },
        worker: WorkerId(get(row, 2)?),
        worker_name: get(row, 3)?,
        started_at: Timestamp(get(row, 4)?),
        // Unreadable wishes about how to end it must not keep it from ending.
        cancel: cancel.map(|text| serde_json::from_str(&text).unwrap_or_default()),
    })
}
