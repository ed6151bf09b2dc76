//! Lost leases, each with the kill that explains it.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::fleet::Hit;
use super::pace::Pauses;
use super::table::Table;

/// An attempt whose lease was lost, by the events.
#[derive(Clone, Debug)]
pub struct Loss {
    pub number: u64,
    attempt: u64,
    worker: String,
    leased: i64,
    lost: i64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, attempt, worker, leased, lost } = self;
        write!(f, "attempt {attempt} of job {number} by {worker}, {} ms after its lease", lost - leased)
    }
}

/// All that were lost.
pub fn losses(events: &[Value]) -> Vec<Loss> {
    endings(events, |outcome| outcome == "lost")
}

/// Behind a coordinator a request that was on its way when its worker died is carried out all the same: what a lease gives
/// until the next worker of the name is there went to the dead one, and what was settled was not lost. Gives how many were.
pub fn allow_requests_on_their_way(hit: &mut Hit, events: &[Value]) -> usize {
    let back = |e: &&Value| e["kind"] == "worker_started" && e["worker"] == *hit.name && at(e) > hit.dead;
    hit.dead = events.iter().find(back).map_or(i64::MAX, at);
    let settled = endings(events, |outcome| outcome != "lost");
    // When it was settled says nothing: a transaction has the time of its beginning, and may be seen later.
    let of = |end: &Loss, number| end.number == number && end.worker == hit.name && end.leased <= hit.dead;
    let before = hit.running.len();
    hit.running.retain(|number| !settled.iter().any(|end| of(end, *number)));
    before - hit.running.len()
}

fn at(event: &Value) -> i64 {
    event["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// Attempts that were settled with an outcome like this.
fn endings(events: &[Value], like: impl Fn(&str) -> bool) -> Vec<Loss> {
    let mut leased: HashMap<(u64, u64), i64> = HashMap::new();
    let mut losses = Vec::new();
    for event in events {
        let (Some(number), Some(attempt)) = (event["number"].as_u64(), event["attempt"].as_u64()) else { continue };
        let at = at(event);
        if event["kind"] == "leased" {
            leased.insert((number, attempt), at);
        } else if event["kind"] == "settled" && event["data"]["outcome"].as_str().is_some_and(&like) {
            let worker = event["worker"].as_str().unwrap_or_default().to_owned();
            losses.push(Loss { number, attempt, worker, leased: leased[&(number, attempt)], lost: at });
        }
    }
    losses
}

impl Loss {
    /// Whether the kill took this lease: it was given before the worker was dead, and lost after the kill.
    fn is_of(&self, hit: &Hit) -> bool {
        self.worker == hit.name && self.leased <= hit.dead && hit.at <= self.lost
    }
}

/// What was lost by a kill.
pub fn lost_by<'l>(hit: &'l Hit, losses: &'l [Loss]) -> impl Iterator<Item = &'l Loss> {
    losses.iter().filter(|loss| loss.is_of(hit))
}

/// Every loss must have a kill or a machine that stood still for a third of the lease, and every lease held at a kill is lost.
pub fn judge(hits: &[&Hit], losses: &[Loss], pauses: &Pauses, lease: i64, table: &mut Table) {
    let beyond: Vec<&Loss> = losses.iter().filter(|loss| !hits.iter().any(|hit| loss.is_of(hit))).collect();
    let starved =
        |loss: &&&Loss| loss.lost - loss.leased >= lease && pauses.between(loss.leased, loss.lost) >= lease / 3;
    table.fact("longest pause of the machine", format!("{} ms", pauses.longest()));
    table.fact("losses to a machine that stood still", beyond.iter().filter(starved).count());
    let without: Vec<&&Loss> = beyond.iter().filter(|loss| !starved(loss)).collect();
    table.none("losses without a cause", &without);
    let kept = hits.iter().flat_map(|hit| {
        let lost = |number: &&u64| !lost_by(hit, losses).any(|loss| loss.number == **number);
        hit.running.iter().filter(lost).map(|number| format!("job {number} of {}", hit.name))
    });
    table.none("leases held at kills and not lost", &kept.collect::<Vec<_>>());
}
