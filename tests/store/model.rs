//! Random Ops against a reference model: what orx answers and shows must be what docs/semantics.md says, step by step.
//!
//! A failure prints the shortest sequence of steps that still fails. `PROPTEST_CASES` or `ORX_CHAOS_FULL=1` makes more.

mod compare;
mod lanes;
mod reference;
mod steps;
mod storing;

use std::marker::PhantomData;

use orx::error::Kind;
use orx::job::lanes::Offer;
use orx::job::state::Ending;
use orx::job::{Fence, Number, WorkerKey};
use orx::ops::Op;
use orx::ops::cancel::Cancel;
use orx::ops::dead_letters::DiscardLetters;
use orx::ops::enqueue::Enqueue;
use orx::ops::heartbeat::Heartbeat;
use orx::ops::lease::Lease;
use orx::ops::policies::{LimitChange, PauseQueue, SetLimit, SetQueue, SetTenant};
use orx::ops::register::{Deregister, Register};
use orx::ops::renew::{Renew, Renewed};
use orx::ops::retry::Retry;
use orx::ops::settle::{Report, Settled};
use orx::ops::sweep::Swept;
use orx::ops::turn::Turn;
use orx::store::{NewWorker, WorkerState};
use orx::time::{Clock as _, Span};
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokio::runtime::Runtime;

use self::reference::{Limits, Model, TTL};
use self::steps::{How, Order, Outline, Step, Steps, WORKERS, limit_key};
use self::storing::Stored;
use super::support::{Fixture, submission};

/// Where a case runs.
trait Place {
    fn fixture() -> Fixture;
}

struct InMemory;
struct InFile;
struct OnPostgres;

impl Place for InMemory {
    fn fixture() -> Fixture {
        Fixture::memory()
    }
}

impl Place for InFile {
    fn fixture() -> Fixture {
        Fixture::file()
    }
}

impl Place for OnPostgres {
    fn fixture() -> Fixture {
        Fixture::postgres()
    }
}

/// `cases` in CI, twenty times as many in full size.
fn config(cases: u32) -> Config {
    let full = std::env::var_os("ORX_CHAOS_FULL").is_some_and(|v| v == "1");
    let default = Config::default(); // it reads PROPTEST_CASES
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if asked { default.cases } else { cases * if full { 20 } else { 1 } };
    Config { cases, failure_persistence: None, max_shrink_iters: 4000, max_shrink_time: 120_000, ..default }
}

prop_state_machine! {
    #![proptest_config(config(60))]
    #[test]
    fn memory_does_what_the_model_says(sequential 1..60 => Case<InMemory>);
}

prop_state_machine! {
    #![proptest_config(config(15))]
    #[test]
    fn a_file_does_what_the_model_says(sequential 1..60 => Case<InFile>);
}

prop_state_machine! {
    #![proptest_config(config(8))]
    #[test]
    fn postgres_does_what_the_model_says(sequential 1..60 => Case<OnPostgres>);
}

struct Case<P>(PhantomData<P>);

/// A queue and its model.
struct Subject {
    runtime: Runtime,
    fixture: Fixture,
    model: Model,
    /// The lives of the workers that are the latest.
    workers: [WorkerKey; WORKERS],
}

impl<P: Place + 'static> StateMachineTest for Case<P> {
    type SystemUnderTest = Subject;
    type Reference = Steps;

    fn init_test(_: &Outline) -> Subject {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fixture = P::fixture();
        let model = Model::new(fixture.clock.now().0);
        Subject { runtime, fixture, model, workers: std::array::from_fn(|_| orx::worker::new_key().unwrap()) }
    }

    fn apply(mut subject: Subject, _: &Outline, step: <Steps as ReferenceStateMachine>::Transition) -> Subject {
        subject.apply(step);
        subject
    }

    fn check_invariants(subject: &Subject, _: &Outline) {
        subject.compare();
    }

    fn teardown(subject: Subject, _: Outline) {
        subject.finish();
    }
}

