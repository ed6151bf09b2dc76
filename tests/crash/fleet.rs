//! Workers that are killed and started again.

use rustix::process::Signal;
use serde_json::Value;

use super::chance::Chance;
use super::world::{LIMIT, Process, World, now};

/// Some workers of one world.
pub struct Fleet<'a> {
    world: &'a World,
    args: Vec<&'a str>,
    pub workers: Vec<(String, Process)>,
    names: usize,
    /// What those said that ended though nobody hurt them, or badly when they were asked to end.
    failed: Vec<String>,
}

/// A fleet of which so many ended unhurt will not do the work.
const MAX_FAILED: usize = 20;

/// A worker that may be hurt.
pub struct Victim {
    pub name: String,
    pub id: String,
    pub leads: bool,
}

/// A kill, and what it hit.
pub struct Hit {
    pub name: String,
    /// Before the signal, by the wall clock.
    pub at: i64,
    /// When it was dead for certain.
    pub dead: i64,
    /// The numbers of the jobs whose leases it held after that, as the store said then.
    pub running: Vec<u64>,
    pub led: bool,
}

impl<'a> Fleet<'a> {
    pub fn start(world: &'a World, count: usize, args: &[&'a str]) -> Self {
        let mut fleet = Self { world, args: args.to_vec(), workers: Vec::new(), names: 0, failed: Vec::new() };
        for _ in 0..count {
            let name = fleet.new_name();
            let worker = world.ready_worker(&name, &fleet.args);
            fleet.workers.push((name, worker));
        }
        fleet
    }

    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("w{}", self.names)
    }

    /// Living workers that run something.
    pub fn busy(&self) -> Vec<Victim> {
        let status = self.world.json(&["status"]);
        let leader = status["leader"]["name"].as_str().unwrap_or_default().to_owned();
        let rows = status["workers"].as_array().unwrap();
        let row = |name: &String, pid: u32| {
            rows.iter().find(|w| w["name"] == **name && w["pid"] == pid && !numbers(&w["running"]).is_empty())
        };
        let busy = self.workers.iter().filter_map(|(name, process)| {
            let id = row(name, process.pid())?["id"].as_str()?.to_owned();
            Some(Victim { name: name.clone(), id, leads: *name == leader })
        });
        busy.collect()
    }

    /// SIGKILL; the store says afterwards what it held.
    pub fn kill(&mut self, victim: &Victim) -> Hit {
        let (_, process) = self.workers.iter_mut().find(|(name, _)| *name == victim.name).unwrap();
        let at = now();
        if !process.kill() {
            self.failed.push(format!("{} had ended by itself: {}", victim.name, process.stderr()));
        }
        let dead = now();
        let rows = self.world.workers();
        let running = rows.iter().find(|w| w["id"] == *victim.id).map(|w| numbers(&w["running"]));
        Hit { name: victim.name.clone(), at, dead, running: running.unwrap_or_default(), led: victim.leads }
    }

    /// Starts those again that ended though nobody hurt them.
    pub fn revive(&mut self) {
        for (name, process) in &mut self.workers {
            if !process.is_alive() {
                self.failed.push(format!("{name} had ended by itself: {}", process.stderr()));
                *process = self.world.worker(name, &self.args);
            }
        }
        let (failed, last) = (self.failed.len(), self.failed.last());
        assert!(failed < MAX_FAILED, "workers that failed: {failed} and none was promised\n{last:?}");
    }

    /// Puts a new process in the place of one that has ended, under its name or another.
    pub fn replace(&mut self, name: &str, same: bool) {
        let new = if same { name.to_owned() } else { self.new_name() };
        let process = self.world.worker(&new, &self.args);
        let place = self.workers.iter_mut().find(|(n, _)| n == name).unwrap();
        *place = (new, process);
    }

    /// SIGTERM to all; gives what those said that did not end well, now or before.
    pub fn stop(mut self) -> Vec<String> {
        for (_, process) in &self.workers {
            process.signal(Signal::TERM);
        }
        for (name, process) in &mut self.workers {
            let status = process.wait(LIMIT);
            if !status.success() {
                self.failed.push(format!("{name}: {status}: {}", process.stderr()));
            }
        }
        self.failed
    }
}

/// Whom to hurt next: the leader now and then, else anybody who is busy.
pub fn choose<'v>(busy: &'v [Victim], chance: &mut Chance) -> &'v Victim {
    let leader = busy.iter().find(|v| v.leads);
    match leader {
        Some(leader) if chance.one_in(4) => leader,
        _ => chance.pick(busy),
    }
}

fn numbers(running: &Value) -> Vec<u64> {
    running.as_array().map(|all| all.iter().filter_map(Value::as_u64).collect()).unwrap_or_default()
}
