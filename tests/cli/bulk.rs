//! `orx enqueue --from` and `--each-line`: many jobs, all or none (S32).

use super::support::*;

const BATCH: &str = "0190a5d2-7c1e-7000-8000-000000000001";

fn from(orx: &Orx, options: &[&str], lines: &str) -> Output {
    orx.call(&[&["enqueue", "--from", "-"], options].concat()).stdin(lines).run()
}

fn commands(orx: &Orx) -> String {
    let listed = orx.ok(&["list", "--limit", "0", "--format", "{{command|join(' ')}}"]);
    listed.lines().rev().collect::<Vec<_>>().join("; ")
}

#[test]
fn one_job_for_each_line_and_the_batch_id_alone_on_stdout() {
    let orx = Orx::new();
    let lines = "{\"command\":[\"echo\",\"1\"]}\n\n  \n{\"command\":[\"echo\",\"2\"]}";
    snapshot!(from(&orx, &[], lines), @r"
    exit 0
    -- stdout
    [id]
    -- stderr
    2 jobs stored
    ");
    assert_eq!(commands(&orx), "echo 1; echo 2");
    let file = orx.write("jobs.ndjson", lines);
    let ids = orx.ok(&["-q", "-o", "id", "enqueue", "--from", &file]);
    let listed = orx.ok(&["list", "-o", "id", "--limit", "2"]);
    assert_eq!(ids.lines().rev().collect::<Vec<_>>(), listed.lines().collect::<Vec<_>>());
}

#[test]
fn s32_a_bad_line_is_named_by_its_number_and_nothing_is_stored() {
    let orx = Orx::new();
    let lines = "{\"command\":[\"true\"]}\n\n{\"command\":[\"true\"],\"priority\":500}\n{\"command\":[\"true\"]}\n";
    snapshot!(from(&orx, &[], lines), @r"
    exit 2
    -- stderr
    orx: a line is not valid; nothing was stored
      line 3: priority is not between -100 and 100
    hint: --skip-invalid stores the others
    ");
    assert_eq!(orx.states(), "");
}

#[test]
fn s32_what_is_wrong_with_a_line_is_said() {
    let orx = Orx::new();
    let big = format!(r#"{{"handler":"h","payload":"{}"}}"#, "x".repeat(1024 * 1024));
    for (line, said) in [
        ("{\"command\":[\"true\"],\"prio\":1}", "unknown field `prio`"),
        ("{\"command\":\"true\"}", "line 1: invalid type: string \"true\", expected a sequence"),
        ("{\"command\":[\"true\"]", "line 1: EOF"),
        ("{}", "command is missing"),
        ("[1]", "line 1: "),
        ("\"\u{0}\"", "line 1: "),
        ("{\"command\":[\"true\"],\"timeout\":\"soon\"}", "line 1: "),
        ("{\"command\":[\"true\"],\"handler\":\"h\"}", "exclude each other"),
        (&big, "line 1: payload is larger than 1 MiB"),
    ] {
        let out = from(&orx, &[], line);
        out.expect(2, &[said]);
    }
    let out = orx.call(&["enqueue", "--from", "-"]).stdin(&b"{\"command\":[\"\xff\"]}\n"[..]).run();
    out.expect(2, &["line 1: "]);
    assert_eq!(orx.states(), "");
}

#[test]
fn many_bad_lines_are_counted_and_the_first_are_shown() {
    let orx = Orx::new();
    snapshot!(from(&orx, &[], &"x\n".repeat(40)), @r"
    exit 2
    -- stderr
    orx: some lines are not valid; nothing was stored
      line 1: expected value at column 1
      line 2: expected value at column 1
      line 3: expected value at column 1
      line 4: expected value at column 1
      line 5: expected value at column 1
      and 35 more
    hint: each line is one job in JSON; --each-line takes lines of text
    ");
}

#[test]
fn skip_invalid_stores_the_others_and_says_what_it_left_out() {
    let orx = Orx::new();
    let lines = "{\"command\":[\"echo\",\"1\"]}\nnonsense\n{\"command\":[\"echo\",\"3\"]}\n";
    snapshot!(from(&orx, &["--skip-invalid"], lines), @r"
    exit 0
    -- stdout
    [id]
    -- stderr
    left out 1 line:
      line 2: expected ident at column 2
    2 jobs stored
    ");
    assert_eq!(commands(&orx), "echo 1; echo 3");
}

#[test]
fn s32_a_line_that_the_store_refuses_is_named_and_nothing_is_stored() {
    let orx = Orx::new();
    orx.add(&["--name", "taken", "--", "true"]);
    let lines = "{\"command\":[\"true\"]}\n\n{\"command\":[\"true\"],\"name\":\"taken\"}\n";
    from(&orx, &[], lines).expect(5, &["line 3", "the name taken is taken by job 1"]);
    let lines = "\n\n{\"command\":[\"true\"]}\n{\"command\":[\"true\"],\"after\":\"99\"}\n";
    from(&orx, &[], lines).expect(3, &["line 4", "no job 99"]);
    assert_eq!(orx.states(), "pending");
}

#[test]
fn an_empty_input_stores_nothing_and_is_no_error() {
    let orx = Orx::new();
    snapshot!(from(&orx, &[], ""), @r"
    exit 0
    -- stdout
    [id]
    -- stderr
    0 jobs stored
    ");
    from(&orx, &[], "\n \n").expect(0, &["0 jobs stored"]);
    orx.run(&["enqueue", "--from", "nowhere"]).expect(2, &["cannot read nowhere"]);
}

#[test]
fn options_are_what_a_line_leaves_out() {
    let orx = Orx::new();
    let lines =
        "{\"command\":[\"true\"]}\n{\"command\":[\"true\"],\"queue\":\"own\",\"priority\":1,\"label\":{\"a\":\"b\"}}\n";
    from(&orx, &["--queue", "all", "--priority", "9", "--label", "x=y", "--max-attempts", "2"], lines).expect(0, &[]);
    let format = "{{queue}} {{priority}} {{labels|tojson}} {{max_attempts}}";
    let listed = orx.ok(&["list", "--format", format]);
    assert_eq!(listed, "own 1 {\"a\": \"b\"} 2\nall 9 {\"x\": \"y\"} 2\n");
}

#[test]
fn s32_the_same_batch_again_doubles_nothing() {
    let orx = Orx::new();
    let lines = |n: usize| (1..=n).map(|i| format!("{{\"command\":[\"echo\",\"{i}\"]}}\n")).collect::<String>();
    let first = from(&orx, &["--batch", BATCH], &lines(2));
    assert_eq!((first.code, first.stdout()), (Some(0), format!("{BATCH}\n")), "{first}");
    snapshot!(from(&orx, &["--batch", BATCH, "-o", "id"], &lines(2)), @r"
    exit 0
    -- stdout
    [id]
    [id]
    -- stderr
    0 jobs stored, 2 were there before
    ");
    // A load that was interrupted after two lines is finished.
    from(&orx, &["--batch", BATCH], &lines(4)).expect(0, &["2 jobs stored, 2 were there before"]);
    assert_eq!(commands(&orx), "echo 1; echo 2; echo 3; echo 4");
}

#[test]
fn s32_a_load_of_several_transactions_is_whole() {
    let orx = Orx::new();
    let line = "{\"command\":[\"true\"]}\n";
    from(&orx, &[], &line.repeat(10_001)).expect(0, &["10001 jobs stored"]);
    let counts = orx.json(&["status"])["queues"][0]["counts"].clone();
    assert_eq!(counts["pending"], 10_001);
}

#[test]
fn each_line_puts_the_line_where_the_braces_are() {
    let orx = Orx::new();
    let input = "a b\nc;d\n\n";
    let out = orx.call(&["enqueue", "--each-line", "-", "--", "echo", "<{}>", "{}{}"]).stdin(input).run();
    out.expect(0, &["2 jobs stored"]);
    assert_eq!(commands(&orx), "echo <a b> a ba b; echo <c;d> c;dc;d");
}

#[test]
fn each_line_appends_the_line_where_no_braces_are() {
    let orx = Orx::new();
    let file = orx.write("lines", "a b\nc\n");
    orx.run(&["enqueue", "--each-line", &file, "--queue", "q", "--", "echo", "x"]).expect(0, &["2 jobs stored"]);
    orx.ok(&["-q", "worker", "--burst", "--slots", "1"]);
    assert_eq!((orx.ok(&["tail", "1"]), orx.ok(&["tail", "2"])), ("x a b\n".into(), "x c\n".into()));
}

#[test]
fn each_line_needs_a_command_and_text() {
    let orx = Orx::new();
    orx.call(&["enqueue", "--each-line", "-"]).stdin("a\n").run().expect(2, &["command is missing"]);
    let out = orx.call(&["enqueue", "--each-line", "-", "--", "echo"]).stdin(&b"fine\n\xff\n"[..]).run();
    out.expect(2, &["line 2: is not UTF-8"]);
    assert_eq!(orx.states(), "");
}

#[test]
fn each_line_is_kept_as_it_is() {
    let orx = Orx::new();
    let input = "  a \t\nb \r\n \t \nc ";
    let out = orx.call(&["enqueue", "--each-line", "-", "--", "echo"]).stdin(input).run();
    out.expect(0, &["3 jobs stored"]);
    let listed = orx.ok(&["list", "--format", "{{command[1]}}|"]);
    assert_eq!(listed, "c |\nb |\n  a \t|\n");
}

#[test]
fn a_program_is_told_what_became_of_a_load() {
    let orx = Orx::new();
    let line = "{\"command\":[\"true\"]}\n";
    for (format, stored, existing) in [("json", 1, 0), ("ndjson", 1, 1)] {
        let lines = line.repeat(stored + existing);
        let out = from(&orx, &["--batch", BATCH, "-o", format], &lines).stdout();
        let expected = serde_json::json!({ "batch": BATCH, "stored": stored, "existing": existing });
        assert_eq!(lines_of_json(&out), [expected]);
    }
    let out = from(&orx, &["--batch", BATCH, "--format", "{{batch}} {{stored}} {{existing}}"], line);
    assert_eq!(out.stdout(), format!("{BATCH} 0 1\n"));
}
