//! Every Op × every scope, made of what the coordinator itself says it has.

use std::collections::BTreeSet;

use super::support::*;

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
    for name in ops {
        let content = &paths[&format!("/api/v1/ops/{name}")]["post"]["requestBody"]["content"];
        let body = content["application/json"]["example"].to_string();
        let mut needed: Option<BTreeSet<String>> = None;
        let mut allowed = Vec::new();
        for (scope, token) in &tokens {
            let before = orx.events().len();
            let line = format!("POST /api/v1/ops/{name}");
            let answer = request(&orx, Some(token), &line, &[], &body);
            cells += 1;
            assert!(answer.status < 500, "{name} {body} {answer:?}");
            if answer.status == 403 {
                refused += 1;
                let hint = answer.json()["hint"].as_str().unwrap_or_default().to_owned();
                let scopes = hint.rsplit(' ').next().unwrap().split(',').map(str::to_owned).collect();
                assert!(needed.replace(scopes).is_none_or(|was| Some(was) == needed), "{name}");
                let new = orx.events().split_off(before);
                let mine = new.iter().filter(|e| e["actor"] == format!("token {scope}"));
                for event in mine {
                    assert_eq!(event["kind"], "call_denied", "{name} with {scope}");
                }
            } else {
                assert!(matches!(answer.status, 200 | 404 | 409 | 422), "{name} {body} {answer:?}");
                allowed.push(*scope);
            }
        }
        let needed = needed.unwrap_or_else(|| panic!("{name} is open to every token: {body}"));
        for scope in SCOPES {
            let enough = needed.len() == 1 && needed.contains(scope);
            assert_eq!(allowed.contains(&scope), enough, "{name} needs {needed:?}, {scope} {allowed:?}");
        }
        request(&orx, None, &format!("POST /api/v1/ops/{name}"), &[], &body).expect(401);
    }
    println!("{cells} cells, {refused} refused, 0 breaches");
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
fn a_token_that_is_revoked_or_expired_opens_nothing() {
    let orx = served();
    let (gone, old) =
        (token(&orx, &["--name", "gone", "--admin"]), token(&orx, &["--name", "old", "--admin", "--expires", "1s"]));
    request(&orx, Some(&gone), "GET /api/v1/jobs", &[], "").expect(200);
    orx.ok(&["token", "revoke", "gone"]);
    request(&orx, Some(&gone), "GET /api/v1/jobs", &[], "").expect(401);
    eventually("the token to expire", || request(&orx, Some(&old), "GET /api/v1/jobs", &[], "").status == 401);
    let wrong = format!("{}A", &orx.token().unwrap()[..orx.token().unwrap().len() - 1]);
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
