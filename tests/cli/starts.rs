//! Workers that lack what a start takes: descriptors, processes (S36).

use orx::time::Timestamp;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, getuid, prlimit};
use serde_json::Value;

use super::support::*;

/// As from a shell after `ulimit`.
fn limited(orx: &Orx, limits: &str, args: &[&str]) -> Call {
    let script = format!("ulimit {limits} && exec \"$@\"");
    orx.program("sh", &[&["-c", &script, "sh", env!("CARGO_BIN_EXE_orx")], args].concat())
}

/// Lets a process have so many files open from now on; all that it may where nothing is said.
fn limit_files(process: &Running, most: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let pid = Pid::from_raw(process.pid() as i32);
    prlimit(pid, Resource::Nofile, Rlimit { current: most.or(maximum), maximum }).unwrap();
}

/// What is told of the ends of attempts.
fn ends(orx: &Orx) -> Vec<Value> {
    orx.events().into_iter().filter(|e| e["kind"] == "settled").map(|e| e["data"].clone()).collect()
}

fn not_started(orx: &Orx) -> usize {
    ends(orx).iter().filter(|end| end["outcome"] == "not_started").count()
}

fn trouble(orx: &Orx) -> String {
    orx.json(&["workers"])[0]["trouble"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn s36_a_worker_with_few_descriptors_runs_each_job_once() {
    let orx = Orx::new();
    // Long enough that all slots are in use at once.
    let line = "{\"command\":[\"sh\",\"-c\",\"echo $ORX_JOB_ID >> ran; sleep 0.6\"]}\n";
    let ids = orx.call(&["-q", "-o", "id", "enqueue", "--from", "-"]).stdin(line.repeat(600)).run().stdout();
    limited(&orx, "-n 256", &["worker", "--slots", "200", "--burst"]).run().expect(0, &["not 200 slots"]);
    assert_eq!(sorted(&orx.read("ran")), sorted(&ids));
    let ends = ends(&orx);
    assert_eq!((ends.len(), ends.iter().filter(|end| end["outcome"] == "done").count()), (600, 600));
}

#[test]
fn s36_a_worker_without_descriptors_says_so_and_runs_all_when_it_has_some() {
    let orx = Orx::file(); // another connection to a server would be a descriptor that is missing too
    let worker = orx.worker(&["--name", "w", "--slots", "4", "--lease", "3s"]);
    orx.ok(&["wait", &orx.add(&["--", "true"])]);
    limit_files(&worker, Some(3));
    let line = r#"{"command":["sh","-c","echo $ORX_JOB_ID >> ran"],"max_losses":0,"backoff":"1s..1s"}"#;
    let ids = orx.call(&["-q", "-o", "id", "enqueue", "--from", "-"]).stdin(format!("{line}\n").repeat(12)).run();
    eventually("a job to be tried again", || orx.job("2")["attempt"].as_i64() > Some(1));
    eventually("the trouble to be told", || trouble(&orx).starts_with("cannot start jobs: "));
    orx.run(&["workers"]).expect(0, &["w cannot start jobs: "]);
    assert!(orx.ok(&["metrics"]).contains("orx_workers_in_trouble 1\n"));
    let tried = orx.job("2")["attempts"][0].clone();
    assert_eq!((&tried["outcome"], &tried["exit_code"]), (&"not_started".into(), &Value::Null), "{tried}");
    assert!(tried["error"].as_str().unwrap().contains("Too many open files"), "{tried}");
    // Four at once before it knew, then one at a time.
    assert!((4..=12).contains(&not_started(&orx)), "{}", not_started(&orx));
    limit_files(&worker, None);
    eventually("all to be done", || !orx.states().contains(['p', 's', 'r']));
    assert_eq!(orx.states(), ["done"; 13].join(" "));
    assert_eq!(sorted(&orx.read("ran")), sorted(&ids.stdout()));
    eventually("nothing to be told any more", || trouble(&orx).is_empty());
}

#[test]
fn s36_a_worker_without_processes_does_not_take_a_job_each_second() {
    if !getuid().is_root() {
        return; // root itself is not limited, and who is not cannot be another user
    }
    let orx = Orx::file();
    std::os::unix::fs::chown(orx.path(""), Some(61_234), None).unwrap();
    let as_user = |words: &[&str]| orx.program("setpriv", &[&["--reuid", "61234", "--clear-groups"], words].concat());
    let worker = as_user(&[env!("CARGO_BIN_EXE_orx"), "worker", "--lease", "3s"]).spawn();
    worker.wait_stderr(" ready ");
    let may_have = |processes: &str| {
        let pid = worker.pid().to_string();
        as_user(&["prlimit", "--pid", &pid, &format!("--nproc={processes}:")]).run().expect(0, &[]);
    };
    may_have("1");
    orx.add(&["--max-losses", "0", "--backoff", "2s..2s", "--", "true"]);
    eventually("three attempts", || not_started(&orx) >= 3);
    assert!(orx.job("1")["attempts"][0]["error"].as_str().unwrap().contains("Resource temporarily unavailable"));
    let at = |e: &Value| serde_json::from_value::<Timestamp>(e["at"].clone()).unwrap().0;
    let leased: Vec<_> = orx.events().iter().filter(|e| e["kind"] == "leased").map(at).collect();
    assert!(leased.windows(2).all(|two| two[1] - two[0] >= 1900), "{leased:?}");
    assert_eq!(ends(&orx).len(), not_started(&orx), "nothing else ends it: {}", orx.job("1"));
    may_have("1000");
    orx.wait_state("1", "done");
    let job = orx.job("1");
    assert_eq!([&job["failures"], &job["losses"], &job["interruptions"]], [0, 0, 0], "{job}");
}

#[test]
fn s36_a_worker_raises_its_limit_on_files_and_its_jobs_get_the_one_of_before() {
    let orx = Orx::new();
    orx.sh(&[], "ulimit -Sn; sed -n 's/^Max open files *//p' /proc/$PPID/limits");
    limited(&orx, "-Sn 200", &["-q", "worker", "--burst"]).run().expect(0, &[]);
    let said = orx.ok(&["tail", "1"]);
    let (job, worker) = said.split_once('\n').unwrap();
    let worker: u64 = worker.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(job, "200");
    assert!(worker > 200, "{worker}");
}

#[test]
fn s36_a_file_that_may_not_be_larger_is_a_full_disk_and_jobs_have_the_signal() {
    let orx = Orx::file();
    orx.make();
    let line = format!("{{\"command\":[\"true\",\"{}\"]}}\n", "x".repeat(1000));
    let load = limited(&orx, "-f 400", &["enqueue", "--from", "-"]).stdin(line.repeat(2000)).run();
    load.expect(6, &["the disk is full", "ulimit -f"]);
    assert_eq!(orx.states(), "");
    let script = "ulimit -f 1; exec head -c 100000 /dev/zero > large";
    orx.run(&["run", "--", "sh", "-c", script]).expect(128 + 25, &[]);
}
