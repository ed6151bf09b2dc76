//! Captured output: nothing is lost below the cap, and the cut is marked (S28).

use super::support::*;

const CAP: usize = 10 * 1024 * 1024;

#[test]
fn s28_20_mib_keep_their_head_and_tail_and_the_cut_is_marked() {
    let orx = Orx::new();
    // Lines of 16 bytes with their number.
    let count = 20 * 1024 * 1024 / 16;
    let script = format!("awk 'BEGIN {{ for (i = 1; i <= {count}; i++) printf \"%015d\\n\", i }}'");
    orx.sh(&[], &script);
    orx.burst();
    assert_eq!(orx.state("1"), "done");
    let out = orx.run(&["tail", "1"]);
    let text = out.stdout();
    assert!(text.len() <= CAP && text.len() > CAP - 256 * 1024, "{} bytes are kept", text.len());
    assert!(text.starts_with(&format!("{:015}\n{:015}\n", 1, 2)));
    assert!(text.ends_with(&format!("{:015}\n", count)));
    let dropped = 20 * 1024 * 1024 - text.len();
    out.expect(0, &[&format!("[orx: {dropped} bytes cut]")]);
    assert_eq!(orx.ok(&["tail", "-n", "1", "1"]), format!("{count:015}\n"));
}

#[test]
fn s28_output_below_the_cap_is_kept_byte_for_byte() {
    let orx = Orx::new();
    let size = 3_000_000;
    orx.sh(&[], &format!("head -c {size} /dev/urandom | tee copy; head -c {size} /dev/zero >&2"));
    orx.burst();
    let out = orx.run(&["tail", "1"]);
    assert!(out.stdout == std::fs::read(orx.path("copy")).unwrap(), "{} bytes", out.stdout.len());
    assert!(out.stderr == vec![0; size], "{} bytes", out.stderr.len());
}

#[test]
fn one_line_without_end_is_kept_too() {
    let orx = Orx::new();
    let out = orx.run(&["run", "--", "sh", "-c", "head -c 2000000 /dev/zero | tr '\\0' x"]);
    assert!(out.code == Some(0) && out.stdout == vec![b'x'; 2_000_000], "{} bytes", out.stdout.len());
    assert_eq!(orx.ok(&["tail", "-n", "1", "last"]).len(), 2_000_000);
}

#[test]
fn what_a_background_process_writes_after_the_exit_is_kept_and_it_is_ended() {
    let orx = Orx::new();
    let script = "(trap 'echo asked to end; exit' TERM; echo $$ > leader; while :; do sleep 0.02; done) &
        echo $! > pid; sleep 0.2; echo early";
    let out = orx.run(&["run", "--", "sh", "-c", script]);
    assert_eq!((out.code, out.stdout()), (Some(0), "early\nasked to end\n".into()), "{out}");
    assert!(!is_alive(orx.wait_pid("pid")));
}

#[test]
fn a_daemon_that_keeps_the_pipe_open_does_not_hang_the_job() {
    let orx = Orx::new();
    let script = "setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do sleep 0.1; done' & \
        until [ -s daemon ]; do sleep 0.02; done; echo started";
    let out = orx.run(&["run", "--kill-grace", "300ms", "--", "sh", "-c", script]);
    assert_eq!((out.code, out.stdout()), (Some(0), "started\n".into()), "{out}");
    assert!(!is_alive(orx.wait_pid("daemon")));
}

#[test]
fn the_cap_is_a_setting() {
    let orx = Orx::new();
    orx.write(".config/orx/config.toml", "[worker]\nmax_output = 100\n");
    orx.sh(&[], "seq 1 1000");
    orx.burst();
    let out = orx.run(&["tail", "last"]);
    assert_eq!(out.stdout.len(), 100, "{out}");
    out.expect(0, &["[orx: 3793 bytes cut]"]);
    assert!(out.stdout().starts_with("1\n2\n") && out.stdout().ends_with("\n1000\n"), "{out}");
    let last = |lines: &str| orx.run(&["tail", "-n", lines, "last"]);
    last("15").expect(0, &["bytes cut]"]); // 50 bytes after the cut are fewer lines
    assert_eq!((last("2").stdout(), last("2").stderr()), ("999\n1000\n".into(), String::new()));
}

#[test]
fn s28_run_prints_every_byte_of_what_it_runs_itself_however_little_is_kept() {
    let orx = Orx::new();
    orx.write(".config/orx/config.toml", "[worker]\nmax_output = 1000\n");
    let size = 3_000_000;
    let script = format!("head -c {size} /dev/urandom | tee copy; head -c {size} /dev/zero >&2; printf end");
    let out = orx.run(&["run", "--", "sh", "-c", &script]);
    let mut copy = std::fs::read(orx.path("copy")).unwrap();
    copy.extend(b"end");
    assert!(out.code == Some(0) && out.stdout == copy, "{} bytes", out.stdout.len());
    assert!(out.stderr == vec![0; size], "{} bytes on standard error", out.stderr.len());
    let kept = orx.run(&["tail", "last"]);
    assert_eq!(kept.stdout[..500], copy[..500]);
    assert!(kept.stdout.len() <= 1000, "{} bytes are kept", kept.stdout.len());
}

#[test]
fn s28_run_slows_its_job_down_where_nobody_reads() {
    let orx = Orx::new();
    let script = "for n in $(seq 1 40); do head -c 1000000 /dev/zero; echo $n > n; done";
    let reader = "until [ -s n ]; do sleep 0.02; done; sleep 0.5; cat n > seen; wc -c";
    let line = format!("{} run -- sh -c '{script}' | {{ {reader}; }}", env!("CARGO_BIN_EXE_orx"));
    let out = orx.program("sh", &["-c", &line]).run();
    assert_eq!(out.stdout().trim(), "40000000", "{out}");
    // A mebibyte waits in memory, and one more is being written.
    let seen: u32 = orx.read("seen").trim().parse().unwrap();
    assert!(seen <= 5, "{seen} MB were written before anybody read");
}

