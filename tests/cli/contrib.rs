//! What lies in contrib is run, or where that cannot be, looked at.

use std::path::Path;

use super::support::*;

fn place(name: &str) -> String {
    format!("{}/contrib/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// An example, with orx where programs are looked for.
fn example(orx: &Orx, name: &str, args: &[&str]) -> Call {
    let bin = Path::new(env!("CARGO_BIN_EXE_orx")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    orx.program(&place(&format!("examples/{name}")), args).env("PATH", path)
}

#[test]
fn the_examples_of_coordinator_worker_and_handler_work_together() {
    let orx = Orx::file();
    let state = orx.path("state");
    let coordinator = example(&orx, "coordinator", &["--listen", "127.0.0.1:0"]).env("STATE", &state).spawn();
    coordinator.wait_stderr(" ready ");
    let said = coordinator.stderr();
    let url = said.lines().find_map(|line| line.split_once("url=")).unwrap().1.trim().to_owned();
    let token = orx.read("state/token").trim().to_owned();
    let at = |call: Call| call.env("ORX_STORE", &url).env("ORX_TOKEN", &token);
    let worker = at(example(&orx, "worker", &["--slots", "1"])).spawn();
    worker.wait_stderr(" ready ");
    let run = |args: &[&str]| at(orx.call(args)).run();
    let submit = ["enqueue", "--wait", "--handler", "report", "--payload"];
    run(&[&submit[..], &[r#"{"month": "2026-10"}"#]].concat()).expect(0, &[]);
    assert_eq!(run(&["tail", "last"]).stdout(), "report of 2026-10\n", "{}", worker.stderr());
    assert_eq!(run(&["status", "last", "--format", "{{result.month}}"]).stdout(), "2026-10\n");
    run(&[&submit[..], &[r#"{"month": "October"}"#]].concat()).expect(2, &["payload does not fit the schema"]);
    worker.stop().expect(0, &[]);
    coordinator.stop().expect(0, &[]);
    let again = example(&orx, "coordinator", &["--listen", "127.0.0.1:0"]).env("STATE", &state).spawn();
    again.wait_stderr(" ready ");
    assert_eq!(orx.read("state/token").trim(), token, "it made another token");
}

#[test]
fn the_example_of_a_ci_job_passes_and_fails_as_its_commands_do() {
    let orx = Orx::file();
    let good = orx.write("good", "echo one\ntest -e flaky || { touch flaky; exit 1; }\n");
    example(&orx, "ci-job", &[&good]).run().expect(0, &[]);
    let bad = orx.write("bad", "echo one\necho broken >&2; exit 4\n");
    let out = example(&orx, "ci-job", &[&bad]).run();
    assert_eq!(out.code, Some(1), "{out}");
    assert!(out.stdout().contains("job 2 failed: echo broken >&2; exit 4: broken"), "{out}");
}

#[test]
fn the_container_files_are_in_shape() {
    let orx = Orx::file();
    let docker = std::fs::read_to_string(place("docker/Dockerfile")).unwrap();
    let stages: Vec<&str> = docker.split("\nFROM ").skip(1).collect();
    assert_eq!(stages.len(), 3, "build, coordinator, worker");
    for stage in &stages[1..] {
        assert!(stage.contains("\nUSER 65532:65532\n"), "it runs as root:\n{stage}");
        assert!(stage.contains("\nENTRYPOINT [\"/usr/local/bin/orx\"]\n"), "{stage}");
        assert!(!stage.contains("\nRUN ") && !stage.contains("\nADD "), "it has more than what was built:\n{stage}");
    }
    assert!(stages[1].starts_with("scratch AS coordinator"), "the coordinator needs nothing beside it");
    // Compose reads its file without a daemon.
    let compose = orx.program("docker", &["compose", "-f", &place("docker/compose.yaml"), "config", "-q"]);
    let has_docker =
        std::process::Command::new("docker").args(["compose", "version"]).output().is_ok_and(|o| o.status.success());
    match has_docker {
        true => _ = compose.env("DB_PASSWORD", "x").run().expect(0, &[]),
        false => {
            println!("compose.yaml is not read by docker compose, which is not installed here; its text is looked at")
        }
    }
    let compose = std::fs::read_to_string(place("docker/compose.yaml")).unwrap();
    assert!(!compose.contains("privileged") && !compose.contains("docker.sock"));
    assert_eq!(compose.matches("cap_drop: [ALL]").count(), 2);
    let ports: Vec<&str> =
        compose.lines().filter(|line| line.trim_start().starts_with("- \"") && line.contains(":7117\"")).collect();
    assert!(ports.iter().all(|port| port.contains("\"127.0.0.1:")), "it is open to all: {ports:?}");
}
