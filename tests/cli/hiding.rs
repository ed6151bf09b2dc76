//! What the jobs of a user can see of the secrets that its processes were given (S34).

use std::time::{Duration, Instant};

use super::support::*;

const TOKEN: &str = "canary-token-5521";
const PASSWORD: &str = "canary-password-8137";

/// A command that is given secrets.
fn given(call: Call) -> Call {
    call.env("ORX_TOKEN", TOKEN).env("PGPASSWORD", PASSWORD)
}

/// What root sees of the environment of a process, a line for each variable; nothing where this is not root.
fn environment(worker: &Running) -> Option<String> {
    let seen = std::fs::read(format!("/proc/{}/environ", worker.pid()));
    if !rustix::process::getuid().is_root() {
        assert!(seen.is_err(), "it is not hidden");
        return None;
    }
    Some(String::from_utf8(seen.unwrap()).unwrap().replace('\0', "\n"))
}

#[test]
fn s34_secrets_are_taken_out_of_the_environment_that_others_see() {
    let orx = Orx::file();
    let worker = given(orx.call(&["worker"])).env("PLAIN", "as it is").spawn();
    worker.wait_stderr(" ready ");
    if let Some(seen) = environment(&worker) {
        assert!(!seen.contains("canary"), "{seen}");
        assert!(seen.contains("ORX_TOKEN=*****************\n") && seen.contains("PLAIN=as it is\n"), "{seen}");
    }
    // The process itself has them all the same.
    let passed = given(orx.call(&["run", "--env", "PGPASSWORD", "--", "sh", "-c", "echo $PGPASSWORD"])).run();
    assert_eq!(passed.stdout(), format!("{PASSWORD}\n"), "{passed}");
    let shown = given(orx.call(&["config", "show"])).run().stdout();
    assert!(shown.lines().any(|line| line.starts_with("token ") && line.contains("set")), "{shown}");
}

#[test]
fn s34_so_is_the_password_in_the_place_of_a_store() {
    let orx = Orx::file();
    for (store, hidden) in [
        (format!("postgres://ann:{PASSWORD}@127.0.0.1:1/jobs"), true),
        (format!("postgresql://127.0.0.1:1/jobs?password={PASSWORD}"), true),
        ("postgres://ann@127.0.0.1:1/jobs".to_owned(), false),
    ] {
        let worker = orx.call(&["worker"]).env("ORX_STORE", &store).spawn();
        worker.wait_stderr("waiting for the store");
        assert!(!worker.stderr().contains(PASSWORD), "{}", worker.stderr());
        if !hidden {
            let seen = std::fs::read(format!("/proc/{}/environ", worker.pid())).unwrap();
            assert!(String::from_utf8(seen).unwrap().contains(&store), "it is no secret");
        } else if let Some(seen) = environment(&worker) {
            assert!(!seen.contains("canary") && seen.contains("ORX_STORE=***"), "{seen}");
        }
    }
}

/// Says what a job sees of itself and of its worker.
const LOOK: &str = r#"cat /proc/self/environ > /dev/null && echo own
    cat /proc/$PPID/environ > /dev/null 2>&1 && echo environment
    dd if=/proc/$PPID/mem count=0 2> /dev/null && echo memory
    grep -q ^Name: /proc/$PPID/status && echo status"#;

#[test]
fn s34_a_job_sees_neither_environment_nor_memory_of_a_worker_with_secrets() {
    let Some(orx) = home_of(NOBODY) else { return };
    let run = ["run", "--", "sh", "-c", LOOK];
    let hides = given(as_owner(&orx, &run)).run();
    assert_eq!((hides.code, hides.stdout().as_str()), (Some(0), "own\nstatus\n"), "{hides}");
    let plain = as_owner(&orx, &run).run();
    assert!(plain.stdout().starts_with("own\nenvironment\n"), "who has no secrets hides nothing\n{plain}");
    // A secret that comes later, from a file.
    orx.write("secret", "hush");
    std::os::unix::fs::chown(orx.path("secret"), Some(NOBODY), None).unwrap();
    let later = as_owner(&orx, &[&["run", "--env-from-file", "S=secret"], &run[1..]].concat()).run();
    assert_eq!((later.code, later.stdout().as_str()), (Some(0), "own\nstatus\n"), "{later}");
}

#[test]
fn s34_a_worker_hides_the_token_of_a_file_from_its_jobs() {
    let Some(mut orx) = home_of(NOBODY) else { return };
    orx.serve_at("127.0.0.1:0", &[]);
    let token = orx.ok(&["--store", orx.store().to_str().unwrap(), "token", "create", "--admin"]);
    let file = orx.write("token", token);
    let config = orx.write("config.toml", format!("token_file = \"{file}\""));
    std::os::unix::fs::chown(&file, Some(NOBODY), None).unwrap();
    let run = as_owner(&orx, &["--config", &config, "run", "--", "sh", "-c", LOOK]).run();
    assert_eq!((run.code, run.stdout().as_str()), (Some(0), "own\nstatus\n"), "{run}");
}

#[test]
fn s8_an_orx_inside_a_job_is_found_though_it_was_given_secrets() {
    let Some(orx) = home_of(NOBODY) else { return };
    let worker = |more: &[&str]| given(as_owner(&orx, &[&["worker", "--name", "w"], more].concat()));
    let script = "[ $ORX_ATTEMPT = 1 ] || exit 0
        ORX_TOKEN=x setsid ./orx --store inner.db worker 2> inner.log & echo $! > inner; wait";
    as_owner(&orx, &["-q", "enqueue", "--", "sh", "-c", script]).run().expect(0, &[]);
    let first = worker(&["--lease", "1s"]).spawn();
    let inner = orx.wait_pid("inner");
    eventually("it to be ready", || orx.read("inner.log").contains(" ready "));
    first.kill();
    assert!(is_alive(inner), "nothing is shown if the kernel ends it");
    worker(&["--burst"]).run().expect(0, &["ended what a dead worker of this name left behind"]);
    assert!(!is_alive(inner), "it runs on without its job");
}

/// All that it takes, with no other process in sight: those of other users leave a doubt.
const TWO_WORKERS: &str = r#"
    PGPASSWORD=x ./orx worker --name w --lease 1h 2> first.log & first=$!
    ./orx -q enqueue -- sh -c '[ $ORX_ATTEMPT = 1 ] || exit 0; echo up > up; sleep 300' > id
    until [ -s up ]; do sleep 0.02; done
    PGPASSWORD=x setsid ./orx worker --name other --queues other 2> other.log &
    until grep -q ' ready ' other.log; do sleep 0.02; done
    kill -9 $first; wait $first
    PGPASSWORD=x ./orx worker --name w --burst
    ./orx status 1 --format '{{state}} {{attempt}}'"#;

#[test]
fn s8_another_worker_that_hides_leaves_no_doubt_about_a_dead_one() {
    let Some(orx) = home_of(NOBODY) else { return };
    let alone = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    if orx.program("unshare", &[&alone[..], &["true"]].concat()).run().code != Some(0) {
        println!("skipped: this machine makes no namespaces of processes");
        return;
    }
    let id = NOBODY.to_string();
    let who = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c", TWO_WORKERS];
    let begun = Instant::now();
    let out = orx.program("unshare", &[&alone[..], &who].concat()).run();
    assert_eq!(out.stdout(), "done 2\n", "{out}");
    assert!(!out.stderr().contains("its lease is waited for"), "{out}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
