//! PostgreSQL behind something: a name that moves from one server to another, and a pooler in transaction mode.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::support::*;
use crate::server::{self, Cluster};

/// A URL of the server whose socket lies in `dir`.
fn at(dir: &Path) -> String {
    format!("postgres://orx@{}/postgres", dir.display().to_string().replace('/', "%2F"))
}

#[test]
fn a_worker_leaves_a_server_that_only_reads_when_its_name_moves() {
    let orx = Orx::file();
    let primary = Cluster::start(&["hot_standby = on"]);
    orx.ok(&["--store", primary.url(), "enqueue", "--", "true"]);
    let standby = primary.standby();
    let name = orx.path("name");
    symlink(standby.dir(), &name).unwrap();
    let (here, direct) = (at(&name), primary.url());

    orx.run(&["--store", &here, "list"]).expect(0, &[]);
    for args in [&["worker", "--burst"][..], &["enqueue", "--", "true"], &["run", "--", "true"]] {
        let out = orx.run(&[&["--store", &here], args].concat());
        let code = if args[0] == "run" { 125 } else { 6 };
        out.expect(code, &["PostgreSQL takes no writes", "hint: this server is a standby", "target_session_attrs"]);
    }
    let worker = orx.spawn(&["--store", &here, "worker", "--name", "w"]);
    worker.wait_stderr("PostgreSQL takes no writes");
    std::fs::remove_file(&name).unwrap();
    symlink(primary.dir(), &name).unwrap();
    eventually("the job to be done at the other server", || {
        orx.ok(&["--store", direct, "status", "1", "--format", "{{state}}"]).trim() == "done"
    });
    worker.stop().expect(0, &[]);
    // All servers in one URL do without a name that moves.
    let socket = |cluster: &Cluster| cluster.dir().display().to_string().replace('/', "%2F");
    let both = format!("postgres://orx@{},{}/postgres", socket(&standby), socket(&primary));
    orx.run(&["--store", &format!("{both}?target_session_attrs=read-write"), "enqueue", "--", "true"]).expect(0, &[]);
    let one = format!("{}?target_session_attrs=read-write", standby.url());
    orx.run(&["--store", &one, "list"]).expect(6, &["PostgreSQL takes no writes"]);
}

#[test]
fn a_pooler_in_transaction_mode_is_refused_and_leaves_nothing_in_the_sessions_of_others() {
    let orx = Orx::file();
    let direct = server::schema();
    orx.ok(&["--store", &direct, "enqueue", "--", "true"]);
    let pooler = Pooler::start(&direct, false);
    for args in [&["worker", "--burst"][..], &["worker"], &["coordinator", "--listen", "127.0.0.1:0"]] {
        let out = orx.run(&[&["--store", &pooler.url], args].concat());
        out.expect(6, &["a pooler between orx and PostgreSQL", "hint: set the pooler to session mode", "own address"]);
    }
    let copy = orx.path("copy.db");
    let out = orx.run(&["--store", &pooler.url, "db", "copy", copy.to_str().unwrap()]);
    out.expect(6, &["a pooler between orx and PostgreSQL"]);
    assert_eq!(orx.ok(&["--store", &direct, "events", "--format", "{{kind}}"]), "enqueued\n");
    // One connection after the other finds the same session.
    let quiet = Pooler::start(&direct, false);
    orx.ok(&["--store", &quiet.url, "enqueue", "--", "true"]);
    let ask = |pooler: &Pooler, sql: &str| server::psql(&pooler.plain, sql).unwrap().trim().to_owned();
    let fresh = |sql: &str| server::psql(server::url(), sql).unwrap().trim().to_owned();
    for pooler in [&pooler, &quiet] {
        for setting in ["search_path", "statement_timeout", "lock_timeout", "enable_seqscan", "plan_cache_mode", "jit"]
        {
            let show = format!("SHOW {setting}");
            assert_eq!(ask(pooler, &show), fresh(&show), "{setting}");
        }
        assert_eq!(ask(pooler, "SELECT count(*) FROM pg_listening_channels()"), "0");
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
        assert_eq!(ask(pooler, locks), "0");
    }
    server::drop_schema(&direct);
}

