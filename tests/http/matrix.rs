//! Every Op × every scope, made of what the coordinator itself says it has.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::*;
use crate::store::pretending;

const SCOPES: [&str; 6] = ["read", "submit", "exec", "operate", "work", "admin"];

#[test]
fn every_op_is_described_and_refuses_tokens_without_its_scopes() {
    let orx = served();
    let document = ask(&orx, "GET /api/openapi.json", "").expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    let tokens: Vec<(&str, String)> = SCOPES.iter().map(|s| (*s, token(&orx, &["--name", s, "--scope", s]))).collect();
    let paths = document["paths"].as_object().unwrap();
    let ops: Vec<&str> = paths.keys().filter_map(|path| path.strip_prefix("/api/v1/ops/")).collect();
    assert!(ops.len() > 50, "{ops:?}");
    let (mut cells, mut refused) = (0, 0);
    let mut known = 0;
    for name in ops {
        let content = &paths[&format!("/api/v1/ops/{name}")]["post"]["requestBody"]["content"];
        let body = content["application/json"]["example"].to_string();
        let least = paths[&format!("/api/v1/ops/{name}")]["post"]["security"][0]["token"].clone();
        let least: BTreeSet<String> = serde_json::from_value(least).unwrap();
        let mut needed: Option<BTreeSet<String>> = None;
        let mut allowed = Vec::new();
        for (scope, token) in &tokens {
            let line = format!("POST /api/v1/ops/{name}");
            let answer = request(&orx, Some(token), &line, &[], &body);
            cells += 1;
            assert!(answer.status < 500, "{name} {body} {answer:?}");
            if answer.status == 403 {
                refused += 1;
                let hint = answer.json()["hint"].as_str().unwrap_or_default().to_owned();
                let scopes: BTreeSet<String> = hint.rsplit(' ').next().unwrap().split(',').map(str::to_owned).collect();
                // Who has the least that it takes is told what more this body needs.
                assert!(least.is_subset(&scopes), "{name} {scopes:?} {least:?}");
                needed = Some(scopes.union(&needed.unwrap_or_default()).cloned().collect());
            } else {
                assert!(matches!(answer.status, 200 | 404 | 409 | 422), "{name} {body} {answer:?}");
                allowed.push(*scope);
            }
        }
        let new: Vec<Value> = orx.events().into_iter().filter(|e| e["seq"].as_i64() > Some(known)).collect();
        known = new.last().map_or(known, |e| e["seq"].as_i64().unwrap());
        let by_refused = |e: &&Value| SCOPES.iter().any(|s| !allowed.contains(s) && e["actor"] == format!("token {s}"));
        for event in new.iter().filter(by_refused) {
            assert_eq!(event["kind"], "call_denied", "{name}");
        }
        let needed = needed.unwrap_or_else(|| panic!("{name} is open to every token: {body}"));
        for scope in SCOPES {
            let enough = needed.len() == 1 && needed.contains(scope);
            assert_eq!(allowed.contains(&scope), enough, "{name} needs {needed:?}, {scope} {allowed:?}");
        }
        request(&orx, None, &format!("POST /api/v1/ops/{name}"), &[], &body).expect(401);
    }
    assert!(known > 0, "the trail tells nothing");
    println!("{cells} cells, {refused} refused, 0 breaches");
}

