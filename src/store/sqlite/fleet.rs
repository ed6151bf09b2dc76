//! The processes around the store.

use rusqlite::params;
use uuid::Uuid;

use super::sql;
use super::tx::{Column, SqliteTx, json, to_json};
use crate::error::Result;
use crate::job::lanes::Offer;
use crate::job::{SecretHash, WorkerId};
use crate::store::{Fleet, KnownWorker, Leader, NewNode, NewWorker, Node, Tx as _, Worker, WorkerState};
use crate::time::{Span, Timestamp};

impl Fleet for SqliteTx<'_> {
    fn register(&mut self, worker: &NewWorker, secret: &SecretHash, ttl: Span) -> Result<SecretHash> {
        let (now, expiry) = (self.now().0, self.expiry(ttl));
        let boot = self.boot().boot.clone();
        let hash = self.first(
            sql!("workers_register"),
            params![
                worker.id.0.as_bytes().as_slice(),
                worker.name,
                worker.host,
                worker.pid,
                to_json(&worker.offer)?,
                worker.slots,
                worker.version,
                worker.solo,
                now,
                boot,
                expiry,
                ttl.as_millis(),
                secret.as_bytes(),
            ],
            |r| r.get(0),
        )?;
        Ok(SecretHash::stored(hash.unwrap_or_default()))
    }

    fn registered(&mut self, id: WorkerId) -> Result<Option<KnownWorker>> {
        let row = [id.0.as_bytes().as_slice()];
        self.first(sql!("workers_registered"), row, |r| {
            let secret = SecretHash::stored(r.get(3)?);
            Ok(KnownWorker::new(r.get(0)?, r.get(1)?, r.get_ref(2)?.as_bytes()?, secret))
        })
    }

    fn count_workers(&mut self) -> Result<usize> {
        let count: Option<i64> = self.first(sql!("workers_count"), [], |r| r.get(0))?;
        Ok(count.unwrap_or_default().max(0) as usize)
    }

    fn heartbeat(
        &mut self,
        id: WorkerId,
        ttl: Span,
        trouble: Option<&str>,
    ) -> Result<Option<(WorkerState, SecretHash)>> {
        let (now, expiry) = (self.now().0, self.expiry(ttl));
        let boot = self.boot().boot.clone();
        let row = params![id.0.as_bytes().as_slice(), now, boot, expiry, trouble];
        self.first(sql!("workers_heartbeat"), row, |r| {
            Ok((worker_state(&r.get::<_, String>(0)?), SecretHash::stored(r.get(1)?)))
        })
    }

    fn deregister(&mut self, id: WorkerId) -> Result<()> {
        self.execute(sql!("workers_deregister"), [id.0.as_bytes().as_slice()])?;
        Ok(())
    }

    fn workers(&mut self) -> Result<Vec<Worker>> {
        let boot = self.boot().clone();
        let rows = self.all(sql!("workers_list"), params![boot.boot, boot.ms], |r| {
            let lost: bool = r.get(11)?;
            let state = match lost {
                true => WorkerState::Lost,
                false => worker_state(&r.get::<_, String>(4)?),
            };
            let worker = Worker {
                id: r.get::<_, Column<WorkerId>>(0)?.0,
                name: r.get(1)?,
                host: r.get(2)?,
                pid: r.get(3)?,
                state,
                queues: Vec::new(),
                labels: Default::default(),
                handlers: Vec::new(),
                slots: r.get(6)?,
                running: Vec::new(),
                version: r.get(7)?,
                started_at: r.get::<_, Column<Timestamp>>(9)?.0,
                heartbeat_at: r.get::<_, Column<Timestamp>>(10)?.0,
                solo: r.get(8)?,
                trouble: r.get(13)?,
                tenant: None,
            };
            // A worker whose offer cannot be read is there all the same.
            let offer = serde_json::from_slice(r.get_ref(5)?.as_bytes()?).unwrap_or_default();
            Ok((worker, offer, r.get::<_, String>(12)?))
        })?;
        rows.into_iter()
            .map(|(worker, offer, running)| {
                let Offer { queues, labels, handlers, tenant, .. } = offer;
                let running = json(&running)?;
                Ok(Worker { queues, labels, handlers, tenant, running, ..worker })
            })
            .collect()
    }

    fn shortest_lease(&mut self, settled: Span) -> Result<Option<Span>> {
        let (boot, now) = (self.boot().clone(), self.now().0);
        let row = params![boot.boot, boot.ms, now.saturating_sub(settled.as_millis()), now];
        let ttl: Option<i64> = self.first(sql!("workers_shortest"), row, |r| r.get(0))?.flatten();
        Ok(ttl.map(Span::from_millis))
    }

    fn ask_drain(&mut self, id: WorkerId) -> Result<()> {
        self.execute(sql!("workers_drain"), [id.0.as_bytes().as_slice()])?;
        Ok(())
    }

    fn leader(&mut self) -> Result<Option<Leader>> {
        let boot = self.boot().clone();
        self.first(sql!("leader_find"), [], |r| {
            let (same_boot, seen) = (r.get::<_, String>(3)? == boot.boot, r.get::<_, i64>(4)?);
            // Another boot id may be that of another container; a time that has not come yet is that of another boot (S1).
            let of_this_boot = same_boot || seen <= boot.ms;
            Ok(Leader {
                name: r.get(0)?,
                epoch: r.get(1)?,
                seen_at: r.get::<_, Column<Timestamp>>(2)?.0,
                age: of_this_boot.then(|| Span::from_millis(boot.ms - seen)),
                released: r.get(5)?,
            })
        })
    }

    fn lead(&mut self, name: &str) -> Result<i64> {
        let boot = self.boot().clone();
        let now = self.now().0;
        let epoch = self.first(sql!("leader_take"), params![name, now, boot.boot, boot.ms], |r| r.get(0))?;
        Ok(epoch.unwrap_or_default())
    }

    fn still_leads(&mut self, epoch: i64) -> Result<bool> {
        let boot = self.boot().clone();
        let now = self.now().0;
        Ok(self.execute(sql!("leader_seen"), params![epoch, now, boot.boot, boot.ms])? == 1)
    }

    fn resign(&mut self, epoch: i64) -> Result<()> {
        self.execute(sql!("leader_release"), [epoch])?;
        Ok(())
    }

    fn announce(&mut self, node: &NewNode, ttl: Span) -> Result<bool> {
        let (now, expiry) = (self.now().0, self.expiry(ttl));
        let boot = self.boot().boot.clone();
        let row = params![
            node.id.as_bytes().as_slice(),
            node.name,
            node.host,
            node.pid,
            node.address,
            node.version,
            node.load,
            node.draining,
            now,
            ttl.as_millis(),
            boot,
            expiry,
            to_json(&node.peers)?,
            to_json(&node.homes)?,
        ];
        Ok(self.first(sql!("nodes_announce"), row, |r| r.get(0))?.unwrap_or_default())
    }

    fn nodes(&mut self) -> Result<Vec<Node>> {
        let boot = self.boot().clone();
        self.all(sql!("nodes_list"), params![boot.boot, boot.ms], |r| {
            let node = Node {
                id: r.get::<_, Column<WorkerId>>(0)?.0.0,
                name: r.get(1)?,
                host: r.get(2)?,
                pid: r.get(3)?,
                address: r.get(4)?,
                version: r.get(5)?,
                load: r.get(6)?,
                draining: r.get(7)?,
                peers: Vec::new(),
                homes: Vec::new(),
                started_at: r.get::<_, Column<Timestamp>>(8)?.0,
                heartbeat_at: r.get::<_, Column<Timestamp>>(9)?.0,
                lost: r.get(10)?,
            };
            // What cannot be read of its neighbours it says anew with its next heartbeat.
            let peers = serde_json::from_slice(r.get_ref(11)?.as_bytes()?).unwrap_or_default();
            let homes = serde_json::from_slice(r.get_ref(12)?.as_bytes()?).unwrap_or_default();
            Ok(Node { peers, homes, ..node })
        })
    }

    fn drain_node(&mut self, id: Uuid) -> Result<()> {
        self.execute(sql!("nodes_drain"), [id.as_bytes().as_slice()])?;
        Ok(())
    }

    fn retire(&mut self, id: Uuid) -> Result<()> {
        self.execute(sql!("nodes_retire"), [id.as_bytes().as_slice()])?;
        Ok(())
    }
}

fn worker_state(word: &str) -> WorkerState {
    match word {
        "draining" => WorkerState::Draining,
        _ => WorkerState::Active,
    }
}
