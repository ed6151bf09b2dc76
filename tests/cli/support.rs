//! The real binary in a home of its own.

use std::fmt;
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::server;

/// No command of this suite may take longer, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// An empty home with a store at the default place; with `ORX_TEST_STORE=postgres` in a schema of its own, with
/// `ORX_TEST_STORE=http` or `http-postgres` behind a coordinator.
pub struct Orx {
    home: TempDir,
    server: Option<String>,
    token: Option<String>,
    coordinator: Option<Running>,
    /// The store behind the coordinator, unless it is the file.
    behind: Option<String>,
}

impl Orx {
    pub fn new() -> Self {
        let mut orx = Self::file();
        match std::env::var("ORX_TEST_STORE").as_deref() {
            Ok("postgres") => orx.server = Some(server::schema()),
            Ok("http") => orx.serve(),
            Ok("http-postgres") => {
                orx.server = Some(server::schema());
                orx.behind.clone_from(&orx.server);
                orx.serve();
            }
            _ => {}
        }
        orx
    }

    /// Puts a coordinator in front of the store, which all commands talk to from now on. It ends with the home.
    pub fn serve(&mut self) {
        let token = self.ok(&["token", "create", "--admin"]).trim().to_owned();
        self.serve_at("127.0.0.1:0", &[]);
        self.token = Some(token);
    }

    /// Starts a coordinator of the store of this home.
    pub fn serve_at(&mut self, listen: &str, args: &[&str]) {
        let store = self.served_store();
        let words = [&["--store", &store, "coordinator", "--listen", listen], args].concat();
        let coordinator = self.spawn(&words);
        let mut url = None;
        eventually("the coordinator to be ready", || {
            assert!(coordinator.is_alive(), "{}", coordinator.stderr());
            let said = coordinator.stderr();
            let ready = said.lines().find(|line| line.contains(" ready "));
            url = ready.and_then(|line| line.split_once("url=")).map(|(_, url)| url.trim().to_owned());
            url.is_some()
        });
        self.server = url;
        self.coordinator = Some(coordinator);
    }

    /// Talks to a coordinator that was started otherwise.
    pub fn reach(&mut self, url: &str, token: &str) {
        self.server = Some(url.to_owned());
        self.token = Some(token.to_owned());
    }

    /// The coordinator in front of the store.
    pub fn coordinator(&mut self) -> &mut Running {
        self.coordinator.as_mut().unwrap()
    }

    /// One whose store is a file always: what is tested is about files.
    pub fn file() -> Self {
        Self {
            home: tempfile::Builder::new().prefix("orx-cli-").tempdir().unwrap(),
            server: None,
            token: None,
            coordinator: None,
            behind: None,
        }
    }

    /// The store itself, behind a coordinator.
    fn served_store(&self) -> String {
        self.behind.clone().unwrap_or_else(|| self.store().to_str().unwrap().to_owned())
    }

    /// A place in the home, which is also where commands run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The store of this home, as --store names it.
    pub fn url(&self) -> String {
        self.server.clone().unwrap_or_else(|| self.store().to_str().unwrap().to_owned())
    }

    /// The token for the coordinator, where there is one.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Where the store is unless said otherwise.
    pub fn store(&self) -> PathBuf {
        self.path(".local/share/orx/orx.db")
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What a job wrote to a file; nothing where there is none yet.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A command that is yet to be run.
    pub fn call(&self, args: &[&str]) -> Call {
        self.program(env!("CARGO_BIN_EXE_orx"), args)
    }

    /// Another program that is yet to be run, as if from the same shell.
    pub fn program(&self, program: &str, args: &[&str]) -> Call {
        let mut command = Command::new(program);
        command.args(args).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap());
        if let Some(server) = &self.server {
            command.env("ORX_STORE", server);
        }
        if let Some(token) = &self.token {
            command.env("ORX_TOKEN", token);
        }
        Call { command, stdin: None }
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.call(args).run()
    }

    /// Starts a command.
    pub fn spawn(&self, args: &[&str]) -> Running {
        self.call(args).spawn()
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert_eq!(out.code, Some(0), "orx {args:?}\n{out}");
        out.stdout()
    }

    /// Runs SQL behind the back of orx, in the store itself.
    pub fn damage(&self, statements: &str) {
        let store = if self.token.is_some() { self.served_store() } else { self.url() };
        match store.contains("?schema=") {
            true => _ = server::sql(&store, statements),
            false => rusqlite::Connection::open(store).unwrap().execute_batch(statements).unwrap(),
        }
    }

