//! What jobs leave behind that carries no mark of theirs (I12).

use super::support::*;

/// Starts a daemon that has nothing of its job any more: no parent, no session, no environment.
fn daemon(orx: &Orx, file: &str) -> String {
    let path = orx.path(file);
    format!("(env -i setsid sh -c 'echo $$ > {}; exec sleep 300' &)", path.display())
}

/// A script that goes on when a file is there.
fn until(file: &str) -> String {
    format!("while [ ! -s {file} ]; do sleep 0.05; done")
}

#[test]
fn i12_an_orphan_without_a_mark_ends_with_the_only_attempt_that_can_have_left_it() {
    let orx = Orx::new();
    let script = format!("{}; {}", daemon(&orx, "daemon"), until("daemon"));
    for command in [&["run", "--"][..], &["run", "--kill-grace", "0s", "--"]] {
        orx.run(&[command, &["sh", "-c", &script]].concat()).expect(0, &[]);
        let pid = orx.wait_pid("daemon");
        assert!(!is_alive(pid), "{command:?}");
        std::fs::remove_file(orx.path("daemon")).unwrap();
    }
}

#[test]
fn i12_an_orphan_without_a_mark_ends_with_the_last_attempt_that_can_have_left_it() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--slots", "4"]);
    let long = orx.sh(&[], &format!("echo up > long; {}", until("go")));
    orx.wait_line("long");
    let short = orx.sh(&[], &format!("{}; {}", daemon(&orx, "daemon"), until("daemon")));
    orx.wait_state(&short, "done");
    let pid = orx.wait_pid("daemon");
    assert!(is_alive(pid), "it may be of the job that still runs");
    // One that began later did not leave it, and does not end it.
    let later = orx.sh(&[], "true");
    orx.wait_state(&later, "done");
    assert!(is_alive(pid));
    orx.write("go", "go");
    orx.wait_state(&long, "done");
    assert!(!is_alive(pid), "no attempt is left whose it may be");
}

#[test]
fn i12_an_orphan_without_a_mark_ends_with_a_job_that_is_cancelled_or_interrupted() {
    let orx = Orx::new();
    let worker = orx.worker(&["--drain-timeout", "0s"]);
    let script = |file: &str| format!("{}; {}; sleep 300", daemon(&orx, file), until(file));
    let cancelled = orx.sh(&[], &script("one"));
    let one = orx.wait_pid("one");
    orx.ok(&["-q", "cancel", &cancelled]);
    orx.wait_state(&cancelled, "cancelled");
    orx.sh(&[], &script("two"));
    let two = orx.wait_pid("two");
    worker.stop().expect(0, &[]);
    assert!(!is_alive(one) && !is_alive(two), "{} {}", is_alive(one), is_alive(two));
}

#[test]
fn i12_what_was_there_before_the_worker_is_left_alone() {
    let orx = Orx::new();
    orx.sh(&[], &format!("{}; {}", daemon(&orx, "daemon"), until("daemon")));
    // Its own child, and an orphan of that.
    let entry =
        "setsid sh -c '(setsid sh -c \"echo \\$\\$ > orphan; exec sleep 300\" &); echo $$ > helper; exec sleep 300' > /dev/null 2>&1 &
        while [ ! -s helper ] || [ ! -s orphan ]; do sleep 0.05; done; exec \"$@\"";
    let orx_path = env!("CARGO_BIN_EXE_orx");
    orx.program("sh", &["-c", entry, "sh", orx_path, "-q", "worker", "--burst"]).run().expect(0, &[]);
    assert_eq!(orx.state("1"), "done");
    assert!(is_alive(orx.wait_pid("helper")) && is_alive(orx.wait_pid("orphan")));
    // Nobody can know whose the daemon is.
    for left in ["daemon", "helper", "orphan"] {
        let pid = rustix::process::Pid::from_raw(orx.wait_pid(left)).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}
