//! A trace goes from whoever submits to the job and into every line of the log that is about it.

use super::support::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn given() -> String {
    format!("00-{TRACE}-b7ad6b7169203331-00")
}

#[test]
fn a_trace_comes_by_header_or_environment_and_is_passed_on() {
    let orx = served();
    let body = r#"{"command":["sh","-c","echo $TRACEPARENT; exit 1"]}"#;
    let post = |trace: &str| request(&orx, orx.token(), "POST /api/v1/jobs", &[&format!("traceparent: {trace}")], body);
    post(&given()).expect(201);
    post("nonsense").expect(201); // says the W3C
    orx.call(&["enqueue", "--", "sh", "-c", "echo $TRACEPARENT"]).env("TRACEPARENT", given()).run().expect(0, &[]);
    orx.burst();
    let trace = |job: &str| orx.job(job)["trace_id"].as_str().unwrap().to_owned();
    assert_eq!((trace("1").as_str(), trace("3").as_str()), (TRACE, TRACE));
    let own = orx.job("2")["id"].as_str().unwrap().replace('-', "");
    assert_eq!(trace("2"), own);
    for job in ["1", "3"] {
        let said = orx.ok(&["tail", job]);
        let parts: Vec<&str> = said.trim().split('-').collect();
        assert!(parts[..2] == ["00", TRACE] && parts[2] != "b7ad6b7169203331" && parts[3] == "00", "{said}");
    }
    assert!(orx.ok(&["tail", "2"]).starts_with(&format!("00-{own}-")));
}

#[test]
fn every_line_about_a_job_names_it_and_its_trace() {
    let orx = served();
    orx.call(&["enqueue", "--timeout", "1s", "--", "sleep", "60"]).env("TRACEPARENT", given()).run().expect(0, &[]);
    let id = orx.job("1")["id"].clone();
    let out = orx.call(&["-vv", "worker", "--burst", "--log-format", "json"]).env("RUST_LOG", "orx=trace").run();
    let lines = lines_of_json(&out.expect(0, &[]).stderr());
    let mut about = 0;
    for line in &lines {
        let message = line["message"].as_str().unwrap_or_default();
        // What is said of one attempt; the rest is about the worker.
        let of_a_job = ["leased", "started", "ended", "lease is lost", "settled too late", "output"];
        let of_the_worker = message == "ended" && line["by"].is_null();
        if !of_the_worker && of_a_job.iter().any(|word| message.starts_with(word)) {
            about += 1;
            assert_eq!((&line["span"]["id"], &line["span"]["trace"]), (&id, &TRACE.into()), "{line}");
        }
    }
    assert!(about >= 3, "{out}");
}

#[test]
fn a_coordinator_says_for_which_request_and_trace() {
    let mut orx = Orx::file();
    let admin = token(&orx, &["--admin"]);
    let coordinator = orx.call(&["coordinator", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    let coordinator = coordinator.env("RUST_LOG", "orx=debug").spawn();
    let mut url = String::new();
    eventually("the coordinator to be ready", || {
        let lines: Vec<serde_json::Value> =
            coordinator.stderr().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let ready = lines.iter().find(|line| line["message"] == "ready");
        url = ready.map(|line| line["url"].as_str().unwrap().to_owned()).unwrap_or_default();
        !url.is_empty()
    });
    orx.reach(&url, &admin);
    let headers = ["x-request-id: mine", &format!("traceparent: {}", given())];
    let answer = request(&orx, orx.token(), "GET /api/v1/jobs/7", &headers, "").expect(404);
    assert!(answer.head.contains("x-request-id: mine"), "{}", answer.head);
    eventually("the line about it", || {
        coordinator.stderr().lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).any(
            |line| {
                let span = &line["span"];
                line["message"] == "answered"
                    && line["status"] == 404
                    && span["id"] == "mine"
                    && span["op"] == "GET /api/v1/jobs/{id}"
                    && span["trace"] == given().as_str()
            },
        )
    });
}