    /// Checks the store itself, also behind a coordinator.
    pub fn check(&self) -> Output {
        let store = if self.token.is_some() { self.served_store() } else { self.url() };
        self.run(&["--store", &store, "db", "check"])
    }

    /// What a command prints with `-o json`.
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[&["-o", "json"], args].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Stores a job and gives its number.
    pub fn add(&self, args: &[&str]) -> String {
        self.ok(&[&["enqueue", "--format", "{{number}}"], args].concat()).trim().to_owned()
    }

    /// Stores a shell script as a job and gives its number.
    pub fn sh(&self, options: &[&str], script: &str) -> String {
        self.add(&[options, &["--", "sh", "-c", script]].concat())
    }

    /// Makes the store, where there is none: who only looks does not.
    pub fn make(&self) {
        self.ok(&["-q", "limit", "set", "none", "--max-running", "1"]);
    }

    /// All about a job.
    pub fn job(&self, job: &str) -> Value {
        self.json(&["status", job])
    }

    /// The state of a job; nothing where there is none yet.
    pub fn state(&self, job: &str) -> String {
        self.run(&["status", job, "--format", "{{state}}"]).stdout().trim().to_owned()
    }

    /// The states of all jobs, oldest first.
    pub fn states(&self) -> String {
        let listed = self.run(&["list", "--limit", "0", "--format", "{{state}}"]);
        let no_store = listed.code == Some(3) && listed.stderr().contains("there is no store");
        assert!(no_store || listed.code == Some(0), "{listed}");
        listed.stdout().lines().rev().collect::<Vec<_>>().join(" ")
    }

    pub fn wait_state(&self, job: &str, state: &str) {
        eventually(&format!("job {job} to be {state}"), || self.state(job) == state);
    }

    /// Waits until a job has written a line to a file, and gives it.
    pub fn wait_line(&self, file: &str) -> String {
        eventually(&format!("a line in {file}"), || self.read(file).ends_with('\n'));
        self.read(file).trim().to_owned()
    }

    /// Waits until a job has written its process id to a file.
    pub fn wait_pid(&self, file: &str) -> i32 {
        self.wait_line(file).parse().unwrap()
    }

    /// Runs all that is runnable.
    pub fn burst(&self) {
        self.ok(&["-q", "worker", "--burst"]);
    }

    /// Starts a worker and waits until it is there.
    pub fn worker(&self, args: &[&str]) -> Running {
        let worker = self.spawn(&[&["worker"], args].concat());
        let pid = Value::from(worker.pid());
        eventually("the worker to be there", || {
            assert!(worker.is_alive(), "{}", worker.stderr());
            // There may be no store yet.
            let listed = self.run(&["-o", "json", "workers"]).stdout();
            let listed: Vec<Value> = serde_json::from_str(&listed).unwrap_or_default();
            listed.iter().any(|w| w["pid"] == pid)
        });
        worker
    }

    /// The kinds of the events of a job.
    pub fn story(&self, number: &str) -> String {
        let number = Value::from(number.parse::<i64>().unwrap());
        let kinds = self.events().into_iter().filter(|e| e["number"] == number);
        kinds.map(|e| e["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    }

    pub fn events(&self) -> Vec<Value> {
        lines_of_json(&self.ok(&["events"]))
    }

    /// Bytes of every file of the store, its log included.
    pub fn stored_bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.store().parent().unwrap()).unwrap();
        let files = files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        files.flat_map(|path| std::fs::read(path).unwrap()).collect()
    }
}

impl Drop for Orx {
    /// Ends what a failed test left behind: every process whose HOME is this one.
    fn drop(&mut self) {
        drop(self.coordinator.take());
        let mark = format!("HOME={}", self.home.path().display());
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|b| *b == 0).any(|var| var == mark.as_bytes()) {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL); // it may have ended
            }
        }
    }
}

/// A user who owns nothing.
pub const NOBODY: u32 = 65534;

/// A home of another user, with a program that it may run; none where this is not root.
pub fn home_of(user: u32) -> Option<Orx> {
    if !rustix::process::getuid().is_root() {
        println!("skipped: only root can be somebody else");
        return None;
    }
    let orx = Orx::file();
    std::fs::copy(env!("CARGO_BIN_EXE_orx"), orx.path("orx")).unwrap();
    chown(orx.path(""), Some(user), Some(user)).unwrap();
    mode(&orx.path(""), 0o755);
    Some(orx)
}

/// Changes the mode of a file or directory.
pub fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A command of the user whose home it is.
pub fn as_owner(orx: &Orx, args: &[&str]) -> Call {
    as_user(orx, orx.path("").metadata().unwrap().uid(), args)
}

