//! A home with a store, and the processes that run in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use orx::ops::Caller;
use orx::queue::Queue;
use orx::time::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::clock::Clock;
use super::front::Front;
use super::witness::{self, Line};
use crate::server;

/// No command and no condition of the harness may take longer, however busy the machine is.
pub const LIMIT: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Whether the scenarios run in full size.
pub fn full() -> bool {
    std::env::var_os("ORX_CHAOS_FULL").is_some_and(|v| v == "1")
}

/// What repeats a run.
pub fn seed() -> u64 {
    std::env::var("ORX_CHAOS_SEED").map_or(1, |seed| seed.parse().expect("ORX_CHAOS_SEED is no number"))
}

/// Milliseconds of the wall clock, as the witness writes them.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as i64
}

/// A home of its own; kept when the test fails.
pub struct World {
    home: Option<TempDir>,
    path: PathBuf,
    /// As ORX_STORE names it.
    store: OsString,
    /// It is a schema that nobody else uses.
    own_schema: bool,
    clock: Option<Clock>,
    /// What stands between it and everybody.
    front: Option<Front>,
    spawned: AtomicU32,
}

impl World {
    /// A world whose store is a file; with `ORX_TEST_STORE=postgres`, a schema of the tests' server; with `http` or
    /// `http-postgres` one of these behind a coordinator.
    pub fn new() -> Self {
        match std::env::var("ORX_TEST_STORE").as_deref() {
            Ok("postgres") => Self::on_postgres(),
            Ok("http") => Self::on_file().behind_http(),
            Ok("http-postgres") => Self::on_postgres().behind_http(),
            _ => Self::on_file(),
        }
    }

    /// From now on everybody talks to its store through a coordinator, and a proxy that loses answers.
    pub fn behind_http(mut self) -> Self {
        let front = Front::start(&self);
        self.store = front.url().into();
        self.front = Some(front);
        self
    }

    /// The coordinator that everybody talks to, if there is one.
    pub fn front(&self) -> Option<&Front> {
        self.front.as_ref()
    }

    /// The store itself.
    pub fn store(&self) -> &OsStr {
        self.front.as_ref().map_or(&self.store, |front| &front.store)
    }

    /// One whose store is a file always.
    pub fn on_file() -> Self {
        let home = tempfile::Builder::new().prefix("orx-crash-").tempdir().unwrap();
        let path = home.path().to_owned();
        let store = path.join("orx.db").into_os_string();
        Self { home: Some(home), store, own_schema: false, path, clock: None, front: None, spawned: AtomicU32::new(0) }
    }

    /// One whose store is a schema of the tests' server, for as long as it lives.
    pub fn on_postgres() -> Self {
        let mut world = Self::on_file().with_store(server::schema());
        world.own_schema = true;
        world
    }

    /// The store lies elsewhere.
    pub fn with_store(mut self, store: impl Into<OsString>) -> Self {
        (self.store, self.own_schema) = (store.into(), false);
        self
    }

    /// The queue of the store itself, with connections of its own, in this process.
    pub fn queue(&self) -> Queue {
        let location = self.store().to_str().unwrap().parse().unwrap();
        Queue::open(&location, Caller::local("harness"), Arc::new(SystemClock)).unwrap()
    }