impl Subject {
    fn call<O: Op>(&self, op: O) -> Result<O::Reply, Kind> {
        self.runtime.block_on(self.fixture.queue.call(op)).map_err(|e| e.kind())
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Enqueue(order) => self.enqueue(order),
            Step::Turn { worker, slots, ends } => self.turn(worker.into(), slots.into(), &ends),
            Step::SettleStale { place, how } => self.settle_stale(place, how),
            Step::Pretend { worker, place, how } => self.pretend(worker.into(), place, how),
            Step::Renew { worker } => self.renew(worker.into()),
            Step::Cancel { job } => {
                let Some(number) = self.place(job) else { return };
                let op = Cancel { numbers: vec![number], reason: Some("asked".into()), ..Default::default() };
                let state = self.call(op).unwrap()[0].state;
                assert_eq!(state, self.model.cancel(number, "asked"));
            }
            Step::Retry { job, only } => self.retry(job, only),
            Step::Discard { job } => {
                let Some(number) = self.place(job) else { return };
                let discarded = self.call(DiscardLetters { numbers: vec![number] });
                assert_eq!(discarded.map(|_| ()), self.model.discard(number));
            }
            Step::Pause { queue, paused } => {
                let queue = queue_name(queue);
                self.call(PauseQueue { queue: queue.clone(), paused }).unwrap();
                self.model.paused.insert(queue, paused);
            }
            Step::LimitQueue { queue, running, queued } => {
                let queue = queue_name(queue);
                self.call(SetQueue { queue: queue.clone(), change: change(running, queued) }).unwrap();
                set(self.model.queues.entry(queue).or_default(), running, queued);
            }
            Step::LimitTenant { tenant, running, queued } => {
                let tenant = tenant_name(tenant);
                self.call(SetTenant { tenant: tenant.clone(), change: change(running, queued) }).unwrap();
                set(self.model.tenants.entry(tenant).or_default(), running, queued);
            }
            Step::LimitKey { tenant, key, max } => {
                let (tenant, key, max_running) = (tenant_name(tenant), limit_key(key), max.into());
                self.call(SetLimit { tenant: tenant.clone(), key: key.clone(), max_running }).unwrap();
                self.model.limits.insert((tenant, key), max_running);
            }
            Step::Register { worker } => self.register(worker.into()),
            Step::Deregister { worker } => {
                let key = self.workers[usize::from(worker)].clone();
                self.model.workers.remove(&key.id);
                self.call(Deregister { worker: key, name: worker_name(worker.into()) }).unwrap();
            }
            Step::Pass { secs } => {
                self.fixture.clock.pass(Span::from_secs(secs.into()));
                self.model.now += i64::from(secs) * 1000;
            }
            Step::Sweep => {
                let Swept::Done { reaped, .. } = self.runtime.block_on(self.fixture.sweep()) else {
                    panic!("nobody else leads")
                };
                assert_eq!(reaped, self.model.sweep());
            }
        }
    }

    /// The number of a job by its place.
    fn place(&self, place: u8) -> Option<Number> {
        let numbers: Vec<&Number> = self.model.jobs.keys().collect();
        pick(&numbers, place.into()).map(|number| **number)
    }

    fn enqueue(&mut self, order: Order) {
        let numbers: Vec<Number> = self.model.jobs.keys().copied().collect();
        let after = order.after.iter();
        let after = after.filter_map(|(place, ended)| Some((*pick(&numbers, *place as usize)?, *ended))).collect();
        let order = Order { after, ..order };
        let stored = self.call(Enqueue { jobs: vec![submission(&order.json())] });
        let stored = stored.map(|mut jobs| jobs.remove(0));
        let stored = stored.map(|s| Stored { number: s.number, state: s.state, existing: s.existing });
        let number = stored.as_ref().ok().filter(|s| !s.existing).map(|s| s.number);
        // Where orx refused what the model stores, there is no number.
        let number = number.or_else(|| numbers.last().map_or(Some(1), |n| Some(n + 1)));
        assert_eq!(stored, self.model.attempt(|model| model.enqueue(&order, number)));
    }

    fn turn(&mut self, worker: usize, slots: u32, ends: &[(u8, How)]) {
        let key = self.workers[worker].clone();
        let (id, fences) = (key.id, self.model.fences_of(key.id));
        let ends: Vec<(Fence, How)> =
            ends.iter().filter_map(|(place, how)| Some((*pick(&fences, (*place).into())?, *how))).collect();
        let offer = offer(worker);
        let (worker, name, ttl) = (key.clone(), worker_name(worker), Span::from_millis(TTL));
        let lease = Lease { worker, name, offer: offer.clone(), slots, ttl, only: None };
        let reports = ends.iter().map(|(fence, how)| report(*fence, *how)).collect();
        let lease = (slots > 0).then_some(lease);
        let reply = self.call(Turn { worker: key, reports, lease, pass_over: false });
        let mut next = self.model.clone();
        let expected: Vec<Settled> = ends
            .iter()
            .map(|(fence, how)| next.settle(*fence, how.cause, how.code).map_or(Settled::Stale, Settled::Accepted))
            .collect();
        let refused = slots > 0 && !next.workers.contains_key(&id) && next.has_work(&offer.queues);
        let reply = match reply {
            Err(kind) => {
                assert!(refused && kind == Kind::Conflict, "{kind:?}");
                return;
            }
            Ok(reply) => reply,
        };
        assert_eq!(reply.settled, expected);
        if let Some(leased) = reply.leased {
            let got: Vec<Fence> = leased.jobs.iter().map(|job| job.fence).collect();
            next.lease(id, &offer.queues, slots as usize, &got);
            for job in &leased.jobs {
                assert_eq!(job.lost, next.jobs[&job.fence.number].losses > 0);
            }
        }
        assert!(!refused, "a worker that is not registered has work to take");
        self.model = next;
    }

    fn settle_stale(&mut self, place: u8, how: How) {
        let over = pick(&self.model.stale, place.into()).copied();
        let to_come = |number: &Number| Fence { number: *number, attempt: self.model.jobs[number].attempt + 1 };
        let Some(fence) = over.or_else(|| self.model.jobs.keys().next().map(to_come)) else { return };
        let (worker, reports) = (self.workers[0].clone(), vec![report(fence, how)]);
        let settled = self.call(Turn { worker, reports, lease: None, pass_over: false }).unwrap().settled;
        assert_eq!(settled, [Settled::Stale], "{fence:?}");
    }

    /// Settles what another worker runs, beside what is its own: nothing comes of it.
    fn pretend(&mut self, worker: usize, place: u8, how: How) {
        let key = self.workers[worker].clone();
        let mine = self.model.fences_of(key.id);
        let others: Vec<Fence> = self.model.fences().into_iter().filter(|fence| !mine.contains(fence)).collect();
        let Some(other) = pick(&others, place.into()) else { return };
        let reports = mine.first().into_iter().chain([other]).map(|fence| report(*fence, how)).collect();
        let refused = self.call(Turn { worker: key, reports, lease: None, pass_over: false });
        assert_eq!(refused.map(|reply| reply.settled), Err(Kind::Denied), "{other:?}");
    }

    fn renew(&mut self, worker: usize) {
        let key = self.workers[worker].clone();
        let id = key.id;
        let mut fences = self.model.fences_of(id);
        fences.extend(self.model.stale.last());
        let ttl = Span::from_millis(TTL);
        let stale = usize::from(!self.model.stale.is_empty());
        let leases = self.call(Renew { worker: key.clone(), ttl, fences }).unwrap();
        let name = worker_name(worker);
        let heard =
            self.call(Heartbeat { worker: key, name, ttl, draining: false, trouble: None, started: vec![] }).unwrap();
        let (known, asked) = self.model.renew(id);
        assert_eq!(heard.worker, known.then_some(WorkerState::Active));
        let (held, over) = leases.split_at(leases.len() - stale);
        let held: Vec<bool> = held
            .iter()
            .map(|lease| match lease {
                Renewed::Held => false,
                Renewed::Cancel(_) => true,
                Renewed::Stale | Renewed::Busy => panic!("a lease that is held is {lease:?}"),
            })
            .collect();
        assert_eq!(held, asked);
        assert!(over.iter().all(|lease| *lease == Renewed::Stale));
    }

    fn retry(&mut self, job: u8, only: bool) {
        let Some(number) = self.place(job) else { return };
        let retried = self.call(Retry { numbers: vec![number], only });
        let retried = retried.map(|replies| {
            let mut changed: Vec<_> = replies.iter().map(|r| (r.number, r.state, r.revived)).collect();
            changed[1..].sort_unstable();
            changed
        });
        let expected = self.model.attempt(|model| model.retry(number, only));
        assert_eq!(
            retried,
            expected.map(|mut changed| {
                changed[1..].sort_unstable();
                changed
            })
        );
    }

    fn register(&mut self, worker: usize) {
        let (key, before) = (orx::worker::new_key().unwrap(), self.workers[worker].clone());
        let before = Some(before).filter(|key| self.model.workers.contains_key(&key.id));
        let new = NewWorker {
            id: key.id,
            name: worker_name(worker),
            host: "host".into(),
            pid: 1,
            offer: offer(worker),
            slots: 8,
            version: "0".into(),
            solo: false,
        };
        let op = Register {
            worker: new,
            secret: key.secret.clone(),
            ttl: Span::from_millis(TTL),
            succeeds: before.clone().into_iter().collect(),
            doubt: None,
            jitter: 0.5,
        };
        let taken = self.call(op).unwrap().taken_back;
        assert_eq!(taken, self.model.register(key.id, before.map(|key| key.id)));
        self.workers[worker] = key;
    }
}

