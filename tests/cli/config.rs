//! Settings: flag beats environment beats file beats default, and `config show` says which it was.

use super::support::*;

fn shown(call: Call, name: &str) -> (String, String) {
    let out = call.run();
    let settings: serde_json::Value = serde_json::from_str(&out.stdout()).unwrap_or_else(|e| panic!("{e}: {out}"));
    let setting = settings.as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone();
    let value = setting["value"].as_str().map_or_else(|| setting["value"].to_string(), str::to_owned);
    (value, setting["from"].as_str().unwrap().to_owned())
}

#[test]
fn config_show_tells_each_value_and_where_it_came_from() {
    let orx = Orx::file();
    snapshot!(orx.run(&["config", "show"]), @r"
    exit 0
    -- stdout
    SETTING  VALUE  FROM
    store  [home]/.local/share/orx/orx.db  default
    token  -  default
    token_file  -  default
    config  [home]/.config/orx/config.toml  default
    output  table  default
    color  auto  default
    worker.name  -  default
    worker.slots  cores  default
    worker.queues  all  default
    worker.labels  {}  default
    worker.lease  15  default
    worker.drain_timeout  30  default
    worker.on_server_lost  stop  default
    worker.max_output  10485760  default
    worker.allow_foreign_store  false  default
    worker.secrets  -  default
    ");
}

#[test]
fn a_file_that_never_ends_is_refused() {
    let orx = Orx::file();
    orx.run(&["--config", "/dev/zero", "list"]).expect(2, &["cannot read /dev/zero", "larger than 1.00 MiB"]);
    let from = orx.call(&["list"]).env("ORX_CONFIG", "/dev/zero").run();
    from.expect(2, &["cannot read /dev/zero"]);
    orx.run(&["enqueue", "--from", "/dev/zero"]).expect(2, &["cannot read /dev/zero", "a line is longer than 64 MiB"]);
    orx.write(".config/orx/config.toml", "token_file = \"/dev/zero\"\n");
    orx.run(&["--store", "http://127.0.0.1:1", "list"]).expect(2, &["cannot read /dev/zero", "larger than"]);
}

#[test]
fn a_certificate_or_key_that_never_ends_is_refused() {
    let orx = Orx::file();
    let too_large = ["/dev/zero", "it is larger than 4.00 MiB"];
    let serve = |cert: &str, key: &str| {
        orx.run(&["coordinator", "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key])
    };
    serve("/dev/zero", "/dev/null").expect(2, &too_large);
    serve("/dev/null", "/dev/zero").expect(2, &too_large);
    let server = "postgres://orx@127.0.0.1:1/jobs?sslmode=verify-full";
    orx.run(&["--store", &format!("{server}&sslrootcert=/dev/zero"), "list"]).expect(2, &too_large);
    for store in [server, "https://127.0.0.1:1"] {
        let out = orx.call(&["--store", store, "list"]).env("SSL_CERT_FILE", "/dev/zero").run();
        out.expect(2, &["SSL_CERT_FILE names /dev/zero", "larger than 4.00 MiB"]);
    }
}

#[test]
fn what_is_written_never_goes_where_a_link_leads() {
    let orx = Orx::file();
    orx.add(&["--", "true"]);
    let other = orx.write("other", "precious\n");
    std::fs::create_dir(orx.path("man")).unwrap();
    for link in ["man/orx.1", "copy.db"] {
        std::os::unix::fs::symlink(&other, orx.path(link)).unwrap();
    }
    orx.run(&["man", "man"]).expect(1, &["cannot write man/orx.1", "it is a symbolic link"]);
    orx.run(&["db", "backup", "copy.db"]).expect(5, &["copy.db exists already"]);
    std::fs::remove_file(orx.path("copy.db")).unwrap();
    std::os::unix::fs::symlink("nowhere", orx.path("copy.db")).unwrap();
    orx.run(&["db", "backup", "copy.db"]).expect(5, &["copy.db exists already"]);
    std::fs::remove_file(orx.path("copy.db")).unwrap();
    orx.ok(&["db", "backup", "copy.db"]);
    orx.ok(&["db", "check", "copy.db"]);
    assert_eq!(orx.read("other"), "precious\n");
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let orx = Orx::file();
    let show = ["config", "show", "-o", "json"];
    let is = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    assert_eq!(shown(orx.call(&show), "store"), is(orx.store().to_str().unwrap(), "default"));
    let file = orx.write(".config/orx/config.toml", "store = \"file.db\"\n[worker]\nslots = 3\n");
    assert_eq!(shown(orx.call(&show), "store"), is("file.db", "file"));
    assert_eq!(shown(orx.call(&show), "worker.slots"), is("3", "file"));
    assert_eq!(shown(orx.call(&show), "worker.lease"), is("15", "default"));
    assert_eq!(shown(orx.call(&show), "config"), is(&file, "default"));
    assert_eq!(shown(orx.call(&show).env("ORX_STORE", "env.db"), "store"), is("env.db", "ORX_STORE"));
    let flag = [&show[..], &["--store", "flag.db"]].concat();
    assert_eq!(shown(orx.call(&flag).env("ORX_STORE", "env.db"), "store"), is("flag.db", "--store"));
    let other = orx.write("other.toml", "store = \"other.db\"\n");
    assert_eq!(shown(orx.call(&show).env("ORX_CONFIG", &other), "store"), is("other.db", "file"));
    assert_eq!(shown(orx.call(&show).env("ORX_CONFIG", &other), "config"), is(&other, "ORX_CONFIG"));
    let flag = [&show[..], &["--config", &file]].concat();
    assert_eq!(shown(orx.call(&flag).env("ORX_CONFIG", &other), "store"), is("file.db", "file"));
    assert_eq!(shown(orx.call(&show), "output"), is("json", "--output"));
}

#[test]
fn the_user_of_the_units_finds_their_store() {
    let orx = Orx::file();
    let show = ["config", "show", "-o", "json"];
    let call = || orx.call(&show).env("HOME", "/var/lib/orx");
    assert_eq!(shown(call(), "store").0, "/var/lib/orx/orx.db");
    assert_eq!(shown(call().env("XDG_DATA_HOME", "/srv"), "store").0, "/srv/orx/orx.db");
    let unit = |name: &str| std::fs::read_to_string(format!("{}/contrib/systemd/{name}", env!("CARGO_MANIFEST_DIR")));
    for name in ["orx-worker@.service", "orx-coordinator.service"] {
        let unit = unit(name).unwrap();
        assert!(unit.contains("\nEnvironment=HOME=/var/lib/orx\n") && !unit.contains("ORX_STORE"), "{name}");
    }
}

#[test]
fn a_setting_of_the_file_is_in_force() {
    let orx = Orx::file();
    orx.write(".config/orx/config.toml", "output = \"json\"\nstore = \"q.db\"\n[worker]\nname = \"named\"\n");
    orx.ok(&["run", "--", "true"]);
    assert!(orx.path("q.db").exists());
    assert_eq!(orx.ok(&["list"]).chars().next(), Some('['));
    orx.add(&["--", "sh", "-c", "echo $ORX_WORKER > who"]);
    orx.burst();
    assert_eq!(orx.read("who"), "named\n");
}

#[test]
fn a_file_that_is_wrong_is_a_usage_error_that_names_it() {
    let orx = Orx::new();
    for (text, said) in [
        ("stor = \"x\"\n", "stor"),
        ("store = 7\n", "invalid type"),
        ("[worker]\nslotz = 1\n", "slotz"),
        ("[handlers.h]\ncommand = []\n", "handler h has no command"),
        ("[", "is not understood"),
    ] {
        orx.write(".config/orx/config.toml", text);
        orx.run(&["list"]).expect(2, &[".config/orx/config.toml", said]);
    }
    orx.run(&["--config", "nowhere.toml", "list"]).expect(2, &["cannot read nowhere.toml"]);
    orx.call(&["list"]).env("ORX_CONFIG", "gone.toml").run().expect(2, &["cannot read gone.toml"]);
}

#[test]
fn colours_are_for_terminals_unless_asked_for() {
    let orx = Orx::new();
    orx.add(&["--", "true"]);
    let colored = |args: &[&str], name: &str, value: &str| {
        let args = [&["list"], args].concat();
        orx.call(&args).env(name, value).run().stdout().contains("\x1b[")
    };
    assert!(!colored(&[], "TERM", "xterm-256color"));
    assert!(colored(&["--color", "always"], "TERM", "xterm-256color"));
    assert!(colored(&[], "CLICOLOR_FORCE", "1"));
    assert!(!colored(&["--color", "never"], "CLICOLOR_FORCE", "1"));
    assert!(!colored(&["--color", "auto"], "NO_COLOR", "1"));
}

#[test]
fn config_show_tells_where_the_token_comes_from_and_never_the_token() {
    let orx = Orx::file();
    let show = ["config", "show", "-o", "json"];
    let is = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    let file = orx.write("secret", "of the file");
    orx.write(".config/orx/config.toml", format!("token_file = \"{file}\"\n"));
    assert_eq!(shown(orx.call(&show), "token_file"), is(&file, "file"));
    assert_eq!(shown(orx.call(&show), "token"), is("set", "file"));
    assert_eq!(shown(orx.call(&show).env("ORX_TOKEN", "env"), "token"), is("set", "ORX_TOKEN"));
    let flag = [&show[..], &["--token", "hidden-4711"]].concat();
    assert_eq!(shown(orx.call(&flag).env("ORX_TOKEN", "env"), "token"), is("set", "--token"));
    assert!(!orx.ok(&flag).contains("hidden-4711"));
}

#[test]
fn errors_are_printed_as_the_file_says() {
    let orx = Orx::file();
    orx.make();
    orx.write(".config/orx/config.toml", "output = \"json\"\n");
    let kind = |args: &[&str]| {
        let said: serde_json::Value = serde_json::from_slice(&orx.run(args).stderr).unwrap();
        said["error"]["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(&["status", "42"]), "not_found");
    assert_eq!(kind(&["status", "--bogus"]), "usage");
    orx.run(&["-o", "table", "status", "42"]).expect(3, &["orx: no job 42"]);
    orx.run(&["--output=table", "status", "--bogus"])
        .expect(2, &["orx: unexpected argument '--bogus' found", "hint: "]);
    let color = |args: &[&str]| {
        let out = orx.call(&[&["-o", "table"], args, &["status", "42"]].concat()).env("CLICOLOR_FORCE", "1").run();
        out.stderr().contains('\x1b')
    };
    assert!(color(&["--color", "always"]) && color(&[]) && !color(&["--color", "never"]));
}
