//! A queue with a clock that tests turn, and a worker that runs nothing.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use orx::error::Result;
use orx::job::lanes::Offer;
use orx::job::state::{Cause, Ending};
use orx::job::{Fence, Job, JobId, JobSpec, Number, State, Submission, WorkerId, WorkerKey};
use orx::ops::Caller;
use orx::ops::enqueue::{Enqueue, Enqueued};
use orx::ops::events::ReadEvents;
use orx::ops::heartbeat::Heartbeat;
use orx::ops::jobs::GetJobs;
use orx::ops::lead::{Lead, Right};
use orx::ops::lease::{Lease, Leased};
use orx::ops::register::{Register, Registered};
use orx::ops::renew::Renew;
use orx::ops::settle::{Report, Settle, Settled, Started};
use orx::ops::sweep::{Sweep, Swept};
use orx::queue::Queue;
use orx::store::{Location, NewWorker};
use orx::time::{BootTime, Clock, Span, Timestamp};
use uuid::Uuid;

use crate::server::{self, Session};

pub const TTL: Span = Span::from_secs(15);
const START: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

/// Clocks that only a test moves; the wall and the boot clock by themselves.
pub struct TestClock {
    wall: AtomicI64,
    boot: AtomicI64,
    id: Mutex<String>,
    /// By how much every second reading of the boot clock is late.
    delay: AtomicI64,
    late: AtomicBool,
    /// The PostgreSQL store whose server follows the wall clock.
    server: Mutex<Option<String>>,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::SeqCst))
    }

    fn boot(&self) -> BootTime {
        let late = self.late.fetch_not(Ordering::SeqCst);
        let delay = if late { self.delay.load(Ordering::SeqCst) } else { 0 };
        BootTime { boot: self.id.lock().unwrap().clone(), ms: self.boot.load(Ordering::SeqCst) + delay }
    }
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            wall: START.into(),
            boot: 1_000_000.into(),
            id: Mutex::new("boot-1".into()),
            delay: 0.into(),
            late: false.into(),
            server: Mutex::default(),
        })
    }

    /// Time passes.
    pub fn pass(&self, span: Span) {
        self.wall.fetch_add(span.as_millis(), Ordering::SeqCst);
        self.boot.fetch_add(span.as_millis(), Ordering::SeqCst);
        self.tell_server();
    }

    fn tell_server(&self) {
        if let Some(store) = &*self.server.lock().unwrap() {
            server::sql(store, &format!("UPDATE test_clock SET ms = {}", self.now().0));
        }
    }

    /// From now on the server of `store` has this clock and no other.
    fn take_over(&self, store: &str) {
        let now = self.now().0;
        server::sql(
            store,
            &format!(
                "CREATE TABLE test_clock (ms bigint); INSERT INTO test_clock VALUES ({now});
                 CREATE OR REPLACE FUNCTION clock_ms() RETURNS bigint LANGUAGE sql STABLE AS
                 $$ SELECT ms FROM test_clock $$"
            ),
        );
        *self.server.lock().unwrap() = Some(store.to_owned());
    }

    /// Somebody sets the wall clock.
    pub fn jump(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.tell_server();
    }

    /// The server takes so long to answer, as seen between one reading of the boot clock and the next.
    pub fn slow_down(&self, span: Span) {
        self.delay.store(span.as_millis(), Ordering::SeqCst);
    }

    /// As a process in a container does; the clock is the same.
    pub fn read_another_boot_id(&self) {
        *self.id.lock().unwrap() = "boot-2".into();
    }

    /// The machine starts again.
    pub fn reboot(&self) {
        *self.id.lock().unwrap() = "boot-2".into();
        self.boot.store(1, Ordering::SeqCst);
    }
}

/// A queue for one case.
pub struct Fixture {
    pub queue: Queue,
    pub clock: Arc<TestClock>,
    location: Location,
    _dir: Option<tempfile::TempDir>,
    epoch: AtomicI64,
}

