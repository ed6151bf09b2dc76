//! What others wrote does nothing to the terminal of whoever looks at it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::support::*;

/// A title, a bell, a colour by a C1 character, text that runs backwards.
const HOSTILE: &str = "a\x1b]0;x\x07\u{9b}31m\u{202e}b\u{2066}";

/// Panics where something of it is there as it is.
fn expect_shown(what: &str, out: &Output) {
    for text in [out.stdout(), out.stderr()] {
        let acts = |c: &char| (c.is_control() && !"\n\t".contains(*c)) || ('\u{202a}'..='\u{2069}').contains(c);
        let found: Vec<char> = text.chars().filter(acts).collect();
        assert!(found.is_empty(), "{what} prints {found:?}: {text:?}");
    }
}

#[test]
fn whatever_is_stored_is_shown_without_its_control_characters() {
    let orx = Orx::new();
    // A label has no control characters; what turns the direction of text is no such character.
    orx.add(&["--label", "k=a\u{202e}b", "--require", "gpu=a\u{202e}b", "--", "echo", HOSTILE]);
    orx.add(&["--env", &format!("X={HOSTILE}"), "--", "sh", "-c", "exit 3", HOSTILE]);
    orx.burst();
    let task = serde_json::to_string(HOSTILE).unwrap();
    orx.write("w.json", format!(r#"{{"name":"w","task":[{{"name":"t","command":["false",{task}]}}]}}"#));
    orx.ok(&["workflow", "submit", "w.json"]);
    orx.ok(&["schedule", "add", "s", "--every", "1h", "--", "echo", HOSTILE]);
    let looks: &[&[&str]] = &[
        &["cancel", "1", "--reason", HOSTILE],
        &["why", "1"],
        &["why", "2"],
        &["wait", "1"],
        &["wait", "2"],
        &["status", "1"],
        &["status", "2"],
        &["list"],
        &["list", "-o", "json"],
        &["list", "-o", "ndjson"],
        &["list", "--format", "{{command}} {{reason}}"],
        &["events"],
        &["events", "-o", "json"],
        &["dlq", "list"],
        &["dlq", "show", "2"],
        &["workflow", "show", "last"],
        &["workflow", "show", "last", "-o", "json"],
        &["schedule", "list"],
        &["schedule", "show", "s"],
        &["audit"],
        &["workers"],
        &["status", HOSTILE],
        &["queue", "pause", HOSTILE],
        &["schedule", "show", HOSTILE],
        &["enqueue", "--on-conflict", "reject", "--name", HOSTILE, "--", "true"],
        &["--store", HOSTILE, "list"],
        &["--config", HOSTILE, "list"],
    ];
    for args in looks {
        expect_shown(&args.join(" "), &orx.run(args));
    }
    assert!(orx.ok(&["list"]).contains(r"a\x1b]0;x\x07\x9b31m\u{202e}b\u{2066}"));
    let listed = orx.json(&["list"]);
    let commands: Vec<&str> = listed.as_array().unwrap().iter().filter_map(|job| job["command"][1].as_str()).collect();
    assert!(commands.contains(&HOSTILE), "a program gets it as it came: {commands:?}");
}

#[test]
fn what_a_coordinator_says_is_shown_without_its_control_characters() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let text = serde_json::to_string(HOSTILE).unwrap();
    let body = format!(
        r#"{{"type":"urn:orx:conflict","title":{text},"status":409,"detail":{text},"kind":"conflict","hint":{text}}}"#
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked); // it is answered the same, whatever it is
            let head = "HTTP/1.1 409 Conflict\r\ncontent-type: application/problem+json\r\nconnection: close\r\n";
            let _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
        }
    });
    let orx = Orx::file();
    for args in
        [&["list"][..], &["cancel", "1"], &["enqueue", "--", "true"], &["run", "--", "true"], &["list", "-o", "json"]]
    {
        let out = orx.call(&[&["--store", &url], args].concat()).env("ORX_TOKEN", "t").run();
        assert_ne!(out.code, Some(0), "{out}");
        assert!(out.stderr().contains(r"a\x1b]0;x") || out.stderr().contains(r"a\u001b]0;x"), "{out}");
        expect_shown(&args.join(" "), &out);
    }
}
