//! PostgreSQL: what two transactions that meet make of each other's work. One of them is a session that the test leads by
//! the hand, so that they meet where it hurts.

use std::collections::BTreeMap;
use std::time::Duration;

use orx::error::{Kind, Result};
use orx::job::lanes::Offer;
use orx::job::output::{Chunk, Stream};
use orx::job::state::Cause;
use orx::job::{Fence, Number, RunId, State};
use orx::ops::Op;
use orx::ops::append_output::{AppendOutput, Appended};
use orx::ops::cancel::Cancel;
use orx::ops::enqueue::Enqueue;
use orx::ops::events::ReadEvents;
use orx::ops::lease::Lease;
use orx::ops::policies::{LimitChange, ListPolicies, SetQueue};
use orx::ops::prune::Prune;
use orx::ops::renew::Renewed;
use orx::ops::retry::Retry;
use orx::ops::runs::submit::SubmitRun;
use orx::ops::settle::{Report, Settled, Started};
use orx::ops::sweep::Swept;
use orx::ops::turn::Turn;
use orx::ops::workers::ListWorkers;
use orx::queue::Request;
use orx::store::{Limits, WorkerState};
use orx::time::{Clock as _, Span, Timestamp};
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use super::support::*;

/// How long a transaction takes at most that waits for nobody.
const LIMIT: Duration = Duration::from_secs(20);
/// Less than a session of ours waits for a lock.
const BRIEF: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_retried_while_it_is_to_be_forgotten_stays() {
    let f = Fixture::postgres();
    let number = f.add("").await;
    f.queue.call(Cancel { numbers: vec![number], ..Cancel::default() }).await.unwrap();
    let before = Timestamp(f.clock.now().0 + 1);
    let retried = f.meanwhile(&format!(
        "UPDATE jobs SET state = 'pending', finished_at = NULL, generation = 2 WHERE number = {number}"
    ));
    let op = Prune { numbers: vec![number], before, dead: true, epoch: None };
    let pruned = call(&f, op);
    retried.wait_for_waiters(1);
    retried.commit();
    assert_eq!(pruned.await.unwrap().unwrap(), 0);
    assert_eq!(f.state(number).await, State::Pending);
}

/// Runs an Op as another process does, beside the test.
fn call<O: Op>(f: &Fixture, op: O) -> JoinHandle<Result<O::Reply>> {
    let queue = f.another();
    tokio::spawn(async move { queue.call(op).await })
}

/// What an Op answers that waits for nobody who has locked something.
async fn soon<O: Op>(f: &Fixture, op: O) -> Result<O::Reply> {
    tokio::time::timeout(BRIEF, call(f, op)).await.expect("it is waited for").unwrap()
}

