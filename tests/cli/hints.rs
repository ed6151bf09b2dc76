//! Hints that lead to what was meant.

use super::support::*;

#[test]
fn yaml_is_named_where_toml_or_json_is_wanted() {
    let orx = Orx::file();
    let yaml = "# nightly\n---\nname: build\ntask:\n  - name: compile\n    command: [make]\n";
    for (file, text) in [("a.yaml", yaml), ("b.yml", &yaml.replace("---\n", ""))] {
        orx.write(file, text);
        for args in [&["workflow", "submit", file][..], &["schedule", "add", "n", "--every", "1h", "--workflow", file]]
        {
            orx.run(args).expect(2, &["this is YAML, and a workflow is TOML or JSON", "hint: yq -o json FILE"]);
        }
        orx.run(&["run", "--workflow", file]).expect(125, &["this is YAML"]);
    }
    let payload = |text: &str| orx.run(&["enqueue", "--handler", "h", "--payload", text]);
    payload("to: ann\nbody: hello").expect(2, &["--payload is not JSON", "hint: this is YAML: yq -o json FILE"]);
    payload("@a.yaml").expect(2, &["hint: this is YAML"]);
    payload("hello").expect(2, &["hint: text is JSON in double quotes"]);
    payload("{\"a\": }").expect(2, &["--payload is not JSON"]);
    // What is neither says what is wrong with it.
    orx.write("bad.toml", "name = \"x\"\n[[task]\n");
    let out = orx.run(&["workflow", "submit", "bad.toml"]);
    assert!(out.expect(2, &["line 2: not TOML"]).stderr().lines().all(|line| !line.contains("YAML")), "{out}");
}

#[test]
fn a_parameter_of_a_url_that_is_not_known_is_named() {
    let orx = Orx::file();
    let list = |url: &str| orx.run(&["--store", url, "list"]);
    list("postgres://ann:sesame@db/jobs?shema=ci&sslmode=disable")
        .expect(2, &["a parameter that is not known: shema", "hint: the parameters are schema, poll, sslmode,"]);
    list("postgres://db/jobs?connect_timeout=soon")
        .expect(2, &["the parameter connect_timeout", "no value that it may have"]);
    list("http://127.0.0.1:7117?schema=ci&token=sesame").expect(2, &["has no parameters, and not schema, token"]);
    for url in ["postgres://ann:sesame@db/jobs?password=sesame&x=sesame", "http://127.0.0.1:7117?token=sesame"] {
        let out = list(url);
        assert!(!out.to_string().contains("sesame"), "{out}");
    }
}

#[test]
fn a_time_that_there_is_not_is_no_malformed_one() {
    let orx = Orx::file();
    let at = |text: &str| orx.run(&["enqueue", "--at", text, "--", "true"]);
    for text in ["2026-02-30T09:00:00Z", "2026-13-01 09:00", "25:00", "2026-01-31T09:61:00Z"] {
        at(text).expect(2, &["is no time that there is"]);
    }
    at("tomorrow").expect(2, &["is not a time such as"]);
    let delay = |text: &str| orx.run(&["enqueue", &format!("--delay={text}"), "--", "true"]);
    for text in ["40000d", "9999999d", "99999999999999", "-5s"] {
        delay(text).expect(2, &["out of range"]);
    }
    delay("soon").expect(2, &["is not a duration such as"]);
}

#[test]
fn a_directory_that_is_gone_is_said() {
    let orx = Orx::file();
    let gone = |script: &str| {
        let script = format!("mkdir gone && cd gone && rmdir ../gone && {script}");
        orx.program("sh", &["-c", &script, env!("CARGO_BIN_EXE_orx")]).run()
    };
    for (args, code) in [("enqueue -- true", 2), ("run -- true", 125), ("schedule add n --every 1h -- true", 2)] {
        gone(&format!("exec \"$0\" {args}"))
            .expect(code, &["this directory is not there any more", "hint: change to another"]);
    }
    gone("exec \"$0\" enqueue --cwd sub -- true").expect(2, &["this directory is not there any more"]);
    gone("exec \"$0\" enqueue --cwd / -- true").expect(0, &[]);
}

#[test]
fn a_wrong_command_line_is_said_as_any_error() {
    let orx = Orx::file();
    for (args, message, hint) in [
        (
            &["list", "--sate", "done"][..],
            "orx: unexpected argument '--sate' found",
            "hint: a similar argument exists: '--state'; see orx list --help",
        ),
        (
            &["list", "-o", "xml"],
            "orx: invalid value 'xml' for '--output <FORMAT>' [possible values: ",
            "hint: see orx list --help",
        ),
        (
            &["queue", "pause"],
            "orx: the following required arguments were not provided: <",
            "see orx queue pause --help",
        ),
        (&["clean"], "orx: unrecognized subcommand 'clean'", "'db prune'"),
    ] {
        let out = orx.run(args);
        out.expect(2, &[message, hint]);
        assert!(!out.stderr().contains("error: ") && out.stderr().lines().count() == 2, "{out}");
    }
    let json = orx.run(&["-o", "json", "list", "--sate", "done"]);
    let error: serde_json::Value = serde_json::from_str(&json.stderr()).unwrap();
    assert_eq!(error["error"]["message"], "unexpected argument '--sate' found");
    assert!(error["error"]["hint"].as_str().unwrap().contains("'--state'"), "{error}");
    orx.run(&["run", "--bogus", "--", "true"]).expect(125, &["orx: unexpected argument '--bogus' found"]);
}

#[test]
fn what_is_called_otherwise_elsewhere_is_found() {
    let orx = Orx::file();
    for (args, meant) in [
        (&["enqueue", "--retries", "3", "--", "true"][..], "'--max-attempts'"),
        (&["enqueue", "--expires", "1h", "--", "true"], "'--deadline'"),
        (&["schedule", "add", "n", "--cron", "@daily", "--timezone", "UTC", "--", "true"], "'--tz'"),
        (&["worker", "-j", "4"], "'--slots'"),
        (&["worker", "--concurrency", "4"], "'--slots'"),
        (&["queue", "set", "default", "--parallel", "2"], "'--max-running'"),
        (&["list", "--json"], "'--output'"),
        (&["tail", "--tail", "5"], "'--lines'"),
    ] {
        orx.run(args).expect(2, &["unexpected argument", meant]);
    }
    orx.add(&["--", "true"]);
    orx.run(&["list", "--format", "json"]).expect(2, &["names no field", "-o json"]);
    for place in ["localhost:7999", "127.0.0.1:7999"] {
        let hint = format!("http://{place} is a coordinator, ./{place} a file");
        orx.run(&["--store", place, "enqueue", "--", "true"]).expect(2, &["may be a host and its port", &hint]);
    }
    orx.run(&["run", "echo hi; false"]).expect(127, &["not found in PATH=", "sh -c 'LINE'"]);
    let text = orx.write("lines.txt", "make\nmake test\n");
    orx.run(&["enqueue", "--from", &text]).expect(2, &["--each-line takes lines of text"]);
}
