//! A PostgreSQL server that refuses: each refusal is 6 with a message that says what to do, and no password in it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use super::support::*;
use crate::server::Cluster;

/// The password that must never be seen.
const SECRET: &str = "sesame-4711";

/// A server that also listens on TCP.
struct Server {
    cluster: Cluster,
    port: u16,
}

impl Server {
    /// One that asks for passwords over TCP, with these lines in its configuration besides.
    fn start(settings: &[&str]) -> Self {
        // Whoever takes this port in between makes the start fail, and not the test pass.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Cluster::start(&[]);
        cluster.sql(&format!("CREATE ROLE ann LOGIN PASSWORD '{SECRET}'")).unwrap();
        cluster.sql("CREATE DATABASE jobs OWNER ann").unwrap();
        cluster.sql("REVOKE CREATE ON DATABASE postgres FROM PUBLIC").unwrap();
        let server = Self { cluster, port };
        let port_line = format!("port = {port}");
        let lines = [&["listen_addresses = '127.0.0.1'", &port_line], settings].concat();
        let conf = std::fs::read_to_string(server.cluster.data("postgresql.conf")).unwrap();
        server.write("postgresql.conf", &format!("{conf}\n{}\n", lines.join("\n")));
        server.write("pg_hba.conf", "local all all trust\nhost all all all scram-sha-256\n");
        server
    }

    /// Puts a file into its data directory, for the server alone.
    fn write(&self, name: &str, contents: &str) {
        use std::os::unix::fs::MetadataExt as _;
        let (path, dir) = (self.cluster.data(name), std::fs::metadata(self.cluster.data(".")).unwrap());
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(dir.uid()), Some(dir.gid())).unwrap();
    }

    fn restart(self) -> Self {
        self.cluster.ctl(&["restart"]).unwrap();
        self
    }

    fn url(&self, user: &str, host: &str, rest: &str) -> String {
        format!("postgres://{user}@{host}:{}/{rest}", self.port)
    }
}

/// Runs a command with `SECRET` known to it and as much logged as can be; it is never said.
fn quiet(orx: &Orx, store: &str, args: &[&str]) -> Output {
    quiet_with(orx, store, SECRET, args)
}

fn quiet_with(orx: &Orx, store: &str, password: &str, args: &[&str]) -> Output {
    let call = orx.call(&[&["-vv", "--store", store], args].concat());
    let out = call.env("PGPASSWORD", password).env("RUST_LOG", "trace").run();
    for text in [out.stdout(), out.stderr()] {
        assert!(!text.contains(password) && !text.contains(SECRET), "the password is shown\n{out}");
    }
    out
}

#[test]
fn a_server_that_refuses_us_is_6_and_the_password_is_never_shown() {
    let orx = Orx::file();
    let server = Server::start(&[]).restart();
    let jobs = |user: &str, rest: &str| server.url(user, "127.0.0.1", rest);
    let good = jobs("ann", "jobs");
    quiet(&orx, &good, &["enqueue", "--", "true"]).expect(0, &[]);
    quiet(&orx, &good, &["worker", "--burst"]).expect(0, &[]);
    quiet(&orx, &good, &["list"]).expect(0, &[]);

    for args in [&["list"][..], &["enqueue", "--", "true"], &["worker", "--burst"], &["db", "migrate"], &["doctor"]] {
        quiet_with(&orx, &good, "wrong-0815", args).expect(
            6,
            &["password authentication failed for user \"ann\"", "hint: the password is read from PGPASSWORD"],
        );
    }
    quiet(&orx, &jobs("ann", "nowhere"), &["list"])
        .expect(6, &["database \"nowhere\" does not exist", "hint: make it with: createdb NAME"]);
    quiet(&orx, &jobs("ann", "postgres"), &["enqueue", "--", "true"])
        .expect(6, &["permission denied for database postgres", "hint: docs/guide/postgresql.md names the rights"]);
    let in_url = good.replace("ann@", &format!("ann:{SECRET}@"));
    quiet_with(&orx, &in_url, "unused-1", &["list"]).expect(0, &[]);
    for args in [&["config", "show"][..], &["-o", "json", "config", "show"], &["status"], &["doctor"], &["db", "check"]]
    {
        quiet_with(&orx, &in_url, "unused-1", args).expect(0, &[]);
    }
    let gone = in_url.replace("/jobs", "/nowhere");
    quiet_with(&orx, &gone, "unused-1", &["list"]).expect(6, &["does not exist"]);
    // It takes no TLS, and we want nothing else.
    for mode in ["require", "verify-full"] {
        let url = format!("{good}?sslmode={mode}");
        let out = quiet(&orx, &url, &["list"]);
        out.expect(6, &["TLS", "hint: the server takes no TLS"]);
    }
    quiet(&orx, &format!("{good}?sslmode=prefer"), &["list"]).expect(0, &[]);
    let port = server.port.to_string();
    drop(server);
    quiet(&orx, &good, &["list"]).expect(6, &["cannot be reached", &port]);
}

