//! Stores that cannot be used, and several processes at one store.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::support::*;
use crate::server;

#[test]
fn a_place_that_cannot_be_written_is_6_with_a_hint() {
    let orx = Orx::file();
    let out = orx.run(&["--store", "/dev/null/x/orx.db", "enqueue", "--", "true"]);
    out.expect(
        6,
        &[
            "orx: not stored: cannot make the store /dev/null/x/orx.db",
            "hint: name another place with --store or ORX_STORE",
        ],
    );
    orx.run(&["--store", "/proc/orx.db", "enqueue", "--", "true"]).expect(6, &["/proc/orx.db"]);
}

#[test]
fn commands_that_come_and_go_leave_a_log_that_is_soon_read() {
    let orx = Orx::file();
    for _ in 0..60 {
        orx.ok(&["enqueue", "--", "true"]);
    }
    // None is left where the last of them put it into the store.
    let log = std::fs::metadata(orx.store().with_extension("db-wal")).map_or(0, |log| log.len());
    assert!(log < 320 * 4120, "each of them reads {log} bytes");
    assert_eq!(orx.states().split(' ').count(), 60);
}

#[test]
fn a_file_that_is_no_store_is_1_with_a_hint_and_is_left_alone() {
    let orx = Orx::new();
    let text = "this is no database, but long enough to be looked at\n".repeat(200);
    let file = orx.write("notes.txt", &text);
    for args in [&["list"][..], &["enqueue", "--", "true"], &["worker", "--burst"]] {
        orx.run(&[&["--store", &file], args].concat()).expect(1, &["notes.txt", "no orx store", "hint:"]);
    }
    assert_eq!(orx.read("notes.txt"), text);
}

#[test]
fn a_damaged_store_is_an_error_and_no_panic() {
    let orx = Orx::file();
    orx.ok(&["run", "--", "true"]);
    let conn = rusqlite::Connection::open(orx.store()).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(conn);
    let mut bytes = std::fs::read(orx.store()).unwrap();
    bytes[4096..].fill(0x5a);
    std::fs::write(orx.store(), bytes).unwrap();
    let out = orx.run(&["list"]);
    out.expect(1, &["damaged", "hint: restore a backup"]);
    orx.run(&["enqueue", "--", "true"]).expect(1, &["damaged"]);
}

#[test]
fn the_database_of_another_program_is_never_touched() {
    let orx = Orx::new();
    let file = orx.path("theirs.db");
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.execute_batch("CREATE TABLE jobs (id)").unwrap();
    drop(conn);
    let before = std::fs::read(&file).unwrap();
    orx.run(&["--store", "theirs.db", "list"]).expect(1, &["another program", "hint:"]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn s29_a_store_that_needs_a_newer_orx_is_refused() {
    let orx = Orx::file();
    orx.add(&["--", "true"]);
    let conn = rusqlite::Connection::open(orx.store()).unwrap();
    conn.execute_batch("UPDATE meta SET value = '999' WHERE key = 'min_compatible'; PRAGMA user_version = 999")
        .unwrap();
    drop(conn);
    let out = orx.run(&["list"]);
    assert!(matches!(out.code, Some(1 | 6)) && out.stderr().contains("newer"), "{out}");
}

/// All that lies in `dir`, with what programs made that are not orx.
fn modes(dir: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // Files of a worker that lives come and go.
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            modes(&path, found);
        }
        found.push((path, meta.mode() & 0o777));
    }
}

