//! What can happen to a queue, as values that proptest makes and shrinks.

use std::fmt;

use orx::job::Number;
use orx::job::spec::OnConflict;
use orx::job::state::Cause;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;
use serde_json::json;

use super::lanes::Lane;

/// How many workers there are.
pub const WORKERS: usize = 3;

/// A job to be stored. Small numbers stand for names, so that they meet often.
#[derive(Clone, PartialEq, Eq)]
pub struct Order {
    pub queue: u8,
    pub tenant: u8,
    pub priority: i8,
    pub delay: Option<u8>,
    pub deadline: Option<u8>,
    pub name: Option<u8>,
    pub conflict: OnConflict,
    pub key: Option<u8>,
    pub limit: Option<(u8, u8)>,
    /// Places among the jobs there are, then their numbers; and whether any end will do.
    pub after: Vec<(Number, bool)>,
    pub max_attempts: Option<u8>,
    pub max_losses: Option<u8>,
    pub max_snoozes: Option<u8>,
}

impl Order {
    pub fn queue(&self) -> String {
        format!("queue-{}", self.queue)
    }

    pub fn tenant(&self) -> String {
        format!("tenant-{}", self.tenant)
    }

    pub fn name(&self) -> Option<String> {
        self.name.map(|n| format!("name-{n}"))
    }

    /// When it is due at the earliest, stored at `now`.
    pub fn due(&self, now: i64) -> Option<i64> {
        self.delay.map(|secs| now + i64::from(secs) * 1000)
    }

    pub fn key(&self) -> Option<String> {
        self.key.map(|n| format!("key-{n}"))
    }

    pub fn limit(&self) -> Option<(String, u32)> {
        self.limit.map(|(key, max)| (limit_key(key), max.into()))
    }

    pub fn lane(&self) -> Lane {
        (self.queue(), self.tenant(), self.limit().map(|(key, _)| key))
    }

    pub fn max_attempts(&self) -> u32 {
        self.max_attempts.unwrap_or(1).into()
    }

    pub fn max_losses(&self) -> u32 {
        self.max_losses.unwrap_or(3).into()
    }

    pub fn max_snoozes(&self) -> u32 {
        self.max_snoozes.unwrap_or(100).into()
    }

    /// As a line of NDJSON.
    pub fn json(&self) -> String {
        let after = self.after.iter().map(|(n, ended)| if *ended { format!("{n}:ended") } else { n.to_string() });
        let mut line = json!({
            "command": ["true"], "queue": self.queue(), "tenant": self.tenant(), "priority": self.priority,
            "name": self.name(), "on_conflict": self.conflict, "idempotency_key": self.key(), "backoff": "2s..8sx2",
            "limit": self.limit().map(|(key, max)| format!("{key}={max}")), "after": after.collect::<Vec<_>>(),
            "delay": self.delay, "deadline": self.deadline, "max_attempts": self.max_attempts,
            "max_losses": self.max_losses, "max_snoozes": self.max_snoozes,
        });
        line.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        line.to_string()
    }
}

impl fmt::Debug for Order {
    /// On one line, so that a failed sequence can be read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json())
    }
}

pub fn limit_key(key: u8) -> String {
    format!("limit-{key}")
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    pub cause: Cause,
    pub code: Option<i32>,
}

/// One thing that happens. Places are taken modulo what there is.
#[derive(Clone, Debug)]
pub enum Step {
    Enqueue(Order),
    /// Settles some of the running attempts and leases, in one transaction.
    Turn {
        worker: u8,
        slots: u8,
        ends: Vec<(u8, How)>,
    },
    /// Settles under a fence that is over, or has not come yet.
    SettleStale {
        place: u8,
        how: How,
    },
    /// Settles what another worker runs.
    Pretend {
        worker: u8,
        place: u8,
        how: How,
    },
    Renew {
        worker: u8,
    },
    Cancel {
        job: u8,
    },
    Retry {
        job: u8,
        only: bool,
    },
    Discard {
        job: u8,
    },
    Pause {
        queue: u8,
        paused: bool,
    },
    /// Leave a limit, lift it (0), or set it.
    LimitQueue {
        queue: u8,
        running: Option<u8>,
        queued: Option<u8>,
    },
    LimitTenant {
        tenant: u8,
        running: Option<u8>,
        queued: Option<u8>,
    },
    LimitKey {
        tenant: u8,
        key: u8,
        max: u8,
    },
    /// Adds a worker; one that is there died and is started again.
    Register {
        worker: u8,
    },
    Deregister {
        worker: u8,
    },
    Pass {
        secs: u32,
    },
    Sweep,
}

/// What is certain before anything ran: enough to leave out steps that could do nothing.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    stored: bool,
    staffed: bool,
    leased: bool,
}

/// Makes sequences of steps.
pub struct Steps;

impl ReferenceStateMachine for Steps {
    type State = Outline;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Outline> {
        Just(Outline::default()).boxed()
    }