/// All that a part of the description refers to.
fn refers(document: &Value, part: &Value, found: &mut BTreeSet<String>) {
    match part {
        Value::Object(fields) => {
            if let Some(name) = part["$ref"].as_str().and_then(|place| place.rsplit('/').next())
                && found.insert(name.to_owned())
            {
                refers(document, &document["components"]["schemas"][name], found);
            }
            fields.values().for_each(|part| refers(document, part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| refers(document, part, found)),
        _ => {}
    }
}

#[test]
fn no_token_makes_one_worker_of_another() {
    let mut orx = served();
    let document = ask(&orx, "GET /api/openapi.json", "").expect(200).json();
    let [mine, theirs] = ["mine", "theirs"].map(|name| token(&orx, &["--name", name, "--scope", "work"]));
    orx.ok(&["enqueue", "--", "true"]);
    orx.ok(&["enqueue", "--", "true"]);
    let [w, other] = [0; 2].map(|_| orx::worker::new_key().unwrap());
    let post = |token: &str, op: &str, headers: &[&str], body: &Value| {
        request(&orx, Some(token), &format!("POST /api/v1/ops/{op}"), headers, &body.to_string())
    };
    for (token, key, name) in [(&mine, &w, "w"), (&theirs, &other, "other")] {
        let mut worker = pretending::worker(key, name);
        worker["ttl"] = json!(3600);
        post(token, "register", &[], &worker).expect(200);
    }
    let lease = json!({ "worker": w, "name": "w", "offer": {}, "slots": 1, "ttl": 3600, "only": null });
    let leased = post(&mine, "lease", &[], &lease).expect(200).json();
    let fence = &leased["jobs"][0]["fence"];
    let tries = pretending::tries(&w, fence, &other);

    // Each Op that names a worker or a fence shows who it is, and is tried.
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(name) = path.strip_prefix("/api/v1/ops/") else { continue };
        let mut parts = BTreeSet::new();
        refers(&document, &item["post"]["requestBody"], &mut parts);
        let shows = parts.contains("WorkerKey");
        let is_named = parts.contains("WorkerId") || parts.contains("Fence");
        assert!(shows || !is_named || name == "list_holdings", "{name} names {parts:?}");
        assert_eq!(shows, tries.iter().any(|(tried, _)| *tried == name), "{name}");
    }

    let snapshot = || {
        [
            ("get_jobs", r#"{"numbers":[1,2],"detail":true}"#),
            ("list_workers", "{}"),
            ("read_output", r#"{"number":1,"attempt":null,"after":null}"#),
            ("read_events", r#"{"after":0,"limit":1000}"#),
        ]
        .map(|(name, body)| op(&orx, name, body).expect(200).body)
    };
    let before = snapshot();
    let (mut cells, mut breaches) = (0, 0);
    for (name, body) in &tries {
        let id = format!("x-request-id: {}", uuid::Uuid::now_v7());
        let id = id.as_str();
        for headers in [&[][..], &[id], &[id, "orx-again: 1"]] {
            cells += 1;
            let answer = post(&theirs, name, headers, body);
            assert!(matches!(answer.status, 403 | 409), "{name} {body} {answer:?}");
            breaches += usize::from(snapshot() != before);
        }
    }
    println!("{cells} cells, {breaches} breaches");
    assert_eq!(breaches, 0);

    // Who asks again for its own gets it, as long as it shows that.
    let id = format!("x-request-id: {}", uuid::Uuid::now_v7());
    let again = post(&mine, "lease", &[id.as_str(), "orx-again: 1"], &lease).expect(200).json();
    assert_eq!(again["jobs"][0]["fence"], *fence);
    let settle = json!({ "worker": w, "reports": [pretending::report(fence)] });
    assert_eq!(post(&mine, "settle", &[], &settle).expect(200).json(), json!([{ "accepted": "done" }]));
    let secrets = [&w, &other].map(|key| json!(key.secret).as_str().unwrap().to_owned());
    let told = [orx.coordinator().stderr(), orx.ok(&["events"]), orx.ok(&["workers", "-o", "json"])].concat();
    assert!(secrets.iter().all(|secret| !told.contains(secret.as_str())), "{told}");
}

/// Who leads is decided by locks on the store, and not by who has a token.
#[test]
fn upkeep_cannot_be_asked_for() {
    let orx = served();
    let leader = || orx.json(&["status"])["leader"]["epoch"].clone();
    let before = leader();
    for (name, body) in [
        ("lead", r#"{"name":"me","right":"lock"}"#),
        ("resign", r#"{"epoch":1}"#),
        ("sweep", r#"{"epoch":1,"reap":true,"jitter":0.5}"#),
        ("tick", "{}"),
        ("announce", "{}"),
        ("retire", "{}"),
    ] {
        ask(&orx, &format!("POST /api/v1/ops/{name}"), body).expect(404);
    }
    assert_eq!(leader(), before);
}

#[test]
fn a_command_needs_exec_and_a_handler_does_not() {
    let orx = served();
    let submit = token(&orx, &["--name", "s", "--scope", "submit"]);
    let both = token(&orx, &["--name", "b", "--scope", "submit,exec"]);
    let post = |token: &str, body: &str| request(&orx, Some(token), "POST /api/v1/jobs", &[], body);
    post(&submit, r#"{"command":["true"]}"#).expect(403);
    post(&submit, r#"{"handler":"h","payload":{"a":1}}"#).expect(201);
    post(&both, r#"{"command":["true"]}"#).expect(201);
    // Nor may what surrounds a handler be chosen: a PATH decides what its name means.
    for surroundings in [r#""env":{"PATH":"/tmp"}"#, r#""cwd":"/tmp""#] {
        post(&submit, &format!(r#"{{"handler":"h","payload":1,{surroundings}}}"#)).expect(403);
    }
    for captured in [r#"{"env":{"LD_PRELOAD":"/tmp/x.so"}}"#, r#"{"cwd":"/tmp"}"#] {
        let id = "01987654-0000-7000-8000-000000000001";
        let job = format!(r#"{{"jobs":[{{"id":"{id}","spec":{{"handler":"h","payload":1}},"captured":{captured}}}]}}"#);
        request(&orx, Some(&submit), "POST /api/v1/ops/enqueue", &[], &job).expect(403);
        let run = format!(
            r#"{{"id":"{id}","workflow":{{"name":"w","task":[{{"name":"t","handler":"h"}}]}},"captured":{captured}}}"#
        );
        request(&orx, Some(&submit), "POST /api/v1/ops/submit_run", &[], &run).expect(403);
    }
    assert_eq!(orx.states(), "pending pending");
}

#[test]
fn who_only_submits_ends_no_job_and_learns_of_none_but_its_own() {
    let orx = served();
    let scoped = |name: &str, scope: &str| token(&orx, &["--name", name, "--scope", scope]);
    let (mine, other) = (scoped("mine", "submit"), scoped("other", "submit"));
    let (reads, operates) = (scoped("reads", "submit,read"), scoped("operates", "submit,operate"));
    let post = |token: &str, more: &str| {
        let job = format!(r#"{{"handler":"h","payload":1,"name":"n"{more}}}"#);
        request(&orx, Some(token), "POST /api/v1/jobs", &[], &job)
    };
    let [reject, returns, replace] = ["reject", "return", "replace"].map(|how| format!(r#","on_conflict":"{how}""#));
    let names_none = |answer: Answer| {
        let said = answer.json();
        let text = format!("{} {}", said["detail"], said["hint"]);
        assert!(!text.contains(|c: char| c.is_ascii_digit()) && !text.contains("pending"), "{text}");
    };
    let job = post(&mine, "").expect(201).json();
    // It is told of its own job, as is who may look at all.
    for token in [&mine, &reads] {
        assert!(post(token, &reject).expect(409).body.contains("job 1, which is pending"));
        assert_eq!(post(token, &returns).expect(200).json()["id"], job["id"]);
    }
    names_none(post(&other, &reject).expect(409));
    names_none(post(&operates, &reject).expect(409));
    names_none(post(&other, &returns).expect(403));
    let keyed = |token: &str, payload: u32| {
        let job = format!(r#"{{"handler":"h","payload":{payload},"idempotency_key":"k"}}"#);
        request(&orx, Some(token), "POST /api/v1/jobs", &[], &job)
    };
    keyed(&mine, 1).expect(201);
    assert!(keyed(&mine, 2).expect(409).body.contains("another job, 2"));
    assert!(keyed(&reads, 2).expect(409).body.contains("another job, 2"));
    names_none(keyed(&other, 2).expect(409));

    // One that waits may be replaced, one that runs may not.
    post(&other, &replace).expect(201);
    assert_eq!(orx.states(), "cancelled pending pending");
    orx.write(".config/orx/config.toml", "[handlers.h]\ncommand = ['sleep', '60']\n");
    let worker = orx.worker(&["--slots", "2"]);
    orx.wait_state("3", "running");
    for token in [&other, &mine, &reads] {
        let refused = post(token, &replace).expect(403).json();
        assert!(refused["hint"].as_str().unwrap().contains("scope operate"), "{refused}");
    }
    assert!(orx.job("3")["cancel_requested_at"].is_null());
    post(&operates, &replace).expect(201);
    orx.wait_state("3", "cancelled");
    drop(worker);
}

#[test]
fn a_schedule_or_workflow_is_no_way_around_exec() {
    let orx = served();
    let submit = token(&orx, &["--name", "s", "--scope", "submit"]);
    let both = token(&orx, &["--name", "b", "--scope", "submit,exec"]);
    let operate = token(&orx, &["--name", "o", "--scope", "operate"]);
    let id = || uuid::Uuid::now_v7().to_string();
    let rule = r#""rule":{"kind":"every","expression":"1h","tz":"UTC","created_at":"2026-01-01T00:00:00Z"},
        "overlap":"skip","catch_up":"last","jitter":0"#;
    let definition = |target: &str, captured: &str| format!(r#"{{{rule},"target":{target},"captured":{captured}}}"#);
    let post =
        |token: &str, op: &str, body: &str| request(&orx, Some(token), &format!("POST /api/v1/ops/{op}"), &[], body);
    let add = |token: &str, name: &str, target: &str, captured: &str| {
        let body = format!(r#"{{"id":"{}","name":"{name}","definition":{}}}"#, id(), definition(target, captured));
        post(token, "add_schedule", &body)
    };
    let update = |token: &str, version: u32, target: &str, captured: &str| {
        let definition = definition(target, captured);
        let schedule = r#"{"name":"mine"}"#;
        post(
            token,
            "update_schedule",
            &format!(r#"{{"schedule":{schedule},"version":{version},"definition":{definition}}}"#),
        )
    };
    let run = |token: &str, workflow: &str, captured: &str| {
        post(token, "submit_run", &format!(r#"{{"id":"{}","workflow":{workflow},"captured":{captured}}}"#, id()))
    };
    let job = r#"{"job":{"handler":"h","payload":1}}"#;
    add(&submit, "mine", job, "{}").expect(200);
    let mut shut = 0;
    let mut refused = |answer: Answer, what: &str| {
        assert_eq!(answer.status, 403, "{what}: {answer:?}");
        let hint = answer.json()["hint"].as_str().unwrap().to_owned();
        assert!(hint.ends_with("submit,exec") || hint.ends_with("exec,operate"), "{what}: {answer:?}");
        shut += 1;
    };
    let surroundings = [r#""env":{"PATH":"/tmp"}"#, r#""env_from_file":{"A":"/etc/passwd"}"#, r#""cwd":"/tmp""#];
    let of_handler = surroundings.map(|more| format!(r#""handler":"h","payload":1,{more}"#));
    let ways: Vec<&str> = of_handler.iter().map(String::as_str).chain([r#""command":["id"]"#]).collect();
    for way in &ways {
        let target = format!(r#"{{"job":{{{way}}}}}"#);
        refused(add(&submit, "x", &target, "{}"), way);
        refused(update(&operate, 1, &target, "{}"), way);
        for workflow in [
            format!(r#"{{"name":"w","task":[{{"name":"t","handler":"h"}},{{"name":"u",{way}}}]}}"#),
            format!(r#"{{"name":"w","tasks":[{{"name":"u",{way}}}]}}"#),
            format!(r#"{{"name":"w","defaults":{{{way}}},"task":[{{"name":"t"}}]}}"#),
            format!(r#"{{"name":"w","on_start":{{{way}}},"task":[{{"name":"t","handler":"h"}}]}}"#),
            format!(r#"{{"name":"w","on_complete":{{{way}}},"task":[{{"name":"t","handler":"h"}}]}}"#),
        ] {
            refused(run(&submit, &workflow, "{}"), &workflow);
            refused(add(&submit, "x", &format!(r#"{{"workflow":{workflow}}}"#), "{}"), &workflow);
            refused(update(&operate, 1, &format!(r#"{{"workflow":{workflow}}}"#), "{}"), &workflow);
        }
    }
    let plain = r#"{"name":"w","task":[{"name":"t","handler":"h"}]}"#;
    for hook in ["on_start", "on_complete"] {
        let workflow = plain.replace(r#""task""#, &format!(r#""{hook}":["id"],"task""#));
        refused(run(&submit, &workflow, "{}"), &workflow);
        refused(add(&submit, "x", &format!(r#"{{"workflow":{workflow}}}"#), "{}"), &workflow);
    }
    let captured = [r#"{"env":{"LD_PRELOAD":"/tmp/x.so"}}"#, r#"{"cwd":"/tmp"}"#];
    for around in captured {
        for target in [job, &format!(r#"{{"workflow":{plain}}}"#)] {
            refused(add(&submit, "x", target, around), around);
            refused(update(&operate, 1, target, around), around);
        }
        refused(run(&submit, plain, around), around);
    }
    assert_eq!(shut, 4 * (2 + 5 * 3) + 2 * 2 + 2 * 5);
    assert_eq!((orx.states(), orx.json(&["workflow", "list"])), (String::new(), serde_json::json!([])));
    let schedules = orx.json(&["schedule", "list"]);
    assert_eq!((schedules.as_array().unwrap().len(), &schedules[0]["version"]), (1, &1.into()), "{schedules}");

    // The scope opens what it shut.
    let command = r#"{"job":{"command":["id"],"env":{"A":"b"},"cwd":"/"}}"#;
    add(&both, "theirs", command, captured[1]).expect(200);
    // A schedule that is there runs on for whoever made it: to change it is for operators.
    update(&both, 1, job, "{}").expect(403);
    update(&operate, 1, job, "{}").expect(200);
    let operates = token(&orx, &["--name", "oe", "--scope", "operate,exec"]);
    update(&operates, 2, command, captured[0]).expect(200);
    run(&both, r#"{"name":"w","task":[{"name":"t","command":["id"]}]}"#, "{}").expect(200);
    run(&submit, plain, "{}").expect(200);
}

#[test]
fn a_token_that_is_revoked_or_expired_opens_nothing() {
    let orx = served();
    let (gone, old) =
        (token(&orx, &["--name", "gone", "--admin"]), token(&orx, &["--name", "old", "--admin", "--expires", "1s"]));
    request(&orx, Some(&gone), "GET /api/v1/jobs", &[], "").expect(200);
    orx.ok(&["token", "revoke", "gone"]);
    request(&orx, Some(&gone), "GET /api/v1/jobs", &[], "").expect(401);
    eventually("the token to expire", || request(&orx, Some(&old), "GET /api/v1/jobs", &[], "").status == 401);
    let own = orx.token().unwrap();
    let (rest, last) = own.split_at(own.len() - 1);
    let wrong = format!("{rest}{}", if last == "A" { "Q" } else { "A" });
    for bad in [wrong.as_str(), "x", "orx_1_2", ""] {
        request(&orx, Some(bad), "GET /api/v1/jobs", &[], "").expect(401);
    }
    let listed = orx.json(&["token", "list"]).to_string();
    assert!(!listed.contains(gone.rsplit('_').next().unwrap()) && !listed.contains("hash"), "{listed}");
    let kinds: Vec<String> = orx.events().iter().map(|e| e["kind"].as_str().unwrap().to_owned()).collect();
    assert!(kinds.contains(&"token_created".into()) && kinds.contains(&"token_revoked".into()), "{kinds:?}");
    assert!(!orx.stored_bytes().windows(40).any(|w| gone.as_bytes().ends_with(w)), "no secret is stored");
}

#[test]
fn nobody_gives_away_more_than_they_have() {
    let orx = served();
    let admin = token(&orx, &["--name", "a", "--scope", "admin"]);
    let body = |scopes: &str| {
        format!(
            r#"{{"id":"01987654-0000-7000-8000-000000000009","hash":"{}","name":"n","scopes":{scopes},"tenant":null,"expires_in":null}}"#,
            "ab".repeat(32)
        )
    };
    let make = |scopes: &str| request(&orx, Some(&admin), "POST /api/v1/ops/create_token", &[], &body(scopes));
    make(r#"["exec"]"#).expect(403);
    make(r#"["admin"]"#).expect(200);
    make("[]").expect(422);
}
