//! The recipes of the guide to the coordinator, executed as they are written.

use std::process::{Command, Stdio};

use super::support::*;

/// The shell blocks of the guide, in their order.
fn blocks() -> Vec<&'static str> {
    let guide = include_str!("../../docs/guide/coordinator.md");
    guide.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

#[test]
fn the_recipes_with_curl_work_as_they_are_written() {
    let mut orx = Orx::file();
    let blocks = blocks();
    let make_token = blocks[0].lines().next().unwrap();
    let curl = blocks[1];
    assert!(make_token.contains("orx token create") && curl.matches("curl ").count() >= 6, "{blocks:?}");
    orx.serve_at("127.0.0.1:0", &["--slots", "1"]);
    // The guide's address is whatever address this coordinator has.
    orx.write(".curlrc", format!("connect-to = \"127.0.0.1:7117:{}\"\n", address(&orx)));
    let (finite, endless) = curl.trim_end().rsplit_once('\n').unwrap();
    assert!(endless.contains("/events"), "{endless}");
    // Each answer on a line of its own, which curl leaves to the shell; and of the events only the first.
    let finite = finite.replace("\ncurl ", "\necho; curl ");
    let script = format!(
        "{make_token}\n{finite}\necho; {endless} > events & until grep '^data:' -m1 events; do sleep 0.02; done; kill $!"
    );
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_orx")).parent().unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euc", &script]).env_clear().env("HOME", orx.path("")).current_dir(orx.path(""));
    shell.env("PATH", format!("{}:{}", program.display(), std::env::var("PATH").unwrap())).stdin(Stdio::null());
    let out = shell.env("ORX_STORE", orx.store()).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{script}\n{said}\n{}", String::from_utf8_lossy(&out.stderr));
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let json = |n: usize| -> serde_json::Value {
        serde_json::from_str(lines[n]).unwrap_or_else(|e| panic!("{e}: {} of {said}", lines[n]))
    };
    let (first, again) = (json(0), json(1));
    assert_eq!((&first["existing"], &again["existing"]), (&false.into(), &true.into()), "{said}");
    assert_eq!(first["id"], again["id"]);
    assert_eq!(lines[2], "hello");
    assert_eq!(json(3)["did"], "too_late", "it had ended: {said}");
    assert_eq!(json(4)["jobs"].as_array().unwrap().len(), 1, "one job of two requests");
    assert!(lines[5].starts_with("data: {\"seq\":1,"), "{said}");
}
