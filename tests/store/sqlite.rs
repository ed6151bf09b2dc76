//! What only a SQLite file has: modes, versions, other processes.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use orx::error::Kind;
use orx::job::lanes::Offer;
use orx::ops::Caller;
use orx::ops::lead::{Lead, Right};
use orx::ops::policies::{LimitChange, SetQueue, SetTenant};
use orx::ops::status::Status;
use orx::queue::Queue;
use orx::store::{Location, Topics};

use super::support::*;

fn open(path: &std::path::Path) -> orx::error::Result<Queue> {
    Queue::open(&Location::File(path.into()), Caller::local("tester"), TestClock::new())
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/orx.db");
    let queue = open(&path).unwrap();
    queue.call(orx::ops::enqueue::Enqueue { jobs: vec![submission(&command(""))] }).await.unwrap();
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap().path();
        let want = if entry.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&entry), want, "{}", entry.display());
    }
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "not a database ".repeat(1000)).unwrap();
    let error = open(&text).err().unwrap();
    assert_eq!(error.kind(), Kind::Corrupt);
    let other = dir.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = open(&other).err().unwrap();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    let tables: i64 = rusqlite::Connection::open(&other)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))
        .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn s29_a_store_that_excludes_us_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orx.db");
    drop(open(&path).unwrap());
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA user_version=9; UPDATE meta SET value = '9' WHERE key = 'min_compatible'").unwrap();
    let error = open(&path).err().unwrap();
    assert!(error.to_string().contains("schema 9"), "{error}");
    conn.execute_batch("UPDATE meta SET value = '1' WHERE key = 'min_compatible'").unwrap();
    open(&path).unwrap().call(Status {}).await.unwrap();
}

#[test]
fn many_threads_open_a_new_store_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orx.db");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| open(&path).unwrap());
        }
    });
}

#[tokio::test]
async fn s23_what_cannot_be_counted_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orx.db");
    let queue = open(&path).unwrap();
    let enqueue = || orx::ops::enqueue::Enqueue { jobs: vec![submission(&command(""))] };
    queue.call(enqueue()).await.unwrap();
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("UPDATE lanes SET pending = ?1", [i64::MAX]).unwrap();
    // Alone, and in one transaction with others.
    let alone = queue.call(enqueue()).await.map(drop);
    let (a, b, c) = tokio::join!(
        queue.call(enqueue()),
        queue.call(Lead { name: "x".into(), right: Right::Lock }),
        queue.call(enqueue())
    );
    let jobs: i64 = conn.query_row("SELECT count(*) FROM jobs", [], |r| r.get(0)).unwrap();
    let refused = [alone, a.map(drop), c.map(drop)].into_iter().filter(|result| result.is_err()).count();
    assert_eq!((refused, jobs), (3, 1), "each that was not stored says so");
    assert_eq!(b.unwrap(), Some(1));
}

