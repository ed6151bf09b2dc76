//! The words that name jobs.

use super::support::*;

/// Five jobs; 2 and 4 have the label team=web.
fn five() -> Orx {
    let orx = Orx::new();
    let lines = ["x", "web", "x", "web", "x"]
        .map(|team| format!("{{\"command\":[\"true\"],\"label\":{{\"team\":\"{team}\"}}}}"));
    orx.call(&["enqueue", "--from", "-"]).stdin(lines.join("\n")).run().expect(0, &[]);
    orx
}

fn numbers(orx: &Orx, words: &[&str]) -> String {
    let shown = orx.ok(&[&["status", "--format", "{{number}}"], words].concat());
    shown.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn jobs_are_named_by_number_range_id_prefix_last_and_label() {
    let orx = five();
    let id = orx.ok(&["list", "--format", "{{id}}", "--cursor", "4", "--limit", "1"]).trim().to_owned();
    assert_eq!(numbers(&orx, &["3"]), "3");
    assert_eq!(numbers(&orx, &["2-4"]), "2 3 4");
    assert_eq!(numbers(&orx, &[&id]), "3");
    assert_eq!(numbers(&orx, &[&id.to_uppercase()]), "3");
    assert_eq!(numbers(&orx, &[&id[..35]]), "3", "the start of an id");
    assert_eq!(numbers(&orx, &["last"]), "5");
    assert_eq!(sorted(&numbers(&orx, &["@team=web"])), ["2", "4"]);
    assert_eq!(numbers(&orx, &["5", "1-2", "2", "last"]), "5 1 2", "each once, in the order named");
}

#[test]
fn an_ambiguous_prefix_is_refused_with_the_numbers() {
    let orx = Orx::new();
    for _ in 0..2 {
        orx.add(&["--", "true"]);
    }
    let id = orx.ok(&["list", "-o", "id", "--limit", "1"]);
    let start = &id[..7]; // the same for jobs of one minute
    assert!(start.contains(|c: char| c.is_alphabetic()), "a number, as it happens: {start}");
    let out = orx.run(&["status", start]);
    out.expect(2, &[&format!("{start} is the start of 2 ids"), "hint: use the number: 1, 2"]);
}

#[test]
fn a_job_that_is_not_there_is_3_with_a_hint() {
    let orx = Orx::new();
    orx.make();
    snapshot!(orx.run(&["status", "42"]), @r"
    exit 3
    -- stderr
    orx: no job 42
    hint: 'orx list' shows what there is
    ");
    snapshot!(orx.run(&["tail", "last"]), @r"
    exit 3
    -- stderr
    orx: there is no job yet
    hint: 'orx enqueue -- CMD' stores one
    ");
    for command in ["status", "tail", "wait", "cancel", "retry"] {
        for word in ["42", "7-9", "abcdef", "0190a5d2-7c1e-7000-8000-000000000001", "@team=none"] {
            let out = orx.run(&[command, word]);
            let code = if command == "wait" { 125 } else { 3 }; // its small numbers are the job's
            assert_eq!(out.code, Some(code), "orx {command} {word}\n{out}");
            assert!(out.stdout.is_empty(), "{out}");
        }
    }
}

#[test]
fn words_that_name_no_job_are_usage_errors() {
    let orx = Orx::new();
    for word in ["0", "x9", "8-5", "@", "@=v", "99999999999999999999", ""] {
        let out = orx.run(&["status", word]);
        assert_eq!(out.code, Some(2), "{word:?}\n{out}");
    }
    for command in ["tail", "cancel", "retry"] {
        orx.run(&[command]).expect(2, &["no job is named"]);
    }
}

#[test]
fn one_word_that_names_nothing_spoils_the_whole() {
    let orx = five();
    orx.run(&["cancel", "1", "42"]).expect(3, &["no job 42"]);
    assert_eq!(orx.states(), "pending pending pending pending pending");
}

#[test]
fn an_error_is_one_json_object_where_json_was_asked_for() {
    let orx = Orx::new();
    let error = |args: &[&str], code| {
        let out = orx.run(args);
        assert_eq!((out.code, out.stdout()), (Some(code), String::new()), "{out}");
        let parsed: serde_json::Value = serde_json::from_slice(&out.stderr).unwrap();
        assert_eq!((keys(&parsed), keys(&parsed["error"])), (vec!["error"], vec!["hint", "kind", "message"]));
        parsed["error"]["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(error(&["-o", "json", "status", "42"], 3), "not_found");
    assert_eq!(error(&["list", "-o", "json", "--bogus"], 2), "usage");
    assert_eq!(error(&["list", "-o", "json", "--store", "/dev/null/x"], 6), "unavailable");
    assert_eq!(error(&["list", "--output=json", "--state", "x"], 2), "usage");
}

#[test]
fn all_needs_a_yes_where_nobody_can_be_asked() {
    let orx = five();
    orx.add(&["--queue", "build", "--", "true"]);
    orx.run(&["cancel", "--all"]).expect(2, &["Cancel 6 jobs?", "hint: say --yes"]);
    assert_eq!(orx.states(), ["pending"; 6].join(" "));
    orx.run(&["cancel", "--all", "--queue", "build", "--yes"]).expect(0, &[]);
    assert_eq!(orx.state("6"), "cancelled");
    orx.run(&["cancel", "--all", "1"]).expect(2, &["cannot be used with"]);
    orx.run(&["cancel", "--all", "--yes"]).expect(0, &[]);
    assert_eq!(orx.states(), ["cancelled"; 6].join(" "));
    orx.run(&["cancel", "--all"]).expect(0, &[]);
}
