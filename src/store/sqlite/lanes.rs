//! Lanes: what a lease chooses between, and the limits on them.

use rusqlite::{Row, params};

use super::policies::limits;
use super::sql;
use super::tx::{Column, SqliteTx, to_json};
use crate::error::Result;
use crate::job::lanes::{Lane, Needs, OpenLane};
use crate::job::{LaneId, Number, State};
use crate::store::{Lanes, QueueTotals, Quota, RATE_WINDOW, Tx as _};
use crate::time::Timestamp;

impl Lanes for SqliteTx<'_> {
    fn lane(&mut self, queue: &str, tenant: &str, limit_key: Option<&str>, needs: &str) -> Result<LaneId> {
        if let Some(lane) = self.find_lane(queue, tenant, limit_key, needs)? {
            return Ok(lane);
        }
        let words = params![queue, tenant, limit_key.unwrap_or(""), needs];
        self.execute(sql!("queues_insert"), [queue])?;
        self.execute(sql!("tenants_insert"), [tenant])?;
        let lane = self.first(sql!("lanes_insert"), words, |r| r.get(0))?;
        Ok(lane.unwrap_or_default())
    }

    fn find_lane(&mut self, queue: &str, tenant: &str, limit_key: Option<&str>, needs: &str) -> Result<Option<LaneId>> {
        let words = params![queue, tenant, limit_key.unwrap_or(""), needs];
        self.first(sql!("lanes_find"), words, |r| r.get(0))
    }

    fn lanes(&mut self, skip: usize, limit: usize, _most: u32) -> Result<Vec<Lane>> {
        self.flush()?;
        self.all(sql!("lanes_turn"), params![skip as i64, limit as i64], |r| {
            let key: String = r.get(3)?;
            Ok(Lane {
                id: r.get(0)?,
                queue: r.get(1)?,
                tenant: r.get(2)?,
                limit_key: (!key.is_empty()).then_some(key),
                needs: Needs::of_key(&r.get::<_, String>(4)?),
                pending: r.get(5)?,
                queue_room: r.get(6)?,
                tenant_room: r.get(7)?,
                key_room: r.get(8)?,
            })
        })
    }

    fn reserve(&mut self, _lanes: &mut [Lane]) -> Result<()> {
        Ok(()) // nobody else writes meanwhile
    }

    fn pending(&mut self, lane: LaneId, limit: usize) -> Result<Vec<Number>> {
        self.all(sql!("lanes_pending"), params![lane, limit as i64], |r| r.get(0))
    }

    fn open_lanes(&mut self, limit: usize) -> Result<Vec<OpenLane>> {
        self.flush()?;
        self.all(sql!("lanes_open"), [limit as i64], |r| {
            Ok(OpenLane {
                id: r.get(0)?,
                queue: r.get(1)?,
                tenant: r.get(2)?,
                needs: Needs::of_key(&r.get::<_, String>(3)?),
                blocked: r.get(4)?,
                scheduled: r.get(5)?,
                pending: r.get(6)?,
                running: r.get(7)?,
                paused: r.get(8)?,
            })
        })
    }

    fn next_due(&mut self, lanes: &[LaneId]) -> Result<Option<Timestamp>> {
        Ok(self.first(sql!("lanes_next_due"), [to_json(&lanes)?], |r| r.get::<_, Column<Timestamp>>(0))?.map(|c| c.0))
    }

    fn served(&mut self, lanes: &[LaneId]) -> Result<()> {
        // What was taken has its events, and their places only grow.
        let at = self.last_seq;
        for lane in lanes.iter().filter(|_| at > 0) {
            self.execute(sql!("lanes_served"), params![lane, at])?;
        }
        Ok(())
    }

    fn limit_key(&mut self, tenant: &str, key: &str, max: u32) -> Result<u32> {
        self.execute(sql!("limits_insert"), params![tenant, key, max])?;
        let found = self.first(sql!("limits_find"), [tenant, key], |r| r.get(0))?;
        Ok(found.unwrap_or(max))
    }

    fn quotas(&mut self, lane: LaneId) -> Result<Vec<Quota>> {
        self.flush()?;
        let found =
            self.first(sql!("lanes_quotas"), [lane], |r| Ok([quota("queue", r, 0)?, quota("tenant", r, 5)?]))?;
        let (now, window) = (self.now().0, RATE_WINDOW.as_millis());
        let mut quotas: Vec<Quota> = found.into_iter().flatten().flatten().collect();
        for quota in quotas.iter_mut().filter(|q| q.per_minute.is_some()) {
            let of = params![quota.scope, quota.name, now - window, now + window];
            let sum = self.first(sql!("submissions_sum"), of, |r| Ok((r.get(0)?, r.get::<_, Option<i64>>(1)?)))?;
            let (submitted, first_at) = sum.unwrap_or_default();
            (quota.submitted, quota.first_at) = (submitted, first_at.map(Timestamp));
        }
        Ok(quotas)
    }

    fn submitted(&mut self, scope: &'static str, name: &str) {
        self.counts.submit(scope, name);
    }

    fn is_quiet(&mut self) -> Result<bool> {
        self.flush()?;
        Ok(self.first(sql!("queues_quiet"), [], |r| r.get(0))?.unwrap_or_default())
    }

    fn totals(&mut self, tenant: Option<&str>) -> Result<Vec<QueueTotals>> {
        self.flush()?;
        let mut queues = match tenant {
            None => self.all(sql!("queues_totals"), [], totals)?,
            Some(tenant) => self.all(sql!("queues_totals_of"), [tenant], totals)?,
        };
        for queue in queues.iter_mut().filter(|q| q.counts[&State::Pending] > 0) {
            let oldest = self.first(sql!("queues_oldest"), params![queue.name, tenant], |r| {
                r.get::<_, Option<Column<Timestamp>>>(0)
            })?;
            queue.oldest_pending_at = oldest.flatten().map(|c| c.0);
        }
        Ok(queues)
    }

    fn tidy(&mut self) -> Result<()> {
        Ok(()) // counted in place
    }
}

fn quota(scope: &'static str, r: &Row, at: usize) -> rusqlite::Result<Option<Quota>> {
    let quota = Quota {
        scope,
        name: r.get(at)?,
        max_queued: r.get(at + 1)?,
        queued: r.get(at + 2)?,
        per_minute: r.get(at + 3)?,
        submitted: 0,
        first_at: None,
        max_payload: r.get(at + 4)?,
    };
    let limits = [quota.max_queued, quota.per_minute, quota.max_payload];
    Ok(limits.iter().any(Option::is_some).then_some(quota))
}

fn totals(r: &Row) -> rusqlite::Result<QueueTotals> {
    let counts = State::ALL
        .into_iter()
        .enumerate()
        .map(|(i, state)| Ok((state, r.get(6 + i)?)))
        .collect::<rusqlite::Result<_>>()?;
    Ok(QueueTotals {
        name: r.get(0)?,
        paused: r.get(1)?,
        shared: r.get(14)?,
        limits: limits(r, 2)?,
        counts,
        oldest_pending_at: None,
    })
}
