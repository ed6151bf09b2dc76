//! What a client gave as JSON is given back as it was written.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::support::*;
use crate::cli::verbatim::values;

#[derive(Deserialize)]
struct Seen {
    number: usize,
    payload: Option<Box<RawValue>>,
}

#[test]
fn payloads_come_back_byte_by_byte() {
    let orx = served();
    let values = values(100);
    let job = |value: &String| format!("{{ \"handler\": \"h\", \"payload\": {value} }}");
    let jobs: Vec<String> = values.iter().map(job).collect();
    ask(&orx, "POST /api/v1/jobs", &format!("[{}]", jobs.join(",\n"))).expect(201);
    let listed = op(&orx, "list_jobs", r#"{"limit":1000,"before":null,"filter":{}}"#).expect(200);
    #[derive(Deserialize)]
    struct Page {
        jobs: Vec<Seen>,
    }
    let page: Page = serde_json::from_str(&listed.body).unwrap();
    assert_eq!(page.jobs.len(), values.len());
    for Seen { number, payload } in page.jobs {
        assert_eq!(payload.as_deref().map_or("null", RawValue::get), values[number - 1]);
    }
    let one = ask(&orx, "GET /api/v1/jobs/9", "").expect(200);
    assert!(one.body.contains(&format!("\"payload\":{},", values[8])), "{one:?}");
}

#[test]
fn a_body_that_means_two_things_is_refused_with_the_place() {
    let orx = served();
    let twice = r#"{"handler":"h","payload":{"a":{"b":1,"\u0062":2}}}"#;
    let refused = ask(&orx, "POST /api/v1/jobs", &format!("[{twice}]")).expect(422).json();
    assert_eq!(refused["field"], "[0].payload");
    assert!(refused["detail"].as_str().unwrap().contains(r#"has the key "b" twice"#), "{refused}");
    let refused = ask(&orx, "POST /api/v1/jobs", r#"{"command":["a"],"label":{"a":"1","a":"2"}}"#).expect(422).json();
    assert_eq!(refused["field"], "label");
    let id = uuid::Uuid::now_v7();
    let workflow = r#"{"name":"w","task":[{"name":"a","handler":"h","payload":{"x":1,"x":1}}]}"#;
    op(&orx, "submit_run", &format!(r#"{{"id":"{id}","workflow":{workflow}}}"#)).expect(422);
    assert_eq!(orx.states(), "");
}
