//! Answers that get lost, and coordinators that die.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::*;
use crate::proxy::Proxy;

/// Six calls take no longer, unless one is tried for ten seconds.
const SOON: Duration = Duration::from_secs(9);

#[test]
fn an_answer_that_gets_lost_is_asked_for_again_and_nothing_is_done_twice() {
    let orx = served();
    let proxy = Proxy::start(&address(&orx), 2);
    let through = |args: &[&str]| orx.ok(&[&["--store", proxy.url()], args].concat());
    for n in 1..=5 {
        through(&["enqueue", "--", "sh", "-c", "echo x >> ran"]);
        assert_eq!(orx.states().split(' ').count(), n);
    }
    through(&["cancel", "5"]);
    through(&["-q", "worker", "--burst"]);
    assert_eq!(orx.read("ran"), "x\nx\nx\nx\n");
    assert_eq!(orx.states(), "done done done done cancelled");
    assert!(proxy.lost() >= 6, "{}", proxy.lost());
    orx.ok(&["audit"]);
    orx.check().expect(0, &["is sound"]);
}

/// Otherwise it would be leased to a worker that does not know of it, until the lease runs out.
#[test]
fn a_job_that_was_leased_to_a_worker_that_never_heard_of_it_is_asked_for_again() {
    let orx = served();
    let proxy = Proxy::start(&address(&orx), 0);
    let worker = orx.spawn(&["--store", proxy.url(), "worker", "--lease", "1h", "--idle-timeout", "1h"]);
    worker.wait_stderr("ready");
    proxy.lose(1);
    let job = orx.add(&["--", "true"]);
    worker.wait_stderr("unknown, check with");
    proxy.lose(0);
    orx.wait_state(&job, "done");
    let job = orx.job(&job);
    assert_eq!((&job["attempt"], &job["losses"]), (&1.into(), &0.into()), "{job}");
}

