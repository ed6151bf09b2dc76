//! What happens where output, or the worker's socket, takes no more.

use std::os::unix::net::UnixListener;

use super::support::*;

const ORX: &str = env!("CARGO_BIN_EXE_orx");
const BATCH: &str = "0190a5d2-7c1e-7000-8000-000000000001";

fn shell(orx: &Orx, script: &str) -> Output {
    orx.program("sh", &["-c", script]).run()
}

#[test]
fn s32_a_load_is_stored_to_its_end_though_nobody_reads_its_ids() {
    let orx = Orx::new();
    // The ids of the first transaction are more than a pipe holds.
    orx.write("jobs.ndjson", "{\"command\":[\"true\"]}\n".repeat(10_001));
    let script = format!("{{ {ORX} enqueue --from jobs.ndjson -o id; echo $? > code; }} | true");
    shell(&orx, &script).expect(0, &["10001 jobs stored"]);
    assert_eq!(orx.wait_line("code"), "0");
    assert_eq!(orx.json(&["status"])["queues"][0]["counts"]["pending"], 10_001);
}

#[test]
fn s32_a_load_whose_ids_cannot_be_written_says_how_to_finish_it() {
    let orx = Orx::new();
    orx.write("jobs.ndjson", "{\"command\":[\"true\"]}\n".repeat(2));
    for format in ["id", "table"] {
        let out = shell(&orx, &format!("{ORX} enqueue --from jobs.ndjson --batch {BATCH} -o {format} > /dev/full"));
        let rest = format!("2 jobs were stored before; the same input with --batch {BATCH} stores the rest");
        out.expect(1, &["cannot write the output", &rest]);
    }
    assert_eq!(orx.states(), "pending pending");
}

#[test]
fn run_goes_on_to_the_end_of_the_job_though_its_output_cannot_be_written() {
    let orx = Orx::new();
    let out = shell(&orx, &format!("{ORX} run -- sh -c 'echo out; echo err >&2; exit 7' > /dev/full"));
    out.expect(7, &["err", "orx: cannot write the output"]);
    assert_eq!(out.stderr().matches("cannot write").count(), 1, "{out}");
    assert_eq!((orx.state("1"), orx.ok(&["tail", "--stdout", "1"])), ("failed".into(), "out\n".into()));
}

#[test]
fn run_exits_with_125_where_its_job_is_done_and_its_output_is_not_written() {
    let orx = Orx::new();
    let out = shell(&orx, &format!("{ORX} run -- echo out > /dev/full"));
    out.expect(125, &["orx: cannot write the output", "orx: job 1: not all of its output could be written"]);
    assert_eq!(orx.state("1"), "done");
    shell(&orx, &format!("{ORX} run -- sh -c 'echo err >&2' 2> /dev/full")).expect(0, &[]);
    // Who reads no more has seen enough.
    shell(&orx, &format!("{{ {ORX} run -- seq 1 500000; echo $? > code; }} | true")).expect(0, &[]);
    assert_eq!(orx.wait_line("code"), "0");
}

/// Who shares it has made it so.
#[test]
fn output_that_must_not_block_is_written_to_its_end() {
    let orx = Orx::file();
    let flags = rustix::pipe::PipeFlags::NONBLOCK | rustix::pipe::PipeFlags::CLOEXEC;
    let (read, write) = rustix::pipe::pipe_with(flags).unwrap();
    let mut run = std::process::Command::new(ORX)
        .args(["run", "--", "sh", "-c", "head -c 3000000 /dev/zero"])
        .env("HOME", orx.path(""))
        .env("ORX_STORE", orx.url())
        .stdout(write)
        .spawn()
        .unwrap();
    rustix::io::ioctl_fionbio(&read, false).unwrap(); // of this end only
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(read), &mut bytes).unwrap();
    assert_eq!((run.wait().unwrap().code(), bytes.len()), (Some(0), 3_000_000));
}

