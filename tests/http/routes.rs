//! The routes that people call by hand, and the streams.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use super::support::*;

#[test]
fn a_job_is_stored_once_per_key_followed_listed_and_cancelled() {
    let orx = served();
    let post = |key: &str, body: &str| {
        request(&orx, orx.token(), "POST /api/v1/jobs", &[&format!("idempotency-key: {key}")], body)
    };
    let body = r#"{"command":["sh","-c","echo hello; echo there"]}"#;
    let first = post("k1", body).expect(201).json();
    let again = post("k1", body).expect(200).json();
    assert_eq!((&first["id"], &again["existing"]), (&again["id"], &true.into()));
    post("k1", r#"{"command":["false"]}"#).expect(409);

    let worker = orx.worker(&[]);
    let output = ask(&orx, "GET /api/v1/jobs/1/output?follow=true", "").expect(200);
    assert_eq!(output.body, "hello\nthere\n");
    let job = ask(&orx, &format!("GET /api/v1/jobs/{}?wait=20", first["id"].as_str().unwrap()), "").expect(200).json();
    assert_eq!((&job["state"], &job["exit_code"]), (&"done".into(), &0.into()));

    let many = ask(&orx, "POST /api/v1/jobs", r#"[{"command":["sleep","60"]},{"command":["true"],"queue":"q"}]"#);
    assert_eq!(many.expect(201).json().as_array().unwrap().len(), 2);
    ask(&orx, "POST /api/v1/jobs/2/cancel", r#"{"reason":"enough"}"#).expect(200);
    let job = ask(&orx, "GET /api/v1/jobs/2?wait=20", "").expect(200).json();
    assert_eq!((&job["state"], &job["reason"]), (&"cancelled".into(), &"enough".into()));
    ask(&orx, "POST /api/v1/jobs/2/retry", "").expect(200);

    let page = ask(&orx, "GET /api/v1/jobs?limit=2", "").expect(200).json();
    assert_eq!(page["jobs"].as_array().unwrap().len(), 2);
    let rest = ask(&orx, &format!("GET /api/v1/jobs?limit=2&cursor={}", page["next"]), "").expect(200).json();
    assert_eq!(rest["jobs"][0]["number"], 1);
    assert_eq!(ask(&orx, "GET /api/v1/jobs?queue=q", "").json()["jobs"].as_array().unwrap().len(), 1);
    for list in ["runs", "schedules", "workers", "queues", "tenants", "dead-letters", "status", "tokens"] {
        ask(&orx, &format!("GET /api/v1/{list}"), "").expect(200);
    }
    drop(worker);
}

#[test]
fn a_thing_that_does_not_exist_is_404_and_a_wrong_parameter_4xx() {
    let orx = served();
    for path in [
        "jobs/7",
        "jobs/01987654-0000-7000-8000-000000000001",
        "runs/01987654-0000-7000-8000-000000000001",
        "jobs/9/output",
        "nothing",
    ] {
        ask(&orx, &format!("GET /api/v1/{path}"), "").expect(404);
    }
    ask(&orx, "GET /api/v1/jobs/x9", "").expect(422);
    for (field, value) in [("state", "asleep"), ("label", "x")] {
        let refused = ask(&orx, &format!("GET /api/v1/jobs?{field}={value}"), "").expect(422);
        assert_eq!(refused.json()["field"], field);
    }
    for path in ["jobs?cursor=x", "jobs?bogus=1", "jobs?limit=-1"] {
        assert_eq!(ask(&orx, &format!("GET /api/v1/{path}"), "").status, 400);
    }
    ask(&orx, "DELETE /api/v1/jobs", "").expect(405);
}

#[test]
fn health_needs_no_token_and_everything_else_does() {
    let orx = served();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(request(&orx, None, &format!("GET {path}"), &[], "").status, 200);
    }
    for path in ["/metrics", "/api/openapi.json", "/events", "/api/v1/jobs", "/api/v1/changes?topics=1", "/nothing"] {
        request(&orx, None, &format!("GET {path}"), &[], "").expect(401);
    }
}

/// The next event of a stream, as its id and data.
fn next_event(reader: &mut impl std::io::BufRead) -> (i64, serde_json::Value) {
    let (mut id, mut line) = (0, String::new());
    loop {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended");
        if let Some(n) = line.strip_prefix("id: ") {
            id = n.trim().parse().unwrap();
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return (id, serde_json::from_str(data).unwrap());
        }
    }
}

#[test]
fn events_are_streamed_and_resumed_at_any_place() {
    let orx = served();
    let open = |headers: &str| {
        let mut stream = connect(&orx);
        let head =
            format!("GET /events HTTP/1.1\r\nhost: x.localhost\r\n{headers}\r\n").replace("x.localhost", "localhost");
        let token = orx.token().unwrap();
        stream
            .write_all(head.replace("\r\n\r\n", &format!("\r\nauthorization: Bearer {token}\r\n\r\n")).as_bytes())
            .unwrap();
        BufReader::new(stream)
    };
    let mut all = open("");
    let (first, event) = next_event(&mut all);
    assert_eq!((first, &event["kind"]), (1, &"token_created".into()));
    orx.add(&["--", "true"]);
    let (id, event) = loop {
        let (id, event) = next_event(&mut all);
        if event["kind"] == "enqueued" {
            break (id, event);
        }
    };
    assert_eq!(event["number"], 1);
    orx.add(&["--", "true"]);
    let mut resumed = open(&format!("last-event-id: {id}\r\n"));
    let (next, event) = next_event(&mut resumed);
    assert!(next > id && event["number"] == 2, "{event}");
}

/// A WebSocket with the events of one kind, or any other stream; its head is read.
fn open_stream(orx: &Orx, token: &str, path: &str) -> BufReader<TcpStream> {
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let (more, status) = if path.starts_with("/ws") { (upgrade, "101") } else { ("connection: close\r\n", "200") };
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{more}\r\n");
    let mut stream = connect(orx);
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    reader
}

#[test]
fn the_same_events_come_over_a_websocket() {
    let orx = served();
    orx.add(&["--", "true"]);
    let open = || ask(&orx, "GET /metrics", "").body.contains("\norx_http_connections 2\n");
    assert!(!open());
    let mut reader = open_stream(&orx, orx.token().unwrap(), "/ws?kind=enqueued");
    let mut head = [0; 4];
    reader.read_exact(&mut head).unwrap();
    assert!(open(), "it keeps its place among the connections");
    assert_eq!((head[0], head[1]), (0x81, 126), "one text frame of 126 bytes or more");
    let mut text = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
    reader.read_exact(&mut text).unwrap();
    let event: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&event["kind"], &event["number"]), (&"enqueued".into(), &1.into()));
}

