//! The processes around the store.

use uuid::Uuid;

use super::conn::{Call, values};
use super::sql;
use super::tx::{PgTx, damaged, get, text, to_json};
use crate::error::Result;
use crate::job::lanes::Offer;
use crate::job::{Number, SecretHash, WorkerId};
use crate::store::{Fleet, KnownWorker, Leader, NewNode, NewWorker, Node, Tx as _, Worker, WorkerState};
use crate::time::{Span, Timestamp};

/// By how much the server's clock may differ from the boot clock's progress before leases are shifted (S1).
const DRIFT: i64 = 1000;

impl Fleet for PgTx<'_> {
    fn register(&mut self, worker: &NewWorker, secret: &SecretHash, ttl: Span) -> Result<SecretHash> {
        let hash = self.column(
            sql!("workers_register"),
            values![
                worker.id.0,
                worker.name.clone(),
                worker.host.clone(),
                i64::from(worker.pid),
                to_json(&worker.offer)?,
                i64::from(worker.slots),
                worker.version.clone(),
                worker.solo,
                self.now().0,
                ttl.as_millis(),
                self.expiry(ttl),
                secret.as_bytes().to_vec(),
            ],
        )?;
        Ok(SecretHash::stored(hash.into_iter().next().ok_or_else(damaged)?))
    }

    fn registered(&mut self, id: WorkerId) -> Result<Option<KnownWorker>> {
        let rows = self.read_one(sql!("workers_registered"), values![id.0])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (offer, secret) = (get::<String>(row, 2)?, SecretHash::stored(get(row, 3)?));
        Ok(Some(KnownWorker::new(get(row, 0)?, get(row, 1)?, offer.as_bytes(), secret)))
    }

    fn count_workers(&mut self) -> Result<usize> {
        let counted: Vec<i64> = self.column(sql!("workers_count"), values![])?;
        Ok(counted.first().map_or(0, |count| (*count).max(0) as usize))
    }

    fn heartbeat(
        &mut self,
        id: WorkerId,
        ttl: Span,
        trouble: Option<&str>,
    ) -> Result<Option<(WorkerState, SecretHash)>> {
        let beat = values![id.0, self.now().0, self.expiry(ttl), trouble.map(text)];
        let rows = self.rows(sql!("workers_heartbeat"), beat)?;
        let known = |row| Ok((worker_state(&get::<String>(row, 0)?), SecretHash::stored(get(row, 1)?)));
        rows.first().map(known).transpose()
    }

    fn deregister(&mut self, id: WorkerId) -> Result<()> {
        self.flush()?;
        self.rows(sql!("workers_deregister"), values![id.0])?;
        Ok(())
    }

    fn workers(&mut self) -> Result<Vec<Worker>> {
        self.flush()?;
        let rows = self.rows(sql!("workers_list"), values![self.now().0])?;
        rows.iter()
            .map(|row| {
                // A worker whose offer cannot be read is there all the same.
                let Offer { queues, labels, handlers, tenant, .. } =
                    serde_json::from_str(&get::<String>(row, 5)?).unwrap_or_default();
                Ok(Worker {
                    id: WorkerId(get(row, 0)?),
                    name: get(row, 1)?,
                    host: get(row, 2)?,
                    pid: u32::try_from(get::<i64>(row, 3)?).unwrap_or_default(),
                    state: match get(row, 11)? {
                        true => WorkerState::Lost,
                        false => worker_state(&get::<String>(row, 4)?),
                    },
                    queues,
                    labels,
                    handlers,
                    slots: u32::try_from(get::<i64>(row, 6)?).unwrap_or_default(),
                    running: get::<Vec<Number>>(row, 12)?,
                    version: get(row, 7)?,
                    started_at: Timestamp(get(row, 9)?),
                    heartbeat_at: Timestamp(get(row, 10)?),
                    solo: get(row, 8)?,
                    trouble: get(row, 13)?,
                    tenant,
                })
            })
            .collect()
    }

    fn lost_workers(&mut self) -> Result<Vec<Worker>> {
        let lost: Vec<Uuid> = self.column(sql!("workers_lost_lock"), values![self.now().0])?;
        match lost.is_empty() {
            true => Ok(Vec::new()),
            false => {
                let lost = |w: &Worker| lost.contains(&w.id.0) && w.running.is_empty();
                Ok(self.workers()?.into_iter().filter(lost).collect())
            }
        }
    }

    fn shortest_lease(&mut self, settled: Span) -> Result<Option<Span>> {
        let now = self.now().0;
        let times = values![now, now.saturating_sub(settled.as_millis())];
        let ttl: Option<Option<i64>> =
            self.read_one(sql!("workers_shortest"), times)?.first().map(|row| get(row, 0)).transpose()?;
        Ok(ttl.flatten().map(Span::from_millis))
    }

    fn ask_drain(&mut self, id: WorkerId) -> Result<()> {
        self.rows(sql!("workers_drain"), values![id.0])?;
        Ok(())
    }

    fn leader(&mut self) -> Result<Option<Leader>> {
        let mut calls = vec![Call::new(sql!("leader_find"), values![])];
        if self.writes() {
            // One at a time: two that found the leader silent must not both take over.
            calls.insert(0, Call::new(sql!("leader_lock"), values![]));
        }
        let rows = self.run(&calls)?.pop().unwrap_or_default();
        let leader = rows.first().map(|row| {
            let seen_at: i64 = get(row, 2)?;
            let age = if self.clock_is_in_doubt() { 0 } else { (self.now().0 - seen_at).max(0) };
            Ok(Leader {
                name: get(row, 0)?,
                epoch: get(row, 1)?,
                seen_at: Timestamp(seen_at),
                age: Some(Span::from_millis(age)),
                released: get(row, 3)?,
            })
        });
        leader.transpose()
    }

    fn lead(&mut self, name: &str) -> Result<i64> {
        let (boot, ms) = self.boot_mark();
        let take = Call::new(sql!("leader_take"), values![name.to_owned(), self.now().0, boot, ms]);
        let epoch = self.mark_leader(take)?;
        Ok(epoch.unwrap_or_default())
    }

    fn still_leads(&mut self, epoch: i64) -> Result<bool> {
        let (boot, ms) = self.boot_mark();
        let seen = Call::new(sql!("leader_seen"), values![epoch, self.now().0, boot, ms]);
        Ok(self.mark_leader(seen)?.is_some())
    }

    fn resign(&mut self, epoch: i64) -> Result<()> {
        self.rows(sql!("leader_release"), values![epoch])?;
        Ok(())
    }

    fn announce(&mut self, node: &NewNode, ttl: Span) -> Result<bool> {
        let draining = self.column(
            sql!("nodes_announce"),
            values![
                node.id,
                node.name.clone(),
                node.host.clone(),
                i64::from(node.pid),
                node.address.clone(),
                node.version.clone(),
                node.load,
                node.draining,
                self.now().0,
                ttl.as_millis(),
                self.expiry(ttl),
                to_json(&node.peers)?,
                to_json(&node.homes)?,
            ],
        )?;
        Ok(draining.into_iter().next().unwrap_or_default())
    }

    fn nodes(&mut self) -> Result<Vec<Node>> {
        let rows = self.rows(sql!("nodes_list"), values![self.now().0])?;
        rows.iter()
            .map(|row| {
                Ok(Node {
                    id: get(row, 0)?,
                    name: get(row, 1)?,
                    host: get(row, 2)?,
                    pid: u32::try_from(get::<i64>(row, 3)?).unwrap_or_default(),
                    address: get(row, 4)?,
                    version: get(row, 5)?,
                    load: get(row, 6)?,
                    draining: get(row, 7)?,
                    // What cannot be read of its neighbours it says anew with its next heartbeat.
                    peers: serde_json::from_str(&get::<String>(row, 11)?).unwrap_or_default(),
                    homes: serde_json::from_str(&get::<String>(row, 12)?).unwrap_or_default(),
                    started_at: Timestamp(get(row, 8)?),
                    heartbeat_at: Timestamp(get(row, 9)?),
                    lost: get(row, 10)?,
                })
            })
            .collect()
    }

    fn drain_node(&mut self, id: Uuid) -> Result<()> {
        self.rows(sql!("nodes_drain"), values![id])?;
        Ok(())
    }

    fn retire(&mut self, id: Uuid) -> Result<()> {
        self.rows(sql!("nodes_retire"), values![id])?;
        Ok(())
    }
}