/// Writes 20 times 200 kB, and goes on when somebody has read them.
const ROUNDS: &str = "for n in $(seq 1 20); do head -c 200000 /dev/zero | tr '\\0' x; echo end$n
    until [ -e go$n ]; do sleep 0.01; done; done; exit $1";

#[test]
fn s28_who_follows_and_keeps_up_misses_nothing_and_the_halves_are_kept() {
    let orx = Orx::new();
    orx.write(".config/orx/config.toml", "[worker]\nmax_output = 1048576\n");
    let _worker = orx.worker(&[]);
    let run = orx.spawn(&["run", "--", "sh", "-c", ROUNDS, "sh", "0"]);
    for n in 1..=20 {
        run.wait_stdout(&format!("end{n}\n"));
        orx.write(&format!("go{n}"), "");
    }
    let out = run.wait();
    let all: String = (1..=20).map(|n| format!("{}end{n}\n", "x".repeat(200_000))).collect();
    assert!(out.code == Some(0) && out.stdout() == all, "{} of {} bytes", out.stdout.len(), all.len());
    assert_eq!(out.stderr(), "");
    let kept = orx.run(&["tail", "1"]);
    let (half, cut) = (524_288, all.len() - 1_048_576);
    assert!(kept.stdout() == format!("{}{}", &all[..half], &all[all.len() - half..]), "{}", kept.stdout.len());
    assert_eq!(kept.stderr(), format!("[orx: {cut} bytes cut]\n"));
}

#[test]
fn s28_who_missed_output_of_a_job_that_is_done_exits_with_125() {
    let orx = Orx::new();
    orx.write(".config/orx/config.toml", "[worker]\nmax_output = 1000\n");
    let _worker = orx.worker(&[]);
    let run = |code: &str| orx.run(&["run", "--", "sh", "-c", "seq 1 50000; exit $1", "sh", code]);
    let said = ["bytes cut]", "orx: job 1: ", "bytes of its output were not printed"];
    let out = run("0");
    out.expect(125, &said);
    assert_eq!(orx.job("1")["state"], "done");
    assert!(out.stdout().starts_with("1\n2\n") && out.stdout().ends_with("\n50000\n"), "{out}");
    run("3").expect(3, &["bytes cut]", "orx: job 2: ", "bytes of its output were not printed"]);
    // Nobody lacks what goes nowhere, or to somebody who has seen enough.
    let bin = env!("CARGO_BIN_EXE_orx");
    orx.program("sh", &["-c", &format!("{bin} run -- seq 1 50000 > /dev/null")]).run().expect(0, &["not printed"]);
    let job = format!("echo first; {UNTIL_GO}; seq 1 50000");
    let line = format!("{{ {bin} run -- sh -c '{job}'; echo $? > code; }} | (head -n 1; exec <&-; touch go)");
    let out = orx.program("sh", &["-c", &line]).run();
    assert_eq!((orx.wait_line("code"), out.stdout()), ("0".into(), "first\n".into()), "{out}");
}

#[test]
fn s28_a_lost_attempt_says_that_what_it_wrote_last_may_be_missing() {
    let orx = Orx::new();
    orx.write(".config/orx/config.toml", "[worker]\nmax_output = 1000\n");
    let worker = orx.worker(&["--name", "w"]);
    orx.sh(&["--max-losses", "0"], "seq 1 50000; echo last; exec sleep 300");
    eventually("the end to be stored while it runs", || orx.ok(&["tail", "1"]).ends_with("\nlast\n"));
    let lost = "[orx: the attempt was lost; nobody knows how much of its output is missing here]\n";
    assert!(!orx.run(&["tail", "1"]).stderr().contains(lost), "it runs");
    worker.kill();
    orx.ok(&["-q", "worker", "--name", "w", "--burst"]);
    assert_eq!(orx.job("1")["reason"], "lost");
    let out = orx.run(&["tail", "1"]);
    out.expect(0, &["bytes cut]"]);
    assert!(out.stdout().starts_with("1\n2\n") && out.stdout().ends_with("\nlast\n"), "{out}");
    assert!(out.stderr().ends_with(lost), "{out}");
    let last = orx.run(&["tail", "-f", "-n", "1", "1"]);
    assert_eq!((last.stdout(), last.stderr()), ("last\n".into(), lost.into()));
}

#[test]
fn run_prints_the_last_attempt_alone_if_asked_wherever_it_runs() {
    let orx = Orx::new();
    // As much from each, and bytes that are no text.
    let script = "head -c 2000000 /dev/urandom | tee copy; echo err $ORX_ATTEMPT >&2; exit $((ORX_ATTEMPT < 3))";
    let args = ["--max-attempts", "3", "--backoff", "0s", "--attempt-output", "last", "--", "sh", "-c", script];
    let run = || {
        let out = orx.run(&[&["-q", "run"], &args[..]].concat());
        let copy = std::fs::read(orx.path("copy")).unwrap();
        assert!(out.code == Some(0) && out.stdout == copy, "{} of {} bytes", out.stdout.len(), copy.len());
        assert_eq!(out.stderr(), "err 3\n");
    };
    run();
    let _worker = orx.worker(&[]);
    run();
    let failed = orx.run(&["-q", "run", "--attempt-output", "last", "--", "sh", "-c", "echo out; exit 4"]);
    assert_eq!((failed.code, failed.stdout()), (Some(4), "out\n".into()));
    orx.run(&["run", "--attempt-output", "first", "--", "true"]).expect(125, &["--attempt-output"]);
}
