//! A store that was put back, or copied: who worked for the one of before can write nothing (S38).

use orx::job::lanes::Offer;
use orx::job::output::{Chunk, Stream};
use orx::job::{Fence, State};
use orx::ops::append_output::{AppendOutput, Appended};
use orx::ops::output::ReadOutput;
use orx::ops::renew::Renewed;
use orx::ops::restore::Abandon;
use orx::ops::say::{Heard, Say};
use orx::ops::settle::Settled;
use orx::ops::sweep::Swept;
use orx::store::restore::{LEAP, Renewal, renew};
use orx::time::Clock as _;
use uuid::Uuid;

use super::support::*;

async fn who_worked_for_the_store_of_before_can_write_nothing(f: Fixture) {
    let running = f.add("").await;
    let old = f.worker("old", Offer::default()).await;
    let held = old.take().await;
    let waiting = f.add("").await;
    f.sweep().await; // the leader of before
    loop {
        let done = f.queue.call(Abandon { despite_workers: true, jitter: 0.5 }).await.unwrap();
        if !done.more {
            break;
        }
    }
    let renewal = Renewal { id: Uuid::now_v7(), at: f.clock.now(), by: "in_place", actor: "tester".into() };
    let location = f.location().clone();
    let renewed = tokio::task::spawn_blocking(move || renew(&location, &renewal).unwrap()).await.unwrap();
    assert_eq!((renewed.attempts, renewed.jobs), (LEAP as u32 + 1, LEAP + waiting));
    // The store of before went on for a while: it gave the second job away, and the first once more.
    let fences = [held, Fence { attempt: 2, ..held }, Fence { number: waiting, attempt: 1 }];
    let new = f.worker("new", Offer::default()).await;
    let taken: Vec<Fence> = new.lease(2).await.iter().map(|job| job.fence).collect();
    let attempt = LEAP as u32 + 2;
    assert_eq!(taken, [running, waiting].map(|number| Fence { number, attempt }));
    assert_eq!(f.queue.call(old.renewal(&fences)).await.unwrap(), [const { Renewed::Stale }; 3]);
    assert_eq!(f.queue.call(old.heartbeat(&[])).await.unwrap().worker, None);
    for fence in fences {
        let bytes = b"late".to_vec();
        let chunk = Chunk { seq: 0, stream: Stream::Stdout, at: f.clock.now(), place: 0, bytes };
        let appended = f
            .queue
            .call(AppendOutput { worker: old.key.clone(), fence, chunks: vec![chunk], cut: None })
            .await
            .unwrap();
        assert_eq!(appended, Appended::Stale);
        let (worker, progress) = (old.key.clone(), Some((1.0, None)));
        let said = Say { worker, fence, progress, result: None, result_is_text: false };
        let said = f.queue.call(said).await.unwrap();
        assert_eq!(said, Heard::Stale);
        assert_eq!(old.exit(fence, 0).await, Settled::Stale);
    }
    assert_eq!(f.sweep().await, Swept::Deposed);
    for fence in taken {
        assert_eq!(new.exit(fence, 0).await, Settled::Accepted(State::Done));
    }
    // Who reads the output of all attempts does not look for a million that never were.
    let read = |attempt| f.queue.call(ReadOutput { number: running, attempt: Some(attempt), after: None });
    assert_eq!((read(1).await.unwrap().next, read(attempt).await.unwrap().next), (Some(attempt), None));
    assert_eq!(f.add("").await, LEAP + waiting + 1);
    let third = new.take().await;
    assert_eq!((third.attempt, new.exit(third, 0).await), (1, Settled::Accepted(State::Done)));
    assert_eq!(f.audit().await, []);
    assert_eq!(f.queue.check().await.unwrap(), []);
}

#[tokio::test]
async fn s38_who_worked_for_the_store_of_before_can_write_nothing_to_a_file() {
    who_worked_for_the_store_of_before_can_write_nothing(Fixture::file()).await;
}

#[tokio::test]
async fn s38_who_worked_for_the_store_of_before_can_write_nothing_to_a_server() {
    who_worked_for_the_store_of_before_can_write_nothing(Fixture::postgres()).await;
}
