//! A worker under systemd, as its socket and its journal hear it, and a start while the store is away.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use super::support::*;
use crate::server::Cluster;

/// What listens in the place of systemd.
struct Manager {
    socket: UnixDatagram,
    path: String,
    heard: Vec<String>,
}

impl Manager {
    fn new(orx: &Orx) -> Self {
        Self::at(orx, "notify")
    }

    fn at(orx: &Orx, name: &str) -> Self {
        let path = orx.path(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned(), heard: Vec::new() }
    }

    fn start(&self, orx: &Orx, args: &[&str]) -> Running {
        orx.call(args).env("NOTIFY_SOCKET", &self.path).spawn()
    }

    /// Hears words until one of them is an assignment that begins so, and gives that.
    fn wait(&mut self, text: &str) -> String {
        loop {
            let mut buffer = [0; 4096];
            let Ok(count) = self.socket.recv(&mut buffer) else { panic!("{text:?} was not said: {:?}", self.heard) };
            let word = String::from_utf8(buffer[..count].to_vec()).unwrap();
            self.heard.push(word.clone());
            if let Some(line) = word.lines().find(|line| line.starts_with(text)) {
                return line.to_owned();
            }
        }
    }
}

#[test]
fn systemd_hears_what_a_worker_does_and_that_its_drain_takes_longer() {
    let orx = Orx::new();
    let mut manager = Manager::new(&orx);
    let worker = manager.start(&orx, &["worker", "--slots", "2", "--name", "w", "--drain-timeout", "1m"]);
    manager.wait("READY=1");
    let said = manager.heard.last().unwrap();
    assert!(said.contains("STATUS=0 of 2 slots run jobs"), "{said}");
    orx.sh(&[], &format!("echo up > up; {UNTIL_GO}"));
    manager.wait("STATUS=1 of 2 slots run jobs");
    assert!(!manager.heard.concat().contains("STOPPING"), "{:?}", manager.heard);
    // By a command, and not by systemd: it stops all the same.
    orx.ok(&["workers", "drain", "w"]);
    manager.wait("STOPPING=1");
    assert_eq!(manager.wait("EXTEND_TIMEOUT_USEC="), "EXTEND_TIMEOUT_USEC=30000000");
    if !manager.heard.concat().contains("STATUS=draining; 1 of 2 slots run jobs") {
        manager.wait("STATUS=draining; 1 of 2 slots run jobs");
    }
    manager.wait("EXTEND_TIMEOUT_USEC="); // and goes on to say so
    orx.write("go", "");
    worker.wait().expect(0, &[]);
}

#[test]
fn systemd_hears_that_a_worker_leads_and_that_it_cannot_use_its_store() {
    let orx = Orx::file();
    let cluster = Cluster::start(&[]);
    let mut manager = Manager::new(&orx);
    let worker = manager.start(&orx, &["--store", cluster.url(), "worker", "--slots", "1", "--lease", "2s"]);
    manager.wait("READY=1");
    while !manager.heard.last().unwrap().contains("0 of 1 slot runs a job; leading") {
        manager.wait("STATUS=");
    }
    cluster.ctl(&["stop", "-m", "fast"]).unwrap();
    manager.wait("STATUS=waiting for the store: ");
    cluster.ctl(&["start"]).unwrap();
    manager.wait("STATUS=0 of 1 slot runs a job");
    worker.stop().expect(0, &[]);
}

#[test]
fn workers_and_coordinators_wait_for_a_server_that_is_away_when_they_start() {
    let orx = Orx::file();
    let cluster = Cluster::start(&[]);
    let store = cluster.url();
    orx.ok(&["--store", store, "enqueue", "--", "true"]);
    cluster.ctl(&["stop", "-m", "fast"]).unwrap();
    let mut manager = Manager::new(&orx);
    for process in [&["worker"][..], &["coordinator", "--listen", "127.0.0.1:0"]] {
        // A signal ends the wait as it ends the process.
        let ends = orx.spawn(&[&["--store", store], process].concat());
        ends.wait_stderr("waiting for the store: ");
        ends.stop().expect(0, &[]);
    }
    let start = |manager: &mut Manager, process: &[&str]| {
        let started = manager.start(&orx, &[&["--store", store], process].concat());
        let why = manager.wait("STATUS=waiting for the store: ");
        assert!(why.contains("cannot be reached"), "{why}");
        let word = manager.heard.last().unwrap();
        assert!(word.contains("EXTEND_TIMEOUT_USEC=30000000"), "{word}");
        assert!(!manager.heard.concat().contains("READY"), "{:?}", manager.heard);
        started
    };
    let worker = start(&mut manager, &["worker"]);
    let mut other = Manager::at(&orx, "other");
    let coordinator = start(&mut other, &["coordinator", "--listen", "127.0.0.1:0"]);
    coordinator.signal(Signal::HUP); // nothing to read again yet
    // Whoever is asked by a person says at once that it is away.
    orx.run(&["--store", store, "list"]).expect(6, &["cannot be reached"]);
    cluster.ctl(&["start"]).unwrap();
    manager.wait("READY=1");
    other.wait("READY=1");
    orx.ok(&["--store", store, "wait", "1"]);
    worker.wait_stderr("the store can be used again");
    worker.stop().expect(0, &[]);
    coordinator.stop().expect(0, &[]);
}

/// A worker whose standard error is what JOURNAL_STREAM names.
fn in_the_journal(orx: &Orx, args: &[&str]) -> String {
    let script = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec \"$0\" \"$@\"";
    let program = ["-c", script, env!("CARGO_BIN_EXE_orx")];
    let out = orx.program("sh", &[&program[..], args].concat()).run();
    out.expect(0, &[]);
    out.stderr()
}

#[test]
fn the_journal_gets_priorities_no_second_time_and_lines_for_jobs_that_fail() {
    let orx = Orx::new();
    for code in 0..3 {
        orx.sh(&[], &format!("exit {code}"));
    }
    let said = in_the_journal(&orx, &["worker", "--burst"]);
    let lines: Vec<&str> = said.lines().collect();
    let year = jiff::Timestamp::now().to_string()[..4].to_owned();
    assert!(
        lines.iter().all(|line| (line.starts_with("<6>") || line.starts_with("<4>")) && !line.contains(&year)),
        "{said}"
    );
    let of_jobs: Vec<&&str> = lines.iter().filter(|line| line.contains("number=")).collect();
    assert_eq!(of_jobs.len(), 2, "{said}");
    for (line, code) in of_jobs.iter().zip(1..) {
        assert!(line.starts_with("<4>") && line.contains(&format!("exit_code={code}")), "{said}");
    }
    assert!(lines.iter().any(|line| line.starts_with("<6>") && line.contains("ready")), "{said}");

    orx.add(&["--", "true"]);
    let said = in_the_journal(&orx, &["-v", "worker", "--burst"]);
    assert!(said.contains(": leased\n") && said.contains("\n<7>"), "{said}");
    orx.add(&["--", "true"]);
    let said = in_the_journal(&orx, &["worker", "--burst", "--log-format", "json"]);
    assert!(said.lines().all(|line| line.starts_with("<6>{\"timestamp\":")), "{said}");

    // Another file than the one that systemd names is not the journal, such as a terminal under a user's manager.
    orx.add(&["--", "true"]);
    let said = orx.call(&["worker", "--burst"]).env("JOURNAL_STREAM", "1:2").run().stderr();
    assert!(said.contains(": leased\n") && said.contains(&year) && !said.contains("<6>"), "{said}");
}
