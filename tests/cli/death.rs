//! kill -9 of a worker (S8).

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::*;

const TREE: &str = "echo $$ > leader; sleep 300 & echo $! > child; setsid sh -c 'echo $$ > daemon; sleep 300' & wait";

fn first_time(script: &str) -> String {
    format!("[ $ORX_ATTEMPT = 1 ] || exit 0; {script}")
}

#[test]
fn s8_a_worker_started_again_takes_its_jobs_back_at_once_and_ends_what_is_left() {
    let orx = Orx::new();
    let args = ["--name", "w", "--lease", "1h"];
    let worker = orx.worker(&args);
    orx.sh(&[], &first_time(TREE));
    let tree = ["leader", "child", "daemon"].map(|file| orx.wait_pid(file));
    worker.kill();
    assert_eq!(orx.state("1"), "running", "nobody knows yet");
    let restarted = Instant::now();
    let _worker = orx.worker(&args);
    orx.run(&["wait", "1"]).expect(0, &[]);
    assert!(restarted.elapsed() < Duration::from_secs(12), "{:?}", restarted.elapsed());
    assert!(tree.iter().all(|pid| !is_alive(*pid)), "{tree:?}");
    let job = orx.job("1");
    assert_eq!((&job["attempt"], &job["losses"], &job["failures"]), (&2.into(), &1.into(), &0.into()));
    assert_eq!(job["attempts"][0]["outcome"], "lost");
    assert!(orx.events().iter().any(|e| e["kind"] == "worker_lost"));
}

#[test]
fn s8_the_successor_finds_what_is_left_however_the_store_is_spelled() {
    let orx = Orx::file();
    let daemon = "setsid sh -c 'echo $$ > daemon; sleep 300' & wait";
    orx.sh(&[], &first_time(daemon));
    let worker = orx.worker(&["--name", "w", "--lease", "1h"]);
    let daemon = orx.wait_pid("daemon");
    worker.kill();
    let url = format!("sqlite://{}", orx.store().display());
    orx.ok(&["-q", "--store", &url, "worker", "--name", "w", "--burst"]);
    assert_eq!(orx.state("1"), "done");
    assert!(!is_alive(daemon), "two copies of the job ran side by side");
}

#[test]
fn s8_the_successor_leaves_jobs_alone_of_a_worker_whose_name_only_begins_like_its_own() {
    let orx = Orx::new();
    orx.sh(&["--queue", "other"], "echo $$ > other; sleep 300");
    let _other = orx.worker(&["--name", "w.2", "--queues", "other", "--lease", "1h"]);
    let other = orx.wait_pid("other");
    let worker = orx.worker(&["--name", "w", "--lease", "1h"]);
    orx.sh(&[], &first_time("echo $$ > own; sleep 300"));
    let own = orx.wait_pid("own");
    worker.kill();
    orx.ok(&["-q", "worker", "--name", "w", "--burst"]);
    assert!(!is_alive(own) && is_alive(other), "own {}, the other's {}", is_alive(own), is_alive(other));
    assert_eq!(orx.state("1"), "running");
}

#[test]
fn s8_the_jobs_of_a_dead_worker_move_when_the_lease_is_over() {
    let orx = Orx::new();
    let dead = orx.worker(&["--name", "a", "--lease", "1s"]);
    let _alive = orx.worker(&["--name", "b", "--queues", "other,default", "--slots", "4"]);
    // Both could take it: keep b busy until a has it.
    orx.sh(&[], &first_time("echo $ORX_WORKER > who; sleep 300"));
    let who = orx.wait_line("who");
    if who == "b" {
        return; // it is the other worker that was asked; the case is the one below
    }
    let killed = Instant::now();
    dead.kill();
    orx.run(&["wait", "1"]).expect(0, &[]);
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    assert_eq!((&orx.job("1")["worker"], &orx.job("1")["losses"]), (&"b".into(), &1.into()));
}

