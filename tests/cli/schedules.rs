//! `orx schedule`: S20 to S22 as a person meets them.

use serde_json::{Value, json};

use super::support::*;

/// The fields of a schedule in docs/reference/json.md.
const FIELDS: &str =
    "id name kind expression tz state next_due_at last_due_at last_skip_reason overlap catch_up version
    task";
/// The fields of an occurrence in docs/reference/json.md.
const OCCURRENCE: &str = "id schedule_id due_at until count state reason run_id flags";

fn history(orx: &Orx, name: &str) -> Vec<Value> {
    lines_of_json(&orx.ok(&["schedule", "history", name, "--limit", "0", "-o", "ndjson"]))
}

fn fired(orx: &Orx, name: &str) -> usize {
    history(orx, name).iter().filter(|row| row["state"] == "fired").count()
}

#[test]
fn a_schedule_fires_and_its_jobs_know_for_when() {
    let orx = Orx::new();
    let script = "echo $ORX_SCHEDULED_FOR $ORX_OCCURRENCE_ID $ORX_RUN_ID $ORX_TASK >> times";
    let id = orx.ok(&["schedule", "add", "beat", "--every", "1s", "--overlap", "allow", "--", "sh", "-c", script]);
    let worker = orx.worker(&["-q"]);
    eventually("three runs", || orx.read("times").lines().count() >= 3);
    worker.stop().expect(0, &[]);
    let rows = history(&orx, "beat");
    for line in orx.read("times").lines() {
        let row = rows.iter().find(|row| line.starts_with(row["due_at"].as_str().unwrap())).expect(line);
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        assert_eq!(line, format!("{} {} {} main", text("due_at"), text("id"), text("run_id")));
        assert_eq!((keys(row), &row["schedule_id"]), (sorted(OCCURRENCE), &json!(id.trim())));
    }
    let jobs = orx.json(&["list", "--label", "schedule=beat", "--limit", "0"]);
    assert_eq!(jobs.as_array().unwrap().len(), rows.len());
    for job in jobs.as_array().unwrap() {
        assert_eq!(keys(job), sorted(super::list::FIELDS));
        assert!(rows.iter().any(|row| row["id"] == job["occurrence_id"] && row["run_id"] == job["run_id"]), "{job}");
        assert_eq!((&job["schedule_id"], &job["task"]), (&json!(id.trim()), &json!("main")));
    }
    orx.run(&["audit"]).expect(0, &["nothing is wrong"]);
    orx.check().expect(0, &["is sound"]);
}

#[test]
fn list_shows_next_last_state_and_why_it_was_skipped() {
    let orx = Orx::new();
    orx.ok(&["schedule", "add", "slow", "--every", "1s", "--tz", "UTC", "--", "sleep", "30"]);
    orx.ok(&["schedule", "add", "daily", "--cron", "@daily", "--tz", "Europe/Berlin", "--", "true"]);
    let worker = orx.worker(&["-q", "--drain-timeout", "0s"]);
    eventually("a run that meets another", || orx.json(&["schedule", "show", "slow"])["last_skip_reason"] == "overlap");
    orx.ok(&["schedule", "pause", "slow"]);
    worker.stop();
    let list = orx.json(&["schedule", "list"]);
    let [daily, slow] = &list.as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!((keys(daily), keys(slow)), (sorted(FIELDS), sorted(FIELDS)));
    assert_eq!((&daily["state"], &daily["kind"], &daily["version"]), (&json!("active"), &json!("cron"), &json!(1)));
    assert_eq!((&slow["state"], &slow["next_due_at"]), (&json!("paused"), &Value::Null));
    assert_eq!(slow["task"], json!({"command": ["sleep", "30"]}));
    assert!(slow["last_due_at"].is_string(), "{slow}");
    let table = orx.ok(&["schedule", "list"]);
    let words = |line: usize| table.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(0).starts_with("SCHEDULE STATE NEXT LAST LAST SKIPPED WHEN ZONE COMMAND"), "{table}");
    assert!(words(1).starts_with("daily active in ") && words(1).ends_with("@daily Europe/Berlin true"), "{table}");
    assert!(words(2).starts_with("slow paused - ") && words(2).contains("overlap every 1s UTC sleep 30"), "{table}");
    let told = orx.ok(&["schedule", "history", "slow"]);
    assert!(told.starts_with("DUE") && told.contains("fired") && told.contains("overlap"), "{told}");
}

