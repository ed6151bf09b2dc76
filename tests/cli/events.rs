//! `orx events`: the audit trail.

use rustix::process::Signal;

use super::support::*;

#[test]
fn the_trail_of_a_job_that_run_ran_itself() {
    let orx = Orx::new();
    orx.run(&["run", "--", "true"]);
    assert_eq!(orx.story("1"), "enqueued leased started settled");
    let events = orx.events();
    let seqs: Vec<i64> = events.iter().map(|e| e["seq"].as_i64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    for event in &events {
        assert_eq!(keys(event), sorted("seq at kind job_id number attempt worker actor data"));
    }
    let of = |kind: &str| events.iter().find(|e| e["kind"] == kind).unwrap();
    assert_eq!((&of("settled")["data"]["outcome"], &of("settled")["attempt"]), (&"done".into(), &1.into()));
    assert!(of("started")["data"]["pid"].is_i64(), "{}", of("started"));
    assert!(of("enqueued")["actor"].is_string());
}

#[test]
fn the_trail_of_a_retry_tells_each_attempt() {
    let orx = Orx::new();
    orx.run(&["run", "--max-attempts", "2", "--backoff", "0s", "--", "false"]);
    let story = "enqueued leased started settled leased started settled";
    assert_eq!(orx.story("1"), story);
}

#[test]
fn events_are_read_from_a_place_and_followed() {
    let orx = Orx::file();
    for _ in 0..3 {
        orx.add(&["--", "true"]);
    }
    let third = orx.events()[2]["seq"].to_string();
    assert_eq!(lines_of_json(&orx.ok(&["events", "--from", &third])).len(), 1);
    let follow = orx.call(&["events", "-f", "--from", &third]).spawn();
    follow.wait_stdout("\"number\":3");
    orx.add(&["--", "true"]);
    follow.wait_stdout("\"number\":4");
    assert!(!follow.stdout().contains("\"number\":2"));
    follow.signal(Signal::INT);
    follow.wait().expect(0, &[]);
}

#[test]
fn events_of_some_jobs_are_chosen_as_jobs_are_named_elsewhere() {
    let orx = Orx::new();
    let ids: Vec<String> = (0..4).map(|_| orx.ok(&["enqueue", "--", "true"]).trim().to_owned()).collect();
    let of = |jobs: &[&str]| {
        let events = lines_of_json(&orx.ok(&[&["events", "--job"], jobs].concat()));
        events.iter().map(|event| event["number"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of(&["2"]), [2]);
    assert_eq!(of(&["last"]), [4]);
    assert_eq!(of(&[&format!("{},3-4", ids[0])]), [1, 3, 4]);
    assert_eq!(of(&["1", "--job", "last"]), [1, 4]);
    orx.run(&["events", "--job", "9"]).expect(3, &["no job 9"]);
}

#[test]
fn a_template_may_name_what_only_some_events_have_but_nothing_that_none_has() {
    let orx = Orx::new();
    orx.run(&["run", "--", "true"]).expect(0, &[]);
    let shown = orx.ok(&["events", "--job", "1", "--format", "{{kind}} {{data.outcome}}"]);
    assert!(shown.starts_with("enqueued \n") && shown.ends_with("settled done\n"), "{shown}");
    orx.run(&["events", "--format", "{{kin}}"]).expect(2, &["there is no kin", "-o json shows"]);
}

/// An interrupt that comes while it prints, and not while it waits for more, is none the less one.
#[test]
fn events_that_are_followed_end_at_an_interrupt_whenever_it_comes() {
    let orx = Orx::file();
    orx.add(&["--", "true"]);
    let pipe = orx.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let follow = format!("exec '{}' events -f > pipe", env!("CARGO_BIN_EXE_orx"));
    let follow = orx.program("sh", &["-c", &follow]).spawn();
    let mut printed = std::fs::File::open(&pipe).unwrap();
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", follow.pid())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (Signal::INT.as_raw() - 1) != 0
    };
    eventually("interrupts to be caught", caught);
    // More than a pipe holds, and nobody reads it.
    let lines = "{\"command\":[\"true\"]}\n".repeat(1000);
    orx.call(&["-q", "enqueue", "--from", "-"]).stdin(lines).run().expect(0, &[]);
    eventually("the pipe to be full", || rustix::io::ioctl_fionread(&printed).unwrap() >= 60_000);
    follow.signal(Signal::INT);
    follow.wait().expect(0, &[]);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut printed, &mut text).unwrap();
    assert!(text.starts_with("{\"seq\":1,"), "{text:.80}");
}

#[test]
fn events_are_a_table_where_one_is_asked_for() {
    let orx = Orx::file();
    orx.call(&["enqueue", "--", "true"]).env("USER", "ada").run();
    snapshot!(orx.run(&["events", "-o", "table"]), @r#"
    exit 0
    -- stdout
    SEQ  AT  KIND  JOB  ATTEMPT  WORKER  ACTOR  DATA
    1  [time]  enqueued  1  ada  {"state":"pending"}
    "#);
}

#[test]
fn a_program_gets_an_empty_list_where_nothing_is_wrong() {
    let orx = Orx::file();
    orx.run(&["run", "--", "true"]).expect(0, &[]);
    for check in [&["audit"][..], &["db", "check"]] {
        assert_eq!(orx.json(check), serde_json::json!([]));
        assert_eq!(orx.ok(&[check, &["-o", "ndjson"]].concat()), "");
        assert_eq!(orx.ok(check), "");
    }
}