#[test]
fn a_server_that_is_too_old_is_6_with_the_oldest_that_will_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = format!("postgres://ann@{}/jobs?sslmode=disable", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().for_each(|client| _ = be_old(client.unwrap())));
    let orx = Orx::file();
    for args in [&["list"][..], &["enqueue", "--", "true"], &["worker", "--burst"]] {
        quiet(&orx, &store, args).expect(6, &["PostgreSQL 11.22 is too old", "hint: orx needs 12 or newer"]);
    }
}

/// What a server of that age says to somebody who asks for its version, until he hangs up.
fn be_old(mut client: TcpStream) -> std::io::Result<()> {
    let text = |text: &str| [&(text.len() as i32).to_be_bytes(), text.as_bytes()].concat();
    let message = |tag: u8, body: &[u8]| [&[tag][..], &(body.len() as i32 + 4).to_be_bytes(), body].concat();
    let heard = |client: &mut TcpStream| {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        client.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4])
    };
    let cells = ["42", "110022", "11.22", "of old"];
    let count = (cells.len() as i16).to_be_bytes();
    let column = [&b"c\0"[..], &[0; 6], &25i32.to_be_bytes(), &(-1i16).to_be_bytes(), &[0; 6]].concat();
    let columns = message(b'T', &[&count[..], &column.repeat(cells.len())].concat());
    let row = message(b'D', &[&count[..], &cells.map(text).concat()].concat());
    let ready = message(b'Z', b"I");
    heard(&mut client)?; // who it is
    client.write_all(&[message(b'R', &[0; 4]), ready.clone()].concat())?;
    loop {
        client.read_exact(&mut [0])?;
        heard(&mut client)?;
        client.write_all(&[columns.clone(), row.clone(), message(b'C', b"SELECT 1\0"), ready.clone()].concat())?;
    }
}

/// A certificate for `name` by an authority of its own: the authority, the certificate, its key.
fn certificate(dir: &Path, authority: &str, name: &str) -> (String, String) {
    let run = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl cannot be run");
        assert!(done.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}.key"));
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let subject = format!("/CN={authority}");
    run(&[&["req", "-x509", "-days", "30", "-subj", &subject, "-keyout", &ca_key, "-out", &ca], &key[..]].concat());
    run(&[&["req", "-subj", &format!("/CN={name}"), "-keyout", "server.key", "-out", "server.csr"], &key[..]].concat());
    std::fs::write(dir.join("names"), format!("subjectAltName=DNS:{name}\n")).unwrap();
    let sign = ["x509", "-req", "-days", "30", "-in", "server.csr", "-CA", &ca, "-CAkey", &ca_key, "-set_serial", "7"];
    run(&[&sign[..], &["-extfile", "names", "-out", "server.pem"]].concat());
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    (read("server.pem"), read("server.key"))
}

