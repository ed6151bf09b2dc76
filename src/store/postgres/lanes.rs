//! Lanes: what a lease chooses between, and the limits on them.
//!
//! No counter stands in the way of jobs that are stored and handed out side by side. Where there is a limit, its row is
//! the lock, and what it counts is counted under that lock: leases are few.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::Row;

use super::conn::{Call, values};
use super::policies::{limit, limits};
use super::sql;
use super::tx::{PgTx, get, time};
use crate::error::{Error, Result};
use crate::job::lanes::{Lane, Needs, OpenLane};
use crate::job::{LaneId, Number, State};
use crate::store::{Lanes, QueueTotals, Quota, RATE_WINDOW, Tx as _};
use crate::time::Timestamp;

/// How many lanes are found idle, and how many deltas added up, in one round.
const IDLE_LANES: i64 = 256;
const FOLDED: i64 = 20_000;

impl Lanes for PgTx<'_> {
    fn lane(&mut self, queue: &str, tenant: &str, limit_key: Option<&str>, needs: &str) -> Result<LaneId> {
        let words =
            || values![queue.to_owned(), tenant.to_owned(), limit_key.unwrap_or_default().to_owned(), needs.to_owned()];
        if let Some(lane) = self.find_lane(queue, tenant, limit_key, needs)? {
            return Ok(lane);
        }
        let answers = self.run(&[
            Call::new(sql!("queues_insert"), values![queue.to_owned()]),
            Call::new(sql!("tenants_insert"), values![tenant.to_owned()]),
            Call::new(sql!("lanes_insert"), words()),
            Call::new(sql!("lanes_first_turn"), words()),
            Call::new(sql!("lanes_find"), words()),
        ])?;
        let made = answers.last().and_then(|rows| rows.first());
        made.map(|row| get(row, 0)).transpose()?.ok_or_else(|| Error::failed("a lane could not be made"))
    }

    fn find_lane(&mut self, queue: &str, tenant: &str, limit_key: Option<&str>, needs: &str) -> Result<Option<LaneId>> {
        let key = limit_key.unwrap_or_default().to_owned();
        let words = values![queue.to_owned(), tenant.to_owned(), key, needs.to_owned()];
        let rows = self.rows(sql!("lanes_find"), words)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let lane = get(row, 0)?;
        self.unlimited = (!get::<bool>(row, 1)?).then_some(lane);
        Ok(Some(lane))
    }

    fn lanes(&mut self, skip: usize, limit: usize, most: u32) -> Result<Vec<Lane>> {
        if let Some(lanes) = self.foreseen.take_lanes(skip, limit, most) {
            return Ok(lanes);
        }
        let ending: Vec<Number> = Vec::new();
        let columns = values![skip as i64, limit as i64, i64::from(most), ending];
        self.read_one(sql!("lanes_turn"), columns)?.iter().map(lane).collect()
    }

    fn reserve(&mut self, lanes: &mut [Lane]) -> Result<()> {
        let limited = |l: &&mut Lane| l.queue_room.or(l.tenant_room).or(l.key_room).is_some();
        let lanes: Vec<&mut Lane> = lanes.iter_mut().filter(limited).collect();
        if lanes.is_empty() {
            return Ok(());
        }
        let queues: BTreeSet<String> =
            lanes.iter().filter(|l| l.queue_room.is_some()).map(|l| l.queue.clone()).collect();
        let tenants: BTreeSet<String> =
            lanes.iter().filter(|l| l.tenant_room.is_some()).map(|l| l.tenant.clone()).collect();
        let keys = lanes.iter().filter(|l| l.key_room.is_some());
        let keys = keys.filter_map(|l| Some((l.tenant.clone(), l.limit_key.clone()?)));
        let (owners, keys): (Vec<String>, Vec<String>) = keys.unzip();
        let ids: Vec<LaneId> = lanes.iter().map(|l| l.id).collect();
        // All of them in one order, and the count last: it sees every lease that was given under these locks before.
        let mut answers = self.read(vec![
            Call::new(sql!("lanes_lock_queues"), values![Vec::from_iter(queues)]),
            Call::new(sql!("lanes_lock_tenants"), values![Vec::from_iter(tenants)]),
            Call::new(sql!("lanes_lock_limits"), values![owners, keys]),
            Call::new(sql!("lanes_rooms"), values![ids]),
        ])?;
        let rows = answers.pop().unwrap_or_default();
        let rows: HashMap<LaneId, &Row> = rows.iter().map(|row| Ok((get(row, 0)?, row))).collect::<Result<_>>()?;
        for lane in lanes {
            if let Some(row) = rows.get(&lane.id) {
                (lane.queue_room, lane.tenant_room, lane.key_room) = (room(row, 1)?, room(row, 2)?, room(row, 3)?);
            }
        }
        Ok(())
    }

    fn pending(&mut self, lane: LaneId, limit: usize) -> Result<Vec<Number>> {
        if self.writes() {
            if self.buffer.has_moved(lane) {
                self.flush()?;
            }
            if let Some(numbers) = self.take_foreseen(lane, limit)? {
                return Ok(numbers);
            }
            let rows = self.rows(sql!("lanes_pending_lock"), values![lane, limit as i64])?;
            return self.keep_locked(&rows);
        }
        self.column(sql!("lanes_pending"), values![lane, limit as i64])
    }

    fn open_lanes(&mut self, limit: usize) -> Result<Vec<OpenLane>> {
        let open = |row: &Row| {
            Ok(OpenLane {
                id: get(row, 0)?,
                queue: get(row, 1)?,
                tenant: get(row, 2)?,
                needs: Needs::of_key(&get::<String>(row, 3)?),
                blocked: get(row, 4)?,
                scheduled: get(row, 5)?,
                pending: get(row, 6)?,
                running: get(row, 7)?,
                paused: get(row, 8)?,
            })
        };
        self.read_one(sql!("lanes_open"), values![limit as i64])?.iter().map(open).collect()
    }

    fn next_due(&mut self, lanes: &[LaneId]) -> Result<Option<Timestamp>> {
        let rows = self.read_one(sql!("lanes_next_due"), values![lanes.to_vec()])?;
        rows.first().map(|row| time(row, 0)).transpose().map(Option::flatten)
    }

    fn served(&mut self, lanes: &[LaneId]) -> Result<()> {
        self.buffer.served.extend(lanes);
        Ok(())
    }

    fn limit_key(&mut self, tenant: &str, key: &str, max: u32) -> Result<u32> {
        let words = values![tenant.to_owned(), key.to_owned(), i64::from(max)];
        let find = values![tenant.to_owned(), key.to_owned()];
        let answers = self.run(&[Call::new(sql!("limits_insert"), words), Call::new(sql!("limits_find"), find)])?;
        let found = answers.last().and_then(|rows| rows.first()).map(|row| limit(row, 0)).transpose()?;
        Ok(found.flatten().unwrap_or(max))
    }

    fn quotas(&mut self, lane: LaneId) -> Result<Vec<Quota>> {
        if self.unlimited.take() == Some(lane) {
            return Ok(Vec::new()); // that was just read
        }
        self.flush()?;
        let rows = self.rows(sql!("lanes_quotas"), values![lane])?;
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        let (now, window) = (self.now().0, RATE_WINDOW.as_millis());
        let mut quotas = Vec::new();
        for (scope, at) in [("queue", 0), ("tenant", 4)] {
            let name: String = get(row, at)?;
            let [max_queued, per_minute, max_payload] = [limit(row, at + 1)?, limit(row, at + 2)?, limit(row, at + 3)?];
            if [max_queued, per_minute, max_payload].iter().all(Option::is_none) {
                continue;
            }
            let (lock, queue, tenant) = match scope {
                "queue" => (sql!("lanes_lock_queues"), Some(name.clone()), None),
                _ => (sql!("lanes_lock_tenants"), None, Some(name.clone())),
            };
            let mut quota = Quota {
                scope,
                name: name.clone(),
                max_queued,
                queued: 0,
                per_minute,
                submitted: 0,
                first_at: None,
                max_payload,
            };
            if max_queued.is_none() && per_minute.is_none() {
                quotas.push(quota);
                continue;
            }
            let mut calls = vec![
                Call::new(sql!("lanes_queued"), values![queue, tenant]),
                Call::new(sql!("submissions_sum"), values![scope, name.clone(), now - window, now + window]),
            ];
            if self.writes() {
                calls.insert(0, Call::new(lock, values![vec![name]]));
            }
            let answers = self.run(&calls)?;
            let answers = answers.get(calls.len() - 2..).unwrap_or_default();
            let count = |i: usize| -> Result<u32> {
                match answers.get(i).and_then(|rows| rows.first()) {
                    Some(row) => Ok(u32::try_from(get::<i64>(row, 0)?).unwrap_or(u32::MAX)),
                    None => Ok(0),
                }
            };
            quota.queued = if max_queued.is_some() { count(0)? } else { 0 };
            if per_minute.is_some() {
                quota.submitted = count(1)?;
                quota.first_at =
                    answers.get(1).and_then(|rows| rows.first()).map(|row| time(row, 1)).transpose()?.flatten();
            }
            quotas.push(quota);
        }
        Ok(quotas)
    }

    fn submitted(&mut self, scope: &'static str, name: &str) {
        self.buffer.counts.submit(scope, name);
    }

    fn totals(&mut self, tenant: Option<&str>) -> Result<Vec<QueueTotals>> {
        self.flush()?;
        let tenant = || tenant.map(str::to_owned);
        let mut queues =
            self.rows(sql!("queues_totals"), values![tenant()])?.iter().map(totals).collect::<Result<Vec<_>>>()?;
        for queue in queues.iter_mut().filter(|q| q.counts[&State::Pending] > 0) {
            let oldest = self.rows(sql!("queues_oldest"), values![queue.name.clone(), tenant()])?;
            queue.oldest_pending_at = oldest.first().map(|row| time(row, 0)).transpose()?.flatten();
        }
        Ok(queues)
    }

    fn tidy(&mut self) -> Result<()> {
        self.flush()?;
        let idle: Vec<LaneId> = self.column(sql!("lanes_idle"), values![IDLE_LANES])?;
        let mut calls: Vec<Call> =
            [sql!("counts_fold"), sql!("tallies_fold")].map(|sql| Call::new(sql, values![FOLDED])).into();
        if !idle.is_empty() {
            calls.push(Call::new(sql!("lanes_deactivate"), values![idle]));
        }
        self.run(&calls)?;
        Ok(())
    }
}

