//! The PostgreSQL server of the tests: that of `ORX_TEST_POSTGRES`, else one that `tests/postgres` starts.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// Starts and stops servers.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres");

/// The URL of a schema that no other test uses.
pub fn schema() -> String {
    format!("{}?schema=t_{}", url(), Uuid::now_v7().simple())
}

/// The server's URL.
pub fn url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| match std::env::var("ORX_TEST_POSTGRES") {
        Ok(url) => url,
        Err(_) => {
            let started = Command::new(SCRIPT).arg("start").output().expect("tests/postgres cannot be run");
            assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
            String::from_utf8(started.stdout).unwrap().trim().to_owned()
        }
    })
}

/// Runs SQL in the schema of a store; gives what psql prints of it.
pub fn sql(store: &str, statements: &str) -> String {
    let (server, schema) = store.split_once("?schema=").expect("a store with a schema");
    let schema = schema.split('&').next().unwrap();
    let mut psql = Command::new("psql");
    psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", server, "-c", &format!("SET search_path TO {schema}")]);
    let done = psql.args(["-c", statements]).output().expect("psql cannot be run");
    assert!(done.status.success(), "{statements}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Removes the schema of a store and all that is in it.
pub fn drop_schema(store: &str) {
    let (_, query) = store.split_once("?schema=").expect("a store with a schema");
    sql(store, &format!("DROP SCHEMA IF EXISTS {} CASCADE", query.split('&').next().unwrap()));
}

/// Runs SQL anywhere on a server; gives what psql prints of it.
pub fn psql(url: &str, statements: &str) -> Result<String, String> {
    let done = Command::new("psql").args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statements]).output();
    let done = done.expect("psql cannot be run");
    match done.status.success() {
        true => Ok(String::from_utf8(done.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// A session in a transaction; dropped, it ends.
pub struct Session {
    psql: Child,
    said: Lines<BufReader<ChildStdout>>,
    store: String,
    pid: String,
}

impl Session {
    /// One that has begun a transaction in the schema of a store, and run `statements`.
    pub fn begin(store: &str, statements: &str) -> Self {
        let (url, schema) = store.split_once("?schema=").expect("a store with a schema");
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = psql.spawn().expect("psql cannot be run");
        let said = BufReader::new(psql.stdout.take().unwrap()).lines();
        let mut session = Self { psql, said, store: store.to_owned(), pid: String::new() };
        session.say(&format!("SET search_path TO {schema}; BEGIN; SELECT 'pid ' || pg_backend_pid();"));
        session.pid = session.heard("pid ");
        session.run(statements);
        session
    }

    /// Runs more in it.
    pub fn run(&mut self, statements: &str) {
        self.say(&format!("{statements};\n\\echo done"));
        self.heard("done");
    }

    /// Returns when so many other sessions wait for it, or for one of those.
    pub fn wait_for_waiters(&self, count: usize) {
        let waiting = format!(
            "WITH RECURSIVE waiting AS (
                SELECT {}::integer AS pid
                UNION
                SELECT a.pid FROM pg_stat_activity a JOIN waiting w ON w.pid = ANY(pg_blocking_pids(a.pid)))
             SELECT count(*) - 1 FROM waiting",
            self.pid
        );
        let begun = Instant::now();
        while sql(&self.store, &waiting).trim().parse::<usize>().unwrap() < count {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody waits for it");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Commits.
    pub fn commit(mut self) {
        self.run("COMMIT");
    }

    fn say(&mut self, words: &str) {
        writeln!(self.psql.stdin.as_mut().unwrap(), "{words}").unwrap();
    }

    /// What follows `word` in the line that begins with it.
    fn heard(&mut self, word: &str) -> String {
        let mut lines = self.said.by_ref().map_while(Result::ok);
        let found = lines.find_map(|line| line.strip_prefix(word).map(str::to_owned));
        found.unwrap_or_else(|| panic!("psql ended before it said {word:?}"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.psql.kill(); // its locks end with it
        let _ = self.psql.wait();
    }
}

/// A server that belongs to one test, which may do with it what it likes.
pub struct Cluster {
    dir: PathBuf,
    url: String,
}

impl Cluster {
    /// A new one that keeps what it acknowledged over a crash, with these lines in its configuration.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_on(Self::new_dir(), settings)
    }

    /// A directory for one, so that something can be mounted in it before.
    pub fn new_dir() -> PathBuf {
        std::env::temp_dir().join(format!("orx-pg-{}", Uuid::now_v7().simple()))
    }

    /// One in this directory.
    pub fn start_on(dir: PathBuf, settings: &[&str]) -> Self {
        let mut cluster = Self { dir, url: String::new() };
        cluster.url = cluster.script("start", settings).unwrap().trim().to_owned();
        cluster
    }

    /// Its database, through its socket, as a superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A file of its data directory.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join("data").join(name)
    }

    /// Runs pg_ctl on it.
    pub fn ctl(&self, args: &[&str]) -> Result<(), String> {
        self.script("ctl", args).map(|_| ())
    }

    /// Runs SQL as the superuser.
    pub fn sql(&self, statements: &str) -> Result<String, String> {
        psql(&self.url, statements)
    }

    /// Where its socket lies, and all else of it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A server that only reads, with what is stored here now.
    pub fn standby(&self) -> Self {
        let dir = Self::new_dir();
        let url = self.url.replace(&encoded(&self.dir), &encoded(&dir));
        self.ctl(&["stop"]).unwrap();
        let copied = Command::new("cp").arg("-a").args([&self.dir, &dir]).status().unwrap();
        self.ctl(&["start"]).unwrap();
        assert!(copied.success());
        let standby = Self { dir, url };
        let (wal, conf, signal) =
            (standby.data("pg_wal"), standby.data("postgresql.conf"), standby.data("standby.signal"));
        std::fs::remove_file(&wal).unwrap();
        symlink(standby.dir.join("wal"), &wal).unwrap();
        // Written in place, they stay the server's own.
        let (from, to) = (self.dir.display().to_string(), standby.dir.display().to_string());
        std::fs::write(&conf, std::fs::read_to_string(&conf).unwrap().replace(&from, &to)).unwrap();
        assert!(Command::new("cp").arg("-a").args([&conf, &signal]).status().unwrap().success());
        standby.ctl(&["start"]).unwrap();
        standby
    }

    /// The process that all others of the server come from.
    pub fn postmaster(&self) -> i32 {
        std::fs::read_to_string(self.data("postmaster.pid")).unwrap().lines().next().unwrap().parse().unwrap()
    }

    fn script(&self, verb: &str, args: &[&str]) -> Result<String, String> {
        let mut script = Command::new(SCRIPT);
        let done = script.args([verb, "--durable", "--dir"]).arg(&self.dir).args(args).output().unwrap();
        match done.status.success() {
            true => Ok(String::from_utf8(done.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        }
    }
}

fn encoded(dir: &Path) -> String {
    dir.display().to_string().replace('/', "%2F")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.script("stop", &[]); // it may be gone
        let _ = std::fs::remove_file(self.dir.with_extension("lock"));
    }
}