#[test]
fn a_certificate_is_verified_as_the_url_says() {
    let orx = Orx::file();
    certificate(&orx.path(""), "other", "localhost");
    let (pem, key) = certificate(&orx.path(""), "mine", "localhost");
    let server = Server::start(&["ssl = on", "ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'"]);
    server.write("server.pem", &pem);
    server.write("server.key", &key);
    server.write("pg_hba.conf", "local all all trust\nhostssl all all all scram-sha-256\n"); // nothing in the clear
    let server = server.restart();
    let url = |host: &str, query: &str| format!("{}?{query}", server.url("ann", host, "jobs"));
    let file = |name: &str| orx.path(name).to_str().unwrap().to_owned();
    let (mine, other) = (file("mine.pem"), file("other.pem"));

    let full = |host: &str, roots: &str| url(host, &format!("sslmode=verify-full&sslrootcert={roots}"));
    quiet(&orx, &full("localhost", &mine), &["enqueue", "--", "true"]).expect(0, &[]);
    quiet(&orx, &full("localhost", &mine), &["worker", "--burst"]).expect(0, &[]);
    let refused = ["certificate", "hint: sslrootcert=FILE names the authority"];
    quiet(&orx, &full("localhost", &other), &["list"]).expect(6, &refused);
    quiet(&orx, &full("127.0.0.1", &mine), &["list"]).expect(6, &refused);
    quiet(&orx, &full("127.0.0.1", &mine), &["list"]).expect(6, &["not valid for"]);

    // Encrypted, whoever it is; and what is not encrypted is refused by this server.
    quiet(&orx, &url("127.0.0.1", "sslmode=require"), &["list"]).expect(0, &[]);
    quiet(&orx, &url("127.0.0.1", "sslmode=prefer"), &["list"]).expect(0, &[]);
    quiet(&orx, &url("127.0.0.1", "sslmode=disable"), &["list"]).expect(6, &["no pg_hba.conf entry"]);
    quiet(&orx, &full("localhost", &file("none.pem")), &["list"]).expect(2, &["none.pem cannot be used"]);
    // The authority itself is no server.
    let [pem, key] = ["mine.pem", "mine.key"].map(|name| std::fs::read_to_string(orx.path(name)).unwrap());
    server.write("server.pem", &pem);
    server.write("server.key", &key);
    let server = server.restart();
    let url = format!("{}?sslmode=verify-full&sslrootcert={mine}", server.url("ann", "localhost", "jobs"));
    quiet(&orx, &url, &["list"]).expect(6, &["hint: its certificate is marked as that of an authority"]);
}

#[test]
fn a_file_of_passwords_that_others_can_read_is_named_when_it_would_have_been_needed() {
    let orx = Orx::file();
    let server = Server::start(&[]).restart();
    let url = server.url("ann", "127.0.0.1", "jobs");
    let file = orx.write(".pgpass", format!("*:*:*:ann:{SECRET}\n"));
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    let list = || orx.run(&["--store", &url, "enqueue", "--", "true"]);
    mode(0o644);
    list().expect(6, &[&format!("hint: {file} is not used because others can read it: chmod 0600 {file}")]);
    mode(0o600);
    list().expect(0, &[]);
}

