//! Leases, measured by CLOCK_BOOTTIME of one boot (S1).

use rusqlite::{Row, params};

use super::sql;
use super::tx::{Column, SqliteTx, to_json};
use crate::error::{Error, Result};
use crate::job::{Fence, Number, SecretHash, WorkerId, WorkerProof};
use crate::mutant::{Mutant, planted};
use crate::store::restore::{FLOOR, Floor};
use crate::store::{CancelRequest, Holding, Lease, Leases, Policies as _, Tx as _};
use crate::time::{Span, Timestamp};

impl Leases for SqliteTx<'_> {
    fn grant(&mut self, worker: &WorkerProof, fences: &[Fence], ttl: Span) -> Result<()> {
        let (now, expiry) = (self.now().0, self.expiry(ttl));
        let boot = self.boot().boot.clone();
        for fence in fences {
            let (id, hash) = (worker.id.0.as_bytes().as_slice(), worker.hash.as_bytes());
            let row = params![fence.number, fence.attempt, id, now, boot, expiry, ttl.as_millis(), hash];
            if self.execute(sql!("leases_grant"), row)? != 1 {
                return Err(Error::conflict("no worker of this id and secret is registered"));
            }
        }
        Ok(())
    }

    fn held(&mut self, fences: &[Fence]) -> Result<Vec<Option<Lease>>> {
        fences.iter().map(|f| self.first(sql!("leases_held"), params![f.number, f.attempt], lease)).collect()
    }

    fn extend(&mut self, fences: &[Fence], ttl: Span) -> Result<()> {
        let expiry = self.expiry(ttl);
        let boot = self.boot().boot.clone();
        for f in fences {
            self.execute(sql!("leases_extend"), params![f.number, f.attempt, boot, expiry, ttl.as_millis()])?;
        }
        Ok(())
    }

    fn last_sign(&mut self) -> Result<Option<Span>> {
        let boot = self.boot().clone();
        let at: Option<i64> = self.first(sql!("last_sign"), params![boot.boot], |r| r.get(0))?.flatten();
        Ok(at.map(|at| Span::from_millis(boot.ms.saturating_sub(at))))
    }

    fn forgive(&mut self, away: Span, patience: Span) -> Result<()> {
        let boot = self.boot().clone();
        let times = params![boot.boot, boot.ms, away.as_millis(), patience.as_millis()];
        self.execute(sql!("leases_forgive"), times)?;
        self.execute(sql!("workers_forgive"), times)?;
        self.execute(sql!("nodes_forgive"), times)?;
        Ok(())
    }

    fn release(&mut self, fences: &[Fence]) -> Result<()> {
        for f in fences {
            self.execute(sql!("leases_release"), params![f.number, f.attempt])?;
        }
        Ok(())
    }

    fn expired(&mut self, limit: usize) -> Result<Vec<Lease>> {
        let boot = self.boot().clone();
        let now = if planted(Mutant::LiveReaped) { i64::MAX } else { boot.ms };
        self.all(sql!("leases_expired"), params![boot.boot, now, limit as i64], lease)
    }

    fn leases_of(&mut self, worker: WorkerId) -> Result<Vec<Lease>> {
        self.all(sql!("leases_of_worker"), [worker.0.as_bytes().as_slice()], lease)
    }

    fn floor(&mut self) -> Result<Floor> {
        Ok(Floor::read(self.setting(FLOOR)?.as_deref()))
    }

    fn holdings(&mut self, number: Option<Number>, limit: usize) -> Result<Vec<Holding>> {
        let boot = self.boot().clone();
        self.all(sql!("leases_holdings"), params![boot.boot, boot.ms, number, limit as i64], |r| {
            Ok(Holding {
                number: r.get(0)?,
                worker: r.get::<_, Column<WorkerId>>(1)?.0,
                name: r.get(2)?,
                host: r.get(3)?,
                remains: Span::from_millis(r.get::<_, i64>(4)?.max(0)),
                ttl: Span::from_millis(r.get(5)?),
            })
        })
    }

    fn ask_cancel(&mut self, number: Number, request: &CancelRequest) -> Result<()> {
        self.execute(sql!("leases_ask_cancel"), params![number, to_json(request)?])?;
        Ok(())
    }
}

fn lease(r: &Row) -> rusqlite::Result<Lease> {
    let cancel: Option<String> = r.get(5)?;
    Ok(Lease {
        fence: Fence { number: r.get(0)?, attempt: r.get(1)? },
        worker: r.get::<_, Column<WorkerId>>(2)?.0,
        secret_hash: SecretHash::stored(r.get(6)?),
        worker_name: r.get(3)?,
        started_at: r.get::<_, Column<Timestamp>>(4)?.0,
        // Unreadable wishes about how to end it must not keep it from ending.
        cancel: cancel.map(|text| serde_json::from_str(&text).unwrap_or_default()),
    })
}
