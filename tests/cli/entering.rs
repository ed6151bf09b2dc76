//! A directory that whoever runs the job cannot enter is told of when the job is stored.

use std::os::unix::fs::MetadataExt as _;

use super::support::*;
use crate::server::Cluster;

/// A directory of root's with this mode.
fn dir(orx: &Orx, name: &str, bits: u32) -> String {
    std::fs::create_dir(orx.path(name)).unwrap();
    mode(&orx.path(name), bits);
    orx.path(name).to_str().unwrap().to_owned()
}

#[test]
fn a_directory_that_the_worker_cannot_enter_is_told_of() {
    let Some(orx) = home_of(NOBODY) else { return };
    let (closed, open) = (dir(&orx, "closed", 0o700), dir(&orx, "open", 0o755));
    let told = |out: Output, of: bool| {
        out.expect(0, &[]);
        let who = std::process::Command::new("id").args(["-un", &NOBODY.to_string()]).output().unwrap().stdout;
        let who = String::from_utf8(who).unwrap();
        let text = format!("{closed} cannot be entered by {}, who runs the job", who.trim());
        assert_eq!((out.stderr().contains(&text), out.stderr().contains("--cwd")), (of, of), "{out}");
    };
    let enqueue = ["enqueue", "--", "true"];
    // By the user itself, as with `sudo -u` in a directory of one's own; and by root, who sees whose the store is.
    told(as_owner(&orx, &enqueue).dir(&closed).run(), true);
    told(as_owner(&orx, &enqueue).dir(&open).run(), false);
    told(orx.call(&enqueue).dir(&closed).run(), true);
    told(orx.call(&enqueue).dir(&open).run(), false);
    told(orx.run(&["enqueue", "--cwd", &closed, "--", "true"]), true);
    told(orx.call(&["enqueue", "--cwd", &open, "--", "true"]).dir(&closed).run(), false);
    told(orx.call(&["enqueue", "--each-line", "-", "--", "echo", "{}"]).stdin("a\nb\n").dir(&closed).run(), true);
    told(orx.call(&["schedule", "add", "s", "--every", "1h", "--", "true"]).dir(&closed).run(), true);
    let quiet = orx.call(&["-q", "enqueue", "--", "true"]).dir(&closed).run();
    assert_eq!((quiet.code, quiet.stderr().as_str()), (Some(0), ""), "{quiet}");
}

#[test]
fn at_a_server_the_workers_of_this_machine_say_whose_they_are() {
    let cluster = Cluster::start(&[]);
    // The socket is for the server's own user.
    let Some(orx) = home_of(cluster.dir().metadata().unwrap().uid()) else { return };
    let (closed, store) = (dir(&orx, "closed", 0o700), cluster.url());
    let enqueue = || orx.call(&["--store", store, "enqueue", "--", "true"]).dir(&closed).run();
    assert!(!enqueue().stderr().contains("cannot be entered"), "nobody is known who runs it");
    // It hides what it was given, so that its files in /proc are root's.
    let worker =
        as_owner(&orx, &["--store", store, "worker", "--queues", "default"]).env("PGPASSWORD", "unused").spawn();
    worker.wait_stderr("ready");
    let out = enqueue();
    assert!(out.stderr().contains(&format!("{closed} cannot be entered by ")), "{out}{}", worker.stderr());
    let elsewhere = orx.call(&["--store", store, "enqueue", "--queue", "other", "--", "true"]).dir(&closed).run();
    assert!(!elsewhere.stderr().contains("cannot be entered"), "{elsewhere}");
    let own = orx.spawn(&["--store", store, "worker"]);
    own.wait_stderr("ready");
    assert!(!enqueue().stderr().contains("cannot be entered"), "root may enter it");
}
