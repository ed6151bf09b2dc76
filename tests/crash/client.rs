//! A client that stores jobs, is killed now and then, and writes down what was acknowledged.

use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use uuid::Uuid;

use super::chance::Chance;
use super::table::Table;
use super::verdict::Told;
use super::witness;
use super::world::{LIMIT, World, eventually};

/// How jobs of these scenarios are stored: losses are what is counted here, not what ends a job.
const OPTIONS: [&str; 5] = ["-q", "-o", "id", "enqueue", "--max-losses=100000"];

/// How much it is to store, and how.
pub struct Load {
    pub jobs: usize,
    /// How many of its commands are killed.
    pub kills: usize,
    /// How long a job takes, in milliseconds.
    pub least: u64,
    pub most: u64,
}

/// Stores jobs one by one and in bulk.
pub struct Client<'a> {
    world: &'a World,
    load: Load,
    chance: Chance,
    log: File,
    /// How long a command takes that is not killed.
    usual: [Duration; 2],
    pub told: Told,
    /// Commands that were killed while they ran.
    pub killed: usize,
    /// Of those, the ones in the middle of many jobs.
    pub killed_in_bulk: usize,
    /// Of those killed with one job, the ones that had stored it and could not say so.
    pub stored_unheard: usize,
    /// Answers that got lost: the same was asked again.
    pub answers_lost: usize,
    /// Of those, the ones that were stored a second time.
    pub doubled: Vec<String>,
    /// What commands said that failed, though nothing was done to them.
    pub failed: Vec<String>,
}

/// Who fails so often will not recover.
const MAX_FAILED: usize = 20;

const SINGLE: usize = 0;
const BULK: usize = 1;

impl<'a> Client<'a> {
    pub fn new(world: &'a World, load: Load, chance: Chance) -> Self {
        let log = File::create(world.path("acknowledged")).unwrap();
        let usual = [Duration::from_millis(5); 2];
        Self {
            world,
            load,
            chance,
            log,
            usual,
            told: Told::default(),
            killed: 0,
            killed_in_bulk: 0,
            stored_unheard: 0,
            answers_lost: 0,
            doubled: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Stores all of it, but never more than `allowed` at a time.
    pub fn store_all(&mut self, allowed: &AtomicUsize) {
        let mut tries = 0;
        while self.told.acknowledged.len() < self.load.jobs && self.failed.len() < MAX_FAILED {
            let stored = self.told.acknowledged.len();
            eventually("more work to be wanted", LIMIT, || stored < allowed.load(Ordering::Relaxed));
            let due = self.load.kills * (stored + 1) / self.load.jobs;
            let hurt = self.killed < due.max(1).min(self.load.kills) && tries < self.load.kills * 10;
            tries += usize::from(hurt);
            // Every fourth that is hurt: chance might leave them all out.
            let bulk = if hurt { self.killed % 4 == 3 } else { self.chance.one_in(8) };
            match bulk {
                true => self.bulk(hurt),
                false => self.single(hurt),
            }
        }
    }

    /// One job. A killed client asks again half of the time, with the key that keeps the job from being doubled; and so does
    /// now and then one that was not killed, but whose answer got lost.
    fn single(&mut self, hurt: bool) {
        let key = format!("key-{:016x}", self.chance.draw());
        let millis = self.chance.between(self.load.least, self.load.most).to_string();
        let witness = self.world.witness();
        let command = ["--", witness::helper(), witness.to_str().unwrap(), &millis];
        let args = [&OPTIONS[..], &["--idempotency-key", &key], &command].concat();
        let (again, lost) = (self.chance.one_in(2), self.chance.one_in(16));
        let before = if hurt { self.world.count_jobs() } else { 0 };
        let (ended, mut ids) = self.command(&args, SINGLE, hurt);
        if !ended && ids.is_empty() {
            // Nobody else stores jobs, and the dead store none.
            let stored = usize::from(self.world.count_jobs() > before);
            self.stored_unheard += stored;
            match again {
                true => ids = self.command(&args, SINGLE, false).1,
                // Behind a coordinator its request may be carried out a moment later.
                false => self.told.unheard += if self.world.front().is_some() { 1 } else { stored },
            }
        } else if ended && lost {
            self.answers_lost += 1;
            let unheard = std::mem::replace(&mut ids, self.command(&args, SINGLE, false).1);
            self.doubled.extend((ids != unheard).then(|| format!("{unheard:?} and {ids:?} for the key {key}")));
        }
        self.acknowledge(ids);
    }

    /// Many jobs. A killed client finishes the load with the same batch id, which doubles no line.
    fn bulk(&mut self, hurt: bool) {
        let batch = Uuid::from_u128((u128::from(self.chance.draw()) << 64) | u128::from(self.chance.draw()));
        let file = self.world.path(&format!("load-{batch}"));
        let lines = (0..self.chance.between(3, 30)).map(|_| {
            let millis = self.chance.between(self.load.least, self.load.most).to_string();
            let command = [witness::helper(), self.world.witness().to_str().unwrap(), &millis].map(str::to_owned);
            format!("{}\n", serde_json::json!({ "command": command }))
        });
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        let (batch, from) = (batch.to_string(), file.to_str().unwrap());
        let args = [&OPTIONS[..], &["--batch", &batch, "--from", from]].concat();
        let (ended, mut ids) = self.command(&args, BULK, hurt);
        if !ended {
            self.killed_in_bulk += 1;
            let all = self.command(&args, BULK, false).1;
            assert!(ids.iter().all(|id| all.contains(id)), "a line got two ids: {ids:?} and {all:?}");
            ids = all;
        }
        std::fs::remove_file(file).unwrap();
        self.acknowledge(ids);
    }

    /// Runs a command, or kills it somewhere in the middle. Gives whether it ended by itself, and the ids it printed; none if
    /// it failed.
    fn command(&mut self, args: &[&str], kind: usize, hurt: bool) -> (bool, Vec<String>) {
        let begun = Instant::now();
        let mut process = self.world.spawn(args);
        if hurt {
            self.chance.pause(Duration::ZERO, self.usual[kind]);
            process.signal(Signal::KILL);
        }
        let status = process.wait(LIMIT);
        let ended = status.code().is_some();
        match ended {
            true => self.usual[kind] = (self.usual[kind] * 3 + begun.elapsed()) / 4,
            false => self.killed += 1,
        }
        if ended && !status.success() {
            self.failed.push(format!("orx {args:?}: {status}\n{}", process.stderr()));
            return (true, Vec::new());
        }
        let said = process.stdout();
        process.forget();
        // A line that was cut is no acknowledgement.
        let whole = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        (ended, whole.map(|line| line.trim_end().to_owned()).collect())
    }

    /// What became of its commands, and whether they were hurt enough.
    pub fn judge(&self, table: &mut Table) {
        table.none("commands that failed", &self.failed);
        let kills = self.load.kills;
        table.at_least("kills of clients", self.killed, kills / 2);
        table.at_least("of these in the middle of many jobs", self.killed_in_bulk, kills / 10);
        table.fact("of these had stored one job and could not say so", self.stored_unheard);
        table.at_least("answers that got lost and were asked for again", self.answers_lost, self.load.jobs / 200);
        table.none("asked again and stored twice", &self.doubled);
    }

    fn acknowledge(&mut self, ids: Vec<String>) {
        for id in ids {
            writeln!(self.log, "{id}").unwrap();
            self.told.acknowledged.push(id);
        }
    }
}
