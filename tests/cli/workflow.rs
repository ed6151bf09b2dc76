//! `orx workflow` and `orx run --workflow` (S19).

use std::time::Instant;

use serde_json::Value;

use super::support::*;

const NIGHTLY: &str = r#"
name = "nightly"
on_failure = "continue"
on_start = ["sh", "-c", "echo start >> order"]
on_complete = ["sh", "-c", "cat > report.json"]
defaults = { cwd = "." , max_attempts = 1 }

[[task]]
name = "build"
command = ["sh", "-c", "echo build >> order; echo 1.2.3 | $ORX result -"]

[[task]]
name = "test"
needs = ["build"]
command = ["sh", "-c", "cat $ORX_RESULT_BUILD $ORX_RESULT_build > got; echo \"<bad> & worse\" >&2; exit 3"]

[[task]]
name = "docs"
needs = ["build"]
command = ["sh", "-c", "echo $ORX_RUN_ID $ORX_TASK > docs"]

[[task]]
name = "ship"
needs = ["test", "docs"]
command = ["true"]

[[task]]
name = "tidy"
needs = ["ship"]
always = true
command = ["sh", "-c", "echo tidy >> order"]
"#;

/// A home with the workflow in it.
fn home() -> Orx {
    let orx = Orx::new();
    let text = NIGHTLY.replace("cwd = \".\"", &format!("cwd = {:?}", orx.path("")));
    orx.write("nightly.toml", text.replace("$ORX ", &format!("{} ", env!("CARGO_BIN_EXE_orx"))));
    orx
}

