//! Processes that write to one file at the same time: the order in which they do, and one that holds up all.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::*;

/// A file beside the store.
fn beside(orx: &Orx, name: &str) -> PathBuf {
    orx.store().with_file_name(format!("orx.db-{name}"))
}

/// The locks on a file, as the kernel lists them.
fn locks(file: &Path) -> Vec<String> {
    let Ok(meta) = file.metadata() else { return Vec::new() };
    let mark = format!(":{} ", meta.ino());
    let all = std::fs::read_to_string("/proc/locks").unwrap();
    all.lines().filter(|line| line.contains(&mark)).map(str::to_owned).collect()
}

/// Locks a byte of a file for as long as that is open, or lets it go.
fn set(file: &File, kind: libc::c_int, byte: i64) {
    let (l_type, l_whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    let mut lock = libc::flock { l_type, l_whence, l_start: byte, l_len: 1, l_pid: 0 };
    // SAFETY: the descriptor is open, and the lock lives for the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// The store takes no writes until this is dropped.
fn blocked(orx: &Orx) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(orx.store()).unwrap();
    eventually("the lock of the store", || conn.execute_batch("BEGIN IMMEDIATE").is_ok());
    conn
}

/// Whether no thread of a process goes on.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut states = threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
    states.all(|stat| stat.contains(") T "))
}

/// Whether nobody is in a transaction that writes.
fn is_writable(orx: &Orx) -> bool {
    let conn = rusqlite::Connection::open(orx.store()).unwrap();
    conn.busy_timeout(Duration::from_millis(500)).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
}

#[test]
fn one_that_is_stopped_before_its_transaction_costs_nobody_a_lease() {
    let orx = Orx::file();
    let _worker = orx.worker(&["--lease", "3s", "--slots", "4"]);
    let jobs = [(); 4].map(|()| orx.sh(&[], &format!("echo up >> up; {UNTIL_GO}")));
    eventually("the jobs to run", || orx.read("up").lines().count() == jobs.len());
    let store = blocked(&orx);
    let stopped = orx.spawn(&["enqueue", "--", "true"]);
    eventually("its place in both lines", || {
        let others = || locks(&beside(&orx, "line")).len() == 1 && locks(&beside(&orx, "next")).len() == 1;
        let pid = stopped.pid() as i64;
        let byte = |lock: &String| lock.split_whitespace().nth(6).unwrap().parse::<i64>().unwrap();
        others() && locks(&beside(&orx, "next")).iter().all(|lock| byte(lock) & 0x3f_ffff == pid)
    });
    stopped.signal(Signal::STOP);
    eventually("each of its threads to be stopped", || is_stopped(stopped.pid()));
    drop(store);
    let since = Instant::now();
    // Each process passes it after a moment.
    while since.elapsed() < Duration::from_secs(7) {
        let added = Instant::now();
        orx.add(&["--queue", "other", "--", "true"]);
        assert!(added.elapsed() < Duration::from_secs(6), "{:?}", added.elapsed());
    }
    orx.write("go", "");
    for job in &jobs {
        orx.wait_state(job, "done");
        let job = orx.job(job);
        assert_eq!((&job["attempt"], &job["losses"]), (&1.into(), &0.into()), "{job}");
    }
    stopped.signal(Signal::CONT);
    stopped.wait().expect(0, &[]);
    orx.ok(&["audit"]);
}

#[test]
fn a_result_that_waits_to_be_stored_keeps_its_lease() {
    let orx = Orx::file();
    let _worker = orx.worker(&["--lease", "3s"]);
    let job = orx.sh(&[], &format!("echo up > up; {UNTIL_GO}"));
    orx.wait_line("up");
    let line = File::options().write(true).open(beside(&orx, "line")).unwrap();
    let reader = rusqlite::Connection::open(orx.store()).unwrap();
    let left = || {
        let expires = reader.query_row("SELECT max(expires_boot) FROM leases", [], |r| r.get::<_, Option<i64>>(0));
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        expires.unwrap().map(|at| at - now.tv_sec * 1000 - now.tv_nsec / 1_000_000)
    };
    set(&line, libc::F_WRLCK, 1);
    orx.write("go", "");
    let since = Instant::now();
    // Others are before it all the time, and always another one: they were there first.
    for byte in (0..).map(|n| n % 2 * 2 + 1) {
        set(&line, libc::F_WRLCK, 4 - byte);
        set(&line, libc::F_UNLCK, byte);
        let turn = Instant::now();
        while turn.elapsed() < Duration::from_millis(300) {
            let left = left().expect("the result is stored before those who came first");
            assert!(left > 0, "the lease is over for {} ms", -left);
            std::thread::sleep(Duration::from_millis(20));
        }
        if since.elapsed() > Duration::from_secs(8) {
            break;
        }
    }
    drop(line);
    orx.wait_state(&job, "done");
    assert_eq!(orx.story(&job), "enqueued leased started settled");
}

#[test]
fn s2_doctor_names_who_holds_the_store() {
    let orx = Orx::file();
    orx.make();
    let said = orx.run(&["doctor"]);
    assert!(said.code == Some(0) && !said.stdout().contains("writing"), "{said}");
    let many = orx.write("many", "{\"command\":[\"true\"]}\n".repeat(30_000));
    let holder = orx.spawn(&["-q", "enqueue", "--from", &many]);
    eventually("it to be stopped in a transaction", || {
        assert!(holder.is_alive(), "it was too fast: {}", holder.stderr());
        holder.signal(Signal::STOP);
        eventually("each of its threads to be stopped", || is_stopped(holder.pid()));
        let is_in_one = orx.store().exists() && !is_writable(&orx);
        if !is_in_one {
            holder.signal(Signal::CONT);
        }
        is_in_one
    });
    let said = orx.run(&["doctor"]);
    let words = [&*format!("process {} (", holder.pid()), "enqueue --from", "it is stopped", "kill -CONT"];
    assert!(said.code == Some(1) && words.iter().all(|word| said.stdout().contains(word)), "{said}");
    holder.signal(Signal::CONT);
    holder.wait().expect(0, &[]);
    let said = orx.run(&["doctor"]);
    assert!(said.code == Some(0) && !said.stdout().contains("writing"), "{said}");
}

#[test]
fn a_worker_does_not_open_its_own_store_as_a_secret() {
    let orx = Orx::file();
    let worker = orx.worker(&[]);
    let shared = |file: &Path| {
        let of = |lock: &String| lock.split_whitespace().nth(4) == Some(&worker.pid().to_string());
        locks(file).iter().filter(|lock| lock.contains("POSIX") && of(lock)).count()
    };
    let before = [shared(&orx.store()), shared(&beside(&orx, "shm"))];
    assert!(before.iter().all(|locks| *locks > 0), "{before:?}");
    for file in [orx.store(), beside(&orx, "shm")] {
        let job = orx.add(&["--env-from-file", &format!("V={}", file.display()), "--", "true"]);
        orx.wait_state(&job, "failed");
        let error = orx.job(&job)["error"].as_str().unwrap().to_owned();
        assert!(error.contains("belongs to the store"), "{error}");
    }
    std::os::unix::fs::symlink(orx.store(), orx.path("link")).unwrap();
    let job = orx.add(&["--env-from-file", "V=link", "--", "true"]);
    orx.wait_state(&job, "failed");
    assert_eq!([shared(&orx.store()), shared(&beside(&orx, "shm"))], before);
}
