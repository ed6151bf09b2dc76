//! C3: the disk of the store is full while jobs run.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::chance::Chance;
use super::table::Table;
use super::verdict::{Copies, Told, judge, wait_all_ended};
use super::witness::{self, Mark};
use super::world::{LIMIT, Process, World, eventually, full, now, seed};

const ARGS: [&str; 5] = ["-q", "--slots", "4", "--lease", "3s"];
/// How large the disk is, for tmpfs.
const SIZE: &str = "size=16m";
/// How large one is on which room is kept for a time when there is none.
const ROOMY: &str = "size=192m";
/// How many jobs run from before the disk is full until after it.
const LONG: usize = 3;

#[test]
fn c3_a_full_disk_loses_nothing_and_workers_go_on() {
    // Longer than two leases of 3 s; and longer than the 15 s after which a silent leader may be deposed (S30).
    for outage in if full() { &[20, 8][..] } else { &[8] } {
        if let Err(why) = run(Duration::from_secs(*outage)) {
            println!("skipped: C3 needs a small file system of its own: {why}");
            return;
        }
    }
}

fn run(outage: Duration) -> Result<(), String> {
    let begun = Instant::now();
    let world = World::on_file();
    let disk = Disk::mount(world.path("disk"), SIZE)?;
    let world = world.with_store(disk.0.join("orx.db"));
    let mut table = Table::new(format!("C3 the disk is full for {outage:?} while jobs run, seed {}", seed()));
    let workers = ["a", "b"].map(|name| world.ready_worker(name, &ARGS));
    let mut client =
        Client { world: &world, chance: Chance::new(seed(), 1), told: Told::default(), refused: Vec::new() };
    let long = (outage.as_millis() + 4_000).to_string();
    (0..LONG).for_each(|_| client.must_add(&long));
    (0..20).for_each(|_| client.add_short());
    // A busy machine may store jobs more slowly than they run.
    eventually("work in flight", LIMIT, || {
        client.must_add("3000");
        world.count(&["running"]) == 8
    });

    let fill = disk.fill();
    let since = Instant::now();
    let filled = now();
    // What is there already has room for a few; then the answer must be no, and mean it.
    while client.refused.len() < 5 {
        client.add_short();
        assert!(since.elapsed() < LIMIT, "the disk does not get full");
    }
    table.fact("jobs refused", client.refused.len());
    let mut reads = 0;
    while since.elapsed() < outage {
        client.read_all();
        reads += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    table.fact("times the queue was read meanwhile", reads);
    let ended: HashSet<String> =
        world.lines().into_iter().filter(|l| l.mark == Mark::End && l.at > filled).map(|l| l.job).collect();
    let listed = world.json(&["list", "--state", "running", "--limit", "0"]);
    let unsettled = listed.as_array().unwrap().iter().filter(|j| ended.contains(j["id"].as_str().unwrap())).count();
    table.fact("jobs that ended while it was full", ended.len());
    table.at_least("of these that could not be settled", unsettled, 1);
    table.fact("workers that lived on", workers.iter().filter(|w| w.is_alive()).count());

    // The leader is to be the first who can write: it must give the others the time that they lost (S2).
    let leader = || world.json(&["status"])["leader"].clone();
    let led = leader();
    let other = &workers[usize::from(led["name"] == "a")];
    stop_outside_of_a_transaction(other);
    std::fs::remove_file(fill).unwrap();
    let freed = Instant::now();
    eventually("the leader to write again", Duration::from_secs(20), || leader()["seen_at"] != led["seen_at"]);
    other.signal(Signal::CONT);
    table.fact("from space to the leader's first sweep", format!("{} ms", freed.elapsed().as_millis()));
    let still = || world.json(&["list", "--state", "running", "--limit", "0"]);
    let waits = |id: &str| still().as_array().unwrap().iter().any(|j| j["id"] == *id && j["attempt"] == 1);
    eventually("what had ended to be settled", Duration::from_secs(20), || ended.iter().all(|id| !waits(id)));
    table.fact("from space to settled", format!("{} ms", freed.elapsed().as_millis()));
    client.ask_again();
    wait_all_ended(&world, LIMIT);
    workers.into_iter().for_each(Process::stop);
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    // Nobody could write, so nobody could take a lease either (S2).
    let burned = world.json(&["list", "--limit", "0"]);
    let burned = burned.as_array().unwrap().iter().filter(|j| j["losses"] != 0 || j["failures"] != 0);
    let burned = burned.map(|j| format!("job {}: losses {}, failures {}", j["number"], j["losses"], j["failures"]));
    table.none("jobs with a loss or failure counted", &burned.collect::<Vec<_>>());
    judge(&world, &client.told, Copies::MayOverlap, &mut table);
    table.finish();
    Ok(())
}

#[test]
fn c3_workers_behind_a_coordinator_keep_their_jobs_too() {
    let world = World::on_file();
    let disk = match Disk::mount(world.path("disk"), SIZE) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: this needs a file system of its own: {why}"),
    };
    let world = world.with_store(disk.0.join("orx.db")).behind_http();
    let worker = world.ready_worker("a", &ARGS);
    let job = world.add(&[], &["9000"]); // three leases
    eventually("the job to run", LIMIT, || world.lines().iter().any(|line| line.job == job));
    let fill = disk.fill();
    eventually("the job to end", LIMIT, || world.lines().iter().any(|line| line.job == job && line.mark == Mark::End));
    assert_eq!(world.run(&["enqueue", "--", "true"]).0, Some(6), "the disk is not full");
    std::fs::remove_file(fill).unwrap();
    wait_all_ended(&world, LIMIT);
    worker.stop();
    let job = &world.json(&["status", &job]);
    assert_eq!((&job["state"], &job["attempt"], &job["losses"]), (&"done".into(), &1.into(), &0.into()), "{job}");
    world.ok(&["audit"]);
}

