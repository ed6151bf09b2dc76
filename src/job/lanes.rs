//! Which lanes a lease takes from, and how many jobs of each (S14).

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::text;
use super::spec::{field_error, word};
use super::{JobSpec, LaneId};
use crate::error::Result;

/// The most queues, labels or handlers of a worker.
pub const MAX_OFFERED: usize = 1000;

/// What a job needs of its worker; jobs with different needs stand in different lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Needs {
    /// A handler that the worker must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Labels that the worker must carry (S17).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// A worker that stays: it is a service (S6).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub service: bool,
}

impl Needs {
    /// What a job of `spec` needs.
    pub fn of(spec: &JobSpec) -> Needs {
        Needs { handler: spec.handler.clone(), labels: spec.require.clone(), service: spec.is_service() }
    }

    /// Whether they are those of `spec`.
    pub fn is_of(&self, spec: &JobSpec) -> bool {
        self.handler == spec.handler && self.labels == spec.require && self.service == spec.is_service()
    }

    /// The text that names the lane; equal needs have equal text.
    pub fn key(&self) -> String {
        match *self == Self::default() {
            true => String::new(),
            false => serde_json::to_string(self).unwrap_or_default(),
        }
    }

    /// The needs of that text.
    pub fn of_key(key: &str) -> Needs {
        serde_json::from_str(key).unwrap_or_default()
    }
}

/// What a worker has to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Offer {
    /// The queues it serves; empty: all.
    pub queues: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its handlers.
    pub handlers: Vec<String>,
    /// It ends when nothing is runnable, so it takes no services.
    pub no_services: bool,
    /// The only tenant it serves; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

impl Offer {
    /// Refuses what no job can ask for, and more than any worker has.
    ///
    /// # Errors
    /// `Usage`, naming the field.
    pub fn check(&self) -> Result<()> {
        for (field, count) in
            [("queues", self.queues.len()), ("labels", self.labels.len()), ("handlers", self.handlers.len())]
        {
            if count > MAX_OFFERED {
                return Err(field_error(field, format!("has more than {MAX_OFFERED} entries")));
            }
        }
        for queue in &self.queues {
            word("queues", Some(queue)).map_err(|e| e.hint("name each; a worker that names none serves all"))?;
        }
        for handler in &self.handlers {
            word("handlers", Some(handler))?;
        }
        for (key, value) in &self.labels {
            word("labels", Some(key))?;
            text("labels", Some(value.as_str()).filter(|value| !value.is_empty()))?;
        }
        word("tenant", self.tenant.as_deref())
    }

    /// Binds it to the tenant of whoever offers it, if that one is bound.
    pub fn bind(&mut self, tenant: Option<&str>) {
        if let Some(tenant) = tenant {
            self.tenant = Some(tenant.to_owned());
        }
    }

    /// Whether jobs of `tenant` can run here.
    pub fn serves_tenant(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|mine| mine == tenant)
    }

    /// Whether a job of `queue` with `needs` can run here.
    pub fn serves(&self, queue: &str, needs: &Needs) -> bool {
        let queue = self.queues.is_empty() || self.queues.iter().any(|q| q == queue);
        let handler = needs.handler.as_ref().is_none_or(|h| self.handlers.contains(h));
        queue && handler && self.carries(&needs.labels) && !(needs.service && self.no_services)
    }

    /// Whether it has all labels that are required.
    pub fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(k, v)| self.labels.get(k) == Some(v))
    }
}

/// A lane with pending jobs, and the room that limits leave.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its key.
    pub id: LaneId,
    /// Its queue.
    pub queue: String,
    /// Its tenant.
    pub tenant: String,
    /// What its jobs share, if they share a limit.
    pub limit_key: Option<String>,
    /// What its jobs need.
    pub needs: Needs,
    /// Jobs that may be leased.
    pub pending: u32,
    /// How many more jobs of the queue may run; none: no limit.
    pub queue_room: Option<u32>,
    /// How many more jobs of the tenant may run.
    pub tenant_room: Option<u32>,
    /// How many more jobs with the key may run.
    pub key_room: Option<u32>,
}

