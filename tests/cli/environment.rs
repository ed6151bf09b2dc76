//! What a job finds around it: variables, directory, standard input, payload (S34).

use std::collections::BTreeSet;

use super::support::*;

#[test]
fn s35_a_job_speaks_for_itself_only() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--slots", "2"]);
    orx.sh(&[], "echo $$ > here; sleep 300");
    orx.wait_pid("here");
    let pretend = "ORX_FENCE=$(echo $ORX_FENCE | sed 's/[.]2[.]1/.1.1/') $ORX progress 50";
    let other = orx.sh(&["--env", &format!("ORX={}", env!("CARGO_BIN_EXE_orx"))], &format!("{pretend}; echo said $?"));
    orx.wait_state(&other, "done");
    let output = orx.ok(&["tail", "--stdout", &other]);
    assert!(output.starts_with("said ") && output != "said 0\n", "{output}");
    assert!(orx.job("1")["progress"].is_null());
}

#[test]
fn s34_a_job_gets_the_variables_that_were_named_and_few_others() {
    let orx = Orx::file();
    let call = orx.call(&["run", "--name", "n", "--env", "GIVEN", "--env", "SET=a=b", "--env", "ABSENT", "--", "env"]);
    let out = call.env("GIVEN", "from here").env("SECRET", "canary-7319").env("LANG", "C.UTF-8").run();
    let text = out.stdout();
    let vars: BTreeSet<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let expected = "GIVEN HOME LANG ORX_ATTEMPT ORX_FENCE ORX_JOB_ID ORX_MAX_ATTEMPTS ORX_NAME ORX_QUEUE ORX_SLOT \
        ORX_SOCKET ORX_SWEEP ORX_TENANT ORX_WORKER PATH SET TRACEPARENT";
    let known = ["PWD", "SHLVL", "_"]; // a shell may add these
    let vars: Vec<&str> = vars.into_iter().filter(|var| !known.contains(var)).collect();
    assert_eq!(vars, sorted(expected));
    assert!(text.contains("GIVEN=from here\n") && text.contains("SET=a=b\n"), "{text}");
}

#[test]
fn s34_nothing_of_the_environment_is_stored_that_was_not_named() {
    let orx = Orx::file();
    let call = orx.call(&["enqueue", "--env", "NAMED", "--", "true"]);
    call.env("SECRET", "canary-7319").env("NAMED", "canary-4242").run().expect(0, &[]);
    let bytes = orx.stored_bytes();
    let holds = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(holds("canary-4242"));
    assert!(!holds("canary-7319") && !holds("SECRET"));
}

#[test]
fn a_job_is_told_who_it_is() {
    let orx = Orx::new();
    let script = "echo $ORX_JOB_ID $ORX_ATTEMPT/$ORX_MAX_ATTEMPTS $ORX_QUEUE $ORX_TENANT $ORX_NAME $ORX_SLOT \
        $ORX_WORKER $TRACEPARENT; echo ${ORX_STORE:-none} ${ORX_TOKEN:-none}";
    let id = orx.ok(&[
        "enqueue",
        "--queue",
        "q",
        "--tenant",
        "t",
        "--name",
        "n",
        "--max-attempts",
        "3",
        "--",
        "sh",
        "-c",
        script,
    ]);
    orx.call(&["-q", "worker", "--burst", "--name", "w"]).env("ORX_STORE", orx.url()).run().expect(0, &[]);
    let job = orx.job("1");
    let trace = job["trace_id"].as_str().unwrap();
    let text = orx.ok(&["tail", "1"]);
    assert!(text.starts_with(&format!("{} 1/3 q t n 1 w 00-{trace}-", id.trim())), "{text}");
    assert!(text.ends_with("-01\nnone none\n"), "{text}");
}

#[test]
fn the_trace_of_the_caller_goes_on() {
    let orx = Orx::new();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let call = orx.call(&["run", "--", "sh", "-c", "echo $TRACEPARENT"]);
    let out = call.env("TRACEPARENT", format!("00-{trace}-b7ad6b7169203331-01")).run();
    assert!(out.stdout().starts_with(&format!("00-{trace}-")), "{out}");
    assert_eq!(orx.job("1")["trace_id"], trace);
}

#[test]
fn s34_a_job_runs_in_the_directory_of_its_caller() {
    let orx = Orx::file();
    for dir in ["here", "here/below", "other"] {
        std::fs::create_dir(orx.path(dir)).unwrap();
    }
    let at = |args: &[&str]| {
        orx.call(&[&["enqueue"], args, &["--", "pwd"]].concat()).dir(orx.path("here")).run().expect(0, &[]);
    };
    at(&[]);
    at(&["--cwd", "below"]);
    at(&["--cwd", orx.path("other").to_str().unwrap()]);
    orx.call(&["-q", "worker", "--burst"]).dir("/").run().expect(0, &[]);
    for (job, dir) in [("1", "here"), ("2", "here/below"), ("3", "other")] {
        let path = std::fs::canonicalize(orx.path(dir)).unwrap();
        assert_eq!(orx.ok(&["tail", job]).trim(), path.to_str().unwrap());
    }
}