/// Makes the roles of contrib/postgres in a database.
fn make_roles(url: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/postgres/roles.sql");
    let done = Command::new("psql").args(["-Xq", "-d", url, "-f", script]).output().expect("psql cannot be run");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_worker_role_does_everything_but_migrate_and_a_reader_looks() {
    let orx = Orx::file();
    let cluster = Cluster::start(&[]);
    cluster.sql("REVOKE CREATE ON DATABASE postgres FROM PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC").unwrap();
    make_roles(cluster.url());
    let of = |role: &str| cluster.url().replace("orx@", &format!("{role}@"));
    let (owner, worker, reader) = (of("orx_owner"), of("orx_worker"), of("orx_reader"));
    let run = |store: &str, args: &[&str]| orx.run(&[&["--store", store], args].concat());

    for role in [&worker, &reader] {
        let out = run(role, &["db", "migrate"]);
        out.expect(6, &["permission denied for schema orx", "hint: docs/guide/postgresql.md names the rights"]);
    }
    run(&owner, &["db", "migrate"]).expect(0, &[]);
    run(&worker, &["db", "migrate"]).expect(0, &["up to date"]);

    let add = |args: &[&str]| run(&worker, &[&["enqueue"], args].concat()).expect(0, &[]).stdout().trim().to_owned();
    let job =
        add(&["--name", "a", "--label", "k=v", "--idempotency-key", "1", "--limit", "x=1", "--", "echo", "hello"]);
    add(&["--max-attempts", "2", "--backoff", "1ms..1ms", "--", "sh", "-c", "head -c 200000 /dev/zero; exit 1"]);
    let later = add(&["--delay", "1h", "--", "true"]);
    let file = orx.write("w.toml", "name = 'w'\n[[task]]\nname = 't'\ncommand = ['true']\n");
    for args in [
        &["workflow", "submit", &file][..],
        &["queue", "set", "default", "--max-running", "5"],
        &["tenant", "set", "default", "--max-queued", "50"],
        &["limit", "set", "x", "--max-running", "2"],
        &["schedule", "add", "s", "--every", "1h", "--", "true"],
        &["schedule", "trigger", "s"],
        &["worker", "--burst"],
        &["cancel", &later],
        &["retry", &later],
        &["cancel", &later],
        &["dlq", "requeue", "--all", "--yes"],
        &["worker", "--burst"],
        &["schedule", "remove", "s"],
        &["db", "prune", "--older-than", "1h", "--yes"],
        &["run", "--", "true"],
    ] {
        let out = run(&worker, args);
        assert_eq!(out.code, Some(0), "orx {args:?}\n{out}");
    }

    for args in [
        &["list"][..],
        &["status"],
        &["status", &job],
        &["tail", &job],
        &["events"],
        &["workers"],
        &["nodes"],
        &["dlq", "list"],
        &["schedule", "list"],
        &["queue", "list"],
        &["audit"],
        &["db", "check"],
        &["db", "migrate", "--dry-run"],
    ] {
        let out = run(&reader, args);
        assert_eq!(out.code, Some(0), "orx {args:?}\n{out}");
    }
    assert_eq!(run(&reader, &["tail", &job]).stdout(), "hello\n");
    let jobs = run(&owner, &["list", "-o", "id"]).stdout();
    for args in [&["enqueue", "--", "true"][..], &["cancel", &later], &["queue", "pause", "default"]] {
        run(&reader, args).expect(
            6,
            &["PostgreSQL refused us: permission denied", "hint: docs/guide/postgresql.md names the rights"],
        );
    }
    // Those that would try again and again where a server is away, too.
    let refused = ["PostgreSQL refused us: permission denied", "hint: docs/guide/postgresql.md names the rights"];
    run(&reader, &["worker"]).expect(6, &refused);
    run(&reader, &["coordinator", "--listen", "127.0.0.1:0"]).expect(6, &refused);
    run(&reader, &["run", "--", "true"]).expect(125, &refused);
    assert_eq!(run(&owner, &["list", "-o", "id"]).stdout(), jobs);
    make_roles(cluster.url()); // again, on what is there
    run(&owner, &["db", "check"]).expect(0, &["is sound"]);
}

#[test]
fn a_row_that_contradicts_itself_is_found() {
    let orx = Orx::file();
    let store = crate::server::schema();
    orx.run(&["--store", &store, "enqueue", "--", "true"]).expect(0, &[]);
    orx.run(&["--store", &store, "db", "check"]).expect(0, &["is sound"]);
    crate::server::sql(&store, "UPDATE jobs SET finished_at = 1");
    let found = orx.run(&["--store", &store, "db", "check"]);
    crate::server::drop_schema(&store);
    assert_eq!(found.code, Some(1), "{found}");
    let line = "jobs and attempts agree with themselves  job 1 is pending, which its row contradicts";
    assert!(found.stdout().contains(line), "{found}");
}