/// The lane in a row of lanes_turn.sql.
pub(super) fn lane(row: &Row) -> Result<Lane> {
    let lane = unlimited_lane(row, 0)?;
    Ok(Lane { queue_room: room(row, 6)?, tenant_room: room(row, 7)?, key_room: room(row, 8)?, ..lane })
}

/// The lane in the columns from `at` on, which has no limit.
pub(super) fn unlimited_lane(row: &Row, at: usize) -> Result<Lane> {
    let key: String = get(row, at + 3)?;
    Ok(Lane {
        id: get(row, at)?,
        queue: get(row, at + 1)?,
        tenant: get(row, at + 2)?,
        limit_key: (!key.is_empty()).then_some(key),
        needs: Needs::of_key(&get::<String>(row, at + 4)?),
        pending: u32::try_from(get::<i64>(row, at + 5)?).unwrap_or_default(),
        queue_room: None,
        tenant_room: None,
        key_room: None,
    })
}

/// How many more may run; never less than none, though a limit may have been lowered.
fn room(row: &Row, index: usize) -> Result<Option<u32>> {
    Ok(get::<Option<i64>>(row, index)?.map(|n| u32::try_from(n).unwrap_or_default()))
}

fn totals(row: &Row) -> Result<QueueTotals> {
    let counts =
        State::ALL.into_iter().enumerate().map(|(i, state)| Ok((state, get(row, 6 + i)?))).collect::<Result<_>>()?;
    Ok(QueueTotals {
        name: get(row, 0)?,
        paused: get(row, 1)?,
        shared: get(row, 14)?,
        limits: limits(row, 2)?,
        counts,
        oldest_pending_at: None,
    })
}