fn pick<T>(from: &[T], place: usize) -> Option<&T> {
    from.get(place % from.len().max(1))
}

fn queue_name(queue: u8) -> String {
    format!("queue-{queue}")
}

fn tenant_name(tenant: u8) -> String {
    format!("tenant-{tenant}")
}

fn worker_name(worker: usize) -> String {
    format!("worker-{worker}")
}

/// The last worker serves one queue only.
fn offer(worker: usize) -> Offer {
    let queues = if worker + 1 == WORKERS { vec![queue_name(1)] } else { Vec::new() };
    Offer { queues, ..Offer::default() }
}

fn report(fence: Fence, how: How) -> Report {
    let ending = Ending { cause: how.cause, exit_code: how.code, signal: None, error: None };
    Report {
        fence,
        ending,
        started: None,
        ran: Span::from_secs(1),
        after: Span::MAX,
        output: vec![],
        jitter: 0.5,
        in_run: false,
    }
}

fn change(running: Option<u8>, queued: Option<u8>) -> LimitChange {
    LimitChange { max_running: running.map(u32::from), max_queued: queued.map(u32::from), ..LimitChange::default() }
}

fn set(limits: &mut Limits, running: Option<u8>, queued: Option<u8>) {
    let set = |limit: &mut Option<u32>, new: Option<u8>| {
        if let Some(n) = new {
            *limit = (n > 0).then_some(n.into());
        }
    };
    set(&mut limits.running, running);
    set(&mut limits.queued, queued);
}