/// One that is stopped while it holds the store's lock keeps everybody from writing.
fn stop_outside_of_a_transaction(process: &Process) {
    let pid = process.pid().to_string();
    let locked = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let writes = |line: &&str| line.contains("POSIX") && line.contains("WRITE");
        locks.lines().filter(writes).any(|line| line.split_whitespace().any(|word| word == pid))
    };
    eventually("a worker between two transactions", LIMIT, || {
        process.signal(Signal::STOP);
        let free = !locked();
        if !free {
            process.signal(Signal::CONT);
        }
        free
    });
}

#[test]
fn c3_jobs_can_be_forgotten_on_a_full_disk() {
    let world = World::on_file();
    let disk = match Disk::mount(world.path("disk"), ROOMY) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: this needs a file system of its own: {why}"),
    };
    let world = world.with_store(disk.0.join("orx.db"));
    let ballast = disk.0.join("orx.db-ballast");
    let worker = world.ready_worker("a", &ARGS);
    let ids: Vec<String> = (0..20).map(|_| world.add(&[], &["1"])).collect();
    world.ok(&[&["wait"], &*ids.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    eventually("room to be kept", LIMIT, || ballast.metadata().is_ok_and(|m| m.len() > 0));
    let kept = ballast.metadata().unwrap().len();
    worker.stop();
    let fill = disk.fill();
    let forget = ["db", "prune", "--older-than", "0s", "--yes"];
    assert_eq!(world.count_jobs(), 20, "it can be read");
    let (refused, _, _) = world.run(&["enqueue", "--", "true"]);
    assert_eq!(refused, Some(6), "the disk is not full");
    world.ok(&forget);
    assert_eq!(world.count_jobs(), 0);
    assert!(ballast.metadata().unwrap().len() < kept, "there was room without it");
    std::fs::remove_file(fill).unwrap();
    world.ok(&["run", "--", "true"]);
    world.ok(&forget);
    assert_eq!(ballast.metadata().unwrap().len(), kept, "it is not kept again");
}

/// A file system with little room; taken away in the end.
pub struct Disk(PathBuf);

impl Disk {
    pub fn mount(at: PathBuf, size: &str) -> Result<Self, String> {
        std::fs::create_dir_all(&at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&at).output();
        match mount.map_err(|e| format!("mount: {e}"))? {
            done if done.status.success() => Ok(Self(at)),
            failed => Err(String::from_utf8_lossy(&failed.stderr).trim().to_owned()),
        }
    }

    /// Writes a file until there is no room for one more byte.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("fill");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let copy = self.0.with_extension("kept");
            let _ = Command::new("cp").arg("-r").arg(&self.0).arg(copy).status(); // only for those who look for the cause
        }
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Stores jobs, and keeps what was refused to ask again.
struct Client<'a> {
    world: &'a World,
    chance: Chance,
    told: Told,
    /// Keys and times of jobs that were refused.
    refused: Vec<(String, String)>,
}

impl Client<'_> {
    fn must_add(&mut self, millis: &str) {
        let id = self.world.add(&[], &[millis]);
        self.told.acknowledged.push(id);
    }

    fn add_short(&mut self) {
        let key = format!("key-{:016x}", self.chance.draw());
        let millis = self.chance.between(200, 400).to_string();
        self.add(key, millis);
    }

    fn add(&mut self, key: String, millis: String) {
        let witness = self.world.witness();
        // Some weight, so that the room is used up soon.
        let weight = format!("WEIGHT={}", "x".repeat(16 * 1024));
        let options = ["-q", "-o", "id", "enqueue", "--idempotency-key", &key, "--env", &weight];
        let command = ["--", witness::helper(), witness.to_str().unwrap(), &millis];
        match self.world.run(&[&options[..], &command].concat()) {
            (Some(0), id, _) => self.told.acknowledged.push(id.trim().to_owned()),
            (code, said, why) => {
                assert!(said.is_empty() && why.contains("orx:") && code.is_some(), "{code:?}: {said}\n{why}");
                self.refused.push((key, millis));
            }
        }
    }

    /// The same jobs under the same keys: none may be doubled.
    fn ask_again(&mut self) {
        for (key, millis) in std::mem::take(&mut self.refused) {
            self.add(key, millis);
        }
        assert!(self.refused.is_empty(), "refused though there is room");
    }

    /// All that was acknowledged can be seen.
    fn read_all(&self) {
        let listed = self.world.json(&["list", "--limit", "0"]);
        let ids: HashSet<&str> = listed.as_array().unwrap().iter().filter_map(|j| j["id"].as_str()).collect();
        let gone = self.told.acknowledged.iter().filter(|id| !ids.contains(id.as_str())).count();
        assert_eq!(gone, 0, "acknowledged jobs cannot be seen while the disk is full");
    }
}
