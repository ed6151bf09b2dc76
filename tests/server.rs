//! The PostgreSQL server of the tests: that of `ORX_TEST_POSTGRES`, else one that `tests/postgres` starts.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

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

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.script("stop", &[]); // it may be gone
        let _ = std::fs::remove_file(self.dir.with_extension("lock"));
    }
}
