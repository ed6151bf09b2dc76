//! `orx db backup`, `orx db check FILE` and `orx db restore`: what comes back, and who is refused then.

use std::os::unix::fs::{MetadataExt as _, symlink};

use rustix::process::Signal;
use serde_json::Value;

use super::support::*;
use crate::server;

/// Jobs with small and large output, a dead letter, one that waits.
fn fill(orx: &Orx) {
    orx.sh(&["--env", "PAYLOAD=needle-in-the-hay"], "echo out; echo err >&2");
    orx.sh(&[], "head -c 300000 /dev/zero | tr '\\0' x"); // output of the second file
    orx.sh(&[], "exit 3");
    orx.burst();
    orx.add(&["--delay", "1h", "--name", "later", "--", "true"]);
}

/// What people see of a store; what was told of the restoring is not compared.
fn seen(orx: &Orx, store: &str) -> Vec<String> {
    let ask = |args: &[&str]| orx.ok(&[&["--store", store], args].concat());
    let events = ask(&["events"]).lines().filter(|line| !line.contains("\"restored\"")).map(str::to_owned).collect();
    let mut all: Vec<String> = events;
    all.push(ask(&["list", "--limit", "0", "-o", "json"]));
    all.push(ask(&["dlq", "list", "-o", "json"]));
    all.extend(["1", "2", "3"].map(|job| ask(&["tail", job])));
    all
}

fn sound(orx: &Orx, store: &str) {
    orx.run(&["--store", store, "db", "check"]).expect(0, &["is sound"]);
    orx.run(&["--store", store, "audit"]).expect(0, &["nothing is wrong"]);
}

