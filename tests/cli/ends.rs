//! How a job ended: what its process says, and nothing else.

use rustix::process::Signal;

use super::support::*;

/// Attaches to the process of its first argument, says so, and holds what is left of it until the file of the second is there.
const TRACER: &str = "
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(0x4206, int(sys.argv[1]), None, None) != 0:
    sys.exit('ptrace: ' + os.strerror(ctypes.get_errno()))
print('attached', flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
";

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default().contains(") Z ")
}

fn dead_children(pid: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).filter(|child| is_zombie(*child)).collect()
}

#[test]
fn a_job_that_a_debugger_holds_ends_when_it_lets_go_and_as_it_ended() {
    let orx = Orx::new();
    let _worker = orx.worker(&[]);
    // It waits without children: a signal, such as that of the end of one, would stop what is traced.
    let job = orx.sh(&[], "mkfifo go; echo $$ > pid; read word < go");
    let pid = orx.wait_pid("pid");
    let tracer = orx.program("python3", &["-c", TRACER, &pid.to_string(), "let-go"]).spawn();
    tracer.wait_stdout("attached");
    std::fs::write(orx.path("go"), "on\n").unwrap();
    eventually("the job to have ended", || is_zombie(pid));
    // Another job that begins and ends meanwhile shows that the worker had the time to look.
    orx.ok(&["wait", &orx.add(&["--", "sleep", "0.2"])]);
    assert_eq!(orx.state(&job), "running", "{}", orx.job(&job));
    orx.write("let-go", "");
    orx.run(&["wait", &job]).expect(0, &[]);
    let job = orx.job(&job);
    assert_eq!((&job["state"], &job["exit_code"]), (&"done".into(), &0.into()), "{job}");
    assert!(!is_zombie(pid), "it is not reaped");
}

#[test]
fn s3_an_exit_0_that_no_signal_reached_in_time_is_the_jobs_own() {
    let orx = Orx::new();
    let line = "{\"command\":[\"sleep\",\"0.05\"],\"timeout\":\"50ms\"}\n";
    orx.call(&["enqueue", "--from", "-"]).stdin(line.repeat(200)).run().expect(0, &[]);
    orx.ok(&["-q", "worker", "--burst", "--slots", "8"]);
    let ends = orx.events().into_iter().filter(|e| e["kind"] == "settled").map(|e| e["data"].clone());
    let mut late: Vec<_> = ends.filter(|data| data["outcome"] != "done" && data["exit_code"] == 0).collect();
    assert_eq!(late.len(), 0, "{:?}", late.pop());
}

#[test]
fn s3_an_exit_0_after_the_signal_of_the_timeout_stays_a_timeout() {
    let orx = Orx::new();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.02; done";
    orx.run(&["run", "--timeout", "300ms", "--", "sh", "-c", script]).expect(124, &[]);
    assert_eq!(orx.job("last")["attempts"][0]["outcome"], "timed_out");
}

#[test]
fn the_dead_that_a_worker_had_before_it_became_one_are_reaped() {
    let orx = Orx::new();
    orx.make();
    let worker = [env!("CARGO_BIN_EXE_orx"), "-q", "worker"];
    let begun = "sh -c 'until [ -e go ]; do sleep 0.02; done' & exec \"$@\"";
    let worker = orx.program("sh", &[&["-c", begun, "sh"], &worker[..]].concat()).spawn();
    eventually("the worker to be there", || !orx.json(&["workers"]).as_array().unwrap().is_empty());
    let helper = || {
        let pid = worker.pid();
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
    };
    assert!(!helper().trim().is_empty());
    orx.write("go", "");
    eventually("its child to be reaped", || helper().trim().is_empty());
    orx.ok(&["wait", &orx.add(&["--", "true"])]);
    assert_eq!(dead_children(worker.pid()), [0; 0]);
    worker.signal(Signal::TERM);
    worker.wait().expect(0, &[]);
}

#[test]
fn s35_a_job_that_keeps_connections_open_silences_no_other() {
    let orx = Orx::new();
    let _worker = orx.worker(&["--slots", "2"]);
    let hog = "
import os, socket, time
kept = []
for _ in range(64):
    one = socket.socket(socket.AF_UNIX)
    one.connect(os.environ['ORX_SOCKET'])
    kept.append(one)
open('kept', 'w').write('all\\n')
while not os.path.exists('go'):
    time.sleep(0.01)
";
    orx.add(&["--", "python3", "-c", hog]);
    orx.wait_line("kept");
    let orx_itself = env!("CARGO_BIN_EXE_orx");
    let beats = format!("for n in 1 2 3 4 5 6 7 8; do {orx_itself} heartbeat || exit 1; sleep 0.5; done");
    orx.run(&["run", "--heartbeat-timeout", "3s", "--", "sh", "-c", &beats]).expect(0, &[]);
    orx.write("go", "");
}

#[test]
fn s35_jobs_can_talk_wherever_tmpdir_leads() {
    let orx = Orx::file(); // of other stores the locks for names lie there too
    let long = orx.path(&"x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    for tmp in [long.to_str().unwrap(), "/no/such/directory", "", "/proc", "relative"] {
        let script = format!("{} heartbeat", env!("CARGO_BIN_EXE_orx"));
        let run = orx.call(&["run", "--heartbeat-timeout", "20s", "--", "sh", "-c", &script]);
        run.env("TMPDIR", tmp).run().expect(0, &[]);
    }
}
