use orx::error::{Kind, Result};
use orx::job::State;
use orx::job::lanes::Offer;
use orx::job::state::Cause;
use orx::ops::cancel::Cancel;
use orx::ops::enqueue::Enqueue;
use orx::ops::lead::{Lead, Right};
use orx::ops::lease::{Lease, LeaseReply};
use orx::ops::outstanding::{Backlog, Outstanding};
use orx::ops::policies::PauseQueue;
use orx::ops::renew::Renewed;
use orx::ops::settle::Settled;
use orx::ops::status::Status;
use orx::ops::sweep::{LastSign, Sweep, Swept};
use orx::ops::workers::ListWorkers;
use orx::ops::{Caller, Op};
use orx::store::{Location, Tx, Work, WorkerState, open};
use orx::time::Span;

use super::support::*;

on_every_store! {
    async fn a_job_is_leased_once_and_runs_to_its_end(f: Fixture) {
        let number = f.add("").await;
        let (a, b) = (f.worker("a", Offer::default()).await, f.worker("b", Offer::default()).await);
        let fence = a.take().await;
        assert_eq!((fence.number, fence.attempt), (number, 1));
        assert!(b.lease(9).await.is_empty(), "it is leased already");
        assert_eq!(f.state(number).await, State::Running);
        assert_eq!(a.exit(fence, 0).await, Settled::Accepted(State::Done));
        assert_eq!(f.story(number).await, "enqueued→pending leased→running settled→done");
        let job = f.job(number).await;
        assert_eq!((job.worker.as_deref(), job.exit_code), (Some("a"), Some(0)));
    }

    async fn priority_orders_within_a_lane_then_the_number(f: Fixture) {
        let a = f.add(r#""priority":-5"#).await;
        let b = f.add("").await;
        let c = f.add(r#""priority":7"#).await;
        let d = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        assert_eq!(w.lease_numbers(9).await, [c, b, d, a]);
    }

    async fn s1_a_jump_of_the_wall_clock_moves_no_lease(f: Fixture) {
        f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        f.sweep().await; // the clock is watched from here on
        const DAY: i64 = 86_400_000;
        for jump in [DAY, -2 * DAY, DAY] {
            f.clock.jump(jump);
            f.clock.pass(Span::from_secs(1));
            assert!(matches!(f.sweep().await, Swept::Done { reaped, .. } if reaped.is_empty()), "{jump}");
        }
        f.clock.jump(-DAY);
        f.clock.pass(TTL);
        assert!(matches!(f.sweep().await, Swept::Done { reaped, .. } if reaped == [fence.number]), "it did freeze");
    }

    async fn s1_a_lease_that_was_renewed_since_a_jump_is_left_alone(f: Fixture) {
        const HOUR: i64 = 3_600_000;
        for jump in [-HOUR, HOUR, -5000, 5000] {
            let (renewed, silent) = (f.add("").await, f.add("").await);
            let w = f.worker("w", Offer::default()).await;
            let (fence, _) = (w.take().await, w.take().await);
            f.sweep().await;
            f.clock.pass(Span::from_secs(4));
            f.clock.jump(jump);
            w.renew(fence).await;
            f.clock.pass(Span::from_secs(1));
            let none = |swept: Swept| matches!(swept, Swept::Done { reaped, .. } if reaped.is_empty());
            assert!(none(f.sweep().await), "{jump}: at once");
            f.clock.pass(Span::from_secs(9));
            assert!(none(f.sweep().await), "{jump}: before any has run out");
            f.clock.pass(Span::from_secs(6));
            let swept = f.sweep().await;
            let all = [renewed, silent];
            assert!(matches!(swept, Swept::Done { reaped, .. } if reaped == all), "{jump}: it did freeze");
            f.clock.pass(Span::from_secs(30));
            f.sweep().await;
            f.queue.call(Cancel { numbers: vec![renewed, silent], ..Cancel::default() }).await.unwrap();
        }
    }

    async fn s1_a_jump_is_found_by_the_next_leader_too(f: Fixture) {
        const DAY: i64 = 86_400_000;
        f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        f.sweep().await;
        f.clock.jump(DAY);
        let epoch = f.queue.call(Lead { name: "next".into(), right: Right::Lock }).await.unwrap().unwrap();
        let swept = f.queue.call(Sweep::of(epoch, 0.5)).await.unwrap();
        assert!(matches!(swept, Swept::Done { reaped, .. } if reaped.is_empty()));
        assert_eq!(f.state(fence.number).await, State::Running);
    }

    async fn s1_a_jump_is_found_though_the_server_was_slow_when_it_happened(f: Fixture) {
        const DAY: i64 = 86_400_000;
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.take().await;
        f.sweep().await;
        f.clock.jump(-DAY);
        f.clock.slow_down(Span::from_millis(600));
        f.sweep().await;
        f.clock.slow_down(Span::ZERO);
        f.sweep().await;
        f.clock.pass(TTL);
        let swept = f.sweep().await;
        assert!(matches!(swept, Swept::Done { reaped, .. } if reaped == [number]), "it did freeze");
    }

    async fn s1_another_boot_means_expired(f: Fixture) {
        if !f.is_local() {
            return; // the server's clock runs on
        }
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.take().await;
        f.clock.reboot();
        f.sweep().await;
        assert_eq!((f.state(number).await, f.job(number).await.losses), (State::Pending, 1));
    }

    async fn s1_another_boot_id_by_the_same_clock_shows_nothing(f: Fixture) {
        if !f.is_local() {
            return; // it goes by the server's clock
        }
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.take().await;
        f.clock.read_another_boot_id();
        f.clock.pass(Span::from_millis(TTL.as_millis() - 1));
        f.sweep().await;
        assert_eq!(f.state(number).await, State::Running, "its lease has not ended");
        let workers = f.queue.call(ListWorkers {}).await.unwrap();
        assert_eq!(workers[0].state, WorkerState::Active);
        f.clock.pass(Span::from_millis(1));
        f.sweep().await;
        assert_eq!((f.state(number).await, f.job(number).await.losses), (State::Pending, 1));
    }

    async fn an_expired_lease_moves_the_job_and_fences_the_old_worker(f: Fixture) {
        let number = f.add("").await;
        let (a, b) = (f.worker("a", Offer::default()).await, f.worker("b", Offer::default()).await);
        let old = a.take().await;
        f.clock.pass(TTL);
        f.sweep().await;
        b.register(&[]).await; // the sweep took both for dead
        let new = b.take().await;
        assert_eq!(new.attempt, 2);
        assert_eq!(a.exit(old, 0).await, Settled::Stale);
        assert_eq!(f.state(number).await, State::Running, "a stale settle changes nothing");
        assert_eq!(b.exit(new, 3).await, Settled::Accepted(State::Failed));
        assert_eq!(a.exit(old, 0).await, Settled::Stale);
        assert_eq!(f.state(number).await, State::Failed);
        assert_eq!(
            f.story(number).await,
            "enqueued→pending leased→running settled→pending leased→running rejected_stale settled→failed rejected_stale"
        );
        let attempts = f.job(number).await.attempts.unwrap();
        assert_eq!(attempts.len(), 2);
    }

    async fn renewing_keeps_a_lease_and_brings_requests(f: Fixture) {
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        let renew = || w.renewal(&[fence]);
        for _ in 0..5 {
            f.clock.pass(Span::from_secs(10));
            assert_eq!(f.queue.call(renew()).await.unwrap(), [Renewed::Held]);
            assert_eq!(f.queue.call(w.heartbeat(&[])).await.unwrap().worker, Some(WorkerState::Active));
            f.sweep().await;
        }
        f.queue.call(Cancel { numbers: vec![number], ..Default::default() }).await.unwrap();
        assert_eq!(f.state(number).await, State::Running, "it ends when its process has ended");
        assert!(matches!(f.queue.call(renew()).await.unwrap()[..], [Renewed::Cancel(_)]));
        assert_eq!(w.end(fence, Cause::Cancel, None).await, Settled::Accepted(State::Cancelled));
        assert_eq!(f.queue.call(renew()).await.unwrap(), [Renewed::Stale]);
    }

    async fn s2_what_a_silent_worker_leased_last_is_its_own_until_that_lease_is_over(f: Fixture) {
        f.add("").await;
        let (silent, other) = (f.worker("silent", Offer::default()).await, f.worker("other", Offer::default()).await);
        f.clock.pass(Span::from_millis(TTL.as_millis() - 1));
        let fence = silent.take().await;
        f.clock.pass(Span::from_millis(1));
        other.register(&[]).await;
        f.sweep().await;
        // By its own clock it has most of a lease yet before it must end the process: another one would run beside it.
        assert!(other.lease(1).await.is_empty());
        assert_eq!(f.queue.call(silent.renewal(&[fence])).await.unwrap(), [Renewed::Held]);
        f.clock.pass(TTL);
        assert!(matches!(f.sweep().await, Swept::Done { reaped, .. } if reaped == [fence.number]));
        other.register(&[]).await;
        assert_eq!(other.lease_numbers(1).await, [fence.number]);
    }

    async fn s8_a_worker_that_restarts_takes_back_its_jobs_at_once(f: Fixture) {
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.take().await;
        let mut again = f.worker("other", Offer::default()).await;
        again.name = "w".into();
        let stranger = f.worker("w", Offer::default()).await;
        assert!(stranger.register(std::slice::from_ref(&again.key)).await.is_empty(), "one of the same name lives");
        assert_eq!(again.register(std::slice::from_ref(&w.key)).await, [number]);
        assert_eq!(f.state(number).await, State::Pending);
        assert_eq!(again.take().await.attempt, 2);
    }

    async fn s8_a_job_whose_process_may_live_is_waited_for(f: Fixture) {
        let (old, young) = (f.add("").await, f.add("").await);
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        f.clock.pass(Span::from_secs(5));
        w.renew(fence).await;
        w.take().await;
        f.clock.pass(Span::from_secs(1));
        let mut again = f.worker("other", Offer::default()).await;
        again.name = "w".into();
        // No process is older than its lease, give or take the clocks.
        let registered = again.register_in_doubt(std::slice::from_ref(&w.key), Some(Span::from_secs(4))).await;
        assert_eq!((registered.taken_back, registered.left), (vec![young], vec![old]));
        assert_eq!((f.state(old).await, f.state(young).await), (State::Running, State::Pending));
        f.clock.pass(TTL);
        assert!(matches!(f.sweep().await, Swept::Done { reaped, .. } if reaped == [old]));
        f.sweep().await;
        let workers = f.queue.call(ListWorkers {}).await.unwrap();
        assert!(workers.iter().all(|worker| worker.id != w.id), "it has no lease any more");
    }

    async fn s25_what_is_left_for_a_worker_is_counted_apart_from_what_it_does_not_wait_for(f: Fixture) {
        let backlog = async |offer: Offer, within: i64| {
            f.queue.call(Outstanding { offer, within: Span::from_millis(within) }).await.unwrap()
        };
        let all = async |within| backlog(Offer::default(), within).await;
        assert_eq!(all(1000).await, Backlog::default());
        f.add(r#""restart":"always""#).await;
        f.add(r#""queue":"held""#).await;
        f.queue.call(PauseQueue { queue: "held".into(), paused: true }).await.unwrap();
        let first = f.add(r#""delay":"10s""#).await;
        f.add(&format!(r#""after":{first}"#)).await;
        f.add(r#""delay":"1h","require":{"gpu":"yes"}"#).await;
        let due = f.job(first).await.due_at;
        let left = Backlog {
            comes: false,
            scheduled: 1,
            next_due: due,
            blocked: 1,
            paused: 1,
            paused_queues: vec!["held".into()],
            services: 1,
            ..Backlog::default()
        };
        assert_eq!(all(9_000).await, left);
        assert_eq!(all(10_000).await, Backlog { comes: true, ..left.clone() });
        let other = Offer { queues: vec!["other".into()], ..Offer::default() };
        assert_eq!(backlog(other, 10_000).await, Backlog::default());
        let labels = [("gpu".to_owned(), "yes".to_owned())].into();
        assert_eq!(backlog(Offer { labels, ..Offer::default() }, 9_000).await.scheduled, 2);
        let one = f.add("").await;
        assert_eq!(all(0).await, Backlog { comes: true, pending: 1, ..left.clone() });
        let w = f.worker("w", Offer { no_services: true, ..Offer::default() }).await;
        let fence = w.take().await;
        assert_eq!(fence.number, one);
        assert_eq!(all(0).await, Backlog { comes: true, running: 1, ..left.clone() });
        w.exit(fence, 0).await;
        assert_eq!(all(0).await, left);
    }

    async fn due_jobs_are_leased_without_any_daemon(f: Fixture) {
        let number = f.add(r#""delay":"10s""#).await;
        let w = f.worker("w", Offer::default()).await;
        assert_eq!(f.state(number).await, State::Scheduled);
        assert!(w.lease(1).await.is_empty());
        f.clock.pass(Span::from_secs(10));
        assert_eq!(w.lease_numbers(1).await, [number]);
    }

    async fn s18_a_lease_promotes_256_due_jobs_and_takes_those_that_are_pending(f: Fixture) {
        let due = (0..300).map(|_| submission(&command(r#""queue":"later","delay":"1s""#))).collect();
        let due = f.queue.call(Enqueue { jobs: due }).await.unwrap();
        let pending = f.add("").await;
        f.clock.pass(Span::from_secs(1));
        let w = f.worker("w", Offer::default()).await;
        let first = w.lease_numbers(2).await;
        assert!(first.contains(&pending), "{first:?}");
        let scheduled = async || {
            let queues = f.queue.call(Status {}).await.unwrap().queues;
            queues.iter().map(|queue| queue.counts[&State::Scheduled]).sum::<i64>()
        };
        assert_eq!(scheduled().await, 300 - 256);
        w.lease(1).await;
        assert_eq!(scheduled().await, 0);
        assert_eq!(f.story(due[0].number).await, "enqueued→scheduled leased→running", "S26: a promotion is no event");
    }

    async fn s7_a_job_that_has_not_started_by_its_deadline_expires(f: Fixture) {
        let number = f.add(r#""deadline":"5s""#).await;
        let w = f.worker("w", Offer::default()).await;
        f.clock.pass(Span::from_secs(5));
        assert!(w.lease(1).await.is_empty());
        let job = f.job(number).await;
        assert_eq!((job.state, job.reason.as_deref()), (State::Cancelled, Some("expired")));
    }

    async fn a_worker_that_is_not_known_cannot_lease(f: Fixture) {
        f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        f.clock.pass(TTL);
        f.sweep().await;
        let op = orx::ops::lease::Lease {
            worker: w.key.clone(), name: "w".into(), offer: Offer::default(), slots: 1, ttl: TTL, only: None,
        };
        assert_eq!(f.queue.call(op).await.unwrap_err().kind(), Kind::Conflict);
    }

    async fn s30_a_deposed_leader_writes_nothing(f: Fixture) {
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.take().await;
        f.sweep().await;
        let epoch = f.queue.call(Lead { name: "usurper".into(), right: Right::Lock }).await.unwrap();
        assert_eq!(epoch, Some(2));
        f.clock.pass(TTL);
        assert_eq!(f.sweep().await, Swept::Deposed);
        assert_eq!(f.state(number).await, State::Running);
    }
}

on_every_store! {
    async fn s2_after_a_time_in_which_nobody_could_write_leases_get_it_back(f: Fixture) {
        let number = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        f.sweep().await;
        f.clock.pass(Span::from_secs(60)); // the disk is full; neither the worker nor the leader can write
        assert!(matches!(f.sweep().await, Swept::Done { reaped, .. } if reaped.is_empty()));
        f.clock.pass(Span::from_secs(10));
        f.sweep().await;
        assert_eq!(w.exit(fence, 0).await, Settled::Accepted(State::Done));
        assert_eq!(f.story(number).await, "enqueued→pending leased→running settled→done");
    }

    async fn s2_only_the_time_away_is_given_back(f: Fixture) {
        f.add("").await;
        f.add("").await;
        let (dead, live) = (f.worker("dead", Offer::default()).await, f.worker("live", Offer::default()).await);
        let (lost, kept) = (dead.take().await, live.take().await);
        // A coordinator that dies again and again: a dead worker's jobs move all the same, and no other's.
        let mut up = Span::ZERO;
        loop {
            f.clock.pass(Span::from_secs(1));
            up = Span::from_millis(up.as_millis() + 1000);
            live.renew(kept).await;
            f.clock.pass(Span::from_secs(20));
            let away = f.queue.call(LastSign {}).await.unwrap();
            assert_eq!(away, Some(Span::from_secs(20)));
            match f.sweep_after(away).await {
                Swept::Done { reaped, .. } if reaped.is_empty() => assert!(up < TTL, "never"),
                Swept::Done { reaped, .. } => break assert_eq!(reaped, [lost.number]),
                Swept::Deposed => panic!("deposed"),
            }
        }
        assert_eq!(up, TTL);
        assert_eq!(live.exit(kept, 0).await, Settled::Accepted(State::Done));
    }

    async fn s2_who_was_about_to_renew_gets_a_moment_for_it(f: Fixture) {
        f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        f.clock.pass(Span::from_millis(TTL.as_millis() - 1));
        let other = f.worker("other", Offer::default()).await; // the last sign of anybody
        f.clock.pass(Span::from_millis(500));
        f.sweep_after(f.queue.call(LastSign {}).await.unwrap()).await;
        f.clock.pass(Span::from_millis(900));
        f.sweep().await;
        assert_eq!(w.exit(fence, 0).await, Settled::Accepted(State::Done));
        drop(other);
    }
}

/// Looks up a lease of unknown outcome.
struct LookUp(Lease, Option<LeaseReply>);

impl Work for LookUp {
    fn run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        self.1 = self.0.reread(&Caller::local("test"), tx)?;
        Ok(())
    }
}

/// Otherwise a worker took nothing for all there is, and jobs that could run waited for the next change.
#[test]
fn a_lease_whose_commit_failed_is_worth_asking_again_at_once() {
    let clock = TestClock::new();
    let store = open(&Location::Memory, clock.clone()).unwrap();
    let worker = orx::worker::new_key().unwrap();
    let lease = Lease { worker, name: "a".into(), offer: Offer::default(), slots: 1, ttl: TTL, only: None };
    let mut look_up = LookUp(lease, None);
    store.read(&mut look_up).unwrap();
    let reply = look_up.1.unwrap();
    assert_eq!((reply.jobs.len(), reply.next_timer), (0, Some(Span::ZERO)));
}