/// A command of a user in this home.
pub fn as_user(orx: &Orx, user: u32, args: &[&str]) -> Call {
    let (id, program) = (user.to_string(), orx.path("orx"));
    let who = ["--reuid", &id, "--regid", &id, "--clear-groups", program.to_str().unwrap()];
    orx.program("setpriv", &[&who[..], args].concat())
}

/// A command that is yet to be run.
pub struct Call {
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Call {
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// In a process group of its own.
    pub fn own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    pub fn spawn(mut self) -> Running {
        let input = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = self.command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            std::thread::spawn(move || {
                let _ = pipe.write_all(&bytes); // it may want no more
            });
        }
        let readers = Vec::new();
        let mut running = Running { child, stdout: Heard::default(), stderr: Heard::default(), readers };
        let stdout = running.child.stdout.take().unwrap();
        let stderr = running.child.stderr.take().unwrap();
        running.readers = vec![running.stdout.listen(stdout), running.stderr.listen(stderr)];
        running
    }
}

/// What was heard of a stream so far.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn listen(&self, mut pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let heard = self.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                heard.0.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        })
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// A command that runs; killed when the test ends before it.
pub struct Running {
    child: Child,
    stdout: Heard,
    stderr: Heard,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_alive(&self) -> bool {
        is_alive(self.pid() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub fn wait_stdout(&self, text: &str) {
        eventually(&format!("{text:?} on stdout"), || self.stdout().contains(text));
    }

    pub fn wait_stderr(&self, text: &str) {
        eventually(&format!("{text:?} on stderr"), || self.stderr().contains(text));
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Output {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < LIMIT, "it hangs\n{}\n{}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Output::new(status, self.stdout.bytes(), self.stderr.bytes())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(self) -> Output {
        self.signal(Signal::KILL);
        self.wait()
    }

    /// SIGTERM, and waits until it is gone.
    pub fn stop(self) -> Output {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended mostly
        let _ = self.child.wait();
    }
}

/// How a command ended and what it printed.
pub struct Output {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    fn new(status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        let out = Self { code: status.code(), stdout, stderr };
        let text = out.stderr();
        assert!(!text.contains("panicked at") && !text.contains("RUST_BACKTRACE"), "a panic\n{out}");
        out
    }

    pub fn stdout(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap_or_else(|_| panic!("stdout is not UTF-8\n{self}"))
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// It ended with `code`, and said each of `words` on standard error.
    #[track_caller]
    pub fn expect(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        for word in words {
            assert!(self.stderr().contains(word), "{word:?} is not said\n{self}");
        }
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or_else(|| "none".into(), |code| code.to_string());
        write!(f, "exit {code}")?;
        for (name, bytes) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !bytes.is_empty() {
                let shown = &bytes[..bytes.len().min(4096)];
                write!(f, "\n-- {name}\n{}", String::from_utf8_lossy(shown).trim_end())?;
            }
        }
        Ok(())
    }
}

/// What differs from one run of a test to the next.
pub const FILTERS: &[(&str, &str)] = &[
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]"),
    (r"\b[0-9a-f]{32}\b", "[trace]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "[time]"),
    (r#"\btime(stamp)?="[^"]*""#, r#"time$1="[when]""#),
    (r"\b(now|(\d+m)?\d+s ago)\b", "[ago]"),
    (r"\b\d+(\.\d)?m?s\b", "[took]"),
    (r"\bin \d+[smhd]\w*", "[in]"),
    (r"leader:\s+\S+", "leader: [host]"),
    (r"/\S*/orx-cli-\w+", "[home]"),
    (r"  +", "  "),
];

/// Compares exit code, stdout and stderr with an inline snapshot.
macro_rules! snapshot {
    ($out:expr, @$snapshot:literal) => {
        insta::with_settings!({ filters => $crate::cli::support::FILTERS.to_vec() }, {
            insta::assert_snapshot!($out.to_string(), @$snapshot)
        })
    };
}
pub(crate) use snapshot;

/// Waits for a condition.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT / 2, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

pub fn lines_of_json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The names of the fields of an object.
pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Words in the order of the alphabet.
pub fn sorted(words: &str) -> Vec<&str> {
    let mut words: Vec<&str> = words.split_whitespace().collect();
    words.sort_unstable();
    words
}

/// A script that goes on when the file `go` is there.
pub const UNTIL_GO: &str = "until [ -e go ]; do sleep 0.02; done";