fn names(orx: &Orx, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(orx.path(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn last_event(orx: &Orx, store: &str, kind: &str) -> Value {
    let events = lines_of_json(&orx.ok(&["--store", store, "events"]));
    events.into_iter().rfind(|event| event["kind"] == kind).unwrap_or_default()
}

#[test]
fn a_backup_is_one_file_and_comes_back_as_another_store_with_all_that_was_in_it() {
    let orx = Orx::file();
    fill(&orx);
    std::fs::create_dir(orx.path("b")).unwrap();
    let out = orx.run(&["-o", "json", "db", "backup", "b/b.db"]);
    out.expect(0, &["4 jobs copied to b/b.db, and checked"]);
    assert_eq!(names(&orx, "b"), ["b.db"]);
    assert_eq!(std::fs::metadata(orx.path("b/b.db")).unwrap().mode() & 0o777, 0o600);
    let tables: Value = serde_json::from_str(&out.stdout()).unwrap();
    let of = |name: &str| tables.as_array().unwrap().iter().find(|t| t["table"] == name).unwrap().clone();
    assert_eq!((&of("jobs")["rows"], of("output")["checksum"].as_str().map(str::len)), (&4.into(), Some(32)));
    orx.run(&["db", "check", "b/b.db"]).expect(0, &["b/b.db is sound"]);
    let id = |store: &str| {
        let conn = rusqlite::Connection::open(store).unwrap();
        conn.query_row("SELECT value FROM meta WHERE key = 'store'", [], |r| r.get::<_, String>(0)).unwrap()
    };
    let server = server::schema();
    for target in ["new/q.db", &server] {
        let out = orx.run(&["--store", target, "-o", "json", "db", "restore", "b/b.db"]);
        out.expect(0, &["is restored; new jobs begin above 1000004"]);
        let restored: Value = serde_json::from_str(&out.stdout()).unwrap();
        let restored = &restored[0];
        assert_eq!((&restored["jobs"], &restored["lost"]), (&1_000_004.into(), &0.into()), "{restored}");
        assert_eq!(seen(&orx, &orx.url()), seen(&orx, target));
        let event = last_event(&orx, target, "restored");
        assert_eq!((&event["data"]["store"], &event["data"]["by"]), (&restored["store"], &"restore".into()));
        assert!(event["seq"].as_i64().unwrap() > 1_000_000, "{event}");
        sound(&orx, target);
        // What was stored goes on, under numbers that the store of before never gave.
        let next = orx.ok(&["--store", target, "enqueue", "--format", "{{number}}", "--", "true"]);
        assert_eq!(next.trim(), "1000005");
        orx.ok(&["--store", target, "retry", "3"]);
        orx.ok(&["-q", "--store", target, "worker", "--burst"]);
        let attempt = |job: &str| orx.ok(&["--store", target, "status", job, "--format", "{{attempt}}"]);
        assert_eq!((attempt("3").trim(), attempt("1000005").trim()), ("1000002", "1"));
        orx.ok(&["--store", target, "tail", "-f", "3"]);
        sound(&orx, target);
    }
    assert_eq!(event_from(&orx, "new/q.db"), Value::from(id(orx.store().to_str().unwrap())));
    let new = orx.path("new/q.db");
    assert_ne!(id(new.to_str().unwrap()), id(orx.store().to_str().unwrap()));
    assert_eq!(std::fs::metadata(&new).unwrap().mode() & 0o777, 0o600);
    assert!(!names(&orx, "new").iter().any(|name| name.contains("restoring")), "{:?}", names(&orx, "new"));
    server::drop_schema(&server);
}

fn event_from(orx: &Orx, store: &str) -> Value {
    last_event(orx, store, "restored")["data"]["from"].clone()
}

#[test]
fn a_backup_that_is_not_what_it_was_is_found_out_and_not_restored() {
    let orx = Orx::file();
    fill(&orx);
    orx.ok(&["db", "backup", "b.db"]);
    let whole = std::fs::read(orx.path("b.db")).unwrap();
    let at = whole.windows(18).position(|w| w == b"needle-in-the-hay\"").expect("the payload");
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    let newer = |file: &str| {
        std::fs::write(orx.path(file), &whole).unwrap();
        let conn = rusqlite::Connection::open(orx.path(file)).unwrap();
        conn.execute_batch("UPDATE meta SET value = '999' WHERE key = 'min_compatible'; PRAGMA user_version = 999")
            .unwrap();
    };
    orx.write("flipped.db", &flipped);
    orx.write("cut.db", &whole[..whole.len() / 2]);
    orx.write("short.db", &whole[..60]);
    orx.write("empty.db", "");
    orx.write("notes.txt", "no database, but long enough to be looked at\n".repeat(100));
    newer("newer.db");
    std::fs::create_dir(orx.path("dir.db")).unwrap();
    let store = orx.url();
    for (file, code, word) in [
        ("flipped.db", 1, "job_specs has other bytes in it"),
        ("cut.db", 1, "cut.db is damaged"),
        ("short.db", 1, "short.db is damaged, or no backup of orx"),
        ("empty.db", 1, "empty.db is damaged, or no backup of orx"),
        ("notes.txt", 1, "notes.txt is damaged, or no backup of orx"),
        ("newer.db", 1, "install a newer orx"),
        ("dir.db", 2, "dir.db is not a file"),
        ("none.db", 3, "there is no file none.db"),
        (&store, 2, "is a store, not a backup"),
    ] {
        let out = orx.run(&["db", "check", file]);
        assert!(out.code == Some(code) && out.to_string().contains(word), "{file}: {out}");
        let out = orx.run(&["--store", "new.db", "db", "restore", file]);
        assert!(out.code == Some(code) && out.stderr().contains(word), "{file}: {out}");
        assert!(!names(&orx, "").iter().any(|name| name == "new.db" || name == "new.db-restoring"), "{file}");
    }
    // It is no store: who worked for the one of before would be taken for one of its workers.
    for args in [&["list"][..], &["enqueue", "--", "true"], &["worker", "--burst"], &["db", "copy", "c.db"]] {
        let out = orx.run(&[&["--store", "b.db"], args].concat());
        out.expect(6, &["b.db is a backup, not a store", "hint: 'orx db restore FILE'"]);
    }
    assert_eq!(std::fs::read(orx.path("b.db")).unwrap(), whole);
}

#[test]
fn a_store_that_is_there_stays_unless_it_is_to_be_replaced_and_nobody_has_it_open() {
    let orx = Orx::file();
    fill(&orx);
    orx.ok(&["db", "backup", "b.db"]);
    orx.ok(&["run", "--", "true"]);
    orx.sh(&[], "head -c 300000 /dev/zero | tr '\\0' y");
    orx.burst();
    let before = seen(&orx, &orx.url());
    orx.run(&["db", "restore", "b.db"]).expect(5, &["orx.db exists already", "hint: --replace"]);
    let worker = orx.worker(&[]);
    let pid = format!("process {} (", worker.pid());
    orx.run(&["db", "restore", "--replace", "b.db"]).expect(5, &["is in use: ", &pid, "hint: end all workers"]);
    worker.signal(Signal::STOP); // one that says nothing any more has it open all the same
    orx.run(&["db", "restore", "--replace", "b.db"]).expect(5, &["is in use"]);
    worker.signal(Signal::CONT);
    worker.stop().expect(0, &[]);
    let strip = |seen: Vec<String>| seen.into_iter().filter(|l| !l.contains("\"worker_") && !l.contains("\"leader_"));
    assert!(strip(seen(&orx, &orx.url())).eq(strip(before)));
    let notes = orx.write("notes.txt", "no database, but long enough to be looked at\n".repeat(100));
    orx.run(&["--store", &notes, "db", "restore", "--replace", "b.db"]).expect(5, &["notes.txt is no store of orx"]);
    std::fs::copy(orx.path("b.db"), orx.path("c.db")).unwrap();
    for backup in ["b.db", "c.db"] {
        let out = orx.run(&["--store", backup, "db", "restore", "--replace", "b.db"]);
        out.expect(5, &["is a backup itself", "hint: name another place"]);
        orx.ok(&["db", "check", backup]);
    }
    // The file that a link leads to is the store.
    symlink(orx.store(), orx.path("link.db")).unwrap();
    symlink("nowhere", orx.path("dangling.db")).unwrap();
    orx.run(&["--store", "link.db", "db", "restore", "b.db"]).expect(5, &["exists already"]);
    orx.run(&["--store", "dangling.db", "db", "restore", "b.db"]).expect(6, &["leads nowhere"]);
    orx.run(&["--store", "link.db", "db", "restore", "--replace", "b.db"]).expect(0, &["is restored"]);
    assert!(orx.path("link.db").symlink_metadata().unwrap().is_symlink());
    assert_eq!(orx.ok(&["list", "--limit", "0", "-o", "id"]).lines().count(), 4);
    assert!(orx.ok(&["tail", "2"]).starts_with("xxx"));
    let beside = names(&orx, ".local/share/orx");
    assert!(!beside.iter().any(|name| name.ends_with("-output") || name.contains("restoring")), "{beside:?}");
    sound(&orx, &orx.url());
    // One that is damaged cannot be asked whether it may go.
    let mut bytes = std::fs::read(orx.store()).unwrap();
    bytes[4096..].fill(0x5a);
    std::fs::write(orx.store(), bytes).unwrap();
    orx.run(&["list"]).expect(1, &["damaged"]);
    orx.run(&["db", "restore", "--replace", "b.db"]).expect(0, &["is restored"]);
    sound(&orx, &orx.url());
}

/// Two jobs of a worker behind a coordinator that is stopped while the store is put back: one whose process runs on, and
/// one whose process ends before the worker can say so.
#[test]
fn s38_a_worker_that_was_away_while_the_store_was_restored_changes_nothing() {
    let mut orx = Orx::file();
    orx.serve();
    let runs = orx.sh(&[], &format!("echo $ORX_ATTEMPT >> runs; {UNTIL_GO}; echo of $ORX_ATTEMPT"));
    let script = "echo $ORX_ATTEMPT >> ends; [ $ORX_ATTEMPT = 1 ] || exit 0; until [ -e late ]; do sleep 0.05; done; echo too late; echo > ended; exit 7";
    let ends = orx.sh(&[], script);
    let old = orx.worker(&["--name", "old", "--slots", "2"]);
    orx.wait_line("runs");
    orx.wait_line("ends");
    let store = orx.store();
    let store = store.to_str().unwrap();
    orx.ok(&["--store", store, "db", "backup", "b.db"]);
    orx.sh(&[], "true"); // after the backup: the restored store must not give its number again
    old.signal(Signal::STOP);
    let listen = orx.url().strip_prefix("http://").unwrap().to_owned();
    orx.coordinator().signal(Signal::KILL);
    eventually("the coordinator to be gone", || !orx.coordinator().is_alive());
    orx.write("late", "");
    orx.wait_line("ended");
    let out = orx.run(&["--store", store, "db", "restore", "--replace", "b.db"]);
    out.expect(0, &["is restored; 2 jobs that ran in it counted as lost; new jobs begin above 1000002"]);
    orx.serve_at(&listen, &[]);
    let new = orx.worker(&["--name", "new", "--slots", "2"]);
    orx.wait_state(&ends, "done");
    eventually("the other to run again", || orx.read("runs") == "1\n1000002\n");
    old.signal(Signal::CONT);
    let stale = |job: &str| {
        let number = Value::from(job.parse::<i64>().unwrap());
        orx.events().iter().any(|e| e["kind"] == "rejected_stale" && e["number"] == number && e["attempt"] == 1)
    };
    eventually("the old worker to be refused", || stale(&runs) && stale(&ends));
    orx.write("go", "");
    orx.wait_state(&runs, "done");
    for job in [&runs, &ends] {
        let attempts = orx.job(job)["attempts"].clone();
        let told: Vec<_> = attempts.as_array().unwrap().iter().map(|a| (&a["number"], &a["outcome"])).collect();
        assert_eq!(told, [(&1.into(), &"lost".into()), (&1_000_002.into(), &"done".into())], "{attempts}");
    }
    assert_eq!(orx.ok(&["tail", &runs]), "of 1000002\n");
    assert!(!orx.ok(&["tail", "--attempt", "1", &ends]).contains("too late"));
    assert_eq!(orx.add(&["--", "true"]), "1000003");
    new.stop().expect(0, &[]);
    old.stop();
    assert_eq!(orx.check().code, Some(0), "{}", orx.check());
    orx.run(&["audit"]).expect(0, &["nothing is wrong"]);
}

#[test]
fn a_backup_under_load_is_of_one_moment() {
    let orx = Orx::file();
    orx.make();
    let script = "while [ ! -e enough ]; do \"$ORX\" -q enqueue -- sh -c 'echo x; head -c 100000 /dev/zero' > said || exit 1; done";
    let load = orx.program("sh", &["-c", script]).env("ORX", env!("CARGO_BIN_EXE_orx")).spawn();
    let worker = orx.worker(&["--slots", "4"]);
    eventually("some jobs to be done", || orx.states().matches("done").count() > 5);
    for n in 0..3 {
        let file = format!("b{n}.db");
        orx.ok(&["db", "backup", &file]);
        orx.run(&["db", "check", &file]).expect(0, &["is sound"]);
        let store = format!("r{n}.db");
        orx.ok(&["--store", &store, "db", "restore", &file]);
        sound(&orx, &store);
    }
    assert!(load.is_alive(), "{}", load.wait());
    orx.write("enough", "");
    load.wait().expect(0, &[]);
    worker.stop().expect(0, &[]);
}

#[test]
fn what_is_killed_or_finds_no_room_leaves_the_store_of_before_and_is_made_anew() {
    let orx = Orx::file();
    let jobs = format!("{{\"command\":[\"true\",\"{}\"]}}\n", "x".repeat(4000)).repeat(2_000);
    orx.call(&["enqueue", "--from", "-"]).stdin(jobs).run().expect(0, &[]);
    orx.spawn(&["db", "backup", "b.db"]).kill();
    let _ = std::fs::remove_file(orx.path("b.db")); // it may have been quick
    let begun = orx.spawn(&["db", "backup", "b.db"]);
    eventually("the backup to begin", || {
        !begun.is_alive() || names(&orx, "").iter().any(|name| name.starts_with(".orx-backup-"))
    });
    begun.kill();
    let _ = std::fs::remove_file(orx.path("b.db"));
    orx.ok(&["db", "backup", "b.db"]);
    // As on a full disk.
    let limited = |args: &[&str]| {
        let script = ["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_orx")];
        orx.program("sh", &[&script[..], args].concat()).run()
    };
    let before = names(&orx, "");
    limited(&["db", "backup", "full.db"]).expect(6, &["the disk "]);
    limited(&["--store", "full.db", "db", "restore", "b.db"]).expect(6, &["cannot write"]);
    let left = names(&orx, "").into_iter().filter(|name| !before.contains(name)).collect::<Vec<_>>();
    assert_eq!(left, ["full.db-restore"], "a lock");
    // The old store or the new one, wherever it is killed.
    orx.ok(&["--store", "s.db", "run", "--", "true"]);
    let mut killed = 0;
    for round in 0..5 {
        let restoring = orx.spawn(&["--store", "s.db", "db", "restore", "--replace", "b.db"]);
        eventually("the restoring to begin", || !restoring.is_alive() || orx.path("s.db-restoring").exists());
        std::thread::sleep(std::time::Duration::from_millis(60 * round)); // anywhere in it
        killed += usize::from(restoring.kill().code.is_none());
        let jobs = orx.ok(&["--store", "s.db", "list", "--limit", "0", "-o", "id"]).lines().count();
        assert!([1, 2_000].contains(&jobs), "{jobs}");
        orx.run(&["--store", "s.db", "db", "check"]).expect(0, &["is sound"]);
    }
    assert!(killed > 0);
    orx.ok(&["--store", "s.db", "db", "restore", "--replace", "b.db"]);
    assert!(!orx.path("s.db-restoring").exists());
    sound(&orx, "s.db");
}

/// By pg_restore, or a snapshot of the disk.
#[test]
fn a_store_that_was_put_back_by_other_means_becomes_another_one_too() {
    let orx = Orx::file();
    let server = server::schema();
    for store in [orx.url(), server.clone()] {
        let ask = |args: &[&str]| orx.run(&[&["--store", &store], args].concat());
        let worker = orx.spawn(&["--store", &store, "worker", "--lease", "1s", "--name", "w"]);
        ask(&["enqueue", "--", "sleep", "60"]).expect(0, &[]);
        eventually("the job to run", || ask(&["status", "1", "--format", "{{state}}"]).stdout() == "running\n");
        ask(&["db", "restore", "--in-place"]).expect(5, &["worker w is alive", "hint: end all workers"]);
        worker.kill();
        eventually("the worker to be taken for dead", || ask(&["db", "restore", "--in-place"]).code == Some(0));
        let event = last_event(&orx, &store, "restored");
        assert_eq!((&event["data"]["by"], &event["data"]["jobs"]), (&"in_place".into(), &1_000_001.into()), "{event}");
        assert_eq!(ask(&["workers", "-o", "json"]).stdout().trim(), "[]");
        assert_eq!(ask(&["status", "1", "--format", "{{state}} {{losses}}"]).stdout(), "pending 1\n");
        sound(&orx, &store);
    }
    orx.run(&["db", "restore"]).expect(2, &["<FILE>"]);
    orx.run(&["--store", "memory:", "db", "restore", "--in-place"]).expect(2, &[]);
    orx.run(&["--store", &server, "db", "restore", "--replace", "b.db"]).expect(2, &["drop its schema"]);
    server::drop_schema(&server);
}