#[test]
fn workers_that_die_leave_no_more_than_one_directory_for_temporary_files() {
    let orx = Orx::new();
    orx.make();
    let tmp = tempfile::tempdir().unwrap();
    let names = || {
        let entries = std::fs::read_dir(tmp.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("orx-") && name.matches('-').count() == 2)
    };
    let worker = |name: &str| {
        let worker = orx.call(&["worker", "--name", name]).env("TMPDIR", tmp.path()).spawn();
        let runs = |w: &serde_json::Value| w["pid"] == worker.pid();
        eventually("the worker to be there", || orx.json(&["workers"]).as_array().unwrap().iter().any(runs));
        worker
    };
    let other = worker("other");
    for _ in 0..3 {
        worker("w").kill();
    }
    assert_eq!(names().count(), 2, "one of the living and one of the dead: {:?}", Vec::from_iter(names()));
    other.stop();
    assert_eq!(names().count(), 1);
}

#[test]
fn a_worker_of_the_same_name_removes_the_payload_that_a_dead_one_left() {
    let orx = Orx::new();
    orx.make();
    let tmp = tempfile::tempdir().unwrap();
    let config = "[handlers.h]\ncommand = ['sh', '-c', 'echo up > up; sleep 300']\n";
    let config = orx.write("config.toml", config);
    let payloads = || {
        let names = std::fs::read_dir(tmp.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains("-payload-")).count()
    };
    let worker = |args: &[&str]| {
        let args = [&["--config", &config, "worker", "--name", "w"][..], args].concat();
        orx.call(&args).env("TMPDIR", tmp.path()).spawn()
    };
    orx.add(&["--handler", "h", "--payload", "1", "--max-losses", "0"]);
    let first = worker(&[]);
    orx.wait_line("up");
    assert_eq!(payloads(), 1);
    first.kill();
    assert_eq!(payloads(), 1);
    worker(&["--burst"]).wait().expect(0, &[]);
    assert_eq!(payloads(), 0);
}

#[test]
fn s4_too_many_losses_are_poison() {
    let orx = Orx::new();
    orx.sh(&["--max-losses", "1"], "echo up >> starts; sleep 300");
    for starts in 1..=2 {
        let worker = orx.worker(&["--name", "w"]);
        eventually("the start", || orx.read("starts").lines().count() == starts);
        worker.kill();
    }
    orx.ok(&["-q", "worker", "--name", "w", "--burst"]);
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["reason"], &job["losses"]), (&"failed".into(), &"poison".into(), &2.into()));
    orx.run(&["wait", "1"]).expect(125, &[]);
}

#[test]
fn a_killed_run_loses_neither_the_job_nor_its_processes() {
    let orx = Orx::new();
    let run = orx.spawn(&["run", "--", "sh", "-c", &first_time(TREE)]);
    let tree = ["leader", "child", "daemon"].map(|file| orx.wait_pid(file));
    run.kill();
    assert_eq!(orx.state("1"), "running");
    // The next worker of this machine gets the same name, so it is the successor.
    orx.burst();
    assert_eq!(orx.state("1"), "done");
    assert!(tree.iter().all(|pid| !is_alive(*pid)), "{tree:?}");
}

/// The jobs of a worker that was killed, and whose `lease` is as given, with what it left.
fn left_behind(orx: &Orx, lease: &str) -> Vec<i32> {
    let worker = orx.worker(&["--name", "dead", "--lease", lease]);
    orx.sh(&[], &first_time(TREE));
    let tree = ["leader", "child", "daemon"].map(|file| orx.wait_pid(file));
    worker.kill();
    tree.into()
}

#[test]
fn s8_a_short_lived_worker_takes_back_at_once_what_a_dead_one_of_this_machine_had() {
    let orx = Orx::new();
    let tree = left_behind(&orx, "1h");
    let started = Instant::now();
    orx.run(&["worker", "--name", "p2", "--burst"]).expect(0, &["a worker of this machine is dead"]);
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert!(tree.iter().all(|pid| !is_alive(*pid)), "{tree:?}");
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["attempt"], &job["losses"]), (&"done".into(), &2.into(), &1.into()));
    assert_eq!(job["attempts"][0]["outcome"], "lost");
}

