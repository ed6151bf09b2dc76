//! C7: what else stands in the way of a PostgreSQL store: a forgotten transaction with its locks, a full disk.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::asker::{Asker, nothing_burned, settle_up};
use super::chance::Chance;
use super::full_disk::Disk;
use super::pace::Over;
use super::table::Table;
use super::verdict::{Copies, judge, wait_all_ended};
use super::world::{LIMIT, Process, World, eventually, full, seed};
use crate::server::{self, Cluster, Session};

const ARGS: [&str; 5] = ["-v", "--slots", "4", "--lease", "60s"];
/// Leases are much shorter than what stands in the way.
const SHORT: [&str; 5] = ["-v", "--slots", "4", "--lease", "6s"];
/// Jobs that run when it begins, and beyond its end.
const LONG: usize = 3;
const BEYOND: Duration = Duration::from_secs(3);
/// How soon a worker that waits must look again: its longest pause, and room for a busy machine.
const GO_ON: i64 = 8_000;

/// Longer than a session of ours waits for a lock, and than leases last.
fn hold() -> Duration {
    Duration::from_secs(if full() { 600 } else { 12 })
}

#[test]
fn c7_a_forgotten_transaction_that_locks_running_jobs_hinders_only_them() {
    only_them("rows of running jobs", "SELECT number FROM jobs WHERE state = 'running' FOR UPDATE");
}

#[test]
fn c7_a_forgotten_transaction_that_locks_leases_hinders_only_their_jobs() {
    only_them("rows of leases", "SELECT number FROM leases FOR UPDATE");
}

fn only_them(what: &str, lock: &str) {
    let (mut table, stored, done) = held(what, lock);
    table.at_least("jobs stored meanwhile", stored, 5);
    table.at_least("jobs done meanwhile", done, 5);
    table.finish();
}

#[test]
fn c7_a_forgotten_transaction_that_locks_a_table_is_waited_for() {
    held("the table of leases", "LOCK TABLE leases IN ACCESS EXCLUSIVE MODE").0.finish();
}

#[test]
fn c7_a_forgotten_transaction_that_locks_other_tables_costs_no_lease() {
    held("the tables of workers and events", "LOCK TABLE workers, events IN EXCLUSIVE MODE").0.finish();
}

/// What happens while an idle transaction holds a lock; gives how many jobs were stored meanwhile, and how many ended.
fn held(what: &str, lock: &str) -> (Table, usize, usize) {
    let begun = Instant::now();
    let store = server::schema();
    let world = World::on_file().with_store(store.as_str());
    let mut table = Table::new(format!("C7 an idle transaction holds {what} for {:?}, seed {}", hold(), seed()));
    let workers = ["a", "b"].map(|name| world.ready_worker(name, &SHORT));
    let mut askers = [Asker::new(&world, "x", Chance::new(seed(), 1))];
    let long = (hold() + BEYOND).as_millis() as u64;
    (0..LONG).for_each(|_| assert!(askers[0].ask(long, long + 1)));
    let (over, stored) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ended =
        || -> i64 { server::sql(&store, "SELECT count(*) FROM events WHERE kind = 'settled'").trim().parse().unwrap() };
    let (meanwhile, done, went_on) = std::thread::scope(|scope| {
        let over_at_last = Over(&over);
        let [asker] = &mut askers;
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                stored.fetch_add(usize::from(asker.ask(10, 30)), Ordering::Relaxed);
            }
        });
        eventually("jobs that run", LIMIT, || world.count(&["running"]) >= LONG as i64);
        let holder = Session::begin(&store, lock);
        let (at, before) = (stored.load(Ordering::Relaxed), ended());
        std::thread::sleep(hold()); // how long it is held is the scenario
        let meanwhile = stored.load(Ordering::Relaxed) - at;
        let so_far = ended();
        drop(holder);
        let freed = Instant::now();
        eventually("a job to end afterwards", LIMIT, || ended() > so_far);
        let went_on = freed.elapsed().as_millis() as i64;
        drop(over_at_last);
        (meanwhile, (so_far - before) as usize, went_on)
    });
    wait_all_ended(&world, LIMIT);
    let told = settle_up(&world, &mut askers, &mut table);
    wait_all_ended(&world, LIMIT);
    table.none("workers that died", &dead(&workers));
    workers.into_iter().for_each(Process::stop);
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    table.at_most("from its end to the next job ended, in milliseconds", went_on, GO_ON);
    nothing_burned(&world, &mut table);
    judge(&world, &told, Copies::Never, &mut table);
    server::drop_schema(&store);
    (table, meanwhile, done)
}

fn dead(workers: &[Process]) -> Vec<String> {
    workers.iter().filter(|w| !w.is_alive()).map(Process::stderr).collect()
}

#[test]
fn c7_a_full_disk_of_the_server_loses_nothing_and_workers_go_on() {
    let begun = Instant::now();
    let dir = Cluster::new_dir();
    let disk = match Disk::mount(dir.join("data"), "size=96m") {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: C7 needs a small file system of its own: {why}"),
    };
    let server = Cluster::start_on(dir.clone(), &["autovacuum = off"]);
    let world = World::on_file().with_store(format!("{}?schema=orx", server.url()));
    let mut table = Table::new(format!("C7 the disk of PostgreSQL is full, seed {}", seed()));
    let workers = ["a", "b"].map(|name| world.ready_worker(name, &ARGS));
    let mut askers = [Asker::new(&world, "x", Chance::new(seed(), 1))];
    (0..20).for_each(|_| assert!(askers[0].ask(500, 1500)));
    let filled = disk.fill();
    let since = Instant::now();
    let (mut stored, mut refused) = (0, 0);
    // What is there already has room for a few.
    while refused < 10 {
        match askers[0].ask(100, 300) {
            true => stored += 1,
            false => refused += 1,
        }
        assert!(since.elapsed() < LIMIT, "the disk does not get full");
    }
    table.fact("jobs stored though it was full", stored);
    table.fact("time that it was full", format!("{:.1} s", since.elapsed().as_secs_f64()));
    std::fs::remove_file(filled).unwrap();
    let freed = Instant::now();
    assert!(askers[0].ask(10, 20), "there is room again");
    wait_all_ended(&world, LIMIT);
    table.fact("from space to the end of all jobs", format!("{} ms", freed.elapsed().as_millis()));
    let told = settle_up(&world, &mut askers, &mut table);
    wait_all_ended(&world, LIMIT);
    table.none("workers that died", &dead(&workers));
    workers.into_iter().for_each(Process::stop);
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    nothing_burned(&world, &mut table);
    judge(&world, &told, Copies::Never, &mut table);
    drop(server);
    drop(disk);
    let _ = std::fs::remove_dir_all(dir); // what the mount kept from being removed
    table.finish();
}