#[test]
fn preview_needs_no_store_and_follows_the_wall_clock() {
    let orx = Orx::file();
    let args =
        ["schedule", "preview", "--cron", "30 2 * * *", "--tz", "Europe/Berlin", "--from", "2026-03-28", "-n", "3"];
    let instants = orx.json(&args);
    let expected = json!([
        {"due_at": "2026-03-28T01:30:00.000Z"}, {"due_at": "2026-03-29T01:00:00.000Z"}, {"due_at": "2026-03-30T00:30:00.000Z"}
    ]);
    assert_eq!(instants, expected);
    assert!(orx.ok(&args).contains("Sun 2026-03-29 03:00:00 +02:00"));
    assert!(!orx.store().exists());
    orx.ok(&["schedule", "add", "leap", "--cron", "0 0 29 2 *", "--tz", "UTC", "--", "true"]);
    let of_name = orx.json(&["schedule", "preview", "leap", "--from", "2026-01-01", "-n", "2"]);
    assert_eq!(of_name, json!([{"due_at": "2028-02-29T00:00:00.000Z"}, {"due_at": "2032-02-29T00:00:00.000Z"}]));
    let iso = ["schedule", "preview", "--iso", "R3/2026-01-31T00:00:00Z/P1M", "--tz", "UTC", "--from", "2026-01-01"];
    let months = orx.ok(&[&iso[..], &["-o", "id"]].concat());
    assert_eq!(months, "2026-01-31T00:00:00.000Z\n2026-02-28T00:00:00.000Z\n2026-03-31T00:00:00.000Z\n");
}

#[test]
fn what_is_not_understood_is_refused_with_the_reason() {
    let orx = Orx::file();
    let add = |more: &[&str]| orx.run(&[&["schedule", "add", "s"], more].concat());
    add(&["--", "true"]).expect(2, &["nothing says when it is due", "--cron '0 2 * * *'"]);
    add(&["--cron", "0 0 30 2 *", "--", "true"]).expect(2, &["never fires", "no month it names"]);
    add(&["--cron", "61 * * * *", "--", "true"]).expect(2, &["61"]);
    add(&["--every", "0.5s", "--", "true"]).expect(2, &["more often than once a second"]);
    add(&["--every", "1h", "--tz", "Mars/Base", "--", "true"]).expect(2, &["no time zone", "IANA name"]);
    add(&["--every", "1h", "--cron", "@daily", "--", "true"]).expect(2, &["cannot be used with"]);
    add(&["--every", "1h"]).expect(2, &["command is missing"]);
    add(&["--every", "1h", "--name", "n", "--", "true"]).expect(2, &["the schedule has a name"]);
    add(&["--every", "1h", "--overlap", "maybe", "--", "true"]).expect(2, &["skip, queue, allow, cancel"]);
    add(&["--every", "1h", "--catch-up", "0", "--", "true"]).expect(2, &["0 is written none"]);
    assert!(!orx.store().exists(), "nothing was asked of the store");
    add(&["--at", "2020-01-01T00:00:00Z", "--", "true"]).expect(2, &["never due again", "2020-01-01"]);
    add(&["--every", "1h", "--", "true"]).expect(0, &[]);
    add(&["--every", "1h", "--", "true"]).expect(5, &["there is a schedule s already", "orx schedule update s"]);
    orx.run(&["schedule", "show", "t"]).expect(3, &["no schedule t", "orx schedule list"]);
    orx.run(&["schedule", "update", "s"]).expect(2, &["nothing to change"]);
    let past = ["schedule", "backfill", "s", "--from", "2099-01-01", "--to", "2099-01-02"];
    orx.run(&past).expect(2, &["no instant that is over"]);
}

#[test]
fn an_update_changes_what_it_names_and_a_stale_one_is_a_conflict() {
    let orx = Orx::new();
    let add = ["schedule", "add", "s", "--every", "1h", "--env", "A=1", "--timeout", "5m", "--", "./old"];
    orx.ok(&add);
    orx.ok(&["schedule", "update", "s", "--env", "B=2", "--max-attempts", "3", "--overlap", "queue"]);
    let shown = orx.json(&["schedule", "show", "s"]);
    let task = json!({"command": ["./old"], "env": {"A": "1", "B": "2"}, "timeout": 300, "max_attempts": 3});
    assert_eq!((&shown["task"], &shown["overlap"], &shown["version"]), (&task, &json!("queue"), &json!(2)));
    orx.ok(&["schedule", "update", "s", "--if-version", "2", "--cron", "@daily", "--tz", "UTC", "--", "./new"]);
    let shown = orx.json(&["schedule", "show", "s"]);
    assert_eq!((&shown["task"]["command"], &shown["kind"]), (&json!(["./new"]), &json!("cron")));
    let stale = orx.run(&["schedule", "update", "s", "--if-version", "2", "--timeout", "1m"]);
    stale.expect(5, &["has version 3 by now, not 2", "orx schedule show s"]);
}