#[test]
fn s8_a_short_lived_worker_waits_for_a_lease_that_nobody_renews() {
    let orx = Orx::new();
    orx.sh(&[], &first_time("echo up > up; sleep 300"));
    // What nobody finds the lock of may live: on another machine, or with temporary files of its own.
    let elsewhere = tempfile::tempdir().unwrap();
    let worker = orx.call(&["worker", "--name", "dead", "--lease", "10s"]).env("TMPDIR", elsewhere.path()).spawn();
    orx.wait_line("up");
    worker.kill();
    let _ = std::fs::remove_file(orx.store().with_file_name("orx.db-workers").join("dead")); // a file's only
    eventually("the job to be done", || {
        let out = orx.run(&["worker", "--name", "p2", "--burst"]);
        out.expect(0, &[]);
        out.stderr().contains("waits for a lease") && orx.state("1") == "done"
    });
}

#[test]
fn s8_the_secret_of_a_worker_lies_in_its_lock_file_and_without_it_leases_run_out() {
    let orx = Orx::file();
    let worker = orx.worker(&["--name", "w", "--lease", "3s"]);
    let file = orx.store().with_file_name("orx.db-workers").join("w");
    let line = std::fs::read_to_string(&file).unwrap();
    let (id, secret) = line.trim_end().split_once(' ').unwrap();
    assert_eq!((line.lines().count(), secret.len()), (1, 64), "one owner and its secret");
    let meta = std::fs::metadata(&file).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o600);
    // A job sees nothing of it, whatever it asks for.
    orx.sh(&[], &first_time("env; ls -l /proc/self/fd; sleep 300"));
    let mut output = String::new();
    eventually("its output to be stored", || {
        output = orx.ok(&["tail", "1"]);
        output.contains("total 0")
    });
    assert!(output.contains("ORX_FENCE=") && !output.contains("orx.db-workers"), "{output}");
    let listed = [orx.ok(&["workers", "-o", "json"]), orx.ok(&["events"]), worker.stderr(), output].concat();
    assert!(listed.contains(id) && !listed.contains(secret), "{listed}");
    orx.ok(&["db", "backup", orx.path("backup.db").to_str().unwrap()]);
    let byte = |n: usize| u8::from_str_radix(&secret[2 * n..2 * n + 2], 16).unwrap();
    let raw: Vec<u8> = (0..32).map(byte).collect();
    let kept = [orx.stored_bytes(), std::fs::read(orx.path("backup.db")).unwrap()].concat();
    for secret in [raw.as_slice(), secret.as_bytes()] {
        assert!(!kept.windows(secret.len()).any(|bytes| bytes == secret), "the store has it");
    }
    worker.kill();
    std::fs::write(&file, format!("{id}\n")).unwrap();
    let next = orx.worker(&["--name", "w"]);
    orx.wait_state("1", "done");
    let job = orx.job("1");
    let lost = &job["attempts"][0];
    assert_eq!((&lost["outcome"], &lost["error"]), (&"lost".into(), &"its lease expired".into()));
    assert!(!next.stderr().contains("took back the jobs of a dead worker"), "{}", next.stderr());
}