#[test]
fn files_are_for_their_owner_only_under_any_umask() {
    let orx = Orx::file();
    for dir in ["tmp", "runtime"] {
        std::fs::create_dir(orx.path(dir)).unwrap();
    }
    orx.write("result", "[1]");
    let workflow = "name='w'\n[[task]]\nname='a'\ncommand=['sh','-c','orx result result']\n\
        [[task]]\nname='b'\nneeds=['a']\ncommand=['sh','-c','test -s $ORX_RESULT_A && echo > there; until [ -e go ]; do sleep 0.05; done']\n";
    orx.write("w.toml", workflow);
    let handler =
        "[handlers.h]\ncommand = ['sh', '-c', 'cat $ORX_PAYLOAD_FILE > got; until [ -e go ]; do sleep 0.05; done']\n";
    orx.write("config.toml", handler);
    let script = r#"umask 000; set -e
        PATH="$(dirname "$ORX"):$PATH"; export PATH
        orx run -- sh -c 'head -c 200000 /dev/zero' > zero
        orx cluster key > key.said 2>&1
        orx workflow submit w.toml
        orx enqueue --handler h --payload '{"secret":1}'
        orx --config config.toml worker --name w 2> log & worker=$!
        until [ -e there ] && [ -e got ]; do sleep 0.05; done
        orx coordinator --listen 127.0.0.1:0 --gossip-listen 127.0.0.1:0 --name c --cluster-key-file .config/orx/cluster.key 2> coordinator & coordinator=$!
        until grep -q ready coordinator; do kill -0 $coordinator && sleep 0.05; done
        orx db backup backup.db
        echo > all; until [ -e walked ]; do sleep 0.05; done; echo > go; kill $worker $coordinator; wait"#;
    let shell = orx.program("sh", &["-c", script]).env("ORX", env!("CARGO_BIN_EXE_orx"));
    let shell = shell.env("TMPDIR", orx.path("tmp")).env("XDG_RUNTIME_DIR", orx.path("runtime")).spawn();
    eventually("everything to be made", || {
        assert!(shell.is_alive(), "{}", shell.stderr());
        orx.path("all").exists()
    });
    let mut found = Vec::new();
    modes(&orx.path(""), &mut found);
    orx.write("walked", "");
    let out = shell.wait();
    assert_eq!(out.code, Some(0), "{out}");
    // What the shell and the jobs wrote is theirs, and so are the directories that were there.
    let theirs = [
        "zero",
        "key.said",
        "there",
        "got",
        "log",
        "coordinator",
        "all",
        "result",
        "w.toml",
        "config.toml",
        "tmp",
        "runtime",
    ];
    let top = orx.path("");
    found.retain(|(path, _)| !theirs.iter().any(|name| *path == top.join(name)));
    let names: Vec<String> = found.iter().map(|(path, _)| path.display().to_string()).collect();
    for made in [
        "orx.db",
        "orx.db-wal",
        "orx.db-output",
        "-results-",
        "-payload-",
        "/socket",
        ".generation",
        "cluster.key",
        "backup.db",
    ] {
        assert!(names.iter().any(|name| name.contains(made)), "no {made} in {names:#?}");
    }
    for (path, mode) in found {
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

#[test]
fn a_store_with_a_second_name_is_refused_under_both_and_used_again_without_it() {
    let orx = Orx::file();
    orx.add(&["--", "true"]);
    std::fs::hard_link(orx.store(), orx.path("other.db")).unwrap();
    for store in [orx.store(), orx.path("other.db")] {
        for args in [&["enqueue", "--", "true"][..], &["list"], &["worker", "--burst"]] {
            let out = orx.run(&[&["--store", store.to_str().unwrap()], args].concat());
            out.expect(6, &["has 2 names (hard links)", "hint:"]);
        }
    }
    assert!(!orx.path("other.db-wal").exists(), "the other name has no log");
    std::fs::remove_file(orx.path("other.db")).unwrap();
    orx.burst();
    assert_eq!(orx.states(), "done");
}

#[test]
fn a_worker_whose_store_was_removed_or_replaced_says_so_lets_its_job_end_and_ends() {
    for replaced in [false, true] {
        let orx = Orx::file();
        let worker = orx.worker(&["--lease", "1s"]);
        orx.sh(&[], &format!("echo up > up; {UNTIL_GO}; echo $? > ended"));
        orx.wait_line("up");
        std::fs::rename(orx.store(), orx.path("away.db")).unwrap();
        if replaced {
            orx.write(".local/share/orx/orx.db", "");
        }
        worker.wait_stderr(if replaced { "was replaced" } else { "was removed" });
        worker.wait_stderr("draining");
        orx.write("go", "");
        worker.wait().expect(6, &["while it was in use"]);
        assert_eq!(orx.read("ended"), "0\n");
    }
}

#[test]
fn a_worker_says_that_its_store_got_a_second_name_and_goes_on() {
    let orx = Orx::file();
    let worker = orx.worker(&["--lease", "1s"]);
    std::fs::hard_link(orx.store(), orx.path("other.db")).unwrap();
    worker.wait_stderr("has 2 names (hard links)");
    std::fs::remove_file(orx.path("other.db")).unwrap();
    let job = orx.add(&["--", "true"]);
    orx.wait_state(&job, "done");
    worker.stop().expect(0, &[]);
}

#[test]
fn a_coordinator_whose_store_was_removed_ends_and_says_so() {
    let mut orx = Orx::file();
    orx.serve();
    std::fs::remove_file(orx.store()).unwrap();
    eventually("the coordinator to end", || !orx.coordinator().is_alive());
    assert!(orx.coordinator().stderr().contains("was removed while it was in use"), "{}", orx.coordinator().stderr());
}

#[test]
fn ten_processes_may_make_the_store_at_once() {
    let orx = Orx::new();
    let all: Vec<Running> = (0..10).map(|_| orx.spawn(&["queue", "pause", "build"])).collect();
    for pause in all {
        pause.wait().expect(0, &["queue build paused"]);
    }
    assert_eq!(orx.json(&["list"]), serde_json::json!([]));
}

#[test]
fn who_only_looks_makes_no_store() {
    let orx = Orx::file();
    let server = server::schema();
    let empty = || std::fs::read_dir(orx.path("")).unwrap().next().is_none();
    for store in [None, Some("some/where/q.db"), Some(&server)] {
        for args in [
            &["list"][..],
            &["status"],
            &["status", "1"],
            &["workers"],
            &["nodes"],
            &["events"],
            &["tail", "last"],
            &["cancel", "1"],
            &["retry", "1"],
            &["why", "1"],
            &["audit"],
            &["metrics"],
            &["queue", "list"],
            &["limit", "list"],
            &["tenant", "list"],
            &["token", "list"],
            &["schedule", "list"],
            &["workflow", "list"],
            &["dlq", "list"],
            &["db", "check"],
            &["db", "backup", "copy.db"],
            &["db", "copy", "copy.db"],
            &["db", "retention"],
            &["db", "prune", "--older-than", "1d", "--yes"],
        ] {
            let store: Vec<&str> = store.into_iter().flat_map(|store| ["--store", store]).collect();
            let out = orx.run(&[&store, args].concat());
            out.expect(3, &["orx: there is no store at ", "hint: "]);
            assert!(empty(), "{args:?} made something");
        }
    }
    orx.run(&["wait", "1"]).expect(125, &["there is no store at"]);
    orx.run(&["--store", &server, "db", "migrate", "--dry-run"]).expect(0, &["1 step would be made"]);
    orx.ok(&["--store", "some/where/q.db", "queue", "pause", "build"]);
    assert_eq!(orx.json(&["--store", "some/where/q.db", "list"]), serde_json::json!([]));
    server::drop_schema(&server);
}

#[test]
fn ten_processes_may_write_at_once_and_nothing_is_lost() {
    let orx = Orx::new();
    let all: Vec<Running> = (0..10).map(|_| orx.spawn(&["enqueue", "--", "true"])).collect();
    let mut ids: Vec<String> = all.into_iter().map(|enqueue| enqueue.wait().expect(0, &[]).stdout()).collect();
    ids.sort();
    let listed = orx.ok(&["list", "-o", "id"]);
    assert_eq!(ids.concat().lines().collect::<Vec<_>>(), sorted(&listed));
}

#[test]
fn a_store_is_named_by_path_or_url_or_variable() {
    let orx = Orx::new();
    orx.ok(&["--store", "q.db", "enqueue", "--", "true"]);
    let path = orx.path("q.db");
    let url = format!("sqlite://{}", path.display());
    for out in [
        orx.run(&["--store", &url, "list", "-o", "id"]),
        orx.run(&["list", "--store", path.to_str().unwrap(), "-o", "id"]),
        orx.call(&["list", "-o", "id"]).env("ORX_STORE", &url).run(),
    ] {
        assert_eq!((out.code, out.stdout().lines().count()), (Some(0), 1), "{out}");
    }
    orx.run(&["--store", "mysql://x", "list"]).expect(2, &["mysql", "postgres://", "http(s)://"]);
}

#[test]
fn no_job_is_left_in_a_store_that_ends_with_the_command() {
    let orx = Orx::new();
    orx.run(&["--store", "memory:", "enqueue", "--", "true"]).expect(2, &["would be gone", "'orx run'"]);
}

#[test]
fn pausing_is_said_and_so_is_a_name_that_nobody_uses() {
    let orx = Orx::new();
    orx.add(&["--queue", "build", "--", "true"]);
    for (verb, done) in [("pause", "paused"), ("resume", "resumed")] {
        let said = |name: &str| orx.run(&["queue", verb, name]).stderr();
        assert_eq!(said("build"), format!("queue build {done}\n"));
        assert_eq!(said(verb), format!("queue {verb} {done}; no job has used it yet\n"));
    }
}

#[test]
fn a_migration_is_shown_before_it_is_made() {
    let orx = Orx::file();
    let server = server::schema();
    for store in ["new.db", &server] {
        let migrate = |args: &[&str]| orx.run(&[&["--store", store, "db", "migrate"], args].concat());
        let rows = |out: Output| serde_json::from_str::<serde_json::Value>(&out.stdout()).unwrap();
        let step = |applied: bool| serde_json::json!([{ "step": "0001_queue", "applied": applied }]);
        for _ in 0..2 {
            let out = migrate(&["--dry-run", "-o", "json"]);
            out.expect(0, &["1 step would be made"]);
            assert_eq!(rows(out), step(false));
        }
        assert_eq!(orx.path("new.db").exists(), store != "new.db"); // the file is the first store
        let out = migrate(&["-o", "json"]);
        out.expect(0, &["1 step made"]);
        assert_eq!(rows(out), step(true));
        migrate(&["--dry-run"]).expect(0, &["0 steps would be made"]);
        let out = migrate(&[]);
        out.expect(0, &["is up to date"]);
        assert!(out.stdout().contains("applied"), "{out}");
        orx.ok(&["--store", store, "enqueue", "--", "true"]);
    }
    orx.run(&["--store", "memory:", "db", "migrate"]).expect(2, &["has a schema that is kept"]);
    let notes = orx.write("notes.txt", "no database, but long enough to be looked at\n".repeat(100));
    orx.run(&["--store", &notes, "db", "migrate", "--dry-run"]).expect(1, &["notes.txt", "no orx store"]);
    server::drop_schema(&server);
}

#[test]
fn names_that_no_job_can_have_are_refused_everywhere() {
    let orx = Orx::new();
    for args in [
        &["queue", "set", "bad name", "--max-running", "1"][..],
        &["queue", "set", "bad name", "--share", "no"],
        &["queue", "pause", "bad name"],
        &["tenant", "set", "bad name", "--max-running", "1"],
        &["limit", "set", "bad name", "--max-running", "1"],
    ] {
        orx.run(args).expect(2, &["\"bad name\" may have letters"]);
    }
    orx.ok(&["tenant", "set", "*", "--max-running", "1"]);
}

#[test]
fn doctor_looks_at_what_a_coordinator_can_tell() {
    let mut orx = Orx::file();
    orx.serve();
    orx.add(&["--", "true"]);
    orx.ok(&["queue", "pause", "default"]);
    let lines = orx.json(&["doctor"]);
    let checks: Vec<&str> = lines.as_array().unwrap().iter().map(|line| line["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["store", "workers", "upkeep", "queues"], "{lines}");
}
