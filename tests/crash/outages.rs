//! C7: the PostgreSQL server restarts, dies, ends sessions at random, while jobs are stored and run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::asker::{Asker, nothing_burned, settle_up};
use super::chance::Chance;
use super::pace::Over;
use super::table::Table;
use super::verdict::{Copies, judge, wait_all_ended};
use super::world::{LIMIT, Process, World, eventually, full, seed};
use crate::server::Cluster;

const WORKERS: [&str; 3] = ["a", "b", "c"];
/// The lease is long, so that nothing can be lost by time.
const ARGS: [&str; 5] = ["-v", "--slots", "4", "--lease", "60s"];
/// How soon a worker that waits must look again: its longest pause, and room for a busy machine.
const GO_ON: i64 = 8_000;

/// What is done to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// Sessions are told, then ended.
    Fast,
    /// Nobody is told, and the server recovers from its log.
    Immediate,
    /// kill -9 of the first process of the server.
    Kill,
    /// One session is ended.
    Terminate,
}

#[test]
fn c7_a_server_that_restarts_and_ends_sessions_loses_nothing() {
    let (restarts, ended) = if full() { (50, 200) } else { (3, 12) };
    run(restarts, ended, false);
}

/// What is told of the server by its coordinator may not be kept, nor taken for the end of all hope.
#[test]
fn c7_nor_does_one_behind_a_coordinator_whose_answers_get_lost() {
    let (restarts, ended) = if full() { (30, 100) } else { (3, 6) };
    run(restarts, ended, true);
}