#[test]
fn who_reads_only_the_beginning_is_no_error() {
    let orx = Orx::new();
    orx.run(&["run", "--", "sh", "-c", "seq 1 50000"]);
    let out = shell(&orx, &format!("{{ {ORX} tail last; echo $? > code; }} | true"));
    out.expect(0, &[]);
    assert_eq!((orx.wait_line("code"), out.stderr()), ("0".into(), String::new()));
}

#[test]
fn s8_a_worker_whose_log_cannot_be_written_ends_no_job() {
    let orx = Orx::new();
    for (number, log) in [("1", "2> /dev/full"), ("2", "2>&1 | true")] {
        orx.sh(&[], "sleep 0.1");
        // Nobody reads the pipe any more when the job ends.
        let script = format!("{{ {ORX} worker --burst; echo $? > code{number}; }} {log}");
        shell(&orx, &script);
        assert_eq!(orx.wait_line(&format!("code{number}")), "0", "{log}");
        let job = orx.job(number);
        assert_eq!((&job["state"], &job["attempt"], &job["losses"]), (&"done".into(), &1.into(), &0.into()), "{log}");
    }
}

/// A pager that was left open, a terminal after Ctrl-S: nobody reads, and nobody hangs up.
#[test]
fn s8_a_worker_whose_log_nobody_reads_keeps_its_jobs() {
    let orx = Orx::new();
    orx.sh(&[], "sleep 2");
    let fill = "mkfifo log; exec 3<> log; head -c 65536 /dev/zero >&3";
    let out = shell(&orx, &format!("{fill}; exec {ORX} worker --burst --lease 1s 2>&3"));
    assert_eq!(out.code, Some(0), "{out}");
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["attempt"], &job["losses"]), (&"done".into(), &1.into(), &0.into()));
}

#[test]
fn a_coordinator_whose_log_cannot_be_written_goes_on() {
    let orx = Orx::file();
    orx.make();
    let serve = format!("exec {ORX} coordinator --listen 127.0.0.1:0 2> /dev/full");
    let coordinator = orx.program("sh", &["-c", &serve]).spawn();
    eventually("the coordinator to lead", || {
        assert!(coordinator.is_alive());
        !orx.json(&["nodes"]).as_array().unwrap().is_empty()
    });
    coordinator.stop().expect(0, &[]);
}

/// No command, whatever it has to say there.
#[test]
fn no_command_needs_a_standard_error_that_can_be_written() {
    let orx = Orx::new();
    orx.write("two.ndjson", "{\"command\":[\"true\"]}\n".repeat(2));
    orx.write("flow.toml", "name = \"f\"\n[[task]]\nname = \"a\"\ncommand = [\"true\"]\n");
    for (args, code) in [
        ("run -- sh -c 'echo err >&2; exit 7'", 7),
        ("run --workflow flow.toml", 0),
        ("enqueue --from two.ndjson", 0),
        ("queue pause other", 0),
        ("status 99", 3),
        ("no-such-command", 2),
        ("cancel --all --yes", 0),
    ] {
        let out = shell(&orx, &format!("{ORX} {args} 2> /dev/full"));
        assert_eq!(out.code, Some(code), "{args}\n{out}");
    }
}

#[test]
fn s35_a_worker_that_hangs_up_is_an_error_of_the_result() {
    let orx = Orx::file();
    let socket = orx.path("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let file = orx.write("result", "x".repeat(1_000_000)); // more than the socket holds
    let result = orx.call(&["result", &file]).env("ORX_SOCKET", &socket).env("ORX_FENCE", "1").spawn();
    drop(listener.accept().unwrap());
    result.wait().expect(6, &["the worker of this job does not answer"]);
}

#[test]
fn s35_a_result_that_is_too_large_as_json_is_refused() {
    let orx = Orx::new();
    // Six characters of JSON for each byte.
    let script = format!("head -c 900000 /dev/zero | tr '\\0' '\\001' | {ORX} result -");
    let out = orx.run(&["run", "--", "sh", "-c", &script]);
    out.expect(2, &["the result is larger than 1 MiB", "store it in a file"]);
    assert!(orx.job("1")["result"].is_null());
}