#[test]
fn a_job_reads_what_it_was_given_byte_for_byte() {
    let orx = Orx::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let out = orx.call(&["run", "--stdin", "-", "--", "cat"]).stdin(bytes.clone()).run();
    assert!(out.stdout == bytes, "{} bytes came back", out.stdout.len());
    let file = orx.write("input", "from a file");
    assert_eq!(orx.ok(&["run", "--stdin", &file, "--", "cat"]), "from a file");
    assert_eq!(orx.ok(&["run", "--", "cat"]), "", "nothing is no hanging");
}

#[test]
fn a_job_that_does_not_read_its_input_ends_all_the_same() {
    let orx = Orx::new();
    orx.call(&["run", "--stdin", "-", "--", "true"]).stdin(vec![b'x'; 1_000_000]).run().expect(0, &[]);
}

const HANDLERS: &str = r#"
[handlers.greet]
command = ["sh", "-c", "cat; echo; cat $ORX_PAYLOAD_FILE; stat -c %a $ORX_PAYLOAD_FILE"]
"#;

#[test]
fn a_handler_gets_its_payload_on_stdin_and_in_a_file_of_its_own() {
    let orx = Orx::new();
    orx.write(".config/orx/config.toml", HANDLERS);
    let out = orx.ok(&["run", "--handler", "greet", "--payload", r#"{"name": "Ada"}"#]);
    assert_eq!(out, "{\"name\": \"Ada\"}\n{\"name\": \"Ada\"}600\n");
    let file = orx.write("p.json", "[1, 2]");
    let out = orx.ok(&["run", "--handler", "greet", "--payload", &format!("@{file}")]);
    assert_eq!(out, "[1, 2]\n[1, 2]600\n");
    let out = orx.call(&["run", "--handler", "greet", "--payload", "-"]).stdin("null").run();
    assert_eq!(out.stdout(), "null\nnull600\n");
}

#[test]
fn a_job_waits_for_a_worker_that_has_its_handler() {
    let orx = Orx::new();
    orx.add(&["--handler", "greet", "--payload", "7"]);
    orx.burst();
    assert_eq!(orx.state("1"), "pending");
    let file = orx.write("orx.toml", HANDLERS);
    orx.ok(&["-q", "--config", &file, "worker", "--burst"]);
    assert_eq!((orx.state("1"), orx.ok(&["tail", "1"])), ("done".into(), "7\n7600\n".into()));
}

#[test]
fn a_payload_above_1_mib_is_refused() {
    let orx = Orx::new();
    let big = format!("\"{}\"", "x".repeat(1024 * 1024));
    let enqueue = ["enqueue", "--handler", "h", "--payload"];
    let file = orx.write("big.json", &big);
    orx.run(&[&enqueue[..], &[&format!("@{file}")]].concat()).expect(2, &["--payload is larger than 1 MiB", "hint:"]);
    orx.call(&[&enqueue[..], &["-"]].concat()).stdin(big).run().expect(2, &["larger than 1 MiB"]);
    orx.run(&["enqueue", "--stdin", &file, "--", "cat"]).expect(2, &["--stdin is larger than 1 MiB"]);
    let full = format!("\"{}\"", "x".repeat(1024 * 1024 - 2));
    orx.call(&[&enqueue[..], &["-"]].concat()).stdin(full).run().expect(0, &[]);
    assert_eq!(orx.states(), "pending");
}

#[test]
fn s17_required_labels_choose_the_worker() {
    let orx = Orx::new();
    orx.add(&["--require", "arch=arm64", "--", "true"]);
    orx.ok(&["-q", "worker", "--burst", "--labels", "arch=amd64"]);
    assert_eq!(orx.state("1"), "pending");
    orx.ok(&["-q", "worker", "--burst", "--labels", "arch=arm64,gpu=no"]);
    assert_eq!(orx.state("1"), "done");
}

#[test]
fn a_result_outside_a_job_is_refused_before_anything_is_read() {
    let orx = Orx::file();
    let never_ends = format!("mkfifo words; exec 3<> words; exec {} result - <&3", env!("CARGO_BIN_EXE_orx"));
    orx.program("sh", &["-c", &never_ends]).run().expect(2, &["works only inside a job"]);
}