#[test]
fn trigger_backfill_and_remove() {
    let orx = Orx::new();
    orx.ok(&[
        "schedule",
        "add",
        "s",
        "--cron",
        "0 0 * * *",
        "--tz",
        "UTC",
        "--",
        "sh",
        "-c",
        "echo $ORX_SCHEDULED_FOR",
    ]);
    let job = orx.ok(&["schedule", "trigger", "s"]);
    orx.run(&["schedule", "trigger", "s"]).expect(5, &["a run of s is not finished", "--overlap allow"]);
    orx.burst();
    orx.run(&["wait", job.trim()]).expect(0, &[]);
    assert_eq!(history(&orx, "s").len(), 0, "a run without an occurrence");
    let days = ["schedule", "backfill", "s", "--from", "2026-01-01", "--to", "2026-01-03"];
    orx.run(&days).expect(0, &["3 instants to run"]);
    orx.burst();
    let last = orx.ok(&["tail", "last"]);
    assert_eq!(last, "2026-01-03T00:00:00.000Z\n");
    assert_eq!(orx.states(), "done done done done");
    orx.run(&days).expect(0, &["0 instants to run, 3 had fired before"]);
    orx.run(&[&days[..], &["--again"]].concat()).expect(0, &["3 instants to run"]);
    assert_eq!(history(&orx, "s").len(), 3);
    assert_eq!(history(&orx, "s")[0]["flags"], json!(["backfilled"]));
    orx.ok(&["schedule", "remove", "s"]);
    assert_eq!(orx.json(&["schedule", "list"]), json!([]));
    assert_eq!(orx.json(&["schedule", "list", "--all"])[0]["state"], "removed");
    assert_eq!(history(&orx, "s").len(), 3, "its history is kept");
    orx.run(&["schedule", "pause", "s"]).expect(5, &["was removed at"]);
    orx.check().expect(0, &["is sound"]);
}

#[test]
fn a_worker_that_restarts_more_often_than_the_interval_misses_nothing() {
    let orx = Orx::new();
    orx.ok(&["schedule", "add", "s", "--every", "2s", "--overlap", "allow", "--", "true"]);
    for runs in 1..=2 {
        eventually("a run", || {
            // Each lives for less than an interval.
            orx.run(&["-q", "worker", "--idle-timeout", "1s"]).expect(0, &[]);
            fired(&orx, "s") >= runs
        });
    }
    orx.run(&["audit"]).expect(0, &["nothing is wrong"]);
}

const BUILD: &str = r#"
name = "build"
defaults = { max_attempts = 1 }

[[task]]
name = "make"
command = ["sh", "-c", "echo $ORX_SCHEDULED_FOR $WHO >> made"]

[[task]]
name = "test"
needs = ["make"]
command = ["sh", "-c", "test -s made"]
"#;

#[test]
fn a_schedule_runs_a_workflow() {
    let orx = Orx::new();
    orx.write("build.toml", BUILD);
    let add = ["schedule", "add", "nightly", "--cron", "0 2 * * *", "--tz", "UTC", "--workflow", "build.toml"];
    let added = orx.call(&[&add[..], &["--env", "WHO"]].concat()).env("WHO", "me").run();
    added.expect(0, &[]);
    let shown = orx.json(&["schedule", "show", "nightly"]);
    assert_eq!((keys(&shown["task"]), &shown["task"]["workflow"]["name"]), (vec!["workflow"], &json!("build")));
    assert!(orx.ok(&["schedule", "list"]).contains("workflow build"));
    assert!(orx.ok(&["schedule", "show", "nightly"]).contains("runs:"));
    let run = orx.ok(&["schedule", "trigger", "nightly"]);
    orx.run(&["schedule", "trigger", "nightly"]).expect(5, &["a run of nightly is not finished"]);
    orx.burst();
    let report = orx.json(&["workflow", "report", run.trim()]);
    assert_eq!((&report["state"], &report["schedule_id"]), (&json!("done"), &shown["id"]));
    let days = ["schedule", "backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-02 12:00"];
    orx.run(&days).expect(0, &["2 instants to run"]);
    orx.burst();
    let made = orx.read("made");
    let backfilled = "2026-01-01T02:00:00.000Z me\n2026-01-02T02:00:00.000Z me\n";
    assert!(made.ends_with(backfilled) && made.lines().count() == 3, "{made}");
    let rows = history(&orx, "nightly");
    for row in &rows {
        let report = orx.json(&["workflow", "report", row["run_id"].as_str().unwrap()]);
        assert_eq!((&report["occurrence_id"], &report["state"]), (&row["id"], &json!("done")));
    }
    assert_eq!(rows.len(), 2);
    orx.ok(&["schedule", "preview", "nightly"]);
    orx.run(&["audit"]).expect(0, &["nothing is wrong"]);
    orx.check().expect(0, &["is sound"]);
}