/// Some pass the id of what they were asked on to all that they ask themselves.
#[test]
fn one_request_id_stands_for_one_call_and_not_for_others() {
    let orx = served();
    let id = format!("x-request-id: {}", uuid::Uuid::now_v7());
    let enqueue = |program: &str| {
        let job = uuid::Uuid::from_u128(program.len() as u128);
        let body = format!(r#"{{"jobs":[{{"id":"{job}","spec":{{"command":["{program}"]}},"captured":{{}}}}]}}"#);
        request(&orx, orx.token(), "POST /api/v1/ops/enqueue", &[&id], &body).expect(200).body
    };
    let first = enqueue("true");
    assert_eq!(enqueue("true"), first, "asked again");
    assert_ne!(enqueue("false"), first);
    assert_eq!(orx.states(), "pending pending");
}

#[test]
fn a_route_with_a_name_of_its_own_is_called_once_however_often_its_answer_is_asked_for() {
    let mut orx = served();
    let listen = address(&orx);
    let id = format!("x-request-id: {}", uuid::Uuid::now_v7());
    let (first, again) = (vec![id.as_str()], vec![id.as_str(), "orx-again: 1"]);
    let post = |orx: &Orx, route: &str, headers: &[&str], body: &str, status| {
        request(orx, orx.token(), &format!("POST /api/v1/jobs{route}"), headers, body).expect(status).body
    };
    let job = r#"{"command":["false"]}"#;
    let stored = post(&orx, "", &first, job, 201);
    assert_eq!(post(&orx, "", &again, job, 201), stored);
    assert_eq!(orx.states(), "pending", "one job");
    post(&orx, "", &again, r#"{"command":["true"]}"#, 504);
    assert_eq!(orx.states(), "pending", "nobody knows of a call before with that body");
    let many = r#"[{"command":["false"]},{"command":["false"]}]"#;
    assert_eq!(post(&orx, "", &first, many, 201), post(&orx, "", &again, many, 201));
    assert_eq!(orx.states(), "pending pending pending");
    orx.burst();
    let retried = post(&orx, "/1/retry", &first, "", 200);
    orx.burst();
    assert_eq!(post(&orx, "/1/retry", &again, "", 200), retried);
    assert_eq!((orx.state("1"), &orx.job("1")["attempt"]), ("failed".into(), &2.into()), "it ran again once");
    // An id that stands for all calls of a pipeline makes no two of them one.
    post(&orx, "", &first, job, 201);
    assert_eq!(orx.states(), "failed failed failed pending");
    orx.coordinator().signal(Signal::KILL);
    eventually("the coordinator to be gone", || !orx.coordinator().is_alive());
    orx.serve_at(&listen, &[]);
    assert!(post(&orx, "", &again, job, 504).contains("unknown"), "its answers are gone with it");
    let with_key = r#"{"command":["true"],"idempotency_key":"k"}"#;
    let stored = post(&orx, "", &first, with_key, 201);
    orx.coordinator().signal(Signal::KILL);
    eventually("the coordinator to be gone", || !orx.coordinator().is_alive());
    orx.serve_at(&listen, &[]);
    let found = post(&orx, "", &again, with_key, 200);
    let id = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap()["id"].clone();
    assert_eq!(id(&found), id(&stored));
}

#[test]
fn a_worker_keeps_its_jobs_while_the_coordinator_is_away() {
    let mut orx = served();
    let listen = address(&orx);
    let job = orx.sh(&[], "echo $$ > pid; until [ -e go ]; do sleep 0.05; done; echo through");
    let _worker = orx.worker(&["--lease", "10s"]);
    orx.wait_pid("pid");
    orx.coordinator().signal(Signal::KILL);
    eventually("the coordinator to be gone", || !orx.coordinator().is_alive());
    orx.write("go", "");
    orx.serve_at(&listen, &[]);
    orx.wait_state(&job, "done");
    let job = orx.job(&job);
    assert_eq!((&job["attempt"], &job["losses"]), (&1.into(), &0.into()));
    assert_eq!(orx.ok(&["tail", "1"]), "through\n");
    orx.ok(&["audit"]);
}

/// Its lease is as young as the answer that brought it, however old the first try to ask is.
#[test]
fn a_job_that_is_leased_after_an_outage_is_not_given_up_at_once() {
    let mut orx = served();
    let listen = address(&orx);
    orx.sh(&[], "echo $$ > pid; until [ -e go ]; do sleep 0.05; done");
    let next = orx.sh(&[], "echo $$ > next; until [ -e on ]; do sleep 0.05; done");
    let worker = orx.worker(&["--lease", "3s", "--slots", "1", "-vv"]);
    orx.wait_pid("pid");
    orx.coordinator().signal(Signal::KILL);
    eventually("the coordinator to be gone", || !orx.coordinator().is_alive());
    orx.write("go", "");
    // The pauses rise from 0.02 to 1 s: longer than a lease in all, and shorter than it tries before it says so.
    let tries = || worker.stderr().matches("turn is tried again").count();
    eventually("a turn that is tried for longer than a lease", || tries() >= 8);
    orx.serve_at(&listen, &[]);
    orx.wait_pid("next");
    orx.write("on", "");
    orx.wait_state(&next, "done");
    let job = orx.job(&next);
    assert_eq!((&job["attempt"], &job["losses"]), (&1.into(), &0.into()));
}

#[test]
fn a_coordinator_that_cannot_be_reached_is_6_with_a_hint() {
    let mut orx = served();
    orx.coordinator().signal(Signal::KILL);
    eventually("the coordinator to be gone", || !orx.coordinator().is_alive());
    // At a terminal, where it is said before the end that it is tried.
    let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let out = orx.program("python3", &["-c", spawn, env!("CARGO_BIN_EXE_orx"), "enqueue", "--", "true"]).run();
    out.expect(6, &[]);
    let said = String::from_utf8_lossy(&out.stdout);
    let lines: Vec<&str> = said.lines().collect();
    let [trying, refused, hint] = lines.as_slice() else { panic!("{said}") };
    assert!(trying.contains("cannot be reached") && trying.ends_with("; trying again"), "{said}");
    assert!(refused.contains("cannot be reached") && hint.contains("is 'orx coordinator' running there?"), "{said}");
}

/// A certificate of this machine by nobody but itself: its file, and that of its key.
fn certificate(orx: &Orx, name: &str) -> [String; 2] {
    marked(orx, name, "CA:FALSE")
}

fn marked(orx: &Orx, name: &str, as_what: &str) -> [String; 2] {
    let files = [".pem", ".key"].map(|end| orx.path(&format!("{name}{end}")).to_str().unwrap().to_owned());
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-days", "30", "-subj", &format!("/CN={name}"), "-addext"]);
    openssl.args([
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        &format!("basicConstraints=critical,{as_what}"),
    ]);
    openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    let done = openssl.args(["-out", &files[0], "-keyout", &files[1]]).output().expect("openssl cannot be run");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    files
}

#[test]
fn a_wrong_protocol_or_certificate_is_said_at_once_and_so_is_what_helps() {
    let mut orx = served();
    let ([mine, key], [other, _]) = (certificate(&orx, "mine"), certificate(&orx, "other"));
    let began = Instant::now();
    let at = |orx: &Orx, url: &str, roots: &str, args: &[&str]| {
        let args = [&["--store", url], args].concat();
        orx.call(&args).env("SSL_CERT_FILE", roots).run()
    };
    let both = [&["list"][..], &["enqueue", "--", "true"]];
    for args in both {
        let url = orx.url().replace("http:", "https:");
        at(&orx, &url, &mine, args).expect(6, &["hint: it speaks no TLS: use http://"]);
    }
    orx.serve_at("127.0.0.1:0", &["--tls-cert", &mine, "--tls-key", &key]);
    for args in both {
        let url = orx.url().replace("https:", "http:");
        at(&orx, &url, &mine, args).expect(6, &["hint: it speaks TLS", "use https://"]);
        at(&orx, &orx.url(), &other, args).expect(6, &["certificate", "hint: SSL_CERT_FILE=FILE trusts"]);
    }
    assert!(began.elapsed() < SOON, "it was tried again and again");
    let [authority, its_key] = marked(&orx, "authority", "CA:TRUE");
    let mut other = Orx::file();
    other.serve_at("127.0.0.1:0", &["--tls-cert", &authority, "--tls-key", &its_key]);
    at(&other, &other.url(), &authority, &["list"])
        .expect(6, &["hint: its certificate is marked as that of an authority"]);
    assert_eq!(at(&orx, &orx.url(), &mine, &["list", "-o", "id"]).stdout(), "", "nothing was stored");
}

#[test]
fn a_wrong_url_or_token_is_said_and_the_token_is_not() {
    let orx = served();
    orx.run(&["--store", "http://a:b@localhost:1", "list"]).expect(2, &["--token or ORX_TOKEN"]);
    orx.run(&["--store", "http://localhost:1/path", "list"]).expect(2, &["is no coordinator's URL"]);
    let secret = orx.token().unwrap().rsplit('_').next().unwrap().to_owned();
    let out = orx.run(&["--token", &format!("{}x", orx.token().unwrap()), "-vv", "list"]);
    out.expect(4, &["this is no token"]);
    assert!(!out.to_string().contains(&secret), "{out}");
    orx.call(&["list"]).env("ORX_TOKEN", "").run().expect(4, &["a token is needed", "orx token create"]);
}

#[test]
fn a_second_signal_ends_the_drain_of_a_coordinator() {
    let mut orx = Orx::file();
    orx.serve_at("127.0.0.1:0", &["--slots", "1"]);
    let store = orx.store().to_str().unwrap().to_owned();
    orx.ok(&["--store", &store, "enqueue", "--", "sh", "-c", "echo $$ > pid; sleep 300"]);
    orx.wait_pid("pid");
    orx.coordinator().signal(Signal::TERM);
    orx.coordinator().wait_stderr("draining");
    orx.coordinator().signal(Signal::TERM);
    eventually("the coordinator to end", || !orx.coordinator().is_alive());
    assert!(
        orx.ok(&["--store", &store, "status", "1", "--format", "{{state}} {{interruptions}}"]).starts_with("pending 1")
    );
}

#[test]
fn a_coordinator_with_slots_runs_jobs_and_drains() {
    let mut orx = Orx::file();
    let token = token(&orx, &["--admin"]);
    orx.serve_at("127.0.0.1:0", &["--slots", "2"]);
    let call = |args: &[&str]| orx.call(args).env("ORX_TOKEN", &token).run();
    call(&["enqueue", "--wait", "--", "true"]).expect(0, &[]);
    call(&["enqueue", "--", "sh", "-c", "echo $$ > pid; sleep 0.3; echo kept"]).expect(0, &[]);
    orx.wait_pid("pid");
    orx.coordinator().signal(Signal::TERM);
    eventually("the coordinator to end", || !orx.coordinator().is_alive());
    let store = orx.store().to_str().unwrap().to_owned();
    assert_eq!(orx.ok(&["--store", &store, "tail", "2"]), "kept\n");
}
