//! `orx db copy`: a queue moves to another store with all its history.

use serde_json::Value;

use super::support::*;
use crate::server;

/// Everything that a queue may hold when nothing runs.
fn fill(orx: &Orx) {
    orx.sh(&["--label", "a=b", "--idempotency-key", "k1"], "echo out; echo err >&2");
    orx.sh(&["--queue", "loud"], "head -c 300000 /dev/zero | tr '\\0' x"); // output of the second file
    orx.sh(&["--max-attempts", "2", "--backoff", "1ms..1ms"], "printf 'no\\000such'; exit 3");
    orx.ok(&["queue", "set", "loud", "--max-running", "3"]);
    orx.ok(&["tenant", "set", "team", "--max-queued", "4000000000"]);
    orx.ok(&["limit", "set", "wide", "--max-running", "4000000000"]);
    let file = "name = 'build'\n[[task]]\nname = 'one'\ncommand = ['true']\n[[task]]\nname = 'two'\ncommand = ['false']\nneeds = ['one']\n";
    orx.ok(&["workflow", "submit", &orx.write("build.toml", file)]);
    orx.burst();
    orx.ok(&["db", "prune", "--older-than", "0s", "--yes"]);
    orx.ok(&["schedule", "add", "nightly", "--cron", "0 3 * * *", "--tz", "Europe/Berlin", "--", "true"]);
    orx.ok(&["schedule", "trigger", "nightly"]);
    orx.ok(&["schedule", "backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03"]);
    orx.sh(&["--idempotency-key", "k2"], "echo done before");
    orx.burst();
    let first = orx.sh(&["--limit", "db=1", "--name", "first"], "echo first >> order");
    orx.sh(&["--after", &first, "--tenant", "team"], "echo second >> order");
    orx.add(&["--delay", "1h", "--", "true"]);
    let gone = orx.add(&["--", "true"]);
    orx.ok(&["cancel", &gone]);
    orx.ok(&["queue", "pause", "quiet"]);
    orx.add(&["--queue", "quiet", "--", "true"]);
}

/// What people and programs see of a store.
fn seen(orx: &Orx, store: &str) -> Vec<String> {
    let ask = |args: &[&str]| orx.ok(&[&["--store", store, "-o", "json"], args].concat());
    let mut all = vec![
        ask(&["list", "--limit", "0"]),
        ask(&["events"]).lines().filter(|line| !line.contains("\"restored\"")).collect::<Vec<_>>().join("\n"),
        ask(&["queue", "list"]),
        ask(&["tenant", "list"]),
        ask(&["limit", "list"]),
        ask(&["dlq", "list"]),
        ask(&["schedule", "list"]),
        ask(&["schedule", "history", "nightly"]),
        ask(&["workflow", "list"]),
    ];
    let jobs: Value = serde_json::from_str(&all[0]).unwrap();
    for job in jobs.as_array().unwrap() {
        let number = job["number"].to_string();
        all.push(ask(&["status", &number]));
        all.push(orx.ok(&["--store", store, "tail", &number]));
    }
    all
}

fn sound(orx: &Orx, store: &str) {
    orx.run(&["--store", store, "db", "check"]).expect(0, &["is sound"]);
    orx.run(&["--store", store, "audit"]).expect(0, &["nothing is wrong"]);
}

fn highest(orx: &Orx, store: &str) -> i64 {
    let events = lines_of_json(&orx.ok(&["--store", store, "events"]));
    events.last().unwrap()["seq"].as_i64().unwrap()
}

/// The copy is the same, sound, and goes on where the source stopped.
fn moves(orx: &Orx, from: &str, to: &str) {
    let out = orx.run(&["--store", from, "-o", "json", "db", "copy", to]);
    out.expect(0, &["rows copied and compared"]);
    let tables: Value = serde_json::from_str(&out.stdout()).unwrap();
    for table in tables.as_array().unwrap() {
        assert!(table["same"] == true && table["rows"] == table["copied"], "{table}");
    }
    let rows = |name: &str| tables.as_array().unwrap().iter().find(|t| t["table"] == name).unwrap()["copied"].clone();
    for name in ["jobs", "attempts", "events", "output", "dead_letters", "occurrences", "runs", "pruned", "names"] {
        assert!(rows(name).as_i64().unwrap() > 0, "{name} was not tried");
    }
    let (before, after) = (seen(orx, from), seen(orx, to));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    sound(orx, to);
}

fn goes_on(orx: &Orx, from: &str, to: &str) {
    let (last, seq) = (
        serde_json::from_str::<Value>(&orx.ok(&["--store", from, "-o", "json", "status", "last"])).unwrap(),
        highest(orx, from),
    );
    let next = orx.ok(&["--store", to, "enqueue", "--format", "{{number}}", "--", "true"]);
    // Far above what the source may give since: a worker of that one changes nothing here (S38).
    assert!(next.trim().parse::<i64>().unwrap() > last["number"].as_i64().unwrap() + 1_000_000, "{next}");
    assert!(highest(orx, to) > seq + 1_000_000);
    orx.ok(&["-q", "--store", to, "worker", "--burst"]);
    let first = orx.ok(&["--store", to, "list", "--name", "first", "--format", "{{attempt}}"]);
    assert!(first.trim().parse::<i64>().unwrap() > 1_000_000, "{first}");
    assert_eq!(orx.read("order"), "first\nsecond\n");
    let again = orx.run(&["--store", to, "enqueue", "--idempotency-key", "k2", "--", "sh", "-c", "echo other"]);
    again.expect(5, &["k2"]);
    sound(orx, to);
}

