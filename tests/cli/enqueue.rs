//! `orx enqueue`: one job.

use super::support::*;

#[test]
fn enqueue_prints_the_id_and_nothing_else() {
    let orx = Orx::new();
    snapshot!(orx.run(&["enqueue", "--", "true"]), @r"
    exit 0
    -- stdout
    [id]
    ");
    snapshot!(orx.run(&["add", "-o", "id", "--", "true"]), @r"
    exit 0
    -- stdout
    [id]
    ");
    assert_eq!(orx.states(), "pending pending");
}

#[test]
fn enqueue_prints_what_was_stored_in_the_form_that_was_asked_for() {
    let orx = Orx::new();
    for form in ["json", "ndjson"] {
        let text = orx.ok(&["enqueue", "-o", form, "--queue", "build", "--", "true"]);
        let job = &lines_of_json(&text)[0];
        assert_eq!((&job["state"], &job["queue"]), (&"pending".into(), &"build".into()), "{text}");
        assert!(job["number"].is_i64() && job["id"].is_string(), "{text}");
    }
    let text = orx.ok(&["enqueue", "--format", "{{number}} {{state}}", "--delay", "1h", "--", "true"]);
    assert_eq!(text, "3 scheduled\n");
}

#[test]
fn a_template_that_is_not_understood_is_refused_before_anything_is_stored() {
    let orx = Orx::new();
    orx.run(&["enqueue", "--format", "{{", "--", "true"]).expect(2, &["--format"]);
    assert_eq!(orx.states(), "");
}

#[test]
fn options_are_kept_as_given() {
    let orx = Orx::new();
    orx.add(&[
        "--queue",
        "build",
        "--tenant",
        "acme",
        "--name",
        "nightly",
        "--priority",
        "-7",
        "--max-attempts",
        "4",
        "--label",
        "team=web",
        "--label",
        "env=ci",
        "--idempotency-key",
        "k1",
        "--",
        "make",
        "a b",
    ]);
    let job = orx.job("1");
    for (field, value) in
        [("queue", "build"), ("tenant", "acme"), ("name", "nightly"), ("state", "pending"), ("idempotency_key", "k1")]
    {
        assert_eq!(job[field], value, "{field}");
    }
    assert_eq!((&job["priority"], &job["max_attempts"]), (&(-7).into(), &4.into()));
    assert_eq!(job["labels"], serde_json::json!({"env": "ci", "team": "web"}));
    assert_eq!(job["command"], serde_json::json!(["make", "a b"]));
}

#[test]
fn wrong_options_are_usage_errors_and_store_nothing() {
    let orx = Orx::new();
    let cases: &[(&[&str], &str)] = &[
        (&[], "command is missing"),
        (&["--", ""], "command is empty"),
        (&["--bogus", "--", "true"], "--bogus"),
        (&["--priority", "101", "--", "true"], "priority"),
        (&["--priority", "high", "--", "true"], "--priority"),
        (&["--max-attempts", "0", "--", "true"], "max_attempts"),
        (&["--max-attempts", "-1", "--", "true"], "-1"),
        (&["--timeout", "0s", "--", "true"], "timeout"),
        (&["--timeout", "soon", "--", "true"], "is not a duration"),
        (&["--delay", "-5s", "--", "true"], "-5"),
        (&["--delay", "1s", "--at", "2030-01-01T00:00:00Z", "--", "true"], "cannot be used with"),
        (&["--at", "noon", "--", "true"], "noon"),
        (&["--at", "09:00", "--tz", "Mars/Base", "--", "true"], "Mars/Base"),
        (&["--backoff", "1m..1s", "--", "true"], "cap"),
        (&["--retry-codes", "0", "--", "true"], "exit code from 1 to 255"),
        (&["--restart", "never", "--", "true"], "always"),
        (&["--restart", "always", "--max-attempts", "2", "--", "true"], "max_attempts"),
        (&["--on-conflict", "return", "--", "true"], "--name"),
        (&["--label", "team", "--", "true"], "KEY=VALUE"),
        (&["--queue", "a b", "--", "true"], "queue"),
        (&["--limit", "db=0", "--", "true"], "KEY=N"),
        (&["--after", "x", "--", "true"], "names no job"),
        (&["--after", "1:never", "--", "true"], "neither done nor ended"),
        (&["--env", "=x", "--", "true"], "env"),
        (&["--stdin", "nowhere", "--", "true"], "cannot read nowhere"),
        (&["--payload", "{}", "--", "true"], "--handler"),
        (&["--handler", "h", "--payload", "{", "--"], "not JSON"),
        (&["--handler", "h", "--", "true"], "exclude each other"),
        (&["--batch", "x", "--", "true"], "--batch"),
        (&["--skip-invalid", "--", "true"], "--from"),
        (&["--from", "f", "--", "true"], "cannot be used with"),
    ];
    for (args, said) in cases {
        let out = orx.run(&[&["enqueue"], *args].concat());
        assert!(out.code == Some(2) && out.stderr().contains(said), "{args:?} should say {said:?}\n{out}");
    }
    assert_eq!(orx.states(), "");
}

#[test]
fn a_usage_error_of_enqueue_is_2_whatever_its_words_are() {
    let orx = Orx::new();
    orx.run(&["enqueue", "--queue", "run", "--bogus", "--", "true"]).expect(2, &["--bogus"]);
    orx.run(&["--store", "run", "list", "--bogus"]).expect(2, &["--bogus"]);
    orx.run(&["--store", "x.db", "run", "--bogus"]).expect(125, &["--bogus"]);
}

#[test]
fn a_job_that_is_not_there_cannot_be_waited_for() {
    let orx = Orx::new();
    orx.run(&["enqueue", "--after", "42", "--", "true"]).expect(3, &["--after: no job 42"]);
    assert_eq!(orx.states(), "");
}

#[test]
fn s13_the_same_key_gives_the_same_job_and_another_job_is_a_conflict() {
    let orx = Orx::new();
    let key = ["enqueue", "--idempotency-key", "k", "--"];
    let first = orx.ok(&[&key[..], &["echo", "a"]].concat());
    // Neither the environment nor the directory is part of what the key stands for.
    std::fs::create_dir(orx.path("elsewhere")).unwrap();
    let again = orx.call(&[&key[..], &["echo", "a"]].concat()).dir(orx.path("elsewhere")).env("LANG", "C").run();
    assert_eq!(again.stdout(), first);
    snapshot!(orx.run(&[&key[..], &["echo", "b"]].concat()), @r"
    exit 5
    -- stderr
    orx: the idempotency key k stands for another job, 1
    hint: use a new key for a new job
    ");
    orx.burst();
    assert_eq!(orx.ok(&[&key[..], &["echo", "a"]].concat()), first, "also when it has ended");
    assert_eq!(orx.states(), "done");
}

#[test]
fn s12_a_name_is_taken_until_its_job_has_ended() {
    let orx = Orx::new();
    let named = ["enqueue", "--name", "deploy"];
    let first = orx.ok(&[&named[..], &["--", "echo", "1"]].concat());
    snapshot!(orx.run(&[&named[..], &["--", "echo", "2"]].concat()), @r"
    exit 5
    -- stderr
    orx: the name deploy is taken by job 1, which is pending
    hint: --on-conflict return gives that job, --on-conflict replace takes its place
    ");
    assert_eq!(orx.ok(&[&named[..], &["--on-conflict", "return", "--", "echo", "3"]].concat()), first);
    orx.ok(&[&named[..], &["--tenant", "other", "--", "echo", "4"]].concat());
    let replacing = orx.ok(&[&named[..], &["--on-conflict", "replace", "--", "echo", "5"]].concat());
    assert_ne!(replacing, first);
    assert_eq!((orx.state("1"), orx.job("1")["reason"].clone()), ("cancelled".into(), "replaced".into()));
    orx.burst();
    orx.ok(&[&named[..], &["--", "echo", "6"]].concat());
    assert_eq!(orx.states(), "cancelled done done pending");
}

#[test]
fn s12_replacing_a_running_job_asks_it_to_end_and_waits_for_it() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--slots", "2"]);
    let stubborn = "trap 'echo asked > asked' TERM; echo up > up; until [ -e go ]; do sleep 0.02; done";
    orx.sh(&["--name", "n", "--kill-grace", "1h"], stubborn);
    orx.wait_line("up");
    orx.add(&["--name", "n", "--on-conflict", "replace", "--", "true"]);
    orx.wait_line("asked");
    assert_eq!(orx.states(), "running blocked");
    orx.write("go", "");
    orx.run(&["wait", "2"]).expect(0, &[]);
    assert_eq!(orx.states(), "cancelled done");
}

#[test]
fn s12_who_replaces_one_that_waits_waits_for_the_one_of_that_name_and_for_no_other() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--slots", "3"]);
    orx.sh(&[], "echo up > other; until [ -e one ]; do sleep 0.02; done");
    orx.wait_line("other");
    let stubborn = "trap '' TERM; echo up > up; until [ -e go ]; do sleep 0.02; done";
    orx.sh(&["--name", "n", "--kill-grace", "1h"], stubborn);
    orx.wait_line("up");
    orx.add(&["--name", "n", "--on-conflict", "replace", "--after", "1:ended", "--", "true"]);
    orx.add(&["--name", "n", "--on-conflict", "replace", "--", "true"]);
    orx.write("one", "");
    orx.run(&["wait", "1"]).expect(0, &[]);
    assert_eq!(orx.states(), "done running cancelled blocked");
    orx.write("go", "");
    orx.run(&["wait", "4"]).expect(0, &[]);
}

#[test]
fn a_time_is_read_in_the_zone_that_was_named() {
    let orx = Orx::new();
    orx.add(&["--at", "2099-07-01 09:00", "--tz", "Europe/Berlin", "--", "true"]);
    let job = orx.job("1");
    assert_eq!((&job["due_at"], &job["state"]), (&"2099-07-01T07:00:00.000Z".into(), &"scheduled".into()));
}

#[test]
fn a_time_of_day_is_the_next_one_and_a_time_that_is_over_is_refused() {
    let orx = Orx::new();
    let ms = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    // Whatever the time is: an hour ago, and in an hour.
    for (job, ago) in [("1", 3600), ("2", -3600)] {
        let now = jiff::Timestamp::now();
        let time = (now - jiff::SignedDuration::from_secs(ago)).to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M:%S");
        orx.add(&["--at", &time.to_string(), "--tz", "UTC", "--", "true"]);
        let due = ms(orx.job(job)["due_at"].as_str().unwrap()) - now.as_millisecond();
        let expected = if ago > 0 { 23 } else { 1 } * 3_600_000;
        assert!((due - expected).abs() < 60_000, "{job}: due in {due} ms");
    }
    for command in ["enqueue", "run"] {
        let past = orx.run(&[command, "--at", "2020-01-01 09:00", "--tz", "UTC", "--", "true"]);
        past.expect(
            if command == "run" { 125 } else { 2 },
            &["--at: 2020-01-01T09:00:00.000Z is over since", "time zone"],
        );
    }
    // What a program says of the past starts at once.
    orx.write("jobs", r#"{"command":["true"],"at":"2020-01-01T09:00:00Z"}"#);
    orx.ok(&["enqueue", "--from", "jobs"]);
    assert_eq!(orx.state("3"), "pending");
}

#[test]
fn a_delayed_job_runs_when_it_is_due() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    orx.run(&["enqueue", "--wait", "--delay", "300ms", "--", "true"]).expect(0, &[]);
    let job = orx.job("1");
    let ms = |field: &str| job[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert!(ms("started_at") - ms("created_at") >= 300, "{job}");
}

#[test]
fn wait_and_follow_exit_as_the_job_did() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    let out = orx.run(&["enqueue", "--wait", "--", "sh", "-c", "echo unseen; exit 6"]);
    assert_eq!((out.code, out.stdout()), (Some(6), String::new()), "{out}");
    let out = orx.run(&["enqueue", "--follow", "--", "sh", "-c", "echo seen; exit 6"]);
    assert_eq!((out.code, out.stdout()), (Some(6), "seen\n".into()), "{out}");
}

#[test]
fn a_job_whose_id_cannot_be_printed_is_stored_and_it_says_so() {
    let orx = Orx::file();
    let script = format!("exec {} enqueue -- true > /dev/full", env!("CARGO_BIN_EXE_orx"));
    let mut shell = std::process::Command::new("sh");
    let out = shell.args(["-c", &script]).env_clear().env("HOME", orx.path("")).output().unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("orx: stored as job 1: ") && stderr.contains("No space left"), "{stderr}");
    assert_eq!(orx.states(), "pending");
}

#[test]
fn high_priorities_go_first_and_then_the_older_job() {
    let orx = Orx::new();
    for (name, priority) in [("c", "0"), ("e", "-1"), ("a", "9"), ("d", "0"), ("b", "9")] {
        orx.sh(&["--priority", priority], &format!("echo {name} >> order"));
    }
    orx.ok(&["-q", "worker", "--burst", "--slots", "1"]);
    assert_eq!(orx.read("order"), "a\nb\nc\nd\ne\n");
}

#[test]
fn s16_jobs_that_share_a_limit_do_not_run_together() {
    let orx = Orx::new();
    // A second one at the same time would find the directory.
    let script = "mkdir lock || { echo two > two; exit 1; }; sleep 0.05; rmdir lock";
    for _ in 0..4 {
        orx.sh(&["--limit", "db=1"], script);
    }
    orx.ok(&["-q", "worker", "--burst", "--slots", "4"]);
    assert_eq!(orx.states(), "done done done done");
    orx.run(&["enqueue", "--limit", "db=2", "--", "true"]).expect(5, &["limit db is 1, not 2", "orx limit set db"]);
}

#[test]
fn over_a_limit_the_code_is_8_and_says_when_to_try_again() {
    let orx = Orx::new();
    orx.ok(&["queue", "set", "small", "--max-queued", "1"]);
    orx.ok(&["enqueue", "--queue", "small", "--", "true"]);
    orx.run(&["enqueue", "--queue", "small", "--", "true"])
        .expect(8, &["queue small may have 1 job queued", "try again in 5 s"]);
    assert_eq!(orx.states(), "pending");
}

#[test]
fn the_rate_and_size_of_a_tenant_are_limits_with_exit_code_8() {
    let orx = Orx::new();
    orx.ok(&["tenant", "set", "*", "--per-minute", "2", "--max-payload", "1k"]);
    let add = |more: &[&str]| orx.run(&[&["enqueue", "--tenant", "web"], more].concat());
    add(&["--", "true"]).expect(0, &[]);
    add(&["--stdin", "-", "--", "true"]).expect(0, &[]);
    add(&["--", "true"]).expect(8, &["tenant web may submit 2 jobs a minute", "try again in"]);
    orx.ok(&["tenant", "set", "web", "--per-minute", "none"]);
    let large = orx.write("large", "x".repeat(1025));
    add(&["--stdin", &large, "--", "true"]).expect(8, &["tenant web takes payloads of 1024 bytes, and this has 1025"]);
    snapshot!(orx.run(&["tenant", "list"]), @r"
    exit 0
    -- stdout
    TENANT  QUEUED  OF  RUNNING  OF  A MINUTE  PAYLOAD
    *  0  any  0  any  2  1024
    web  2  any  0  any  any  1024
    ");
    orx.run(&["tenant", "set", "web", "--max-payload", "1x"]).expect(2, &["such as"]);
}
