//! Secrets by reference: a job gets their values, and nobody else sees them.

use std::os::unix::fs::PermissionsExt as _;

use super::support::*;

const VALUE: &str = "correct-horse-battery";

/// A home with the secret `db` for workers, which only its owner may read; gives its directory.
fn with_secret(orx: &Orx) -> String {
    let file = orx.write("secrets/db", format!("{VALUE}\n"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    orx.path("secrets").to_str().unwrap().to_owned()
}

/// Says the secret whole, in pieces, in an error and in a result; proves first that it is right.
const LEAK: &str = r#"[ "$DB" = "$(cat secrets/db)" ] && echo right; echo "it is $DB."
    printf %s "${DB%-battery}"; sleep 0.3; echo -battery; "$ORX" progress 50 "at $DB"; echo "{\"pw\": \"$DB\"}" | "$ORX" result -
    echo "bad: $DB" >&2; exit 3"#;

fn leaks(options: &[&str]) {
    let orx = Orx::file();
    let dir = with_secret(&orx);
    let program = format!("ORX={}", env!("CARGO_BIN_EXE_orx"));
    let job = orx.sh(&[options, &["--env", &program]].concat(), LEAK);
    let out = orx.run(&["-vv", "worker", "--burst", "--secrets", &dir]);
    out.expect(0, &[]);
    assert_eq!(orx.ok(&["tail", "--stdout", &job]), "right\nit is ***.\n***\n", "{out}");
    assert_eq!(orx.run(&["tail", "--stderr", &job]).stderr(), "bad: ***\n");
    let status = orx.job(&job);
    assert_eq!((&status["error"], &status["result"]["pw"]), (&"bad: ***".into(), &"***".into()));
    assert_eq!(status["progress"]["text"], "at ***");
    let seen = |bytes: &[u8]| bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
    assert!(!seen(&orx.stored_bytes()), "it is in the store");
    assert!(!seen(orx.ok(&["events"]).as_bytes()) && !seen(orx.ok(&["status", &job, "-o", "json"]).as_bytes()));
    assert!(!seen(&out.stdout) && !seen(&out.stderr), "it is in the log");
}

#[test]
fn the_value_of_a_secret_is_with_the_job_and_nowhere_else() {
    leaks(&["--env", "DB=secret://db"]);
}

#[test]
fn the_value_of_a_file_is_with_the_job_and_nowhere_else() {
    leaks(&["--env-from-file", "DB=secrets/db"]);
}

#[test]
fn orx_run_hides_secrets_in_what_it_prints() {
    let orx = Orx::file();
    with_secret(&orx);
    let out =
        orx.run(&["run", "--env-from-file", "DB=secrets/db", "--", "sh", "-c", "echo \"it is $DB\"; echo $DB >&2"]);
    assert_eq!((out.code, out.stdout(), out.stderr()), (Some(0), "it is ***\n".into(), "***\n".into()));
}

#[test]
fn a_secret_that_is_missing_fails_the_attempt_before_anything_runs() {
    let orx = Orx::file();
    let dir = with_secret(&orx);
    let job = orx.sh(&["--env", "DB=secret://other"], "echo ran > ran");
    orx.ok(&["-q", "worker", "--burst", "--secrets", &dir]);
    let status = orx.job(&job);
    assert_eq!((&status["state"], &status["failures"]), (&"failed".into(), &1.into()));
    assert_eq!(status["error"], "cannot start: there is no secret other on this worker");
    assert_eq!(orx.read("ran"), "");
    let out = orx.run(&["run", "--env", "DB=secret://db", "--", "true"]);
    out.expect(125, &["secret db: this worker has no secrets (--secrets DIR"]);
    std::fs::set_permissions(orx.path("secrets/db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let job = orx.add(&["--env", "DB=secret://db", "--", "true"]);
    orx.ok(&["-q", "worker", "--burst", "--secrets", &dir]);
    assert!(
        orx.job(&job)["error"].as_str().unwrap().contains("others may read it; use chmod 600"),
        "{}",
        orx.job(&job)
    );
}

#[test]
fn secrets_come_from_systemd_too() {
    let orx = Orx::file();
    let dir = with_secret(&orx);
    let job = orx.sh(&["--env", "DB=secret://db"], "echo ${#DB}");
    let worker = orx.call(&["-q", "worker", "--burst"]).env("CREDENTIALS_DIRECTORY", &dir);
    worker.run().expect(0, &[]);
    assert_eq!(orx.ok(&["tail", &job]), format!("{}\n", VALUE.len()));
}

#[test]
fn references_that_make_no_sense_are_refused() {
    let orx = Orx::file();
    for (args, said) in [
        (["--env", "A=secret://../b"], "env names an impossible secret"),
        (["--env", "A=secret://"], "env names an impossible secret"),
        (["--env-from-file", "A"], "use KEY=VALUE"),
    ] {
        orx.run(&["enqueue", args[0], args[1], "--", "true"]).expect(2, &[said]);
    }
    assert!(!orx.store().exists() || orx.states().is_empty());
}

/// Who may only have handlers run must not have them read what is the worker's.
#[test]
fn a_token_without_exec_names_no_secrets() {
    let mut orx = Orx::file();
    orx.serve();
    let token = orx.ok(&["token", "create", "--scope", "submit,read"]).trim().to_owned();
    let submit =
        |args: &[&str]| orx.call(&[&["enqueue", "--handler", "h"], args].concat()).env("ORX_TOKEN", &token).run();
    submit(&[]).expect(0, &[]);
    submit(&["--env", "A=secret://db"]).expect(4, &["exec"]);
    submit(&["--env-from-file", "A=/etc/hostname"]).expect(4, &["exec"]);
    let workflow =
        orx.write("w.toml", "name = 'w'\n[[task]]\nname = 'a'\nhandler = 'h'\nenv = { A = 'secret://db' }\n");
    orx.call(&["workflow", "submit", &workflow]).env("ORX_TOKEN", &token).run().expect(4, &["exec"]);
}