#[test]
fn a_queue_moves_from_a_file_to_a_server_and_on_to_a_file_with_all_its_history() {
    let orx = Orx::file();
    fill(&orx);
    let (file, server, third) = (orx.url(), server::schema(), orx.path("third.db"));
    let third = third.to_str().unwrap();
    moves(&orx, &file, &server);
    moves(&orx, &server, third);
    // The same all the way, though each keeps it in another form.
    assert_eq!(seen(&orx, &file), seen(&orx, third));
    goes_on(&orx, &file, &server);
    std::fs::remove_file(orx.path("order")).unwrap();
    goes_on(&orx, &file, third);
    server::drop_schema(&server);
}

#[test]
fn the_copy_prints_a_table_of_what_it_compared() {
    let orx = Orx::file();
    orx.add(&["--", "true"]);
    let out = orx.run(&["db", "copy", "other.db"]);
    out.expect(0, &["use the copy from now on"]);
    let table = out.stdout();
    let line = table.lines().find(|line| line.trim_start().starts_with("jobs")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["jobs", "1", "1", "same"]);
}

#[test]
fn a_target_with_anything_in_it_is_left_alone() {
    let orx = Orx::file();
    orx.add(&["--", "true"]);
    let server = server::schema();
    for target in ["other.db", &server] {
        orx.ok(&["--store", target, "queue", "pause", "mine"]);
        orx.run(&["db", "copy", target]).expect(5, &["is not empty", "hint: name a new file"]);
        assert!(orx.ok(&["--store", target, "queue", "list"]).contains("mine"));
        assert_eq!(orx.json(&["--store", target, "list"]), Value::Array(Vec::new()));
    }
    orx.run(&["db", "copy", &orx.url()]).expect(5, &["is not empty"]);
    orx.run(&["db", "copy", "memory:"]).expect(2, &["to a file or a PostgreSQL server"]);
    orx.run(&["--store", "none.db", "db", "copy", "new.db"]).expect(3, &["there is no store at none.db"]);
    assert!(!orx.path("none.db").exists() && !orx.path("new.db").exists());
    server::drop_schema(&server);
}

#[test]
fn a_queue_whose_jobs_run_is_not_copied() {
    let orx = Orx::file();
    let job = orx.sh(&[], UNTIL_GO);
    let worker = orx.worker(&[]);
    orx.wait_state(&job, "running");
    orx.run(&["db", "copy", "other.db"]).expect(5, &["a job is running", "hint: drain the workers first"]);
    assert!(!orx.path("other.db").exists());
    orx.write("go", "");
    orx.wait_state(&job, "done");
    worker.stop();
    orx.ok(&["db", "copy", "other.db"]);
}

#[test]
fn an_interrupted_copy_is_refused_for_use_and_made_anew() {
    let orx = Orx::file();
    let jobs = "{\"command\":[\"true\"]}\n".repeat(20_000);
    orx.call(&["enqueue", "--from", "-"]).stdin(jobs).run().expect(0, &[]);
    let server = server::schema();
    for target in ["other.db", &server] {
        let copying = orx.spawn(&["db", "copy", target]);
        // Its first batches are there, and it is not done.
        eventually("the copy to have begun", || {
            assert!(copying.is_alive(), "it was too fast\n{}", copying.stderr());
            orx.run(&["--store", target, "list"]).stderr().contains("unfinished copy")
        });
        let out = copying.kill();
        assert_eq!(out.stdout(), "", "it was too fast");
        for args in [&["enqueue", "--", "true"][..], &["worker", "--burst"], &["list"], &["db", "check"]] {
            orx.run(&[&["--store", target], args].concat())
                .expect(6, &["is an unfinished copy of another store", "hint: make it again"]);
        }
        orx.run(&["--store", target, "db", "copy", "third.db"]).expect(6, &["unfinished copy"]);
        // The server may still be busy with what the dead one asked for last.
        eventually("the copy to be made anew", || {
            let out = orx.run(&["db", "copy", target]);
            assert!(out.code == Some(0) || out.stderr().contains("another process is copying"), "{out}");
            out.code == Some(0)
        });
        assert_eq!(orx.ok(&["--store", target, "list", "--limit", "0", "-o", "id"]).lines().count(), 20_000);
        sound(&orx, target);
    }
    server::drop_schema(&server);
}

#[test]
fn a_queue_that_changes_while_it_is_copied_is_not_taken_for_copied() {
    let orx = Orx::file();
    let jobs = "{\"command\":[\"true\"]}\n".repeat(20_000);
    orx.call(&["enqueue", "--from", "-"]).stdin(jobs).run().expect(0, &[]);
    let copying = orx.spawn(&["db", "copy", "other.db"]);
    eventually("the copy to have begun", || {
        orx.run(&["--store", "other.db", "list"]).stderr().contains("unfinished copy")
    });
    orx.add(&["--", "true"]);
    copying.wait().expect(5, &["the queue changed while it was copied", "hint: end the workers"]);
    orx.run(&["--store", "other.db", "list"]).expect(6, &["unfinished copy"]);
    orx.ok(&["db", "copy", "other.db"]);
}
