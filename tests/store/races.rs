//! PostgreSQL: what two transactions that meet make of each other's work. One of them is a session that the test leads by
//! the hand, so that they meet where it hurts.

use orx::error::Result;
use orx::job::State;
use orx::ops::Op;
use orx::ops::cancel::Cancel;
use orx::ops::prune::Prune;
use orx::time::{Clock as _, Timestamp};
use tokio::task::JoinHandle;

use super::support::*;

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