#[test]
fn a_workflow_is_stored_run_shown_and_reported() {
    let orx = home();
    let out = orx.run(&["workflow", "submit", "nightly.toml"]);
    snapshot!(out, @r"
    exit 0
    -- stdout
    [id]
    ");
    let id = out.stdout().trim().to_owned();
    assert_eq!(orx.states(), "pending blocked blocked blocked blocked blocked");
    orx.burst();
    assert_eq!(orx.read("order"), "start\nbuild\ntidy\n");
    assert_eq!(orx.read("got"), "1.2.31.2.3", "what a needed task made");
    assert_eq!(orx.read("docs"), format!("{id} docs\n"));
    let job = orx.job("2");
    assert_eq!((&job["run_id"], &job["task"]), (&Value::from(id.as_str()), &Value::from("build")));

    snapshot!(orx.run(&["workflow", "show", "last"]), @r#"
    exit 0
    -- stdout
    run:  nightly  [id]
    state:  failed
    started:  [time] ([ago])
    finished:  [time] ([ago])
    took:  [took]

    ✔ on_start  done  [took]
    ✔ build  done  [took]
    ├─ ✖ test  failed  [took]  exit 3  <bad> & worse
    └─ ✔ docs  done  [took]
      └─ – ship  skipped  needs test, docs  needs job 3, which is failed
      └─ ✔ tidy  done  [took]  always
    ✔ on_complete  done  [took]

    5 done, 1 failed, 1 skipped
    "#);
    snapshot!(orx.run(&["workflow", "report", &id[..35]]), @r#"
    exit 0
    -- stdout
    run:  nightly  [id]
    state:  failed
    started:  [time] ([ago])
    finished:  [time] ([ago])
    took:  [took]

    TASK  STATE  JOB  ATTEMPTS  TOOK  ENDED BY  NOTE
    on_start  done  1  1  [took]
    build  done  2  1  [took]
    test  failed  3  1  [took]  exit 3  <bad> & worse
    docs  done  4  1  [took]
    ship  skipped  5  0  needs job 3, which is failed
    tidy  done  6  1  [took]  always
    on_complete  done  7  1  [took]

    5 done, 1 failed, 1 skipped
    "#);
    snapshot!(orx.run(&["workflow", "report", "last", "-o", "junit"]), @r#"
    exit 0
    -- stdout
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="nightly" tests="7" failures="1" errors="0" skipped="1" time="[when]">
      <testsuite name="nightly" id="[id]" timestamp="[when]" tests="7" failures="1" errors="0" skipped="1" time="[when]">
      <testcase classname="nightly" name="on_start" time="[when]"/>
      <testcase classname="nightly" name="build" time="[when]"/>
      <testcase classname="nightly" name="test" time="[when]">
      <failure message="failed: exit 3 (job 3)">&lt;bad&gt; &amp; worse</failure>
      </testcase>
      <testcase classname="nightly" name="docs" time="[when]"/>
      <testcase classname="nightly" name="ship" time="[when]">
      <skipped message="skipped: needs job 3, which is failed (job 5)"/>
      </testcase>
      <testcase classname="nightly" name="tidy" time="[when]"/>
      <testcase classname="nightly" name="on_complete" time="[when]"/>
      </testsuite>
    </testsuites>
    "#);
    let report: Value = serde_json::from_str(&orx.read("report.json")).unwrap();
    assert_eq!((&report["id"], &report["state"]), (&Value::from(id.as_str()), &Value::from("failed")));
    assert_eq!(report["tasks"].as_array().unwrap().len(), 6);
    snapshot!(orx.run(&["workflow", "list"]), @r#"
    exit 0
    -- stdout
    RUN  NAME  STATE  OPEN  FAILED  AGE  TOOK  NOTE
    [id]  nightly  failed  0  1  [ago]  [took]
    "#);
    orx.run(&["audit"]).expect(0, &[]);
    orx.check().expect(0, &[]);
}

#[test]
fn the_json_of_a_run_has_the_fields_of_the_reference() {
    let orx = home();
    orx.ok(&["workflow", "submit", "nightly.toml"]);
    let run = orx.json(&["workflow", "show", "last"]);
    for key in
        ["id", "name", "state", "started_at", "finished_at", "schedule_id", "occurrence_id", "replay_of", "tasks"]
    {
        assert!(run.get(key).is_some(), "{key}");
    }
    // As it was given, and what that means.
    assert_eq!(run["workflow"]["on_failure"], "continue");
    let build = &run["tasks"][1];
    assert_eq!((&build["task"], &build["options"]["max_attempts"]), (&Value::from("build"), &Value::from(1)));
    assert!(run["workflow"]["task"][0].get("max_attempts").is_none());
    let report = orx.json(&["workflow", "report", "last"]);
    assert!(report.get("workflow").is_none());
}

#[test]
fn a_file_that_makes_no_sense_is_refused_with_the_place() {
    let orx = Orx::new();
    orx.make();
    orx.write("bad.toml", "name = 'x'\n\n[[task]]\nname = 'a'\nneeds = ['b']\ncommand = ['true']\n");
    snapshot!(orx.run(&["workflow", "submit", "bad.toml"]), @r#"
    exit 2
    -- stderr
    orx: bad.toml: line 5: task a needs b, which is no task
    "#);
    let json = r#"{"name":"x","task":[{"name":"a","command":["true"],"needs":["b"]},{"name":"b","command":["true"],"needs":["a"]}]}"#;
    snapshot!(orx.call(&["workflow", "submit", "-"]).stdin(json).run(), @r#"
    exit 2
    -- stderr
    orx: standard input: tasks need each other in a circle: a → b → a
    "#);
    snapshot!(orx.run(&["workflow", "show", "last"]), @r#"
    exit 3
    -- stderr
    orx: there is no run yet
    hint: 'orx workflow submit FILE' stores one
    "#);
    snapshot!(orx.run(&["list", "-o", "junit"]), @r#"
    exit 2
    -- stderr
    orx: -o junit is for 'orx workflow report' only
    "#);
}

#[test]
fn a_replay_does_again_what_failed_and_says_why() {
    let orx = home();
    orx.ok(&["workflow", "submit", "nightly.toml"]);
    orx.burst();
    snapshot!(orx.run(&["workflow", "replay", "last", "--failed", "--reason", "the disk was full"]), @r"
    exit 0
    -- stdout
    [id]
    ");
    orx.burst();
    snapshot!(orx.run(&["workflow", "show", "last"]), @r#"
    exit 0
    -- stdout
    run:  nightly  [id]
    state:  failed
    started:  [time] ([ago])
    finished:  [time] ([ago])
    took:  [took]
    replay of:  [id]
    because:  the disk was full

    ✔ on_start  done  [took]
    ✔ build  done  [took]  of the run before
    ├─ ✖ test  failed  [took]  exit 3  <bad> & worse
    └─ ✔ docs  done  [took]  of the run before
      └─ – ship  skipped  needs test, docs  needs job 9, which is failed
      └─ ✔ tidy  done  [took]  always
    ✔ on_complete  done  [took]

    5 done, 1 failed, 1 skipped
    "#);
    orx.run(&["workflow", "replay", "last", "--from", "ship"]).expect(5, &["task ship: needs test, which is not done"]);
    orx.run(&["workflow", "replay", "last", "--from", "shop"]).expect(3, &["no task shop"]);
}

#[test]
fn s19_a_cancel_ends_what_runs_and_lets_clean_up_tasks_run() {
    let orx = Orx::new();
    orx.write(
        "w.toml",
        "name='w'\n[[task]]\nname='a'\ncommand=['sh','-c','echo $$ > pid; exec sleep 100']\n\
         [[task]]\nname='b'\nneeds='a'\ncommand=['true']\n\
         [[task]]\nname='tidy'\nneeds='b'\nalways=true\ncommand=['sh','-c','echo tidy > tidied']\n",
    );
    orx.ok(&["workflow", "submit", "w.toml"]);
    let worker = orx.worker(&[]);
    let pid = orx.wait_pid("pid");
    orx.run(&["workflow", "cancel", "last", "--reason", "wrong branch"]).expect(0, &[]);
    orx.wait_line("tidied");
    eventually("the run to have ended", || orx.json(&["workflow", "show", "last"])["state"] == "cancelled");
    assert!(!is_alive(pid));
    assert_eq!(orx.states(), "cancelled cancelled done");
    assert_eq!(orx.job("1")["reason"], "wrong branch");
    orx.run(&["workflow", "cancel", "last"]).expect(5, &["a cancelled run cannot be cancelled"]);
    worker.stop().expect(0, &[]);
    orx.run(&["audit"]).expect(0, &[]);
}

#[test]
fn s19_fail_fast_leaves_no_process_behind() {
    let orx = Orx::new();
    let until_there = "until [ -s pid ]; do sleep 0.02; done; exit 7";
    let deep = "sh -c 'echo $$ > pid; exec setsid sleep 100' & wait";
    let task = |name: &str, script: &str| serde_json::json!({ "name": name, "command": ["sh", "-c", script] });
    let tasks = [task("bad", until_there), task("deep", deep), task("idle", "true")];
    orx.write("w.json", serde_json::json!({ "name": "w", "max_parallel": 2, "task": tasks }).to_string());
    orx.ok(&["workflow", "submit", "w.json"]);
    orx.ok(&["-q", "worker", "--burst", "--slots", "4"]);
    let pid = orx.wait_pid("pid");
    assert!(!is_alive(pid));
    assert_eq!(orx.states(), "failed cancelled skipped");
    assert_eq!(orx.job("2")["reason"], "task bad failed");
    orx.run(&["audit"]).expect(0, &[]);
}

#[test]
fn a_workflow_goes_on_after_its_worker_was_killed() {
    let orx = Orx::new();
    let once = "echo x >> tries; [ $(wc -l < tries) -gt 1 ] || { echo $$ > pid; exec sleep 100; }";
    let tasks = serde_json::json!([
        { "name": "a", "command": ["sh", "-c", once] }, { "name": "b", "needs": "a", "command": ["true"] }
    ]);
    orx.write("w.json", serde_json::json!({ "name": "w", "task": tasks }).to_string());
    orx.ok(&["workflow", "submit", "w.json"]);
    let worker = orx.worker(&["--name", "w"]);
    orx.wait_pid("pid");
    worker.kill();
    let worker = orx.worker(&["--name", "w"]); // takes back what its predecessor ran (S8)
    eventually("the run to be done", || orx.json(&["workflow", "show", "last"])["state"] == "done");
    assert_eq!(orx.job("1")["losses"], 1);
    worker.stop().expect(0, &[]);
    orx.run(&["audit"]).expect(0, &[]);
}

#[test]
fn run_follows_all_tasks_and_exits_with_one_if_it_failed() {
    let orx = home();
    let out = orx.run(&["run", "--workflow", "nightly.toml"]);
    // Whether one is seen running depends on when it is looked at.
    let ended = |line: &&str| !line.contains("running");
    let stderr = out.stderr();
    let lines: Vec<&str> = stderr.lines().filter(ended).map(|l| l.split([':', ' ']).next().unwrap()).collect();
    let mut tasks = lines.clone();
    tasks.sort_unstable();
    assert_eq!(tasks, ["build", "docs", "on_complete", "on_start", "run", "ship", "test", "tidy"], "{out}");
    out.expect(
        1,
        &["build  done in ", "test  failed: exit 3; orx tail 3", "ship  skipped: needs job 3, which is failed"],
    );
    assert!(stderr.trim_end().ends_with("of nightly is failed"), "{out}");
    assert_eq!(orx.json(&["workflow", "show", "last"])["state"], "failed");

    orx.write("ok.json", r#"{"name":"ok","mode":"sequential","task":[{"name":"a","command":["true"]}]}"#);
    orx.run(&["run", "--workflow", "ok.json"]).expect(0, &["of ok is done"]);
    orx.run(&["run", "--workflow", "none.toml"]).expect(125, &["cannot read none.toml"]);
    orx.run(&["run", "--workflow", "ok.json", "--queue", "x"]).expect(125, &["stand in the file"]);
}

#[test]
fn wait_ends_as_the_run_does() {
    let orx = home();
    let run = orx.ok(&["workflow", "submit", "nightly.toml"]);
    orx.run(&["workflow", "wait", run.trim(), "--timeout", "10ms"]).expect(75, &["is running still"]);
    let waiting = orx.spawn(&["workflow", "wait", run.trim(), "--timeout", "60s"]);
    orx.burst();
    let out = waiting.wait();
    out.expect(1, &["build  done", "test  failed: exit 3; orx tail", "ship  skipped", "of nightly is failed"]);
    orx.run(&["workflow", "wait", "last"]).expect(1, &["of nightly is failed"]);
    orx.run(&["workflow", "wait", "none"]).expect(2, &[]);
    orx.write("fine.toml", "name = \"fine\"\n[[task]]\nname = \"one\"\ncommand = [\"true\"]\n");
    orx.ok(&["workflow", "submit", "fine.toml"]);
    orx.burst();
    orx.run(&["workflow", "wait", "last"]).expect(0, &["of fine is done"]);
}

#[test]
fn s19_the_time_of_a_run_counts_from_its_first_start() {
    let orx = Orx::new();
    orx.write("w.toml", "name='w'\ntimeout='1500ms'\n[[task]]\nname='a'\ncommand=['true']\n");
    orx.ok(&["workflow", "submit", "w.toml"]);
    orx.run(&["workflow", "wait", "last", "--timeout", "2s"]).expect(75, &["is running still"]);
    let run = orx.json(&["workflow", "show", "last"]);
    assert_eq!((&run["started_at"], &run["timeout_at"]), (&Value::Null, &Value::Null));
    orx.burst();
    let run = orx.json(&["workflow", "show", "last"]);
    assert_eq!((&run["state"], run["started_at"].is_string()), (&Value::from("done"), true));
}

#[test]
fn s19_no_task_starts_when_the_time_of_its_run_is_over() {
    let orx = Orx::new();
    orx.write(
        "w.toml",
        "name='w'\ntimeout='1s'\n[[task]]\nname='a'\ncommand=['true']\n\
         [[task]]\nname='b'\nneeds='a'\nqueue='late'\ncommand=['sh','-c','echo b > b']\n\
         [[task]]\nname='tidy'\nneeds='b'\nalways=true\nqueue='late'\ncommand=['sh','-c','echo tidy > tidied']\n",
    );
    orx.ok(&["workflow", "submit", "w.toml"]);
    orx.ok(&["-q", "worker", "--burst", "--queues", "default"]);
    assert_eq!(orx.state("1"), "done");
    // A coordinator does the upkeep and ends the run meanwhile; where there is none, nobody does.
    orx.run(&["workflow", "wait", "last", "--timeout", "1200ms"]);
    orx.burst();
    assert_eq!(orx.states(), "done skipped done");
    assert_eq!((orx.read("b"), orx.read("tidied")), (String::new(), "tidy\n".to_owned()));
    assert_eq!(orx.story("2"), "enqueued unblocked skipped");
    let run = orx.json(&["workflow", "show", "last"]);
    let (failed, reason) = (Value::from("failed"), Value::from("the run timed out after 1s"));
    assert_eq!((&run["state"], &run["reason"]), (&failed, &reason));
    orx.run(&["audit"]).expect(0, &[]);
}

#[test]
fn a_run_survives_whoever_follows_it() {
    let orx = Orx::new();
    let script = format!("echo $$ > pid; {UNTIL_GO}");
    let task = serde_json::json!({ "name": "a", "command": ["sh", "-c", script] });
    let next = serde_json::json!({ "name": "b", "needs": "a", "command": ["true"] });
    orx.write("w.json", serde_json::json!({ "name": "w", "task": [task, next] }).to_string());
    let worker = orx.worker(&[]);
    let follower = orx.spawn(&["run", "--workflow", "w.json"]);
    orx.wait_pid("pid");
    follower.kill();
    orx.write("go", "");
    eventually("the run to be done", || orx.json(&["workflow", "show", "last"])["state"] == "done");
    worker.stop().expect(0, &[]);
}

#[test]
fn s17_run_leaves_tasks_to_workers_that_carry_what_they_require() {
    let orx = Orx::new();
    let here = format!("echo up > up; {UNTIL_GO}");
    let tasks = serde_json::json!([
        { "name": "here", "command": ["sh", "-c", here] },
        { "name": "there", "require": { "gpu": "1" }, "command": ["sh", "-c", "echo $ORX_WORKER > there"] },
    ]);
    orx.write("w.json", serde_json::json!({ "name": "w", "task": tasks }).to_string());
    let run = orx.spawn(&["run", "--workflow", "w.json"]);
    orx.wait_line("up");
    run.wait_stderr("job 2 is pending: no worker carries gpu=1 (orx worker --labels gpu=1)");
    assert_eq!(orx.states(), "running pending", "it is said though another task runs");
    let _worker = orx.worker(&["--name", "w1", "--labels", "gpu=1"]);
    assert_eq!(orx.wait_line("there"), "w1");
    orx.write("go", "");
    run.wait().expect(0, &["of w is done"]);
}

#[test]
fn whoever_follows_a_run_is_told_once_why_nothing_happens() {
    let orx = Orx::new();
    orx.write("w.toml", "name='w'\ndefaults={queue='held'}\n[[task]]\nname='a'\ncommand=['true']\n[[task]]\nname='b'\nneeds='a'\ncommand=['true']\n");
    orx.ok(&["queue", "pause", "held"]);
    let run = orx.spawn(&["run", "--workflow", "w.toml"]);
    let why = "job 1 is pending: queue held is paused (orx queue resume held); 1 more waits";
    run.wait_stderr(why);
    let wait = orx.spawn(&["workflow", "wait", "last"]);
    wait.wait_stderr(why);
    orx.ok(&["queue", "resume", "held"]);
    for out in [run.wait(), wait.wait()] {
        out.expect(0, &["of w is done"]);
        assert_eq!(out.stderr().matches("is pending").count(), 1, "{out}");
        assert!(!out.stderr().contains("no worker"), "a process is one: {out}");
    }
}

/// A random graph: every task waits for up to three earlier ones.
fn random_graph(tasks: usize) -> String {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut chance = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n as u64) as usize
    };
    let task = |i: usize| {
        let needs: std::collections::BTreeSet<usize> =
            (0..chance(4)).filter(|_| i > 0).map(|_| chance(i.max(1))).collect();
        let needs: Vec<String> = needs.into_iter().map(|n| format!("t{n}")).collect();
        serde_json::json!({ "name": format!("t{i}"), "needs": needs, "command": ["/bin/true"] })
    };
    let tasks: Vec<Value> = (0..tasks).map(task).collect();
    serde_json::json!({ "name": "random", "task": tasks }).to_string()
}

#[test]
fn a_thousand_tasks_run_in_the_order_of_a_random_graph() {
    let tasks: usize = std::env::var("ORX_TEST_TASKS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let orx = Orx::new();
    orx.write("graph.json", random_graph(tasks));
    let begun = Instant::now();
    orx.ok(&["workflow", "submit", "graph.json"]);
    let stored = begun.elapsed();
    orx.ok(&["-q", "worker", "--burst", "--slots", "8"]);
    let run = orx.json(&["workflow", "report", "last"]);
    assert_eq!(run["state"], "done");
    assert_eq!(run["tasks"].as_array().unwrap().len(), tasks);
    orx.run(&["audit"]).expect(0, &[]);
    orx.check().expect(0, &[]);
    eprintln!("stored in {stored:?}, ran in {:?}", begun.elapsed() - stored);
}