#[test]
fn events_of_some_jobs_are_chosen_as_jobs_are_named_elsewhere() {
    let orx = served();
    let ids: Vec<String> = (0..3).map(|_| orx.ok(&["enqueue", "--", "true"]).trim().to_owned()).collect();
    let first = |words: &str| {
        let mut stream = open_stream(&orx, orx.token().unwrap(), &format!("/events?kind=enqueued&job={words}"));
        next_event(&mut stream).1["number"].clone()
    };
    assert_eq!((first("2"), first("last"), first(&format!("{},1", ids[1]))), (2.into(), 3.into(), 1.into()));
    ask(&orx, "GET /events?job=9", "").expect(404);
    assert_eq!(ask(&orx, "GET /events?job=x9", "").expect(422).json()["field"], "job");
}

#[test]
fn a_stream_ends_with_its_token() {
    let orx = served();
    orx.add(&["--", "true"]);
    let mortal = token(&orx, &["--scope", "read", "--name", "mortal"]);
    let paths = ["/ws", "/events", "/api/v1/changes?topics=1", "/api/v1/jobs/1/output?follow=true"];
    let streams = paths.map(|path| open_stream(&orx, &mortal, path));
    let lives = open_stream(&orx, orx.token().unwrap(), "/api/v1/changes?topics=1");
    orx.ok(&["token", "revoke", "mortal"]);
    for (mut stream, path) in streams.into_iter().zip(paths) {
        let read = stream.read_to_end(&mut Vec::new()); // by its end, or the limit that `connect` sets
        assert!(read.is_ok(), "{path}: {read:?}");
    }
    let mut lines = lives.lines().map_while(Result::ok);
    assert!(lines.nth(4).is_some(), "the other one ended");
}

#[test]
fn output_is_followed_through_all_attempts_or_through_one() {
    let orx = served();
    let job = r#"{"command":["sh","-c","echo $ORX_ATTEMPT; exit $((ORX_ATTEMPT < 3))"],"max_attempts":3,"backoff":"10ms..10ms"}"#;
    ask(&orx, "POST /api/v1/jobs", job).expect(201);
    std::thread::scope(|scope| {
        let all = scope.spawn(|| ask(&orx, "GET /api/v1/jobs/1/output?follow=true", "").expect(200).body);
        let _worker = orx.worker(&[]);
        assert_eq!(all.join().unwrap(), "1\n2\n3\n");
    });
    let of = |query: &str| ask(&orx, &format!("GET /api/v1/jobs/1/output?{query}"), "").expect(200).body;
    assert_eq!(of("follow=true&attempt=2"), "2\n");
    assert_eq!((of("follow=true"), of("attempt=1"), of("")), ("3\n".into(), "1\n".into(), "3\n".into()));
}