impl PgTx<'_> {
    /// Marks the leader by a statement that gives its epoch, and follows the server's clock if it jumped since the mark
    /// before.
    fn mark_leader(&mut self, mark: Call) -> Result<Option<i64>> {
        let mut answers = self.run(&[Call::new(sql!("leader_hold"), values![]), mark])?;
        let epoch = answers.pop().unwrap_or_default().first().map(|row| get(row, 0)).transpose()?;
        let before = answers.pop().unwrap_or_default();
        if let (true, Some(row)) = (epoch.is_some(), before.first()) {
            self.follow_clock(get(row, 0)?, &get::<String>(row, 1)?, get(row, 2)?)?;
        }
        Ok(epoch)
    }

    /// Shifts what is measured by the server's clock where that jumped since it showed `last` and the boot clock of this
    /// machine `last_ms` (S1).
    fn follow_clock(&mut self, last: i64, last_boot: &str, last_ms: i64) -> Result<()> {
        let ((boot, ms), now) = (self.boot_mark(), self.now().0);
        let drift = (now - last) - (ms - last_ms);
        if boot.is_empty() || boot != last_boot || drift.abs() <= DRIFT {
            return Ok(());
        }
        if ms < last_ms {
            // Another has followed it since this one began: by the clock of then all would have run out, or nothing.
            return Err(self.again("the server's clock jumped"));
        }
        tracing::warn!(drift_ms = drift, "the server's clock jumped: leases of before are shifted");
        let half_way = now - drift / 2;
        let call = |sql| Call::new(sql, values![drift, half_way]);
        self.run(&[call(sql!("leases_shift")), call(sql!("workers_shift")), call(sql!("nodes_shift"))])?;
        Ok(())
    }
}

fn worker_state(word: &str) -> WorkerState {
    match word {
        "draining" => WorkerState::Draining,
        _ => WorkerState::Active,
    }
}