#[test]
fn s8_a_short_lived_worker_beside_a_healthy_one_ends_at_once() {
    let orx = Orx::new();
    let _healthy = orx.worker(&["--name", "healthy", "--lease", "3s"]);
    orx.sh(&[], "echo up > up; sleep 600");
    orx.wait_line("up");
    for _ in 0..20 {
        let started = Instant::now();
        let out = orx.run(&["worker", "--name", "p2", "--burst"]);
        out.expect(0, &[]);
        assert!(!out.stderr().contains("waits for"), "{out}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    assert_eq!((orx.state("1"), &orx.job("1")["attempt"]), ("running".into(), &1.into()));
}

#[test]
fn s8_a_short_lived_worker_leaves_alone_what_it_could_not_run() {
    let orx = Orx::new();
    let worker = orx.worker(&["--name", "dead", "--lease", "1h"]);
    orx.sh(&["--queue", "other"], "echo up > up; sleep 300");
    orx.wait_line("up");
    worker.kill();
    orx.ok(&["-q", "worker", "--name", "p2", "--queues", "default", "--burst"]);
    assert_eq!(orx.state("1"), "running");
}

#[test]
fn s8_run_takes_back_its_own_job_from_a_dead_worker() {
    let orx = Orx::new();
    let worker = orx.worker(&["--name", "dead", "--lease", "1h"]);
    let run = orx.spawn(&["run", "--", "sh", "-c", &first_time("echo $ORX_WORKER > up; sleep 300")]);
    assert_eq!(orx.wait_line("up"), "dead");
    worker.kill();
    run.wait().expect(0, &[]);
    assert_eq!((&orx.job("1")["attempt"], &orx.job("1")["losses"]), (&2.into(), &1.into()));
}

#[test]
fn s8_why_says_that_the_worker_is_lost_and_when_the_job_is_free() {
    let orx = Orx::new();
    // Whoever leads would take it back.
    let leader = orx.worker(&["--name", "leader", "--queues", "none", "--lease", "1h"]);
    let worker = orx.worker(&["--name", "dead", "--lease", "6s"]);
    orx.sh(&[], &first_time("echo up > up; sleep 300"));
    orx.wait_line("up");
    assert!(!orx.ok(&["why", "1"]).contains("lost"));
    worker.kill();
    leader.kill();
    eventually("it to be lost", || {
        let said = orx.ok(&["why", "1"]);
        said.contains("runs on dead, which is lost") && said.contains(", until ")
    });
    let wait = orx.spawn(&["wait", "1"]);
    wait.wait_stderr("job 1 is running: attempt 1 runs on dead, which is lost");
}

/// Whether this test can try what only root can: say why it was skipped otherwise.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: it takes root to run jobs as another user");
    }
    root
}

/// Becomes nobody and sleeps; the kernel forgets that the process was to die with its worker.
const AS_NOBODY: &str = "echo $$ > nobody; exec setpriv --reuid 65534 --clear-groups sleep 300";

#[test]
fn s8_the_successor_ends_a_job_that_changed_its_user() {
    if !is_root() {
        return;
    }
    let orx = Orx::new();
    let worker = orx.worker(&["--name", "w", "--lease", "1h"]);
    orx.sh(&[], &first_time(AS_NOBODY));
    let nobody = orx.wait_pid("nobody");
    eventually("it to be nobody", || owner(nobody) == 65534);
    worker.kill();
    assert!(is_alive(nobody), "nothing is shown if the kernel ends it");
    orx.ok(&["-q", "worker", "--name", "w", "--burst"]);
    assert!(!is_alive(nobody), "two copies of the job ran side by side");
    assert_eq!((orx.state("1"), &orx.job("1")["losses"]), ("done".into(), &1.into()));
}

#[test]
fn s8_the_next_attempt_ends_a_lost_one_that_changed_its_user() {
    if !is_root() {
        return;
    }
    let orx = Orx::new();
    let worker = orx.worker(&["--name", "dead", "--lease", "1s"]);
    orx.sh(&[], &first_time(AS_NOBODY));
    let nobody = orx.wait_pid("nobody");
    eventually("it to be nobody", || owner(nobody) == 65534);
    worker.kill();
    let _next = orx.worker(&["--name", "next"]);
    orx.wait_state("1", "done");
    assert!(!is_alive(nobody), "two copies of the job ran side by side");
}

#[test]
fn s8_where_a_process_cannot_be_looked_at_its_lease_is_waited_for() {
    if !is_root() {
        return;
    }
    let orx = Orx::new();
    // As in a container: root, but not allowed to look at the processes of others.
    let blind = |args: &[&str]| {
        let without = "-sys_ptrace,-perfmon,-sys_admin";
        let setpriv = ["--bounding-set", without, "--inh-caps", without, env!("CARGO_BIN_EXE_orx"), "worker"];
        orx.program("setpriv", &[&setpriv[..], args].concat())
    };
    orx.make();
    let args = ["--name", "w", "--lease", "9s"];
    let worker = blind(&args).spawn();
    orx.sh(&[], &first_time(AS_NOBODY));
    let nobody = orx.wait_pid("nobody");
    eventually("it to be nobody", || owner(nobody) == 65534);
    worker.kill();
    let killed = Instant::now();
    let again = blind(&args).spawn();
    again.wait_stderr("its lease is waited for");
    assert_eq!(orx.state("1"), "running");
    orx.wait_state("1", "done");
    // It was renewed every third of its time.
    assert!(killed.elapsed() > Duration::from_secs(5), "{:?}", killed.elapsed());
    assert_eq!((&orx.job("1")["attempt"], &orx.job("1")["losses"]), (&2.into(), &1.into()));
}

