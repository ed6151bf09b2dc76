//! What peers are told of a store: the slots and offers of its workers, and what waits there.

use serde::Serialize;

use crate::job::WorkerId;
use crate::job::lanes::Offer;
use crate::store::{Waiting, Worker, WorkerState};
use crate::worker::Slots;

/// As much of what waits as peers are told, in bytes: a node's words must fit into 16 KiB together.
const MAX_WAITING: usize = 12 * 1024;
/// As much of the offers.
const MAX_OFFERS: usize = 1536;

/// Slots, as gossip has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    total: u32,
    free: u32,
}

/// The slots of all workers that take jobs of this store, the coordinator's `own` among them. Those that peers lend are
/// theirs to tell of.
pub(super) fn slots(own: Option<(WorkerId, &Slots)>, workers: &[&Worker]) -> Told {
    let told = own.map_or(Told::default(), |(_, slots)| Told { total: slots.total(), free: slots.spare() });
    let others = workers.iter().filter(|worker| own.is_none_or(|(id, _)| worker.id != id));
    others.fold(told, |told, worker| {
        let running = u32::try_from(worker.running.len()).unwrap_or(u32::MAX);
        Told {
            total: told.total.saturating_add(worker.slots),
            free: told.free.saturating_add(worker.slots.saturating_sub(running)),
        }
    })
}

/// What they can run, each kind once.
pub(super) fn offers(workers: &[&Worker]) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for worker in workers {
        let (queues, labels, handlers) = (worker.queues.clone(), worker.labels.clone(), worker.handlers.clone());
        let offer = Offer { queues, labels, handlers, tenant: worker.tenant.clone(), ..Offer::default() };
        if !offers.contains(&offer) {
            offers.push(offer);
        }
    }
    fitting(offers, MAX_OFFERS)
}

/// What waits.
pub(super) fn waiting(waiting: Vec<Waiting>) -> Vec<Waiting> {
    fitting(waiting, MAX_WAITING)
}

/// Those that there is room for, in bytes.
fn fitting<T: Serialize>(mut all: Vec<T>, mut room: usize) -> Vec<T> {
    all.retain(|one| {
        let size = serde_json::to_vec(one).map_or(usize::MAX, |text| text.len() + 1);
        let fits = size <= room;
        room -= if fits { size } else { 0 };
        fits
    });
    all
}

/// Those that are of this store's own: not gone, not about to go, not a command that runs its own job, nobody's from
/// one of the `peers`.
pub(super) fn own_workers<'a>(workers: &'a [Worker], peers: &[&String]) -> Vec<&'a Worker> {
    let is_lent = |worker: &Worker| {
        let helper = worker.name.strip_prefix("peer-");
        helper.is_some_and(|helper| {
            let of =
                |peer: &&String| helper.strip_prefix(peer.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.'));
            peers.iter().any(of)
        })
    };
    let takes = |worker: &&Worker| worker.state == WorkerState::Active && !worker.solo && !is_lent(worker);
    workers.iter().filter(takes).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn worker(n: u128, name: &str, slots: u32, running: &[i64], handlers: &[&str]) -> Worker {
        let at = "2026-01-01T00:00:00Z";
        serde_json::from_value(json!({
            "id": uuid::Uuid::from_u128(n), "name": name, "host": "h", "pid": 1, "state": "active", "queues": [],
            "labels": {}, "handlers": handlers, "slots": slots, "running": running, "version": "0", "started_at": at,
            "heartbeat_at": at,
        }))
        .unwrap()
    }

    #[test]
    fn slots_of_all_workers_are_told_and_what_peers_lend_is_not() {
        let (east, west) = ("east".to_owned(), "west".to_owned());
        let all = [
            worker(1, "own", 4, &[1], &["mail"]),
            worker(2, "beside", 3, &[2, 3], &["mail"]),
            worker(3, "peer-east.beside", 8, &[], &[]),
            worker(4, "peer-west", 8, &[], &[]),
            worker(5, "peer-eastern", 2, &[], &["post"]),
            Worker { state: WorkerState::Lost, ..worker(6, "gone", 9, &[], &[]) },
            Worker { solo: true, ..worker(7, "run", 1, &[], &[]) },
        ];
        let mine = own_workers(&all, &[&east, &west]);
        let names: Vec<_> = mine.iter().map(|worker| worker.name.as_str()).collect();
        assert_eq!(names, ["own", "beside", "peer-eastern"]);
        assert_eq!(slots(None, &mine), Told { total: 9, free: 6 });
        let own = Slots::new(4);
        let seat = own.own();
        seat.hope(false);
        assert_eq!(slots(Some((all[0].id, &own)), &mine), Told { total: 9, free: 7 }, "its own it knows best");
        let handlers: Vec<_> = offers(&mine).into_iter().map(|offer| offer.handlers).collect();
        assert_eq!(handlers, [["mail"], ["post"]]);
    }

    #[test]
    fn what_is_too_long_to_be_told_is_left_out_and_the_rest_told() {
        let kind = |queue: String| Waiting { queue, needs: Default::default(), pending: 1 };
        let long = "x".repeat(MAX_WAITING);
        let told = waiting(vec![kind("a".into()), kind(long), kind("b".into())]);
        assert_eq!(told.iter().map(|kind| kind.queue.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let many = waiting((0..200).map(|n| kind(format!("{n:0200}"))).collect());
        assert!(many.len() > 40 && serde_json::to_vec(&many).unwrap().len() <= MAX_WAITING + 1, "{}", many.len());
    }

    #[test]
    fn offers_are_told_as_far_as_there_is_room() {
        let many: Vec<Worker> = (0..99).map(|n| worker(n, "w", 1, &[], &[&format!("handler-{n}")])).collect();
        let told = offers(&many.iter().collect::<Vec<_>>());
        let size = serde_json::to_vec(&told).unwrap().len();
        assert!(told.len() > 5 && size <= MAX_OFFERS + 1, "{} in {size}", told.len());
    }
}
