//! A coordinator under systemd: it says what it does, lives up to the watchdog, and takes the socket that it is given.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::support::*;

/// Starts a coordinator as systemd does, with this socket as its third descriptor.
fn start(orx: &Orx, listener: &TcpListener, notify: &str, args: &str) -> std::process::Child {
    let inherited: OwnedFd = listener.try_clone().unwrap().into();
    let fd = inherited.as_raw_fd();
    // The shell is replaced by the coordinator, so its process id is the coordinator's.
    let script =
        format!("exec 3<&{fd}; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" coordinator --listen 127.0.0.1:0 {args}");
    let mut command = Command::new("bash");
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap(); // the shell must have it
    command.args(["-c", &script, env!("CARGO_BIN_EXE_orx")]).env_clear();
    command.env("HOME", orx.path("")).env("PATH", std::env::var_os("PATH").unwrap()).current_dir(orx.path(""));
    command.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", "200000");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn systemd_hears_ready_watchdog_and_stopping_and_its_socket_is_used() {
    let orx = Orx::file();
    let admin = token(&orx, &["--admin"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = orx.path("notify");
    let heard = UnixDatagram::bind(&path).unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let count = heard.recv(&mut buffer).expect("a word for systemd");
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    let mut child = start(&orx, &listener, path.to_str().unwrap(), "");
    let first = next();
    assert!(first.contains("READY=1") && first.contains("STATUS=serving"), "{first}");
    let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    drop(listener);
    write!(
        stream,
        "GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {admin}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let beats = std::iter::repeat_with(next).filter(|word| word.contains("WATCHDOG=1")).take(3).count();
    assert_eq!(beats, 3);
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::HUP).unwrap();
    let reloading = std::iter::repeat_with(next).take(100).find(|word| word.contains("RELOADING=1")).unwrap();
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(std::iter::repeat_with(next).take(100).any(|word| word.contains("READY=1")), "a reload never ends");
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::TERM).unwrap();
    let stopping = std::iter::repeat_with(next).take(100).find(|word| word.contains("STOPPING=1"));
    assert!(stopping.is_some());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_socket_that_others_reach_needs_a_certificate_also_when_it_is_given() {
    let orx = Orx::file();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let said = start(&orx, &listener, "", "").wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(2), "{text}");
    assert!(text.contains("nothing is encrypted") && text.contains("--tls-cert"), "{text}");
}

#[test]
fn a_worker_is_ready_when_it_may_work_and_not_before() {
    let orx = served();
    let path = orx.path("notify");
    let heard = UnixDatagram::bind(&path).unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let notify = path.to_str().unwrap();
    let reads = token(&orx, &["--scope", "read"]);
    let refused = orx.call(&["worker"]).env("ORX_TOKEN", &reads).env("NOTIFY_SOCKET", notify).run();
    refused.expect(4, &["the token may not register"]);
    assert!(!refused.stderr().contains("ready"), "{}", refused.stderr());
    let worker = orx.call(&["worker"]).env("NOTIFY_SOCKET", notify).spawn();
    let next = || {
        let mut buffer = [0; 4096];
        let count = heard.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let (of_refused, of_worker) = (next(), next());
    assert!(of_refused.contains("STOPPING=1") && of_worker.contains("READY=1"), "{of_refused}, {of_worker}");
    assert!(orx.json(&["workers"]).as_array().unwrap().iter().any(|w| w["pid"] == worker.pid()));
}
