//! What `orx db check` finds in stores that somebody changed from outside.

use orx::job::lanes::Offer;

use super::support::*;

async fn holds_rows_against_the_trail(f: Fixture) {
    for _ in 0..3 {
        f.add("").await;
    }
    let w = f.worker("w", Offer::default()).await;
    w.exit(w.take().await, 0).await;
    assert_eq!(f.queue.check().await.unwrap(), []);
    let zeros = if f.is_local() { "zeroblob(16)" } else { "'00000000-0000-0000-0000-000000000000'" };
    for (damage, repair, told) in [
        (
            "UPDATE jobs SET attempt = 7 WHERE number = 1".to_owned(),
            "UPDATE jobs SET attempt = 1 WHERE number = 1",
            "job 1 is in attempt 7, and 1 was leased last, says the trail",
        ),
        (
            "UPDATE events SET number = 99 WHERE number = 2".to_owned(),
            "UPDATE events SET number = 2 WHERE number = 99",
            "job 2 was stored 0 times, says the trail",
        ),
        (
            "UPDATE attempts SET number = 3".to_owned(),
            "UPDATE attempts SET number = 1",
            "job 1 has 0 ended attempts, and 1 have, says the trail",
        ),
        (
            "UPDATE events SET state = 'failed' WHERE kind = 'settled'".to_owned(),
            "UPDATE events SET state = 'done' WHERE kind = 'settled'",
            "job 1 is done, and became failed last, says the trail",
        ),
        (
            "UPDATE job_specs SET spec = substr(spec, 1, 9) WHERE number = 2".to_owned(),
            "UPDATE job_specs SET spec = '{\"command\":[\"true\"]}' WHERE number = 2",
            "job 2 cannot be read: spec: EOF while parsing a string at line 1 column 9",
        ),
        (
            "UPDATE events SET data = 'x' WHERE seq = 2".to_owned(),
            "UPDATE events SET data = NULL WHERE seq = 2",
            "event 2 cannot be read: expected value at line 1 column 1",
        ),
        (format!("UPDATE jobs SET id = {zeros} WHERE number = 3"), "", "job 3 has an id of zeros"),
    ] {
        f.damage(&damage);
        let found = f.queue.check().await.unwrap();
        assert!(found.iter().any(|finding| finding.message == told), "{damage}: {found:?}");
        f.damage(repair);
    }
}

#[tokio::test]
async fn a_file_is_held_against_its_trail() {
    holds_rows_against_the_trail(Fixture::file()).await;
}

#[tokio::test]
async fn a_server_is_held_against_its_trail() {
    holds_rows_against_the_trail(Fixture::postgres()).await;
}