fn run(restarts: usize, ended: usize, behind_http: bool) {
    let begun = Instant::now();
    // Commits take a while before they are written, so that a crash finds some under way.
    let server = Cluster::start(&["commit_delay = 20000", "commit_siblings = 0"]);
    let world = World::on_file().with_store(format!("{}?schema=orx", server.url()));
    let world = if behind_http { world.behind_http() } else { world };
    let kind = world.kind();
    let title = format!("C7 {restarts} restarts and {ended} ended sessions of PostgreSQL, {kind}, seed {}", seed());
    let mut table = Table::new(title);
    world.ok(&["-q", "db", "migrate"]);
    let workers = WORKERS.map(|name| world.ready_worker(name, &ARGS));
    let mut askers = ["x", "y"].map(|name| Asker::new(&world, name, Chance::new(seed(), name.as_bytes()[0].into())));
    let over = AtomicBool::new(false);
    let hits = std::thread::scope(|scope| {
        let over_at_last = Over(&over);
        for asker in &mut askers {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    asker.ask(50, 200);
                }
            });
        }
        let hits = hurt(&server, restarts, ended);
        drop(over_at_last);
        hits
    });
    let calm = wait_all_ended(&world, LIMIT);
    let told = settle_up(&world, &mut askers, &mut table);
    wait_all_ended(&world, LIMIT);
    let dead = WORKERS.iter().zip(&workers).filter(|(_, w)| !w.is_alive());
    table.none("workers that died", &dead.map(|(name, w)| format!("{name}: {}", w.stderr())).collect::<Vec<_>>());
    workers.into_iter().for_each(Process::stop);
    table.fact("wall time", format!("{:.1} s, of it {:.1} s after the last blow", secs(begun.elapsed()), secs(calm)));
    let count = |blow: Blow| hits.blows.iter().filter(|b| **b == blow).count();
    let blows = [("fast", Blow::Fast), ("immediate", Blow::Immediate), ("kill -9", Blow::Kill)];
    table.each("restarts", blows.map(|(name, blow)| (name, count(blow))));
    table.at_least("sessions ended", hits.sessions.iter().map(|(_, n)| n).sum::<usize>(), ended);
    table.each("of these", hits.sessions);
    table.times("from a blow to the server's return", hits.outages);
    let slowest = hits.recoveries.iter().max().copied().unwrap_or_default();
    table.times("from the server's return to the next job ended", hits.recoveries);
    table.at_most("the longest, in milliseconds", slowest, GO_ON);
    nothing_burned(&world, &mut table);
    judge(&world, &told, Copies::Never, &mut table);
    table.finish();
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// What was hit.
struct Hits {
    blows: Vec<Blow>,
    /// Sessions that were ended, by what they did.
    sessions: Vec<(&'static str, usize)>,
    /// How long the server was away, and jobs ended by nobody after it was back, in milliseconds.
    outages: Vec<i64>,
    recoveries: Vec<i64>,
}

fn hurt(server: &Cluster, restarts: usize, ended: usize) -> Hits {
    let mut chance = Chance::new(seed(), 1);
    let mut hits = Hits { blows: Vec::new(), sessions: Vec::new(), outages: Vec::new(), recoveries: Vec::new() };
    let mut left = (restarts, ended);
    while left != (0, 0) {
        chance.pause(Duration::from_millis(20), Duration::from_millis(500));
        in_flight(server);
        let all = (left.0 + left.1) as u64;
        let blow = match chance.between(1, all) <= left.0 as u64 {
            true => [Blow::Fast, Blow::Immediate, Blow::Kill][left.0 % 3],
            false => Blow::Terminate,
        };
        if blow == Blow::Terminate {
            let Some(what) = terminate(server, left.1) else { continue };
            match hits.sessions.iter_mut().find(|(name, _)| *name == what) {
                Some((_, count)) => *count += 1,
                None => hits.sessions.push((what, 1)),
            }
            left.1 -= 1;
        } else {
            let since = Instant::now();
            restart(server, blow);
            hits.outages.push(since.elapsed().as_millis() as i64);
            let back = Instant::now();
            let before = settled(server);
            eventually("a job to end after a restart", LIMIT, || settled(server) > before);
            hits.recoveries.push(back.elapsed().as_millis() as i64);
            left.0 -= 1;
        }
        hits.blows.push(blow);
    }
    hits
}

/// Jobs must run when it hurts.
fn in_flight(server: &Cluster) {
    eventually("work in flight", LIMIT, || number(server, "SELECT count(*) FROM orx.leases") > 0);
}

fn settled(server: &Cluster) -> i64 {
    number(server, "SELECT count(*) FROM orx.events WHERE kind = 'settled'")
}

fn number(server: &Cluster, sql: &str) -> i64 {
    server.sql(sql).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

fn restart(server: &Cluster, blow: Blow) {
    match blow {
        Blow::Fast => server.ctl(&["restart", "-m", "fast"]).unwrap(),
        Blow::Immediate => server.ctl(&["restart", "-m", "immediate"]).unwrap(),
        Blow::Kill => {
            kill_process(Pid::from_raw(server.postmaster()).unwrap(), Signal::KILL).unwrap();
            // Not before the last of its processes has noticed.
            eventually("the server to start again", LIMIT, || server.ctl(&["start"]).is_ok());
        }
        Blow::Terminate => {}
    }
}

/// Ends a session, and says what it did; in turn one that listens, one in a transaction, any.
fn terminate(server: &Cluster, n: usize) -> Option<&'static str> {
    let which = ["query ILIKE 'listen%'", "state <> 'idle'", "true"][n % 3];
    let done = server.sql(&format!(
        "SELECT CASE WHEN query ILIKE 'listen%' THEN 'listening' WHEN state = 'idle' THEN 'idle' ELSE 'at work' END
         FROM (SELECT query, state, pg_terminate_backend(pid) AS ended FROM pg_stat_activity
               WHERE application_name = 'orx' AND {which} ORDER BY random() LIMIT 1) AS one WHERE ended"
    ));
    match done.unwrap_or_default().trim() {
        "listening" => Some("listening"),
        "idle" => Some("idle"),
        "at work" => Some("at work"),
        _ => None,
    }
}