impl Fixture {
    pub fn file() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::File(dir.path().join("orx.db"));
        Self::open(&location, Some(dir))
    }

    pub fn memory() -> Self {
        Self::open(&Location::Memory, None)
    }

    pub fn postgres() -> Self {
        let store = server::schema();
        let fixture = Self::open(&store.parse().unwrap(), None);
        fixture.clock.take_over(&store);
        fixture
    }

    /// Whether leases are measured by the boot clock of this machine.
    pub fn is_local(&self) -> bool {
        self.clock.server.lock().unwrap().is_none()
    }

    fn open(location: &Location, dir: Option<tempfile::TempDir>) -> Self {
        let clock = TestClock::new();
        let queue = Queue::open(location, Caller::local("tester"), clock.clone()).unwrap();
        Self { queue, clock, location: location.clone(), _dir: dir, epoch: 0.into() }
    }

    /// Where the store is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Runs SQL behind the back of orx, in a file or at a server.
    pub fn damage(&self, statements: &str) {
        match &self.location {
            Location::File(path) => rusqlite::Connection::open(path).unwrap().execute_batch(statements).unwrap(),
            _ => _ = self.look(statements),
        }
    }

    /// A session beside orx that has begun a transaction and run `statements`, where the store is a server's.
    pub fn meanwhile(&self, statements: &str) -> Session {
        let server = self.clock.server.lock().unwrap();
        Session::begin(server.as_ref().expect("a server is needed"), statements)
    }

    /// What SQL behind the back of orx gives, where the store is a server's.
    pub fn look(&self, statement: &str) -> String {
        let store = self.clock.server.lock().unwrap();
        server::sql(store.as_ref().expect("a server is needed"), statement).trim().to_owned()
    }

    /// The same queue as another process has it; in memory there is but one.
    pub fn another(&self) -> Queue {
        match &self.location {
            Location::Memory => self.queue.clone(),
            location => Queue::open(location, Caller::local("another"), self.clock.clone()).unwrap(),
        }
    }

    pub async fn enqueue(&self, json: &str) -> Result<Enqueued> {
        let jobs = vec![submission(json)];
        Ok(self.queue.call(Enqueue { jobs }).await?.remove(0))
    }

    /// Stores `{"command":["true"], …}` and gives its number.
    pub async fn add(&self, more: &str) -> Number {
        self.enqueue(&command(more)).await.unwrap().number
    }

    pub async fn job(&self, number: Number) -> Job {
        self.queue.call(GetJobs { numbers: vec![number], detail: true }).await.unwrap().remove(0)
    }

    pub async fn state(&self, number: Number) -> State {
        self.job(number).await.state
    }

    pub async fn states(&self, numbers: &[Number]) -> String {
        let jobs = self.queue.call(GetJobs { numbers: numbers.to_vec(), detail: false }).await.unwrap();
        jobs.iter().map(|j| j.state.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The audit trail of a job: `kind` or `kind→state`.
    pub async fn story(&self, number: Number) -> String {
        let events = self.queue.call(ReadEvents { after: 0, limit: 1000 }).await.unwrap();
        let told = events.iter().filter(|e| e.number == Some(number)).map(|e| match e.data.get("state") {
            Some(state) => format!("{}→{}", e.kind, state.as_str().unwrap()),
            None => e.kind.to_string(),
        });
        told.collect::<Vec<_>>().join(" ")
    }

    /// What the audit finds.
    pub async fn audit(&self) -> Vec<orx::job::audit::Breach> {
        let events = self.queue.call(ReadEvents { after: 0, limit: 1000 }).await.unwrap();
        let mut auditor = orx::job::audit::Auditor::default();
        events.iter().for_each(|e| auditor.event(e));
        auditor.finish()
    }

    /// One round of upkeep.
    pub async fn sweep(&self) -> Swept {
        self.sweep_after(None).await
    }

    /// The same after a time in which holders of leases could not reach the store.
    pub async fn sweep_after(&self, away: Option<Span>) -> Swept {
        if self.epoch.load(Ordering::SeqCst) == 0 {
            let epoch = self.queue.call(Lead { name: "leader".into(), right: Right::Lock }).await.unwrap().unwrap();
            self.epoch.store(epoch, Ordering::SeqCst);
        }
        let epoch = self.epoch.load(Ordering::SeqCst);
        self.queue.call(Sweep { away, ..Sweep::of(epoch, 0.5) }).await.unwrap()
    }

    /// Another leads from now on.
    pub async fn another_leads(&self) {
        self.queue.call(Lead { name: "another".into(), right: Right::Lock }).await.unwrap();
    }

    pub async fn worker(&self, name: &str, offer: Offer) -> TestWorker<'_> {
        let key = orx::worker::new_key().unwrap();
        let worker = TestWorker { fixture: self, id: key.id, key, name: name.into(), offer };
        worker.register(&[]).await;
        worker
    }
}

