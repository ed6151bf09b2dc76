//! PostgreSQL behind something: a name that moves from one server to another.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::support::*;
use crate::server::Cluster;

/// A URL of the server whose socket lies in `dir`.
fn at(dir: &Path) -> String {
    format!("postgres://orx@{}/postgres", dir.display().to_string().replace('/', "%2F"))
}

#[test]
fn a_worker_leaves_a_server_that_only_reads_when_its_name_moves() {
    let orx = Orx::file();
    let primary = Cluster::start(&["hot_standby = on"]);
    orx.ok(&["--store", primary.url(), "enqueue", "--", "true"]);
    let standby = primary.standby();
    let name = orx.path("name");
    symlink(standby.dir(), &name).unwrap();
    let (here, direct) = (at(&name), primary.url());

    orx.run(&["--store", &here, "list"]).expect(0, &[]);
    for args in [&["worker", "--burst"][..], &["enqueue", "--", "true"], &["run", "--", "true"]] {
        let out = orx.run(&[&["--store", &here], args].concat());
        let code = if args[0] == "run" { 125 } else { 6 };
        out.expect(code, &["PostgreSQL takes no writes", "hint: this server is a standby", "target_session_attrs"]);
    }
    let worker = orx.spawn(&["--store", &here, "worker", "--name", "w"]);
    worker.wait_stderr("PostgreSQL takes no writes");
    std::fs::remove_file(&name).unwrap();
    symlink(primary.dir(), &name).unwrap();
    eventually("the job to be done at the other server", || {
        orx.ok(&["--store", direct, "status", "1", "--format", "{{state}}"]).trim() == "done"
    });
    worker.stop().expect(0, &[]);
    // All servers in one URL do without a name that moves.
    let socket = |cluster: &Cluster| cluster.dir().display().to_string().replace('/', "%2F");
    let both = format!("postgres://orx@{},{}/postgres", socket(&standby), socket(&primary));
    orx.run(&["--store", &format!("{both}?target_session_attrs=read-write"), "enqueue", "--", "true"]).expect(0, &[]);
    let one = format!("{}?target_session_attrs=read-write", standby.url());
    orx.run(&["--store", &one, "list"]).expect(6, &["PostgreSQL takes no writes"]);
}
