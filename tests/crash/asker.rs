//! A client of a server that fails: it writes down what each answer promised, and asks again in the end.

use std::collections::HashMap;
use std::time::Duration;

use super::chance::Chance;
use super::table::Table;
use super::verdict::Told;
use super::witness;
use super::world::World;

/// What an answer promised.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It is stored under this id.
    Stored(String),
    /// It is not stored and never will be.
    Refused,
    /// Nobody can say.
    Unknown,
    /// Anything else.
    Broken(String),
}

/// One client.
pub struct Asker<'a> {
    world: &'a World,
    name: &'a str,
    chance: Chance,
    /// What was asked for, by idempotency key.
    asked: Vec<(String, String, Answer)>,
}

impl<'a> Asker<'a> {
    pub fn new(world: &'a World, name: &'a str, chance: Chance) -> Self {
        Self { world, name, chance, asked: Vec::new() }
    }

    /// Asks for one more job of some milliseconds; true if it is stored.
    pub fn ask(&mut self, least: u64, most: u64) -> bool {
        let key = format!("{}-{}", self.name, self.asked.len());
        let millis = self.chance.between(least, most).to_string();
        let answer = self.answer(&key, &millis);
        let stored = matches!(answer, Answer::Stored(_));
        if !stored {
            // As a person would, or a script with sense.
            self.chance.pause(Duration::from_millis(50), Duration::from_millis(300));
        }
        self.asked.push((key, millis, answer));
        stored
    }

    fn answer(&self, key: &str, millis: &str) -> Answer {
        let witness = self.world.witness();
        let options = ["-q", "-o", "id", "enqueue", "--max-losses=100000", "--idempotency-key", key];
        let command = ["--", witness::helper(), witness.to_str().unwrap(), millis];
        match self.world.run(&[&options[..], &command].concat()) {
            (Some(0), id, _) if !id.trim().is_empty() => Answer::Stored(id.trim().to_owned()),
            (Some(6), _, said) if said.contains("unknown, check with") => Answer::Unknown,
            (Some(6), _, said) if said.contains("not stored") => Answer::Refused,
            (code, id, said) => Answer::Broken(format!("{key}: {code:?} {id}{said}")),
        }
    }
}

/// Holds what was answered against what is there, and asks again for the rest.
pub fn settle_up(world: &World, askers: &mut [Asker], table: &mut Table) -> Told {
    let there: HashMap<String, String> = by_key(world);
    let mut told = Told::default();
    let (mut refused, mut unknown, mut untold) = (0, 0, 0);
    let (mut broken, mut lies, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for asker in askers {
        for (key, millis, answer) in &asker.asked {
            let stored = there.get(key);
            match answer {
                Answer::Stored(id) => {
                    changed.extend((stored != Some(id)).then(|| format!("{key} was {id} and is {stored:?}")));
                    told.acknowledged.push(id.clone());
                    continue;
                }
                Answer::Refused => {
                    refused += 1;
                    lies.extend(stored.map(|id| format!("{key} is there as {id}")));
                }
                Answer::Unknown => {
                    unknown += 1;
                    untold += usize::from(stored.is_some());
                }
                Answer::Broken(how) => broken.push(how.clone()),
            }
            match (asker.answer(key, millis), stored) {
                (Answer::Stored(id), Some(before)) if id != *before => {
                    changed.push(format!("{key}: {before} and {id}"))
                }
                (Answer::Stored(id), _) => told.acknowledged.push(id),
                (other, _) => broken.push(format!("{key}, asked again: {other:?}")),
            }
        }
    }
    table.fact("answers \"not stored\"", refused);
    table.none("of these stored all the same", &lies);
    table.fact("answers \"unknown\"", unknown);
    table.fact("of these had been stored", untold);
    table.none("answers that promise neither", &broken);
    table.none("keys with another job than was told", &changed);
    told
}

fn by_key(world: &World) -> HashMap<String, String> {
    let listed = world.json(&["list", "--limit", "0"]);
    let text = |v: &serde_json::Value| v.as_str().map(str::to_owned);
    listed.as_array().unwrap().iter().filter_map(|j| Some((text(&j["idempotency_key"])?, text(&j["id"])?))).collect()
}

/// No attempt may have been lost where leases are long: neither a restart nor a lost connection is a death.
pub fn nothing_burned(world: &World, table: &mut Table) {
    let listed = world.json(&["list", "--limit", "0"]);
    let burned = listed.as_array().unwrap().iter().filter(|j| j["losses"] != 0 || j["failures"] != 0);
    let events = world.events();
    let story = |j: &serde_json::Value| {
        let of = events.iter().filter(|e| e["number"] == j["number"]);
        of.map(ToString::to_string).collect::<Vec<_>>().join("\n    ")
    };
    let burned = burned
        .map(|j| format!("job {}: losses {}, failures {}\n    {}", j["number"], j["losses"], j["failures"], story(j)));
    table.none("jobs with a loss or failure counted", &burned.collect::<Vec<_>>());
}