/// The user that a process runs as.
fn owner(pid: i32) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(format!("/proc/{pid}")).map_or(0, |process| process.uid())
}

#[test]
fn s30_a_leader_that_hangs_is_followed_after_the_shortest_lease() {
    let orx = Orx::new();
    let hangs = orx.worker(&["--name", "hangs", "--lease", "1s"]);
    orx.sh(&[], &first_time("echo up > up; sleep 300"));
    orx.wait_line("up");
    let _lives = orx.worker(&["--name", "lives", "--lease", "1s"]);
    let stopped = Instant::now();
    hangs.signal(Signal::STOP);
    orx.run(&["wait", "1"]).expect(0, &[]);
    let took = stopped.elapsed();
    hangs.signal(Signal::CONT);
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!((&orx.job("1")["worker"], &orx.job("1")["losses"]), (&"lives".into(), &1.into()));
}

#[test]
fn s30_a_leader_keeps_the_lead_over_stalls_of_two_seconds() {
    let orx = Orx::file();
    let stalls = orx.worker(&["--name", "stalls", "--lease", "1s"]);
    let leads = |e: &serde_json::Value| e["kind"] == "leader_elected";
    eventually("a leader", || orx.events().iter().any(leads));
    let _other = orx.worker(&["--name", "other", "--lease", "1s"]);
    for _ in 0..4 {
        stalls.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(2)); // the stall itself
        stalls.signal(Signal::CONT);
        let job = orx.add(&["--", "true"]);
        orx.wait_state(&job, "done");
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(orx.events().into_iter().filter(leads).count(), 1);
}

/// In a container, or under a unit with a `/proc` of its own, a process can read another boot id than one beside it.
#[test]
fn s8_two_processes_that_read_different_boot_ids_do_not_take_each_other_for_dead() {
    let orx = Orx::new();
    orx.write("id", "0f0e0d0c-0b0a-4908-8706-050403020100\n");
    let mounted = r#"mount --bind "$PWD/id" /proc/sys/kernel/random/boot_id && exec "$@""#;
    let program = env!("CARGO_BIN_EXE_orx");
    let inside = ["-m", "sh", "-c", mounted, "sh", program, "worker", "--name", "inside", "--lease", "3s"];
    let inside = orx.program("unshare", &inside).spawn();
    eventually("the worker to be there, or to be refused its mount", || {
        !inside.is_alive() || inside.stderr().contains("ready")
    });
    if !inside.is_alive() {
        eprintln!("skipped: no mount namespace can be had here: {}", inside.stderr());
        return;
    }
    // It outlasts several rounds of upkeep by whichever of the two leads.
    orx.sh(&[], "echo $$ > job; sleep 5; echo $ORX_ATTEMPT >> ends");
    orx.wait_pid("job");
    let outside = orx.worker(&["--name", "outside", "--lease", "3s"]);
    orx.run(&["run", "--", "true"]).expect(0, &[]);
    orx.run(&["wait", "1"]).expect(0, &[]);
    let job = orx.job("1");
    assert_eq!((orx.read("ends"), &job["worker"], &job["losses"]), ("1\n".into(), &"inside".into(), &0.into()));
    let events = orx.events();
    let count = |kind: &str| events.iter().filter(|e| e["kind"] == kind).count();
    assert_eq!((count("leader_elected"), count("worker_lost")), (1, 0), "{events:?}");
    outside.stop().expect(0, &[]);
    inside.stop().expect(0, &[]);
}
