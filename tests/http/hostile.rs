//! What must be refused: with a reason, without a 5xx, and without hurting others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::support::*;

#[test]
fn bodies_that_make_no_sense_are_refused_with_the_place() {
    let orx = served();
    let post = |body: &str| ask(&orx, "POST /api/v1/jobs", body);
    let field = |answer: Answer| answer.expect(422).json()["field"].as_str().unwrap_or_default().to_owned();
    post("{").expect(400);
    post("nonsense").expect(400);
    post(r#"{"command":["true"]} x"#).expect(400);
    post(&"[".repeat(100_000)).expect(422);
    let deep = |n: usize| format!(r#"{{"handler":"h","payload":{}1{}}}"#, "[".repeat(n), "]".repeat(n));
    assert_eq!(field(post(&deep(5000))), "payload");
    post(&deep(1_000_000)).expect(422);
    assert_eq!(field(post(r#"{"command":["true"],"comand":1}"#)), "comand");
    assert_eq!(field(post(r#"{"command":"true"}"#)), "command");
    assert_eq!(field(post(r#"[{"command":["true"]},{"command":["true"],"priority":"high"}]"#)), "[1].priority");
    assert_eq!(
        field(op(&orx, "list_jobs", r#"{"limit":1,"before":null,"filter":{"states":["asleep"]}}"#)),
        "filter.states[0]"
    );
    assert_eq!(field(op(&orx, "get_jobs", r#"{"numbers":[1],"bogus":true}"#)), "bogus");
    post(r#"{"command":["a\u0000b"]}"#).expect(422);
    // A value of the right type that is out of range has a place too.
    assert_eq!(field(post(r#"{"command":["true"],"priority":1000}"#)), "priority");
    assert_eq!(field(post(r#"[{"command":["true"]},{"command":["true"],"max_attempts":0}]"#)), "[1].max_attempts");
    assert_eq!(field(post(r#"{"command":["true"],"timeout":"200y"}"#)), "timeout");
    let id = uuid::Uuid::now_v7();
    let bad = r#"{"command":["true"],"priority":1000}"#;
    assert_eq!(
        field(op(&orx, "enqueue", &format!(r#"{{"jobs":[{{"id":"{id}","spec":{bad},"captured":{{}}}}]}}"#))),
        "jobs[0].spec.priority"
    );
    let tasks = r#"[{"name":"a","command":["true"]},{"name":"b","command":["true"],"timeout":"0s"}]"#;
    let run = format!(r#"{{"id":"{id}","workflow":{{"name":"w","task":{tasks}}},"captured":{{}}}}"#);
    assert_eq!(field(op(&orx, "submit_run", &run)), "workflow.task[1].timeout");
    for query in ["limit=-1", "cursor=x"] {
        let refused = ask(&orx, &format!("GET /api/v1/jobs?{query}"), "").expect(400).json();
        assert_eq!(refused["field"], query.split('=').next().unwrap(), "{refused}");
    }
    post("{\"command\":[\"a\u{1}\"]}").expect(400);
    let labels: Vec<String> = (0..1_000_000).map(|n| format!("\"l{n}\":\"v\"")).collect();
    post(&format!(r#"{{"command":["true"],"label":{{{}}}}}"#, labels.join(","))).expect(422);
    op(&orx, "nothing", "{}").expect(404);
    assert_eq!(orx.states(), "", "nothing of this is stored");
}

#[test]
fn a_body_of_another_type_or_too_long_is_refused() {
    let orx = served();
    let text = |headers: &[&str]| request(&orx, orx.token(), "POST /api/v1/jobs", headers, "");
    text(&["content-type: text/plain", "content-length: 0"]).expect(415);
    text(&["content-length: 0"]).expect(415);
    let head = format!(
        "POST /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n",
        orx.token().unwrap()
    );
    assert_eq!(raw(&orx, head.as_bytes()).status, 413);
}

#[test]
fn requests_that_are_no_http_are_refused() {
    let orx = served();
    let token = orx.token().unwrap();
    let with = |rest: &str| {
        format!(
            "POST /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{rest}"
        )
    };
    for bad in [
        "nonsense\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: a\u{0}b\r\n\r\n".to_owned(),
        with("content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        with("content-length: x\r\n\r\n"),
        with("transfer-encoding: chunked\r\n\r\nzz\r\n"),
        format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(200_000)),
        format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "y".repeat(200_000)),
    ] {
        let answer = raw(&orx, bad.as_bytes());
        assert!(answer.status < 500 && answer.status != 200, "{answer:?}");
    }
    // A length and chunks: the length is not believed, and what follows is no second request.
    let both = with(
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    );
    let answer = raw(&orx, both.as_bytes());
    assert!(!answer.body.contains("ok\n") || answer.head.contains("400"), "{answer:?}");
    assert_eq!(orx.states(), "");
}

#[test]
fn other_hosts_and_pages_of_others_are_refused() {
    let orx = served();
    let get = |host: &str, more: &str| {
        let token = orx.token().unwrap();
        raw(
            &orx,
            format!(
                "GET /api/v1/jobs HTTP/1.1\r\n{host}authorization: Bearer {token}\r\nconnection: close\r\n{more}\r\n"
            )
            .as_bytes(),
        )
    };
    assert_eq!(get("host: localhost\r\n", "").status, 200);
    assert_eq!(get("host: evil.example\r\n", "").status, 421);
    assert_eq!(get("host: localhost\r\nhost: localhost\r\n", "").status, 400);
    assert_eq!(get("host: localhost\r\n", "origin: http://localhost\r\n").status, 200);
    for origin in ["http://evil.example", "null", "http://localhost.evil.example"] {
        assert_eq!(get("host: localhost\r\n", &format!("origin: {origin}\r\n")).status, 403, "{origin}");
    }
}

/// How many files this process may have open, and those that it starts.
fn allow_files(soft: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(soft, |most| most.min(soft));
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit }).unwrap();
}

#[test]
fn half_open_connections_do_not_move_the_p99_of_others() {
    allow_files(1024); // as a shell does: the coordinator allows itself more
    let orx = served();
    allow_files(8192);
    let p99 = || {
        let mut took: Vec<Duration> = (0..100)
            .map(|_| {
                let started = Instant::now();
                ask(&orx, "GET /api/v1/jobs/7", "").expect(404);
                started.elapsed()
            })
            .collect();
        took.sort();
        took[took.len() * 99 / 100]
    };
    let before = p99();
    let open = || {
        let mut stream = connect(&orx);
        stream.write_all(b"POST /api/v1/jobs HTTP/1.1\r\nhost: loc").unwrap();
        stream
    };
    let idle: Vec<_> = (0..2000).map(|_| open()).collect();
    // By as much as a loaded machine moves it anyway; what else runs disturbs one look, but not each.
    let looks: Vec<Duration> = (0..5).map(|_| p99()).collect();
    let moved = |after: &Duration| *after >= before * 4 + Duration::from_millis(100);
    assert!(!looks.iter().all(moved), "{before:?}, then {looks:?}");
    drop(idle);
}

#[test]
fn a_job_of_a_coordinator_may_open_as_many_files_as_its_shell_said() {
    allow_files(900);
    let mut orx = Orx::file();
    let token = token(&orx, &["--admin"]);
    orx.serve_at("127.0.0.1:0", &["--slots", "1"]);
    let url = orx.url();
    orx.reach(&url, &token);
    let job = orx.sh(&[], "ulimit -Sn");
    orx.wait_state(&job, "done");
    assert_eq!(orx.ok(&["tail", &job]), "900\n");
}

#[test]
fn what_comes_with_a_question_that_needs_no_token_is_not_waited_for() {
    let orx = served();
    let head = "POST /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 67108864\r\n\r\n";
    assert_eq!(raw_head(&orx, head.as_bytes()).status, 405);
}

#[test]
fn large_bodies_wait_for_each_other_and_small_ones_for_nobody() {
    let orx = served();
    let announce = |length: usize| {
        let mut stream = connect(&orx);
        let head = format!(
            "POST /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n",
            orx.token().unwrap()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let asked_for = |stream: &mut TcpStream| {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| assert_eq!(&answer, b"HTTP/1.1 100"))
    };
    let mut large: Vec<TcpStream> = (0..4).map(|_| announce(64 << 20)).collect();
    large.iter_mut().for_each(|stream| asked_for(stream).unwrap());
    let mut fifth = announce(1 << 20);
    fifth.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(asked_for(&mut fifth).is_err(), "it is read though there is no room");
    ask(&orx, "POST /api/v1/jobs", r#"{"command":["true"]}"#).expect(201);
    drop(large.pop());
    fifth.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    asked_for(&mut fifth).unwrap();
}

/// A list that takes far more memory than its text.
fn objects(count: usize) -> String {
    format!("[{}]", vec!["{}"; count].join(","))
}

#[test]
fn what_a_token_may_not_ask_for_is_not_read() {
    let orx = served();
    let reader = token(&orx, &["--name", "reader", "--scope", "read"]);
    let ask = |line: &str, body: &str| request(&orx, Some(&reader), line, &[], body);
    for route in ["jobs", "ops/enqueue", "ops/submit_run", "ops/add_schedule"] {
        // Nobody finds out that it is no JSON.
        let refused = ask(&format!("POST /api/v1/{route}"), "[{},").expect(403).json();
        assert!(refused["hint"].as_str().unwrap().ends_with(" submit"), "{refused}");
    }
    ask("POST /api/v1/ops/settle", "[{},").expect(403);
    ask("POST /api/v1/jobs/7/cancel", "[{},").expect(403);
    ask("POST /api/v1/ops/get_jobs", r#"{"numbers":["#).expect(400);
    ask("POST /api/v1/ops/nothing", "[{},").expect(404);
    // Who sends much hears why; who asks before need not send it.
    ask("POST /api/v1/jobs", &objects(1 << 20)).expect(403);
    let asks = format!(
        "POST /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {reader}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 4000000\r\n\r\n"
    );
    assert_eq!(raw_head(&orx, asks.as_bytes()).status, 403);
    let denied = orx.events().into_iter().filter(|e| e["kind"] == "call_denied" && e["actor"] == "token reader");
    assert!(denied.count() > 0);
}

/// The most memory that a process has had, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_body_that_becomes_large_is_refused_and_holds_nobody_up() {
    let mut orx = served();
    let pid = orx.coordinator().pid();
    let orx = &orx;
    let weak = token(orx, &["--name", "weak", "--scope", "submit,work"]);
    let weak = weak.as_str();
    let post = move |line: &str, body: &str| request(orx, Some(weak), line, &[], body);
    let jobs = objects(1_400_000);
    let numbers = format!(r#"{{"handler":"h","payload":[0{}]}}"#, ",0".repeat(4_000_000));
    let fences = format!(
        r#"{{"worker":{},"ttl":"15s","fences":[{}]}}"#,
        json!(orx::worker::new_key().unwrap()),
        vec![r#"{"number":1,"attempt":1}"#; 10_001].join(",")
    );
    let states = format!(r#"{{"limit":1,"filter":{{"states":["done"{}]}}}}"#, r#","done""#.repeat(500_000));
    let reader = token(orx, &["--name", "reader", "--scope", "read"]);
    let read = |body: &str| request(orx, Some(&reader), "POST /api/v1/ops/list_jobs", &[], body);
    let before = peak(pid);
    let refused = read(&states).expect(422).json();
    assert!(refused["detail"].as_str().unwrap().contains("at most 64"), "{refused}");
    let longest = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let refused = post("POST /api/v1/jobs", &jobs).expect(422).json();
                    assert!(refused["detail"].as_str().unwrap().contains("at most 10000"), "{refused}");
                    let refused = post("POST /api/v1/jobs", &numbers).expect(413).json();
                    assert!(refused["detail"].as_str().unwrap().contains("MiB of memory"), "{refused}");
                    assert_eq!(post("POST /api/v1/ops/renew", &fences).expect(422).json()["field"], "fences");
                })
            })
            .collect();
        let mut longest = Duration::ZERO;
        while sent.iter().any(|sent| !sent.is_finished()) {
            let begun = Instant::now();
            assert_eq!(request(orx, None, "GET /healthz", &[], "").status, 200);
            longest = longest.max(begun.elapsed());
        }
        longest
    });
    // Read as it came the first took 1.8 GB and held up all others for as long as it was read: more than ten seconds.
    let grown = (peak(pid) - before) / 1024 / 1024;
    assert!(grown < 400, "{grown} MiB more");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert_eq!(orx.states(), "");
}

#[test]
fn what_a_worker_says_of_itself_is_bounded_and_can_be_shown() {
    let orx = served();
    let work = token(&orx, &["--name", "w", "--scope", "work"]);
    let post = |name: &str, body: &Value| {
        request(&orx, Some(&work), &format!("POST /api/v1/ops/{name}"), &[], &body.to_string())
    };
    let (key, long) = (orx::worker::new_key().unwrap(), "x".repeat(6 << 20));
    let worker = json!({
        "id": key.id, "name": "w", "host": "h", "pid": 1, "offer": { "queues": ["q"] }, "slots": 4096, "version": "0", "solo": false,
    });
    let register = |worker: &Value| {
        post(
            "register",
            &json!({ "worker": worker, "secret": key.secret, "ttl": "15s", "succeeds": [], "jitter": 0.5 }),
        )
    };
    let refuse = |place: &str, value: Value| {
        let mut worker = worker.clone();
        *worker.pointer_mut(place).unwrap() = value;
        let refused = register(&worker).expect(422);
        assert!(refused.body.len() < 1000, "{place}");
        let field = refused.json()["field"].as_str().unwrap_or_default().to_owned();
        assert_eq!(field, format!("worker{}", place.replace('/', ".").trim_end_matches(".0")), "{refused:?}");
    };
    for name in [long.as_str(), "", "a\0b", "\u{1b}[2J", "../w", "a\nb"] {
        refuse("/name", name.into());
        refuse("/host", name.into());
    }
    for queue in [long.as_str(), "", "a\0b", "\u{1b}[2J", "q*", "a\nb"] {
        refuse("/offer/queues/0", queue.into());
    }
    refuse("/version", long.as_str().into());
    refuse("/slots", 4_000_000_000_u32.into());
    refuse("/offer/queues", json!(vec!["q"; 1001]));
    let many = vec![&key; 17];
    let heir = json!({ "worker": worker, "secret": key.secret, "ttl": "15s", "succeeds": many, "jitter": 0.5 });
    assert_eq!(post("register", &heir).expect(422).json()["field"], "succeeds");
    register(&worker).expect(200);
    let events = || orx.events().len();
    let before = events();
    let lease = |name: &str, ttl: &str| {
        let lease = json!({ "worker": key, "name": name, "offer": {}, "slots": 1, "ttl": ttl, "only": null });
        post("lease", &lease)
    };
    lease("a\0b", "15s").expect(422);
    lease("w", "30d").expect(422);
    let greedy =
        json!({ "worker": key, "name": "w", "offer": {}, "slots": 4_000_000_000_u32, "ttl": "15s", "only": null });
    assert_eq!(post("lease", &greedy).expect(422).json()["field"], "slots");
    post("deregister", &json!({ "worker": key, "name": "\u{1b}[2J" })).expect(422);
    let beat = |name: &str, trouble: &str| {
        post("heartbeat", &json!({ "worker": key, "name": name, "ttl": "15s", "trouble": trouble }))
    };
    beat(&long, "").expect(422);
    beat("w", &format!("no \u{1b}[2J\0pipes {long}")).expect(200);
    let shown = orx.json(&["workers"])[0]["trouble"].as_str().unwrap().to_owned();
    assert!(shown.starts_with("no [2Jpipes x") && shown.len() < 1001, "{}", shown.len());

    // Attempts that never were leave no trace, nor do those that are to come.
    let job = orx.add(&["--", "true"]);
    let number = orx.job(&job)["number"].as_i64().unwrap();
    let stored = events();
    assert_eq!(stored, before + 1, "the job");
    let fences: Vec<Value> = (0..9000).map(|n| json!({ "number": number + n % 3, "attempt": n / 3 })).collect();
    let renewed = post("renew", &json!({ "worker": key, "ttl": "15s", "fences": fences })).expect(200).json();
    assert!(renewed.as_array().unwrap().iter().all(|one| one == "stale"));
    let report = |fence: &Value| {
        let ending = json!({ "cause": "itself", "exit_code": 0, "signal": null, "error": null });
        json!({ "fence": fence, "ending": ending, "started": null, "ran": "1s", "after": "1s", "output": [], "jitter": 0.5 })
    };
    let reports: Vec<Value> = fences.iter().take(1000).map(report).collect();
    let settled = post("settle", &json!({ "worker": key, "reports": reports })).expect(200).json();
    assert!(settled.as_array().unwrap().iter().all(|one| one == "stale"));
    assert_eq!(events(), stored);
}

#[test]
fn an_address_that_others_reach_needs_a_certificate() {
    let orx = Orx::file();
    orx.run(&["coordinator", "--listen", "0.0.0.0:0"]).expect(2, &["nothing is encrypted", "--tls-cert"]);
    orx.run(&["coordinator", "--listen", "127.0.0.1:0", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"])
        .expect(2, &["cannot use /nowhere"]);
    orx.run(&["--store", "http://127.0.0.1:1", "coordinator"]).expect(2, &["needs the store itself"]);
}
