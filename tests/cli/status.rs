//! `orx status`: the whole, one job, several.

use serde_json::Value;

use super::list::FIELDS;
use super::support::*;

const ATTEMPT: &str = "number worker started_at finished_at outcome exit_code signal error";

#[test]
fn nothing_is_said_plainly() {
    let orx = Orx::file();
    orx.make();
    snapshot!(orx.run(&["status"]), @r"
    exit 0
    -- stdout
    no job has been stored yet

    no worker runs; 'orx worker' starts one
    ");
}

#[test]
fn totals_are_told_by_queue_and_state() {
    let orx = Orx::new();
    orx.add(&["--queue", "build", "--", "false"]);
    orx.add(&["--", "true"]);
    orx.burst();
    orx.add(&["--delay", "1h", "--", "true"]);
    orx.add(&["--after", "3", "--", "true"]);
    orx.add(&["--", "true"]);
    // A coordinator still leads where there is one; a worker that has ended does not.
    let shown = orx.run(&["status"]).to_string();
    let (shown, leader) = shown.split_once("\n\nleader:").unwrap_or((&shown, ""));
    assert_eq!(leader.is_empty(), orx.token().is_none(), "{leader}");
    snapshot!(shown, @r"
    exit 0
    -- stdout
    QUEUE  BLOCKED  SCHEDULED  PENDING  RUNNING  DONE  FAILED  OLDEST
    build  0  0  0  0  0  1
    default  1  1  1  0  1  0  [ago]

    no worker runs; 'orx worker' starts one
    ");
    let status = orx.json(&["status"]);
    let queue = &status["queues"][1];
    assert_eq!(keys(queue), sorted("name paused shared limits counts oldest_pending_at"));
    assert_eq!(queue["counts"]["done"], 1);
    assert!(status["workers"].as_array().unwrap().is_empty(), "{status}");
    assert_eq!(status["leader"].is_null(), orx.token().is_none(), "{status}");
}

#[test]
fn a_worker_is_shown_with_what_it_runs() {
    let orx = Orx::new();
    let worker = orx.worker(&["--name", "w", "--slots", "3", "--queues", "default,b", "--labels", "k=v"]);
    orx.sh(&[], "echo up > up; sleep 300");
    orx.wait_line("up");
    let all = orx.json(&["workers"]);
    let it = &all[0];
    let fields = "id name host pid state queues labels slots running version started_at heartbeat_at";
    for field in sorted(fields) {
        assert!(!it[field].is_null(), "{field} is missing in {it}");
    }
    assert_eq!(*it, orx.json(&["status"])["workers"][0]);
    assert_eq!((&it["name"], &it["state"], &it["pid"]), (&"w".into(), &"active".into(), &worker.pid().into()));
    assert_eq!((&it["running"], &it["slots"]), (&serde_json::json!([1]), &3.into()));
    assert_eq!((&it["queues"], &it["labels"]), (&serde_json::json!(["default", "b"]), &serde_json::json!({"k": "v"})));
    let job = orx.job("1");
    assert_eq!((&job["state"], &job["worker"]), (&"running".into(), &"w".into()));
    assert_eq!(job["attempts"][0]["outcome"], Value::Null);
}

#[test]
fn one_job_is_an_object_and_several_are_an_array() {
    let orx = Orx::new();
    orx.run(&["run", "--max-attempts", "2", "--backoff", "0s", "--", "sh", "-c", "echo why >&2; exit 3"]);
    orx.add(&["--after", "1:ended", "--", "true"]);
    let one = orx.json(&["status", "1"]);
    // What a list does not have. The directory is known where the caller's was taken along.
    let cwd = if orx.token().is_none() { "cwd" } else { "" };
    assert_eq!(keys(&one), sorted(&format!("{FIELDS} attempts after {cwd} env")));
    let attempts = one["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    for (i, attempt) in attempts.iter().enumerate() {
        assert_eq!(keys(attempt), sorted(ATTEMPT));
        assert_eq!((&attempt["number"], &attempt["exit_code"]), (&(i + 1).into(), &3.into()));
        assert_eq!((&attempt["outcome"], &attempt["error"]), (&"failed".into(), &"why".into()));
    }
    assert_eq!((&one["failures"], &one["attempt"], &one["reason"]), (&2.into(), &2.into(), &"attempts used up".into()));
    let many = orx.json(&["status", "1", "2"]);
    assert_eq!(many[0], one);
    assert_eq!((&many[1]["number"], &many[1]["after"]), (&2.into(), &serde_json::json!(["1:ended"])));
    assert_eq!(
        orx.ok(&["status", "1", "2", "-o", "id"]),
        orx.ok(&["status", "2", "1", "-o", "id"]).lines().rev().map(|l| format!("{l}\n")).collect::<String>()
    );
}

#[test]
fn a_job_is_shown_with_its_directory_its_variables_and_its_process() {
    let orx = Orx::file();
    let url = "postgres://u:hush@db/x";
    let env =
        ["--env", "STAGE=blue", "--env", "API_TOKEN=hush", "--env", &format!("DB={url}"), "--env", "S=secret://s"];
    orx.add(&[&env[..], &["--", "sh", "-c", "echo $$ > pid; sleep 300"]].concat());
    let shown = orx.ok(&["status", "1"]);
    let line = |key: &str| shown.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()));
    assert_eq!(line("cwd:"), Some(orx.path("").to_str().unwrap().trim_end_matches('/').to_owned()));
    assert_eq!(line("env:").unwrap(), "API_TOKEN=(hidden) DB=(hidden) S=secret://s STAGE=blue");
    assert_eq!(line("pid:"), None);
    let all = orx.run(&["-o", "json", "status", "1"]).to_string();
    assert!(!all.contains("hush") && all.contains("\"HOME\""), "{all}");
}