/// A lane whose jobs have not all ended.
#[derive(Clone, Debug)]
pub struct OpenLane {
    /// Its key.
    pub id: LaneId,
    /// Its queue.
    pub queue: String,
    /// Its tenant.
    pub tenant: String,
    /// What its jobs need.
    pub needs: Needs,
    /// Jobs that wait for others.
    pub blocked: i64,
    /// Jobs that are due later.
    pub scheduled: i64,
    /// Jobs that may be leased.
    pub pending: i64,
    /// Jobs that run.
    pub running: i64,
    /// Whether its queue hands out no jobs.
    pub paused: bool,
}

/// Hands out `slots` among `lanes`, which stand least recently served first, in turn.
///
/// Limits that lanes share are counted together. Returns (place in `lanes`, jobs), in the order served.
pub fn share(lanes: &[Lane], slots: u32) -> Vec<(usize, u32)> {
    let mut rooms = Rooms::default();
    let mut given = vec![0u32; lanes.len()];
    let mut left = slots;
    loop {
        let before = left;
        for (lane, given) in lanes.iter().zip(&mut given) {
            if left > 0 && *given < lane.pending && rooms.take(lane) {
                *given += 1;
                left -= 1;
            }
        }
        if left == 0 || left == before {
            let taken = given.into_iter().enumerate();
            return taken.filter(|(_, n)| *n > 0).collect();
        }
    }
}

/// What is left of each limit while slots are handed out.
#[derive(Default)]
struct Rooms<'a> {
    queues: HashMap<&'a str, u32>,
    tenants: HashMap<&'a str, u32>,
    keys: HashMap<(&'a str, &'a str), u32>,
}

impl<'a> Rooms<'a> {
    fn take(&mut self, lane: &'a Lane) -> bool {
        let tenant = lane.tenant.as_str();
        let key = lane.limit_key.as_deref();
        let queue = lane.queue_room.map(|n| self.queues.entry(&lane.queue).or_insert(n));
        let owner = lane.tenant_room.map(|n| self.tenants.entry(tenant).or_insert(n));
        let shared = match (key, lane.key_room) {
            (Some(key), Some(n)) => Some(self.keys.entry((tenant, key)).or_insert(n)),
            _ => None,
        };
        let mut limits: Vec<&mut u32> = [queue, owner, shared].into_iter().flatten().collect();
        if limits.iter().any(|n| **n == 0) {
            return false;
        }
        limits.iter_mut().for_each(|n| **n -= 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(id: LaneId, tenant: &str, pending: u32) -> Lane {
        Lane {
            id,
            queue: "default".into(),
            tenant: tenant.into(),
            limit_key: None,
            needs: Needs::default(),
            pending,
            queue_room: None,
            tenant_room: None,
            key_room: None,
        }
    }

    #[test]
    fn s14_tenants_take_turns() {
        let lanes = [lane(1, "a", 1000), lane(2, "b", 1), lane(3, "c", 1000)];
        assert_eq!(share(&lanes, 5), [(0, 2), (1, 1), (2, 2)]);
        assert_eq!(share(&lanes, 0), []);
        assert_eq!(share(&[], 5), []);
    }

    #[test]
    fn limits_that_lanes_share_are_counted_once() {
        let mut lanes = [lane(1, "a", 10), lane(2, "a", 10), lane(3, "b", 10)];
        for l in &mut lanes[..2] {
            l.tenant_room = Some(3);
        }
        assert_eq!(share(&lanes, 20), [(0, 2), (1, 1), (2, 10)]);
        for l in &mut lanes {
            l.queue_room = Some(4);
        }
        assert_eq!(share(&lanes, 20), [(0, 2), (1, 1), (2, 1)]);
    }

    #[test]
    fn an_offer_serves_what_it_has() {
        let mut needs = Needs::default();
        let offer = Offer::default();
        assert!(offer.serves("any", &needs));
        needs.labels.insert("gpu".into(), "1".into());
        assert!(!offer.serves("any", &needs));
        assert_eq!(Needs::of_key(&needs.key()), needs);
        assert_eq!(Needs::default().key(), "");
        let other = Offer { queues: vec!["q".into()], ..Offer::default() };
        assert!(!other.serves("any", &Needs::default()));
    }
}
