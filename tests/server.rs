//! The PostgreSQL server of the tests: that of `ORX_TEST_POSTGRES`, else one that `tests/postgres` starts.

use std::process::Command;
use std::sync::OnceLock;

use uuid::Uuid;

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
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres");
            let started = Command::new(script).arg("start").output().expect("tests/postgres cannot be run");
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