pub fn command(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(r#"{{"command":["true"]{comma}{more}}}"#)
}

pub fn submission(json: &str) -> Submission {
    let spec: JobSpec = serde_json::from_str(json).unwrap();
    Submission { id: JobId(Uuid::now_v7()), spec, captured: Default::default(), origin: Default::default(), line: None }
}

/// A worker that leases and settles, but starts no process.
pub struct TestWorker<'f> {
    fixture: &'f Fixture,
    pub id: WorkerId,
    pub key: WorkerKey,
    pub name: String,
    pub offer: Offer,
}

impl TestWorker<'_> {
    pub async fn register(&self, succeeds: &[WorkerKey]) -> Vec<Number> {
        self.register_in_doubt(succeeds, None).await.taken_back
    }

    /// As [`TestWorker::register`]; a process may be left that is so old.
    pub async fn register_in_doubt(&self, succeeds: &[WorkerKey], doubt: Option<Span>) -> Registered {
        let worker = NewWorker {
            id: self.id,
            name: self.name.clone(),
            host: "host".into(),
            pid: 1,
            offer: self.offer.clone(),
            slots: 8,
            version: "0".into(),
            solo: false,
        };
        let (secret, succeeds) = (self.key.secret.clone(), succeeds.to_vec());
        let op = Register { worker, secret, ttl: TTL, succeeds, doubt, jitter: 0.5 };
        self.fixture.queue.call(op).await.unwrap()
    }

    pub async fn lease(&self, slots: u32) -> Vec<Leased> {
        let (worker, name, offer) = (self.key.clone(), self.name.clone(), self.offer.clone());
        let op = Lease { worker, name, offer, slots, ttl: TTL, only: None };
        self.fixture.queue.call(op).await.unwrap().jobs
    }

    pub async fn lease_numbers(&self, slots: u32) -> Vec<Number> {
        self.lease(slots).await.iter().map(|j| j.fence.number).collect()
    }

    /// A renewal of leases.
    pub fn renewal(&self, fences: &[Fence]) -> Renew {
        Renew { worker: self.key.clone(), ttl: TTL, fences: fences.to_vec() }
    }

    /// A heartbeat that tells of starts.
    pub fn heartbeat(&self, started: &[(Fence, Started)]) -> Heartbeat {
        let (worker, name) = (self.key.clone(), self.name.clone());
        Heartbeat { worker, name, ttl: TTL, draining: false, trouble: None, started: started.to_vec() }
    }

    /// Renews one lease, and says that it lives.
    pub async fn renew(&self, fence: Fence) {
        self.fixture.queue.call(self.renewal(&[fence])).await.unwrap();
        self.fixture.queue.call(self.heartbeat(&[])).await.unwrap();
    }

    /// Leases exactly one job.
    pub async fn take(&self) -> Fence {
        let jobs = self.lease(1).await;
        assert_eq!(jobs.len(), 1, "one job was expected");
        jobs[0].fence
    }

    pub async fn exit(&self, fence: Fence, code: i32) -> Settled {
        self.end(fence, Cause::Itself, Some(code)).await
    }

    pub async fn end(&self, fence: Fence, cause: Cause, exit_code: Option<i32>) -> Settled {
        let reports = vec![report(fence, cause, exit_code)];
        self.fixture.queue.call(Settle { worker: self.key.clone(), reports }).await.unwrap().remove(0)
    }
}

/// The end of an attempt that ran for a second and said nothing, perhaps as part of a run.
pub fn report(fence: Fence, cause: Cause, exit_code: Option<i32>) -> Report {
    let ending = Ending { cause, exit_code, signal: None, error: None };
    Report {
        fence,
        ending,
        started: None,
        ran: Span::from_secs(1),
        after: Span::MAX,
        output: Vec::new(),
        jitter: 0.5,
        in_run: true,
    }
}

/// Runs an async case on every kind of store.
macro_rules! on_every_store {
    ($(async fn $name:ident($f:ident: Fixture) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn case($f: &Fixture) $body

            // Whatever a case did, the audit of its trail finds nothing, and no row contradicts another.
            async fn check(f: Fixture) {
                case(&f).await;
                assert_eq!(f.audit().await, []);
                assert_eq!(f.queue.check().await.unwrap(), []);
            }

            #[tokio::test]
            async fn sqlite_file() {
                check(Fixture::file()).await;
            }

            #[tokio::test]
            async fn sqlite_memory() {
                check(Fixture::memory()).await;
            }

            #[tokio::test]
            async fn postgres() {
                check(Fixture::postgres()).await;
            }
        }
    )*};
}
pub(crate) use on_every_store;
