//! Workers that are killed and started again.

use rustix::process::Signal;
use serde_json::Value;

use super::chance::Chance;
use super::world::{Process, World, now};

/// Some workers of one world.
pub struct Fleet<'a> {
    world: &'a World,
    args: Vec<&'a str>,
    pub workers: Vec<(String, Process)>,
    names: usize,
}

/// A worker that may be hurt.
pub struct Victim {
    pub name: String,
    pub id: String,
    pub leads: bool,
}

/// A kill, and what it hit.
pub struct Hit {
    /// When, by the wall clock.
    pub at: i64,
    /// The numbers of the jobs whose leases it held when it was dead.
    pub held: Vec<u64>,
    pub led: bool,
}

impl<'a> Fleet<'a> {
    pub fn start(world: &'a World, count: usize, args: &[&'a str]) -> Self {
        let mut fleet = Self { world, args: args.to_vec(), workers: Vec::new(), names: 0 };
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
        assert!(process.kill(), "worker {} had ended by itself: {}", victim.name, process.stderr());
        let rows = self.world.workers();
        let held = rows.iter().find(|w| w["id"] == *victim.id).map(|w| numbers(&w["running"]));
        Hit { at, held: held.unwrap_or_default(), led: victim.leads }
    }

    /// Puts a new process in the place of one that has ended, under its name or another.
    pub fn replace(&mut self, name: &str, same: bool) {
        let new = if same { name.to_owned() } else { self.new_name() };
        let process = self.world.worker(&new, &self.args);
        let place = self.workers.iter_mut().find(|(n, _)| n == name).unwrap();
        *place = (new, process);
    }

    /// SIGTERM to all; each must end well.
    pub fn stop(self) {
        for (_, process) in &self.workers {
            process.signal(Signal::TERM);
        }
        self.workers.into_iter().for_each(|(_, process)| process.stop());
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
