//! C4 in a worker: it keeps its jobs when the disk fails and settles them later; killed there, its heir takes them over.

use std::sync::Mutex;
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::{Value, json};

use super::faults::{Fault, Found, STORE, Scenario, hurt};
use super::nth_client::drain;
use super::table::Table;
use super::verdict::Told;
use super::witness;
use super::world::{LIMIT, World, seed};

/// How long the jobs take, in milliseconds: some longer than it takes until output is stored, one until its lease is renewed.
const MILLIS: [u64; 5] = [20, 20, 200, 300, 1_200];
/// How much one of the jobs prints: more than an outcome may carry.
const OUTPUT: usize = 200_000;
const ARGS: [&str; 9] = ["-q", "worker", "--name", "w", "--slots", "4", "--lease", "3s", "--burst"];
/// How large the log is before: at 4,000 frames it is written back, and the first leases are more than what is left.
const LOG: u64 = 3_955 * (4096 + 24);

#[test]
fn c4_a_worker_whose_nth_write_fails_keeps_its_jobs() {
    let begun = Instant::now();
    let title = "C4 the n-th call on the store's files fails in a worker that runs jobs";
    let mut table = Table::new(format!("{title}, seed {}", seed()));
    let workers = Workers { full: full_log(), ends: Mutex::default() };
    let syncs = ["orx.db", "orx.db-wal", "orx.db-output", "orx.db-output-wal"];
    let writes = [&syncs[..], &["orx.db-shm", "orx.db-output-shm"]].concat();
    hurt(&workers, &[("sync", &syncs), ("write", &writes)], &mut table);
    workers.finish(&mut table);
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    table.finish();
}

/// How a hurt worker ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// By itself, with 0.
    Well,
    /// By itself, and it said why.
    Refused,
    Killed,
}

struct Workers {
    /// An empty store with a full log.
    full: World,
    ends: Mutex<Vec<Ended>>,
}

/// The end of a hurt worker.
struct Ended {
    how: End,
    /// The leases that were lost with it.
    lost: u64,
    /// The jobs that it did not take.
    left: usize,
}

/// A store whose log is about to be written back.
fn full_log() -> World {
    let home = World::on_file();
    let store = home.path(STORE);
    let home = home.with_store(store);
    home.ok(&["-q", "db", "migrate"]);
    let conn = Connection::open(home.path(STORE)).unwrap();
    conn.execute_batch("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0").unwrap();
    let version: u32 = conn.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
    while std::fs::metadata(home.path(STORE).with_extension("db-wal")).unwrap().len() < LOG {
        conn.execute_batch(&format!("PRAGMA user_version={version}")).unwrap();
    }
    std::mem::forget(conn); // closing it would write the log back
    home
}

impl Workers {
    /// Stores the jobs: those that write a witness, and one that prints much.
    fn fill(&self, world: &World) -> Told {
        let folder = |world: &World| world.path(STORE).parent().unwrap().to_owned();
        std::fs::create_dir(folder(world)).unwrap();
        for name in ["orx.db", "orx.db-wal"] {
            std::fs::copy(folder(&self.full).join(name), folder(world).join(name)).unwrap();
        }
        // Where somebody listens, who opens the store does not write a long log back.
        let ears = folder(world).join("orx.db-wake");
        std::fs::create_dir(&ears).unwrap();
        std::fs::write(ears.join("somebody"), "").unwrap();
        // While it is open, the client is not the last one, who would write the log back.
        let conn = Connection::open(world.path(STORE)).unwrap();
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        let _: i64 = conn.query_row("SELECT count(*) FROM meta", [], |r| r.get(0)).unwrap();
        let witness = world.witness();
        let job = |millis: u64| json!({ "command": [witness::helper(), witness, millis.to_string()] });
        let noisy = json!({ "command": ["head", "-c", OUTPUT.to_string(), "/dev/zero"] });
        let lines: String = MILLIS.map(job).iter().chain([&noisy]).map(|line| format!("{line}\n")).collect();
        std::fs::write(world.path("load"), lines).unwrap();
        let load = world.path("load");
        let said = world.ok(&["-q", "-o", "id", "enqueue", "--max-losses=100000", "--from", load.to_str().unwrap()]);
        let mut ids: Vec<String> = said.lines().map(str::to_owned).collect();
        let apart = vec![ids.pop().unwrap()];
        drop(conn);
        Told { apart, ..Told::of(ids) }
    }
}

impl Scenario for Workers {
    // Over before a lease is: what ends meanwhile is not renewed any more.
    const LASTING: u64 = 4;

    fn run(&self, world: &mut World, fault: &Fault) -> Found {
        let mut broken = Vec::new();
        let told = self.fill(world);
        let mut worker = world.spawn_with(&ARGS, &fault.environment(world));
        let (code, stderr) = (worker.wait(LIMIT).code(), worker.stderr());
        let hit = fault.hits(world) > 0;
        let left = left(&world.json(&["list", "--limit", "0"]));
        let end = match code {
            None => End::Killed,
            Some(0) => End::Well,
            Some(6) if stderr.starts_with("orx: ") || stderr.contains("\norx: ") => End::Refused,
            Some(_) => {
                broken.push(format!("the worker ended with {code:?}: {stderr}"));
                End::Refused
            }
        };
        if code.is_some() && left.running > 0 {
            broken.push(format!("it ended with {code:?} and left {} jobs running: {stderr}", left.running));
        }
        if end == End::Killed && !fault.harm.kills() {
            broken.push(format!("it was killed, and not by us: {stderr}"));
        }
        drain(world, &told, &mut broken);
        let jobs = world.json(&["list", "--limit", "0"]);
        let jobs = jobs.as_array().unwrap();
        let sum = |what: &str| jobs.iter().map(|j| j[what].as_u64().unwrap()).sum::<u64>();
        if sum("failures") > 0 || (end != End::Killed && sum("losses") > 0) {
            broken.push(format!("failures {}, losses {}: {stderr}", sum("failures"), sum("losses")));
        }
        let said = world.ok(&["tail", &told.apart[0]]).len();
        if said != OUTPUT {
            broken.push(format!("{said} bytes of output are kept of {OUTPUT}"));
        }
        if hit {
            self.ends.lock().unwrap().push(Ended { how: end, lost: sum("losses"), left: left.waiting });
        }
        Found { hit, broken }
    }
}

/// What a worker left behind.
struct Left {
    waiting: usize,
    running: usize,
}

fn left(jobs: &Value) -> Left {
    let count = |state: &str| jobs.as_array().unwrap().iter().filter(|j| j["state"] == state).count();
    Left { waiting: count("pending") + count("scheduled"), running: count("running") }
}

impl Workers {
    fn finish(&self, table: &mut Table) {
        let ends = self.ends.lock().unwrap();
        let of = |end| ends.iter().filter(move |e| e.how == end);
        table.at_least("workers that went on and ended well", of(End::Well).count(), 1);
        table.at_most("of these left jobs for others", of(End::Well).filter(|e| e.left > 0).count(), 0);
        table.fact("workers that ended and said why", of(End::Refused).count());
        table.at_least("workers that were killed", of(End::Killed).count(), 1);
        table.at_least("leases that these held", of(End::Killed).map(|e| e.lost).sum(), 1);
    }
}