/// How many commits the log of a store holds: each ends with a frame that tells the size of the file.
fn commits(store: &std::path::Path) -> usize {
    let log = std::fs::read(store.with_extension("db-wal")).unwrap();
    let (head, frames) = log.split_at(32);
    let page = u32::from_be_bytes(head[8..12].try_into().unwrap()) as usize;
    let of_now = frames.chunks_exact(24 + page).take_while(|frame| frame[8..16] == head[16..24]);
    of_now.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn s24_ops_that_wait_share_a_commit_and_one_that_errs_spoils_it_for_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orx.db");
    let queue = open(&path).unwrap();
    let enqueue = |specs: &[&str]| {
        let jobs = specs.iter().map(|more| submission(&command(more))).collect();
        queue.call(orx::ops::enqueue::Enqueue { jobs })
    };
    enqueue(&[r#""name":"n""#]).await.unwrap();
    let before = commits(&path);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The writer waits for the lock with the first; the others wait for the writer.
    let plain = futures_util::future::join_all((0..20).map(|_| enqueue(&[""])));
    let (plain, refused, ()) =
        tokio::join!(biased; plain, enqueue(&["", r#""name":"n""#]), async { conn.execute_batch("COMMIT").unwrap() });
    assert_eq!(plain.into_iter().filter(Result::is_ok).count(), 20);
    assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
    let jobs: i64 = conn.query_row("SELECT count(*) FROM jobs", [], |r| r.get(0)).unwrap();
    assert_eq!(jobs, 21, "S23: nothing is left of an Op that errs");
    assert!(commits(&path) - before <= 2, "{before}, {}", commits(&path));
}

#[tokio::test]
async fn a_backup_is_no_store_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(&dir.path().join("orx.db")).unwrap();
    queue.call(orx::ops::enqueue::Enqueue { jobs: vec![submission(&command(""))] }).await.unwrap();
    let copy = dir.path().join("copy.db");
    let counted = queue.backup(copy.clone()).await.unwrap();
    assert!(counted.iter().any(|table| table.table == "jobs" && table.rows == 1));
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(orx::store::restore::check(&copy).unwrap(), []);
    assert!(open(&copy).err().unwrap().is_lasting());
    assert_eq!(queue.backup(copy).await.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test]
async fn jobs_of_a_name_are_found_without_reading_what_the_others_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orx.db");
    let queue = open(&path).unwrap();
    let jobs = [r#""name":"n""#, "", r#""name":"m""#].map(|more| submission(&command(more)));
    queue.call(orx::ops::enqueue::Enqueue { jobs: jobs.to_vec() }).await.unwrap();
    let filter = orx::store::Filter { name: Some("n".into()), ..Default::default() };
    let found = queue.call(orx::ops::jobs::ListJobs { filter, limit: 9, ..Default::default() }).await.unwrap().jobs;
    assert_eq!(found.iter().map(|job| job.number).collect::<Vec<_>>(), [1]);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let plan = "EXPLAIN QUERY PLAN SELECT number FROM job_specs WHERE name = 'n'";
    let plan: String = conn.query_row(plan, [], |row| row.get(3)).unwrap();
    assert!(plan.contains("job_specs_name"), "{plan}");
}

#[tokio::test]
async fn a_lane_is_made_without_looking_at_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orx.db");
    drop(open(&path).unwrap());
    let conn = rusqlite::Connection::open(&path).unwrap();
    let plan = concat!("EXPLAIN QUERY PLAN ", include_str!("../../src/store/sqlite/sql/lanes_insert.sql"));
    let mut plan = conn.prepare(plan).unwrap();
    let steps: Vec<String> = plan.query_map(["", "", "", ""], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    assert!(!steps.is_empty() && steps.iter().all(|step| !step.contains("lanes")), "{steps:?}");
}

#[tokio::test]
async fn check_names_what_contradicts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orx.db");
    let queue = open(&path).unwrap();
    let blocked = command(r#""after":[1],"limit":"db=1""#);
    for json in [command(r#""name":"n""#), blocked] {
        queue.call(orx::ops::enqueue::Enqueue { jobs: vec![submission(&json)] }).await.unwrap();
    }
    assert_eq!(queue.check().await.unwrap(), []);
    let conn = rusqlite::Connection::open(&path).unwrap();
    for (damage, check) in [
        ("UPDATE lanes SET pending = 7 WHERE id = 1", "lanes count their jobs"),
        ("UPDATE queues SET done = 3", "queues count their jobs by state"),
        ("UPDATE tenants SET queued = 3", "tenants count their jobs"),
        ("UPDATE limits SET running = 1", "limits count what runs, and hold"),
        (
            "INSERT INTO leases VALUES (1, 1, x'00', 'w', 0, 0, '', 0, NULL, x'')",
            "running jobs have a lease of their attempt, and no others have one",
        ),
        ("INSERT INTO attempts VALUES (1, 5, 'w', 0, 0, 'done', 0, NULL, NULL)", "ended attempts lie below the fence"),
        ("INSERT INTO dead_letters VALUES (1, 'x', 'x', NULL, 0)", "dead letters are of failed jobs"),
        ("UPDATE names SET number = 99", "names belong to unfinished jobs"),
        ("UPDATE job_dependencies SET satisfied = 1", "blocked jobs wait for as many edges as are open"),
        ("DELETE FROM job_specs WHERE number = 2", "every job says what it does"),
    ] {
        conn.execute_batch(&format!("BEGIN; {damage}; COMMIT")).unwrap();
        let found = queue.check().await.unwrap();
        assert!(found.iter().any(|f| f.check == check), "{damage}: {found:?}");
    }
}

/// Another worker may wait for it, and may have heard of nothing since. (On PostgreSQL it asks again within a second.)
#[tokio::test]
async fn room_under_the_limit_of_a_queue_or_tenant_wakes_whoever_waits_for_it() {
    let f = Fixture::memory();
    let w = f.worker("w", Offer::default()).await;
    let change = LimitChange { max_running: Some(1), ..LimitChange::default() };
    f.queue.call(SetQueue { queue: "limited".into(), change: change.clone() }).await.unwrap();
    f.queue.call(SetTenant { tenant: "limited".into(), change }).await.unwrap();
    for spec in [r#""queue":"limited""#, r#""tenant":"limited""#] {
        f.add(spec).await;
        let job = w.lease(1).await.remove(0);
        let mut changes = f.queue.subscribe(Topics::WORK).unwrap();
        w.exit(job.fence, 0).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        assert_eq!(changes.changed(Some(deadline)).await, Topics::WORK, "{spec}");
    }
}
