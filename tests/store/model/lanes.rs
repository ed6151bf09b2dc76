//! Whether what a lease took is what it may and must take (S14, S15, S16).

use std::collections::BTreeMap;

use orx::job::{Fence, Number, State, WorkerId};

use super::reference::{Job, Model};

/// Queue, tenant and limit key; requirements are the same for all jobs here.
pub type Lane = (String, String, Option<String>);

/// When each lane was served last, counted in leases.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    now: u32,
    last: BTreeMap<Lane, u32>,
}

impl Turns {
    /// A new lane stands behind those that were served already.
    pub fn meet(&mut self, lane: Lane) {
        self.last.entry(lane).or_insert(self.now);
    }
}

/// A lane before a lease, and what was taken of it.
struct Share {
    lane: Lane,
    pending: Vec<Number>,
    taken: usize,
}

impl Model {
    /// A worker that serves `queues` (empty: all) asked for `slots` jobs and was given `got`.
    pub fn lease(&mut self, worker: WorkerId, queues: &[String], slots: usize, got: &[Fence]) {
        self.pass_timers();
        let mut shares = self.shares(queues);
        assert!(got.len() <= slots, "{} jobs for {slots} slots", got.len());
        assert!(got.is_empty() || self.workers.contains_key(&worker), "a worker that is not registered gets nothing");
        for fence in got {
            let job = self.jobs.get(&fence.number).unwrap_or_else(|| panic!("job {} is not known", fence.number));
            assert_eq!(job.state, State::Pending, "job {} was leased", fence.number);
            let lane = job.order.lane();
            let share = shares.iter_mut().find(|share| share.lane == lane);
            let share = share.unwrap_or_else(|| panic!("job {} is paused or of another worker", fence.number));
            share.taken += 1;
            assert!(self.has_room(&lane), "job {} had no room under the limits", fence.number);
            assert_eq!(self.grant(fence.number, worker), *fence, "the next attempt");
        }
        for share in &shares {
            let first = &share.pending[..share.taken];
            assert!(
                first.iter().all(|n| got.iter().any(|f| f.number == *n)),
                "{first:?} come first in {:?}",
                share.lane
            );
        }
        let open: Vec<&Share> = shares.iter().filter(|s| s.taken < s.pending.len() && self.has_room(&s.lane)).collect();
        if got.len() < slots {
            assert!(open.is_empty(), "{} of {slots} slots are filled, and {:?} waits", got.len(), open[0].pending);
        }
        for (waits, other) in open.iter().flat_map(|waits| shares.iter().map(move |other| (waits, other))) {
            let turn = |share: &Share| self.turns.last[&share.lane];
            let fair = other.taken <= waits.taken || (other.taken == waits.taken + 1 && turn(other) <= turn(waits));
            assert!(fair, "{:?} got {} and {:?} got {}", other.lane, other.taken, waits.lane, waits.taken);
        }
        if !got.is_empty() {
            self.turns.now += 1;
            let now = self.turns.now;
            shares.into_iter().filter(|s| s.taken > 0).for_each(|s| _ = self.turns.last.insert(s.lane, now));
        }
    }

    /// Whether anything could be leased.
    pub fn has_work(&self, queues: &[String]) -> bool {
        let mut later = self.clone();
        later.pass_timers();
        later.shares(queues).iter().any(|share| later.has_room(&share.lane))
    }

    /// The lanes with pending jobs of queues that hand out jobs, each in its order.
    fn shares(&self, queues: &[String]) -> Vec<Share> {
        let mut lanes: BTreeMap<Lane, Vec<(i32, Number)>> = BTreeMap::new();
        let served = |job: &Job| {
            let queue = job.order.queue();
            let paused = self.paused.get(&queue).copied().unwrap_or_default();
            job.state == State::Pending && !paused && (queues.is_empty() || queues.contains(&queue))
        };
        for (number, job) in self.jobs.iter().filter(|(_, job)| served(job)) {
            lanes.entry(job.order.lane()).or_default().push((-i32::from(job.order.priority), *number));
        }
        let share = |(lane, mut pending): (Lane, Vec<(i32, Number)>)| {
            pending.sort_unstable();
            Share { lane, pending: pending.into_iter().map(|(_, number)| number).collect(), taken: 0 }
        };
        lanes.into_iter().map(share).collect()
    }

    fn has_room(&self, (queue, tenant, key): &Lane) -> bool {
        let running = |accept: &dyn Fn(&Job) -> bool| self.count(|job| job.state == State::Running && accept(job));
        let of_queue = self.queues.get(queue).and_then(|l| l.running);
        let of_tenant = self.tenants.get(tenant).and_then(|l| l.running);
        let of_key = key.as_ref().map(|key| self.limits[&(tenant.clone(), key.clone())]);
        let below = |max: Option<u32>, accept: &dyn Fn(&Job) -> bool| max.is_none_or(|max| running(accept) < max);
        below(of_queue, &|job| job.order.queue() == *queue)
            && below(of_tenant, &|job| job.order.tenant() == *tenant)
            && below(of_key, &|job| job.order.tenant() == *tenant && job.order.limit().map(|l| l.0) == *key)
    }
}