#[test]
fn what_is_wrong_with_a_workflow_of_a_schedule_is_told_with_its_place() {
    let orx = Orx::new();
    orx.make();
    orx.write("build.toml", BUILD);
    orx.write("bad.toml", BUILD.replace("\"make\"]", "\"made\"]"));
    orx.write("late.toml", format!("{BUILD}at = \"2030-01-01T00:00:00Z\"\n"));
    let add = |more: &[&str]| orx.run(&[&["schedule", "add", "s", "--every", "1h"], more].concat());
    add(&["--workflow", "bad.toml"]).expect(2, &["bad.toml: line 11", "test needs made, which is no task"]);
    add(&["--workflow", "late.toml"]).expect(2, &["late.toml: line 13", "at has no place in a schedule"]);
    let labels: Vec<String> = (1..=64).map(|n| format!("l{n} = \"x\"")).collect();
    orx.write("full.toml", format!("{BUILD}label = {{ {} }}\n", labels.join(", ")));
    add(&["--workflow", "full.toml"]).expect(2, &["task test: label has more than 64 entries"]); // it gets one more when it is due
    add(&["--workflow", "none.toml"]).expect(2, &["cannot read none.toml"]);
    add(&["--workflow", "build.toml", "--", "true"]).expect(2, &["cannot be used with"]);
    add(&["--workflow", "build.toml", "--timeout", "1m"]).expect(2, &["--timeout is an option of jobs", "defaults"]);
    add(&["--workflow", "build.toml", "--env", "A=1"]).expect(2, &["--env is an option of jobs"]);
    assert_eq!(orx.json(&["schedule", "list"]), json!([]), "nothing was stored");
    add(&["--", "true"]).expect(0, &[]);
    orx.ok(&["schedule", "update", "s", "--workflow", "build.toml"]);
    orx.run(&["schedule", "update", "s", "--queue", "q"]).expect(2, &["--queue is an option of jobs"]);
    let shown = orx.json(&["schedule", "show", "s"]);
    assert_eq!((&shown["version"], &shown["task"]["workflow"]["name"]), (&json!(2), &json!("build")));
    orx.ok(&["schedule", "update", "s", "--timeout", "1m", "--", "./again"]);
    assert_eq!(orx.json(&["schedule", "show", "s"])["task"], json!({"command": ["./again"], "timeout": 60}));
}

/// The lines of the first block of this kind in a part of the guide.
fn block<'a>(part: &'a str, kind: &str) -> Vec<&'a str> {
    let (_, rest) = part.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0.lines().collect()
}