    fn transitions(_: &Outline) -> BoxedStrategy<Step> {
        prop_oneof![
            8 => order().prop_map(Step::Enqueue),
            9 => (0..WORKERS as u8, 0..5u8, prop::collection::vec((any::<u8>(), how()), 0..3))
                .prop_map(|(worker, slots, ends)| Step::Turn { worker, slots, ends }),
            1 => (any::<u8>(), how()).prop_map(|(place, how)| Step::SettleStale { place, how }),
            1 => (0..WORKERS as u8, any::<u8>(), how())
                .prop_map(|(worker, place, how)| Step::Pretend { worker, place, how }),
            2 => (0..WORKERS as u8).prop_map(|worker| Step::Renew { worker }),
            2 => any::<u8>().prop_map(|job| Step::Cancel { job }),
            3 => (any::<u8>(), any::<bool>()).prop_map(|(job, only)| Step::Retry { job, only }),
            1 => any::<u8>().prop_map(|job| Step::Discard { job }),
            1 => (0..2u8, any::<bool>()).prop_map(|(queue, paused)| Step::Pause { queue, paused }),
            1 => (0..2u8, running(), queued())
                .prop_map(|(queue, running, queued)| Step::LimitQueue { queue, running, queued }),
            1 => (0..2u8, running(), queued())
                .prop_map(|(tenant, running, queued)| Step::LimitTenant { tenant, running, queued }),
            1 => (0..2u8, 0..2u8, 1..4u8).prop_map(|(tenant, key, max)| Step::LimitKey { tenant, key, max }),
            3 => (0..WORKERS as u8).prop_map(|worker| Step::Register { worker }),
            1 => (0..WORKERS as u8).prop_map(|worker| Step::Deregister { worker }),
            3 => select(vec![1, 3, 5, 10, 16, 90_000]).prop_map(|secs| Step::Pass { secs }),
            2 => Just(Step::Sweep),
        ]
        .boxed()
    }

    fn apply(mut outline: Outline, step: &Step) -> Outline {
        match step {
            Step::Enqueue(_) => outline.stored = true,
            Step::Register { .. } => outline.staffed = true,
            Step::Turn { slots: 1.., .. } => outline.leased |= outline.stored && outline.staffed,
            _ => {}
        }
        outline
    }

    fn preconditions(outline: &Outline, step: &Step) -> bool {
        match step {
            Step::Cancel { .. } | Step::Retry { .. } | Step::Turn { .. } => outline.stored,
            Step::SettleStale { .. } | Step::Pretend { .. } | Step::Discard { .. } => outline.leased,
            Step::Renew { .. } | Step::Deregister { .. } => outline.staffed,
            _ => true,
        }
    }
}

fn running() -> impl Strategy<Value = Option<u8>> {
    weighted(0.7, 0..4u8)
}

fn queued() -> impl Strategy<Value = Option<u8>> {
    weighted(0.5, select(vec![0, 3, 6, 9]))
}

fn how() -> impl Strategy<Value = How> {
    let ends = [
        (6, Cause::Itself, Some(0)),
        (4, Cause::Itself, Some(1)),
        (3, Cause::Itself, Some(75)),
        (1, Cause::Itself, None),
        (1, Cause::Timeout, Some(0)),
        (1, Cause::Timeout, None),
        (2, Cause::Drain, None),
        (2, Cause::NotStarted, None),
        (1, Cause::NotStartedAlone, None),
        (2, Cause::Cancel, None),
    ];
    prop::strategy::Union::new_weighted(ends.map(|(weight, cause, code)| (weight, Just(How { cause, code }))).to_vec())
}

fn order() -> impl Strategy<Value = Order> {
    let place = (0..2u8, 0..2u8, -2..3i8, weighted(0.2, 1..6u8), weighted(0.15, 1..12u8));
    let conflict = select(vec![OnConflict::Reject, OnConflict::Return, OnConflict::Replace]);
    let ties = (weighted(0.25, 0..2u8), conflict, weighted(0.1, 0..2u8), weighted(0.3, (0..2u8, 1..3u8)));
    let after = prop::collection::vec((0..16i64, any::<bool>()), 0..3);
    let after = prop_oneof![2 => Just(Vec::new()), 1 => after];
    let counts = (weighted(0.6, 1..4u8), weighted(0.5, 0..3u8), weighted(0.5, 0..3u8));
    (place, ties, after, counts).prop_map(|(place, ties, after, counts)| {
        let (queue, tenant, priority, delay, deadline) = place;
        let (name, conflict, key, limit) = ties;
        let (max_attempts, max_losses, max_snoozes) = counts;
        Order {
            queue,
            tenant,
            priority,
            delay,
            deadline,
            name,
            conflict,
            key,
            limit,
            after,
            max_attempts,
            max_losses,
            max_snoozes,
        }
    })
}