#[test]
fn a_transaction_at_another_session_than_the_connection_began_with_is_refused_before_it_writes() {
    let orx = Orx::file();
    let direct = server::schema();
    orx.ok(&["--store", &direct, "enqueue", "--", "true"]);
    let pooler = Pooler::start(&direct, true);
    for _ in 0..4 {
        let out = orx.run(&["--store", &pooler.url, "enqueue", "--", "true"]);
        out.expect(6, &["a pooler between orx and PostgreSQL", "session mode"]);
    }
    assert_eq!(orx.ok(&["--store", &direct, "list", "-o", "id"]).lines().count(), 1);
    server::drop_schema(&direct);
}

/// A pooler in transaction mode: each transaction gets a session that is free.
struct Pooler {
    /// The store by way of it.
    url: String,
    /// The database by way of it.
    plain: String,
}

/// Sessions that are free.
type Free = Arc<Mutex<VecDeque<UnixStream>>>;

impl Pooler {
    /// In front of the server of `store`; `rotates`: the session that was free for longest is taken next, of three at least.
    fn start(store: &str, rotates: bool) -> Self {
        let (server, query) = store.split_once('?').unwrap();
        let dir = server.split_once('@').unwrap().1.split_once('/').unwrap().0.replace("%2F", "/");
        let socket = PathBuf::from(dir).join(".s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = format!("postgres://orx@{}/postgres?sslmode=disable", listener.local_addr().unwrap());
        let free = Free::default();
        let count = if rotates { 3 } else { 0 };
        free.lock().unwrap().extend((0..count).map(|_| session(&socket)));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (free, socket) = (Arc::clone(&free), socket.clone());
                std::thread::spawn(move || serve(client, &free, &socket, rotates));
            }
        });
        Self { url: format!("{plain}&{query}"), plain }
    }
}

fn message(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 5];
    stream.read_exact(&mut message)?;
    let length = u32::from_be_bytes(message[1..].try_into().unwrap()) as usize;
    message.resize(length + 1, 0);
    stream.read_exact(&mut message[5..])?;
    Ok(message)
}

/// A session of the server.
fn session(socket: &Path) -> UnixStream {
    let mut server = UnixStream::connect(socket).unwrap();
    let words = b"\0\x03\0\0user\0orx\0database\0postgres\0\0";
    server.write_all(&[&(words.len() as u32 + 4).to_be_bytes()[..], words].concat()).unwrap();
    while message(&mut server).unwrap()[0] != b'Z' {}
    server
}

/// Serves one client until it leaves, or does what ends its session.
fn serve(mut client: TcpStream, free: &Free, socket: &Path, rotates: bool) -> std::io::Result<()> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?; // who it is
    client.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4])?;
    let about = |name: &str, value: &str| {
        let text = format!("{name}\0{value}\0");
        [&b"S"[..], &(text.len() as u32 + 4).to_be_bytes(), text.as_bytes()].concat()
    };
    client.write_all(b"R\0\0\0\x08\0\0\0\0")?;
    client.write_all(&[about("client_encoding", "UTF8"), about("server_version", "15.0")].concat())?;
    client.write_all(b"Z\0\0\0\x05I")?;
    let mut held: Option<UnixStream> = None;
    loop {
        let asked = message(&mut client)?;
        if asked[0] == b'X' {
            return Ok(());
        }
        let server = held.get_or_insert_with(|| {
            let mut free = free.lock().unwrap();
            let idle = if rotates { free.pop_front() } else { free.pop_back() };
            idle.unwrap_or_else(|| session(socket))
        });
        server.write_all(&asked)?;
        if !matches!(asked[0], b'Q' | b'S') {
            continue;
        }
        loop {
            let answer = message(server)?;
            client.write_all(&answer)?;
            if answer[0] == b'Z' {
                if answer[5] == b'I' {
                    free.lock().unwrap().extend(held.take());
                }
                break;
            }
        }
    }
}