#[test]
fn times_are_utc_with_milliseconds_and_absent_values_are_null() {
    let orx = Orx::new();
    orx.run(&["run", "--", "true"]);
    let job = orx.job("last");
    for field in ["created_at", "started_at", "finished_at"] {
        let text = job[field].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[19] == b'.', "{field}: {text}");
    }
    for field in
        ["name", "handler", "payload", "due_at", "signal", "error", "run_id", "result", "reason", "cancel_requested_at"]
    {
        assert!(job[field].is_null(), "{field}: {}", job[field]);
    }
    assert_eq!((&job["exit_code"], &job["outcome"], &job["state"]), (&0.into(), &"done".into(), &"done".into()));
}

#[test]
fn a_person_reads_the_story_of_a_job() {
    let orx = Orx::new();
    let script = "echo no such host >&2; exit 7";
    let options = ["--name", "deploy", "--label", "team=web", "--max-attempts", "2", "--backoff", "0s"];
    orx.sh(&options, script);
    orx.ok(&["-q", "worker", "--burst", "--name", "w"]);
    // Where the directory of the caller is known.
    let shown = orx.run(&["status", "1"]).to_string();
    let shown: Vec<&str> = shown.lines().filter(|line| !line.starts_with("cwd:")).collect();
    snapshot!(shown.join("\n"), @r"
    exit 0
    -- stdout
    job:  1  [id]
    state:  failed: attempts used up
    command:  sh -c 'echo no such host >&2; exit 7'
    name:  deploy
    queue:  default
    labels:  team=web
    stored:  [time] ([ago])
    finished:  [time] ([ago])
    failures:  2 of 2
    trace:  [trace]

    ATTEMPT  OUTCOME  WORKER  STARTED  TOOK  ENDED BY  ERROR
    1  failed  w  [ago]  [took]  exit 7  no such host
    2  failed  w  [ago]  [took]  exit 7  no such host
    ");
}

#[test]
fn templates_reach_every_field() {
    let orx = Orx::new();
    orx.add(&["--label", "team=web", "--", "echo", "x"]);
    let text = orx.ok(&["status", "1", "--format", "{{number}} {{labels.team}} {{command|length}} {{name}}"]);
    assert_eq!(text, "1 web 2 \n");
    orx.run(&["status", "1", "--format", "{{nope}}"]).expect(2, &["--format does not fit", "hint: -o json"]);
    orx.run(&["status", "1", "--format", "{{"]).expect(2, &["--format is not understood"]);
}
