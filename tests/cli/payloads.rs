//! Payloads that must fit the JSON Schema of their handler.

use super::support::*;

const SCHEMA: &str =
    r#"{"type": "object", "required": ["month"], "properties": {"month": {"type": "integer", "maximum": 12}}}"#;

/// Writes a configuration whose handler has a schema, and gives its file.
fn configured(orx: &Orx) -> String {
    orx.write("conf/report.schema.json", SCHEMA);
    orx.write(
        "conf/orx.toml",
        "[handlers.report]\ncommand = ['sh', '-c', 'cat; echo ran >> ran']\nschema = 'report.schema.json'\n",
    )
}

#[test]
fn a_payload_that_does_not_fit_is_refused_where_the_schema_is_known() {
    let orx = Orx::file();
    let config = configured(&orx);
    let enqueue =
        |payload: &str| orx.run(&["--config", &config, "enqueue", "--handler", "report", "--payload", payload]);
    enqueue(r#"{"month": 13}"#).expect(2, &["payload does not fit the schema of handler report at /month"]);
    orx.run(&["--config", &config, "enqueue", "--handler", "report"]).expect(2, &["payload does not fit"]);
    assert_eq!(orx.states(), "");
    enqueue(r#"{"month": 12}"#).expect(0, &[]);
    orx.ok(&["-q", "--config", &config, "worker", "--burst"]);
    assert_eq!((orx.states(), orx.ok(&["tail", "1"])), ("done".into(), "{\"month\": 12}".into()));
}

#[test]
fn schedules_and_workflows_are_refused_as_jobs_are() {
    let orx = Orx::file();
    let config = configured(&orx);
    let call = |args: &[&str]| orx.run(&[&["--config", &config], args].concat());
    let flaw = "payload does not fit the schema of handler report at /month";
    let add = ["schedule", "add", "s", "--every", "1h", "--handler", "report", "--payload"];
    call(&[&add[..], &[r#"{"month": 13}"#]].concat()).expect(2, &[flaw]);
    let task = |month: u32| format!("[[task]]\nname = 't'\nhandler = 'report'\npayload = {{ month = {month} }}\n");
    let good = orx.write("good.toml", format!("name = 'w'\n{}", task(12)));
    let first = orx.write("first.toml", format!("name = 'w'\n{}", task(13)));
    let hook = orx.write(
        "hook.toml",
        format!("name = 'w'\non_complete = {{ handler = 'report', payload = {{ month = 0.5 }} }}\n{}", task(1)),
    );
    let inherited = orx.write(
        "inherited.toml",
        "name = 'w'\ndefaults = { handler = 'report', payload = { month = 99 } }\n[[task]]\nname = 't'\n",
    );
    for (file, place) in [(&first, "task t: "), (&hook, "task on_complete: "), (&inherited, "task t: ")] {
        let said = format!("{place}{flaw}");
        call(&["workflow", "submit", file]).expect(2, &[&said]);
        call(&["schedule", "add", "s", "--every", "1h", "--workflow", file]).expect(2, &[&said]);
    }
    call(&["run", "--workflow", &first]).expect(125, &[flaw]);
    assert_eq!((orx.states(), orx.json(&["schedule", "list"])), (String::new(), serde_json::json!([])));

    call(&[&add[..], &[r#"{"month": 12}"#]].concat()).expect(0, &[]);
    call(&["schedule", "add", "w", "--every", "1h", "--workflow", &good]).expect(0, &[]);
    for when in ["now", "next"] {
        let update = |more: &[&str]| call(&[&["schedule", "update", "--apply", when], more].concat());
        update(&["s", "--handler", "report", "--payload", r#"{"month": "May"}"#]).expect(2, &[flaw]);
        update(&["w", "--workflow", &first]).expect(2, &[flaw]);
    }
    for name in ["s", "w"] {
        assert_eq!(orx.json(&["schedule", "show", name])["version"], 1);
    }

    // What was stored before the schema said otherwise is refused when somebody asks for it to be run.
    orx.write("conf/report.schema.json", SCHEMA.replace("12", "11"));
    for name in ["s", "w"] {
        call(&["schedule", "trigger", name]).expect(2, &[flaw]);
    }
    assert_eq!(orx.states(), "");
}

#[test]
fn a_coordinator_with_the_schema_refuses_it_for_everybody() {
    let mut orx = Orx::file();
    let config = configured(&orx);
    let token = orx.ok(&["token", "create", "--admin"]).trim().to_owned();
    orx.serve_at("127.0.0.1:0", &["--config", &config]);
    let call = |payload: &str| {
        orx.call(&["enqueue", "--handler", "report", "--payload", payload]).env("ORX_TOKEN", &token).run()
    };
    call(r#"{"month": "May"}"#).expect(2, &["payload does not fit the schema of handler report at /month"]);
    call(r#"{"month": 5}"#).expect(0, &[]);
}

#[test]
fn a_worker_with_the_schema_ends_the_job_at_once_and_for_good() {
    let orx = Orx::file();
    let config = configured(&orx);
    orx.add(&["--handler", "report", "--payload", "7", "--max-attempts", "5", "--backoff", "1ms"]);
    orx.ok(&["-q", "--config", &config, "worker", "--burst"]);
    let job = orx.job("1");
    assert_eq!(
        (&job["state"], &job["reason"], &job["attempt"]),
        (&"failed".into(), &"fatal".into(), &1.into()),
        "{job}"
    );
    let error = job["error"].as_str().unwrap();
    assert!(
        error.starts_with("cannot start: the payload does not fit the schema of handler report: 7 is not"),
        "{error}"
    );
    assert_eq!(orx.read("ran"), "");
    orx.ok(&["audit"]);
}

#[test]
fn a_schema_that_is_none_is_said_before_anything_starts() {
    let orx = Orx::file();
    let config = configured(&orx);
    for (schema, said) in [
        ("{", "is not JSON"),
        (r#"{"type": 1}"#, "the schema of handler report is no JSON Schema"),
        (r#"{"$ref": "https://example.com/x.json"}"#, "the schema of handler report is no JSON Schema"),
    ] {
        orx.write("conf/report.schema.json", schema);
        orx.run(&["--config", &config, "worker", "--burst"]).expect(2, &[said]);
    }
    std::fs::remove_file(orx.path("conf/report.schema.json")).unwrap();
    orx.run(&["--config", &config, "worker", "--burst"]).expect(2, &["cannot read", "report.schema.json"]);
}