    /// What its store is, for the title of a table.
    pub fn kind(&self) -> &'static str {
        match (self.store().to_string_lossy().starts_with("postgres"), &self.front) {
            (true, None) => "PostgreSQL",
            (false, None) => "SQLite",
            (true, Some(_)) => "HTTP over PostgreSQL",
            (false, Some(_)) => "HTTP over SQLite",
        }
    }

    /// Everything runs by this clock, unless it has one of its own.
    pub fn with_clock(mut self, clock: &Clock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps its files for those who look for the cause.
    pub fn keep(&mut self) -> &Path {
        if let Some(home) = self.home.take() {
            let _ = home.keep(); // its path is known
        }
        &self.path
    }

    /// The file that jobs write to.
    pub fn witness(&self) -> PathBuf {
        self.path("witness")
    }

    /// What jobs wrote so far.
    pub fn lines(&self) -> Vec<Line> {
        witness::parse(&std::fs::read_to_string(self.witness()).unwrap_or_default())
    }

    /// Starts orx; what it prints goes to files, so that no pipe can hold it up or lose what it said before a kill.
    pub fn spawn(&self, args: &[&str]) -> Process {
        self.spawn_with(args, &[])
    }

    /// Starts orx with more in its environment.
    pub fn spawn_with(&self, args: &[&str], environment: &[(&str, String)]) -> Process {
        self.spawn_in(None, self.clock.as_ref(), args, environment)
    }

    /// As [`World::spawn_with`], in a cgroup and by a clock.
    fn spawn_in(
        &self,
        cgroup: Option<&Path>,
        clock: Option<&Clock>,
        args: &[&str],
        environment: &[(&str, String)],
    ) -> Process {
        let n = self.spawned.fetch_add(1, Ordering::Relaxed);
        let stem = self.path(&format!("{n}-{}", args.iter().find(|a| !a.starts_with('-')).unwrap_or(&"orx")));
        let file = |ending| File::create(stem.with_extension(ending)).unwrap();
        let binary = std::env::var_os("ORX_CHAOS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_orx").into());
        let mut command = match cgroup {
            None => Command::new(binary),
            Some(dir) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec \"$@\""]).arg(dir).arg(binary);
                shell
            }
        };
        command.args(args).env_clear().env("HOME", &self.path).env("ORX_STORE", &self.store).current_dir(&self.path);
        command.env("PATH", std::env::var_os("PATH").unwrap()).envs(environment.iter().cloned());
        command.envs(self.front.as_ref().map(|front| ("ORX_TOKEN", &front.token)));
        command.envs(std::env::var_os("ORX_MUTANT").map(|mutant| ("ORX_MUTANT", mutant)));
        command.envs(clock.into_iter().flat_map(Clock::environment));
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        Process { child: command.spawn().unwrap(), stem }
    }

    /// Runs a command to its end: exit code, stdout, stderr.
    pub fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut process = self.spawn(args);
        let code = process.wait(LIMIT).code();
        let result = (code, process.stdout(), process.stderr());
        process.forget();
        result
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(args);
        assert_eq!(code, Some(0), "orx {args:?}\n{stdout}\n{stderr}");
        stdout
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[&["-o", "json"], args].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    pub fn events(&self) -> Vec<Value> {
        self.ok(&["events"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts a worker.
    pub fn worker(&self, name: &str, args: &[&str]) -> Process {
        self.worker_in(None, name, args)
    }

    /// Starts a worker in a cgroup.
    pub fn worker_in(&self, cgroup: Option<&Path>, name: &str, args: &[&str]) -> Process {
        self.spawn_in(cgroup, self.clock.as_ref(), &[&["worker", "--name", name], args].concat(), &[])
    }

    /// Starts a worker and waits until it is there.
    pub fn ready_worker(&self, name: &str, args: &[&str]) -> Process {
        let worker = self.worker(name, args);
        self.wait_ready(&worker);
        worker
    }

    /// As [`World::ready_worker`], by a clock of its own.
    pub fn ready_worker_by(&self, clock: &Clock, name: &str, args: &[&str]) -> Process {
        let worker = self.spawn_in(None, Some(clock), &[&["worker", "--name", name], args].concat(), &[]);
        self.wait_ready(&worker);
        worker
    }

    /// Waits until a worker is there.
    pub fn wait_ready(&self, worker: &Process) {
        eventually("a worker to be there", LIMIT, || {
            assert!(worker.is_alive(), "it ended: {}", worker.stderr());
            self.workers().iter().any(|w| w["pid"] == worker.pid())
        });
    }

    /// The workers, as the store knows them; none where the first one has not made the store yet.
    pub fn workers(&self) -> Vec<Value> {
        let (code, listed, why) = self.run(&["-o", "json", "workers"]);
        assert!(code == Some(0) || why.contains("there is no store"), "{code:?}: {why}");
        serde_json::from_str(&listed).unwrap_or_default()
    }

    /// How many jobs are in one of `states`.
    pub fn count(&self, states: &[&str]) -> i64 {
        let status = self.json(&["status"]);
        let queues = status["queues"].as_array().unwrap();
        queues.iter().flat_map(|q| states.iter().map(|s| q["counts"][*s].as_i64().unwrap())).sum()
    }

    /// How many jobs there are.
    pub fn count_jobs(&self) -> i64 {
        self.count(&["blocked", "scheduled", "pending", "running", "done", "failed", "cancelled", "skipped"])
    }

    /// Stores a job that writes to the witness and takes so many milliseconds in each of its attempts; gives its id.
    pub fn add(&self, options: &[&str], millis: &[&str]) -> String {
        let witness = self.witness();
        let command = [&["--", witness::helper(), witness.to_str().unwrap()], millis].concat();
        self.ok(&[&["-q", "-o", "id", "enqueue"], options, &command].concat()).trim().to_owned()
    }

    /// Processes of jobs: those of this home that carry a fence.
    pub fn job_processes(&self) -> Vec<i32> {
        self.processes(|vars| vars.iter().any(|var| var.starts_with(b"ORX_FENCE=")))
    }

    fn processes(&self, accept: impl Fn(&[&[u8]]) -> bool) -> Vec<i32> {
        let home = format!("HOME={}", self.path.display());
        let of_this_home = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let vars: Vec<&[u8]> = environment.split(|b| *b == 0).collect();
            vars.contains(&home.as_bytes()) && accept(&vars) && is_alive(*pid)
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(of_this_home).collect()
    }
}

impl Drop for World {
    /// Ends what a failed run left behind, and keeps its files.
    fn drop(&mut self) {
        for pid in self.processes(|_| true) {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL); // it may have ended
        }
        if let Some(front) = self.front.take() {
            self.store.clone_from(&front.store); // its coordinator ends first
        }
        let store = self.store.to_string_lossy();
        if std::thread::panicking() {
            if let Some(home) = self.home.take() {
                eprintln!("the files of the failed run are kept in {}; store {store}", home.keep().display());
            }
        } else if self.own_schema {
            server::drop_schema(&store);
        }
    }
}

/// A process of orx; killed when it is dropped.
pub struct Process {
    child: Child,
    stem: PathBuf,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_alive(&self) -> bool {
        is_alive(self.pid() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    /// SIGKILL, and waits until it is gone. False: it had ended before.
    pub fn kill(&mut self) -> bool {
        self.signal(Signal::KILL);
        self.wait(LIMIT).signal() == Some(Signal::KILL.as_raw())
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < limit, "{} hangs\n{}", self.stem.display(), self.stderr());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGTERM, and waits until it has ended well.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait(LIMIT);
        assert!(status.success(), "{}: {status}\n{}", self.stem.display(), self.stderr());
    }

    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.stem.with_extension("out")).unwrap()
    }

    pub fn stderr(&self) -> String {
        let text = std::fs::read_to_string(self.stem.with_extension("err")).unwrap();
        assert!(!text.contains("panicked at"), "{} panicked\n{text}", self.stem.display());
        text
    }

    /// Removes what it printed.
    pub fn forget(self) {
        for ending in ["out", "err"] {
            let _ = std::fs::remove_file(self.stem.with_extension(ending)); // only to save room
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended mostly
        let _ = self.child.wait();
    }
}

/// Waits for a condition.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    assert!(within(limit, condition), "waited in vain for {what}, {limit:?} long");
    started.elapsed()
}

/// Waits for a condition; false if it did not come true in time.
pub fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