/// What a settle of the running job `number` stores.
fn done(number: Number) -> String {
    format!(
        "UPDATE jobs SET state = 'done', finished_at = clock_ms() WHERE number = {number};
         DELETE FROM leases WHERE number = {number}; DELETE FROM names WHERE number = {number}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_a_name_is_free_when_its_holder_has_just_ended() {
    for conflict in ["reject", "return", "replace"] {
        let f = Fixture::postgres();
        let holder = f.add(r#""name":"n""#).await;
        let w = f.worker("w", Offer::default()).await;
        w.take().await;
        let settled = f.meanwhile(&done(holder));
        let job = submission(&command(&format!(r#""name":"n","on_conflict":"{conflict}""#)));
        let next = call(&f, Enqueue { jobs: vec![job] });
        settled.wait_for_waiters(1);
        settled.commit();
        let next = next.await.unwrap().unwrap().remove(0);
        assert_eq!((next.existing, next.state), (false, State::Pending), "{conflict}");
        assert_ne!(next.number, holder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_a_retry_takes_a_name_whose_holder_has_just_ended() {
    let f = Fixture::postgres();
    let first = f.add(r#""name":"n""#).await;
    f.queue.call(Cancel { numbers: vec![first], ..Cancel::default() }).await.unwrap();
    let holder = f.add(r#""name":"n""#).await;
    let w = f.worker("w", Offer::default()).await;
    w.take().await;
    let settled = f.meanwhile(&done(holder));
    let again = call(&f, Retry { numbers: vec![first], only: false });
    settled.wait_for_waiters(1);
    settled.commit();
    assert_eq!(again.await.unwrap().unwrap()[0].state, State::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_renews_at_this_moment_is_not_taken_for_dead() {
    let f = Fixture::postgres();
    let number = f.add("").await;
    let w = f.worker("w", Offer::default()).await;
    w.take().await;
    f.clock.pass(TTL);
    let renewed = f.meanwhile(
        "UPDATE workers SET heartbeat_at = clock_ms(), expires_at = clock_ms() + ttl;
         UPDATE leases SET expires_at = clock_ms() + ttl",
    );
    let swept =
        tokio::time::timeout(LIMIT, f.sweep()).await.expect("it waits for the worker, to take it for dead then");
    renewed.commit();
    assert!(matches!(swept, Swept::Done { reaped, .. } if reaped.is_empty()));
    assert_eq!((f.state(number).await, f.job(number).await.losses), (State::Running, 0));
    assert_eq!(f.story(number).await.matches("settled").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_paused_while_a_turn_waits_gives_it_no_job() {
    let f = Fixture::postgres();
    let (first, second) = (f.add("").await, f.add("").await);
    let w = f.worker("w", Offer::default()).await;
    let fence = w.take().await;
    assert_eq!(fence.number, first);
    let paused = f.meanwhile(&format!(
        "SELECT number FROM jobs WHERE number = {first} FOR NO KEY UPDATE; UPDATE queues SET paused = true"
    ));
    let worker = w.key.clone();
    let lease = Lease { worker, name: "w".into(), offer: Offer::default(), slots: 1, ttl: TTL, only: None };
    let reports = vec![report(fence, Cause::Itself, Some(0))];
    let turn = call(&f, Turn { worker: w.key.clone(), reports, lease: Some(lease), pass_over: false });
    paused.wait_for_waiters(1);
    paused.commit();
    assert!(turn.await.unwrap().unwrap().leased.unwrap().jobs.is_empty());
    assert_eq!(f.states(&[first, second]).await, "done pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_somebody_has_locked_keeps_its_lease_and_hinders_no_other() {
    let f = Fixture::postgres();
    let (first, second) = (f.add("").await, f.add("").await);
    let w = f.worker("w", Offer::default()).await;
    let fences = [w.take().await, w.take().await];
    let locked = f.meanwhile(&format!("SELECT number FROM jobs WHERE number = {first} FOR UPDATE"));
    let renewed = soon(&f, w.renewal(&fences)).await.unwrap();
    assert_eq!(renewed, [Renewed::Held, Renewed::Held]);
    let heard = soon(&f, w.heartbeat(&[(fences[0], Started { pid: 1, at: Timestamp(1) })])).await.unwrap();
    assert_eq!((heard.worker, heard.untold), (Some(WorkerState::Active), vec![]));
    let chunk = Chunk { seq: 0, stream: Stream::Stdout, at: Timestamp(0), place: 0, bytes: b"said\n".to_vec() };
    let append = AppendOutput { worker: w.key.clone(), fence: fences[0], chunks: vec![chunk], cut: None };
    assert_eq!(soon(&f, append).await.unwrap(), Appended::Stored);
    let turn = || Turn { worker: w.key.clone(), reports: fences.map(ended).to_vec(), lease: None, pass_over: true };
    let turned = soon(&f, turn()).await.unwrap();
    assert_eq!(turned.settled, [Settled::Busy, Settled::Accepted(State::Done)]);
    assert_eq!(f.states(&[first, second]).await, "running done");
    let (_, asked_again) = f.another().call_since(turn(), Request::new().again()).await.unwrap();
    assert_eq!(asked_again.settled, turned.settled, "its answer got lost");
    locked.commit();
    let settled = f.queue.call(turn()).await.unwrap().settled;
    assert_eq!(settled, [Settled::Accepted(State::Done), Settled::Stale]);
    assert!(f.story(first).await.contains("started"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_somebody_has_locked_hinders_nothing_but_its_own_end() {
    let f = Fixture::postgres();
    let (first, second) = (f.add("").await, f.add("").await);
    let w = f.worker("w", Offer::default()).await;
    let fences = [w.take().await, w.take().await];
    f.clock.pass(TTL);
    let locked = f.meanwhile(&format!("SELECT number FROM leases WHERE number = {first} FOR UPDATE"));
    assert_eq!(soon(&f, w.renewal(&fences)).await.unwrap(), [Renewed::Busy, Renewed::Held]);
    let swept = tokio::time::timeout(BRIEF, f.sweep_after(Some(Span::MAX))).await.expect("it is waited for");
    assert!(matches!(swept, Swept::Done { reaped, .. } if reaped.is_empty()), "who has locked it may be its worker");
    let turn = Turn { worker: w.key.clone(), reports: fences.map(ended).to_vec(), lease: None, pass_over: true };
    let turned = soon(&f, turn).await.unwrap();
    assert_eq!(turned.settled, [Settled::Busy, Settled::Accepted(State::Done)]);
    assert_eq!(f.states(&[first, second]).await, "running done");
    locked.commit();
    assert_eq!(f.queue.call(w.renewal(&fences[..1])).await.unwrap(), [Renewed::Held]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_attempts_of_a_job_only_the_last_is_renewed() {
    let f = Fixture::postgres();
    f.add(r#""max_attempts":2,"backoff":"0s""#).await;
    let w = f.worker("w", Offer::default()).await;
    let first = w.take().await;
    w.exit(first, 1).await;
    let second = w.take().await;
    assert_eq!(f.queue.call(w.renewal(&[first, second])).await.unwrap(), [Renewed::Stale, Renewed::Held]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_somebody_is_about_to_end_is_neither_renewed_nor_lost() {
    let f = Fixture::postgres();
    let number = f.add("").await;
    let w = f.worker("w", Offer::default()).await;
    let fence = w.take().await;
    let ending = f.meanwhile(&done(number));
    assert_eq!(soon(&f, w.renewal(&[fence])).await.unwrap(), [Renewed::Busy]);
    let heard = soon(&f, w.heartbeat(&[(fence, Started { pid: 1, at: Timestamp(1) })])).await.unwrap();
    assert_eq!(heard.untold, [fence]);
    ending.commit();
    assert_eq!(f.queue.call(w.renewal(&[fence])).await.unwrap(), [Renewed::Stale]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_worker_one_of_whose_jobs_is_locked_holds_up_no_upkeep() {
    let f = Fixture::postgres();
    let (first, second) = (f.add("").await, f.add("").await);
    let w = f.worker("w", Offer::default()).await;
    w.take().await;
    w.take().await;
    f.clock.pass(TTL);
    let locked = f.meanwhile(&format!("SELECT number FROM jobs WHERE number = {first} FOR UPDATE"));
    let swept = tokio::time::timeout(BRIEF, f.sweep()).await.expect("it is waited for");
    assert!(matches!(swept, Swept::Done { reaped, .. } if reaped == [second]));
    assert_eq!(f.states(&[first, second]).await, "running pending");
    locked.commit();
    f.sweep().await;
    assert_eq!(f.states(&[first, second]).await, "pending pending");
    assert_eq!(f.queue.call(ListWorkers {}).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_where_all_leases_are_locked_a_worker_hears_soon_that_nobody_can_take_its_own() {
    let f = Fixture::postgres();
    f.add("").await;
    let w = f.worker("w", Offer::default()).await;
    let fence = w.take().await;
    for mode in ["ACCESS EXCLUSIVE", "SHARE"] {
        let locked = f.meanwhile(&format!("LOCK TABLE leases IN {mode} MODE"));
        let failed = soon(&f, w.renewal(&[fence])).await.unwrap_err();
        assert!(failed.kind() == Kind::Unavailable && failed.is_for_everyone(), "{mode}: {failed}");
        drop(locked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_is_locked_leases_are_renewed() {
    let f = Fixture::postgres();
    f.add("").await;
    f.add("").await;
    let w = f.worker("w", Offer::default()).await;
    let (old, fence) = (w.take().await, w.take().await);
    w.exit(old, 0).await;
    for table in ["jobs", "workers", "events", "lanes", "tenants", "queues"] {
        let locked = f.meanwhile(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
        // Enough to keep each writer of this process waiting, or, where they only read the table, each connection.
        let mut waiting = JoinSet::new();
        for _ in 0..8 {
            let (writes, reads) = (f.queue.clone(), f.queue.clone());
            waiting.spawn(async move { drop(writes.call(enqueue()).await) });
            waiting.spawn(async move { drop(reads.call(ListWorkers {}).await) });
        }
        locked.wait_for_waiters(4);
        let renewed = tokio::time::timeout(BRIEF, f.queue.call(w.renewal(&[fence]))).await;
        assert_eq!(renewed.expect("it is waited for").unwrap(), [Renewed::Held], "{table}");
        locked.commit();
        waiting.join_all().await;
    }
    for rows in ["SELECT id FROM workers FOR UPDATE", "SELECT number FROM jobs FOR UPDATE"] {
        let locked = f.meanwhile(rows);
        assert_eq!(soon(&f, w.renewal(&[fence, old])).await.unwrap(), [Renewed::Held, Renewed::Stale], "{rows}");
        drop(locked);
    }
}

fn enqueue() -> Enqueue {
    Enqueue { jobs: vec![submission(&command(""))] }
}

/// The end of an attempt that does not belong to a run.
fn ended(fence: Fence) -> Report {
    Report { in_run: false, ..report(fence, Cause::Itself, Some(0)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_an_op_is_one_transaction_however_many_jobs_it_is_about() {
    let f = Fixture::postgres();
    let many = Enqueue { jobs: (0..50).map(|_| submission(&command(""))).collect() };
    let (many, a, b) = tokio::join!(f.queue.call(many), f.queue.call(enqueue()), f.queue.call(enqueue()));
    assert_eq!((many.unwrap().len(), a.unwrap().len(), b.unwrap().len()), (50, 1, 1));
    assert_eq!(f.look("SELECT count(*), count(DISTINCT xmin::text) FROM jobs"), "52|3");
}

/// A place in the trail is taken before the event can be seen. Who went by what can be seen would pass over it.
#[tokio::test(flavor = "multi_thread")]
async fn s26_a_reader_passes_over_no_event_that_is_still_to_come() {
    let f = Fixture::postgres();
    let first = f.add("").await;
    let begin = include_str!("../../src/store/postgres/sql/begin.sql");
    let told = "INSERT INTO events (at, kind, number) VALUES (0, 'started', 7)";
    let late = f.meanwhile(&format!("{begin}; {told}"));
    let second = f.add("").await;
    let read = async || {
        let events = f.queue.call(ReadEvents { after: 0, limit: 100 }).await.unwrap();
        assert!(events.is_sorted_by(|a, b| a.seq < b.seq), "{events:?}");
        events.into_iter().filter_map(|event| event.number).collect::<Vec<_>>()
    };
    assert_eq!(read().await, [first], "what follows waits for what comes before it");
    late.commit();
    assert_eq!(read().await, [first, 7, second]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_set_side_by_side_are_all_in_force() {
    let f = Fixture::postgres();
    let set = |change| SetQueue { queue: "q".into(), change };
    f.queue.call(set(LimitChange { per_minute: Some(7), ..LimitChange::default() })).await.unwrap();
    let held = f.meanwhile("SELECT name FROM queues WHERE name = 'q' FOR UPDATE");
    let running = LimitChange { max_running: Some(5), ..LimitChange::default() };
    let queued = LimitChange { max_queued: Some(100), ..LimitChange::default() };
    let both = [running, queued].map(|change| call(&f, set(change)));
    held.wait_for_waiters(2);
    drop(held);
    for one in both {
        one.await.unwrap().unwrap();
    }
    let queue = f.queue.call(ListPolicies {}).await.unwrap().queues.remove(0);
    let want = Limits { max_running: Some(5), max_queued: Some(100), per_minute: Some(7), max_payload: None };
    assert_eq!(queue.limits, want);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_workflow_that_start_side_by_side_share_no_limit() {
    let f = Fixture::postgres();
    let workflow = json!({ "name": "flow", "max_parallel": 1, "task": [{ "name": "a", "command": ["true"] }, { "name": "b", "command": ["true"] }] });
    let held = f.meanwhile("INSERT INTO limits (tenant, key, max_running) VALUES ('default', 'workflow/flow/1/1', 1)");
    let submit = || SubmitRun {
        id: RunId(Uuid::now_v7()),
        workflow: workflow.clone().into(),
        captured: Default::default(),
        behind: None,
    };
    let both = [(), ()].map(|()| call(&f, submit()));
    held.wait_for_waiters(2);
    drop(held);
    for one in both {
        one.await.unwrap().unwrap();
    }
    let w = f.worker("w", Offer::default()).await;
    let mut of_run: BTreeMap<RunId, usize> = BTreeMap::new();
    for job in w.lease(9).await {
        *of_run.entry(job.origin.run_id.unwrap()).or_default() += 1;
    }
    assert_eq!(of_run.into_values().collect::<Vec<_>>(), [1, 1], "each runs one task at a time");
}