#[test]
fn the_nightly_build_of_the_guide_works_as_it_is_written() {
    let orx = Orx::new();
    let guide = include_str!("../../docs/guide/schedules.md");
    let (_, part) = guide.split_once("### A nightly build\n").unwrap();
    let part = part.split("\n### ").next().unwrap();
    let file = block(part, "toml");
    orx.write(file[0].trim_start_matches("# "), file.join("\n"));
    orx.write("src/hello/hello.c", "#include <stdio.h>\nint main(void) { return puts(\"Hello, world\") < 0; }\n");
    let shell = |script: &str| {
        let mut command = std::process::Command::new("sh");
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_orx")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        command.args(["-ec", script]).env_clear().env("HOME", orx.path("")).env("PATH", path).current_dir(orx.path(""));
        command.envs(orx.token().map(|token| ("ORX_TOKEN", token)));
        let out = command.env("ORX_STORE", orx.url()).output().unwrap();
        let (said, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{script}\n{said}\n{told}");
        said.into_owned()
    };
    shell("cd src/hello; git init -q; git add .; git -c user.name=a -c user.email=a@b commit -qm hello");
    let lines = block(part, "console");
    let mut last = String::new();
    for command in lines.iter().filter_map(|line| line.strip_prefix("$ ")) {
        last = shell(command);
    }
    let from = lines.iter().rposition(|line| line.starts_with("$ ")).unwrap() + 1;
    assert_eq!(last.lines().collect::<Vec<_>>(), lines[from..], "{}", orx.ok(&["workflow", "report", "last"]));
    assert_eq!(orx.json(&["workflow", "report", "last"])["state"], "done");
}

#[test]
fn a_preview_begins_with_the_instant_that_an_update_has_left_as_it_was() {
    let orx = Orx::new();
    orx.ok(&["schedule", "add", "n", "--cron", "0 2 * * *", "--tz", "UTC", "--", "true"]);
    orx.ok(&["schedule", "update", "n", "--apply", "next", "--cron", "0 5 * * *"]);
    let preview = |args: &[&str]| -> Vec<String> {
        let shown = orx.json(&[&["schedule", "preview", "n", "-n", "3"], args].concat());
        shown.as_array().unwrap().iter().map(|row| row["due_at"].as_str().unwrap().to_owned()).collect()
    };
    let next = orx.json(&["schedule", "show", "n"])["next_due_at"].as_str().unwrap().to_owned();
    let day = &next[..10];
    let due = preview(&[]);
    assert_eq!(due[..2], [format!("{day}T02:00:00.000Z"), format!("{day}T05:00:00.000Z")]);
    assert!(due[2].ends_with("T05:00:00.000Z"), "{due:?}");
    assert_eq!(preview(&["--from", &due[1]])[0], due[1], "it is over by then");
}

#[test]
fn s22_what_was_missed_is_made_up_for_one_after_the_other() {
    let orx = Orx::new();
    let script = "mkdir busy || echo two at once >> times; echo $ORX_SCHEDULED_FOR >> times; rmdir busy";
    let minutely = ["--cron", "* * * * *", "--tz", "UTC"];
    let add = |name, more: &[&str]| orx.ok(&[&["-q", "schedule", "add", name], &minutely[..], more].concat());
    add("five", &["--catch-up", "5", "--", "sh", "-c", script]);
    add("last", &["--", "true"]);
    // As if nobody had been there for eleven minutes.
    orx.damage("UPDATE schedules SET recorded_until = recorded_until - 660000, next_due_at = next_due_at - 660000");
    let worker = orx.worker(&["-q", "--slots", "4"]);
    eventually("all of them", || orx.read("times").lines().count() >= 6);
    worker.stop().expect(0, &[]);
    let rows = history(&orx, "five");
    let flagged = rows.iter().filter(|row| row["flags"] == json!(["recovered"])).count();
    assert_eq!(flagged, 5, "{rows:?}");
    let times = orx.read("times");
    assert!(times.lines().is_sorted() && !times.contains("two"), "{times}");
    let rows = history(&orx, "last");
    let [.., newest, missed] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(
        (&newest["state"], &newest["flags"], &missed["reason"]),
        (&json!("fired"), &json!([]), &json!("missed"))
    );
    orx.check().expect(0, &["is sound"]);
}

#[test]
fn s21_a_backfill_that_leaves_instants_out_fails_and_says_how_to_go_on() {
    let orx = Orx::new();
    orx.ok(&["-q", "schedule", "add", "s", "--cron", "* * * * *", "--tz", "UTC", "--", "true"]);
    let range = ["--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T01:49:00Z"];
    let out = orx.run(&[&["schedule", "backfill", "s"], &range[..]].concat());
    let rest = "--from 2026-01-01T01:40:00.000Z --to 2026-01-01T01:49:00.000Z";
    out.expect(
        8,
        &[
            "100 instants to run, 10 left out (overlap)",
            "orx: 10 instants left out (overlap), from 2026-01-01T01:40:00.000Z to 2026-01-01T01:49:00.000Z",
            &format!("hint: 100 wait already; when some have ended: orx schedule backfill s {rest}"),
        ],
    );
    assert!(out.stdout().contains("2026-01-01T01:39:00.000Z"), "those that fired are listed: {out}");
    let skip = ["--overlap", "skip"];
    let refused = orx.run(&[&["schedule", "backfill", "s"], &range[..], &skip[..]].concat());
    refused.expect(5, &["10 instants left out (overlap)", "when the runs before have ended", "--overlap skip"]);
    orx.ok(&["-q", "cancel", "--all", "--yes"]);
    let words: Vec<&str> = ["schedule", "backfill", "s"].into_iter().chain(rest.split(' ')).collect();
    orx.run(&words).expect(0, &["10 instants to run"]);
}
