//! What a token of one tenant can tell of others.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::support::*;

/// When the stream of changes of a token tells of something.
fn changes(orx: &Orx, token: &str) -> mpsc::Receiver<Instant> {
    let mut stream = connect(orx);
    let head =
        format!("GET /api/v1/changes?topics=31 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let is_change = line.starts_with('{') && line != r#"{"topics":0}"#;
            if is_change && tell.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    told
}

#[test]
fn changes_are_told_of_by_own_events_and_by_the_clock_and_not_by_those_of_others() {
    let orx = served();
    let of = |tenant: &str| token(&orx, &["--name", tenant, "--scope", "submit,read", "--tenant", tenant]);
    let (acme, bee) = (of("acme"), of("bee"));
    let post = |token: &str| {
        request(&orx, Some(token), "POST /api/v1/jobs", &[], r#"{"handler":"h","payload":1}"#).expect(201).json()
    };
    let told = changes(&orx, &bee);
    let limit = Duration::from_secs(10);
    let mut last = told.recv_timeout(limit).unwrap();
    // Others do something all the time.
    for _ in 0..2 {
        let next = loop {
            post(&acme);
            match told.recv_timeout(Duration::from_millis(30)) {
                Ok(at) => break at,
                Err(_) => assert!(last.elapsed() < limit, "nothing is told"),
            }
        };
        assert!(next - last > Duration::from_millis(700), "{:?}", next - last);
        last = next;
    }
    // Its own is told of at once, and belongs to it without saying so. A stall of the machine disturbs one look, not each.
    let looks: Vec<Duration> = (0..3)
        .map(|_| {
            let job = post(&bee);
            assert_eq!(orx.job(job["id"].as_str().unwrap())["tenant"], "bee");
            let stored = Instant::now();
            told.recv_timeout(limit).unwrap();
            while told.try_recv().is_ok() {}
            stored.elapsed()
        })
        .collect();
    assert!(looks.iter().any(|look| *look < Duration::from_millis(400)), "{looks:?}");
    let events = request(&orx, Some(&bee), "POST /api/v1/ops/read_events", &[], r#"{"after":0,"limit":1}"#).json();
    assert_eq!(events[0]["kind"], "token_created", "nothing stands for events of others: {events}");
}
