//! Signals to the process group that a worker is in: Ctrl-C, Ctrl-Z, `timeout`, a closed terminal, a service manager.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::support::*;

/// How many signals of each kind a test sends; 2,000 with `ORX_TEST_SIGNALS=2000`.
fn signals() -> usize {
    std::env::var("ORX_TEST_SIGNALS").map_or(200, |n| n.parse().unwrap())
}

fn store_jobs(orx: &Orx, count: usize) {
    let line = "{\"command\":[\"true\"]}\n";
    orx.call(&["-q", "enqueue", "--from", "-"]).stdin(line.repeat(count)).run().expect(0, &[]);
}

fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

fn is_idle(orx: &Orx) -> bool {
    orx.ok(&["list", "--state", "pending,running", "--limit", "1", "--format", "{{number}}"]).is_empty()
}

/// No signal did anything to a job: none has failed, and each that ran did so without a failure.
fn expect_no_harm(orx: &Orx) {
    let listed = orx.ok(&["list", "--limit", "0", "--format", "{{state}} {{failures}}"]);
    let harmed = listed.lines().filter(|line| !["done 0", "pending 0"].contains(line)).count();
    assert_eq!(harmed, 0, "{harmed} of {}: {:?}", listed.lines().count(), orx.ok(&["list", "--state", "failed"]));
}

/// How many jobs are done.
fn done(orx: &Orx) -> usize {
    orx.ok(&["list", "--state", "done", "--limit", "0", "--format", "{{number}}"]).lines().count()
}

/// Signals the group of a busy worker again and again by `kinds`; it ignores them, or is stopped by them and continued.
fn signal_under_load(orx: &Orx, kinds: &[Signal]) {
    let ignored = "trap '' HUP QUIT INT USR1; exec \"$@\"";
    let worker = [env!("CARGO_BIN_EXE_orx"), "-q", "worker", "--slots", "4", "--lease", "1m"];
    let worker = orx.program("sh", &[&["-c", ignored, "sh"], &worker[..]].concat()).own_group().spawn();
    let group = Pid::from_raw(worker.pid() as i32).unwrap();
    store_jobs(orx, signals() * 20);
    eventually("the first jobs to be done", || done(orx) > 0);
    for kind in kinds {
        for _ in 0..signals() {
            kill_process_group(group, *kind).unwrap();
            if [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(kind) {
                eventually("the worker to be stopped", || state_of(worker.pid()) == 'T');
                kill_process_group(group, Signal::CONT).unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let before = done(orx);
        eventually("it to go on", || done(orx) > before);
    }
    worker.signal(Signal::TERM);
    worker.wait().expect(0, &[]);
    expect_no_harm(orx);
}

#[test]
fn signals_to_the_group_of_a_worker_that_ignores_them_fail_no_job() {
    signal_under_load(&Orx::new(), &[Signal::HUP, Signal::QUIT, Signal::INT, Signal::USR1]);
}

#[test]
fn a_group_that_is_stopped_and_continued_leaves_no_job_stopped() {
    signal_under_load(&Orx::new(), &[Signal::TSTP, Signal::TTIN, Signal::TTOU]);
}

#[test]
fn a_drain_by_a_signal_to_the_group_fails_no_job() {
    let orx = Orx::new();
    store_jobs(&orx, 20_000);
    for round in 0..signals() / 10 {
        let worker = orx.call(&["worker", "--slots", "4"]).own_group().spawn();
        worker.wait_stderr("ended");
        let group = Pid::from_raw(worker.pid() as i32).unwrap();
        let kind = [Signal::TERM, Signal::INT, Signal::HUP][round % 3];
        for _ in 0..10 {
            let _ = kill_process_group(group, kind); // it may have ended
            std::thread::sleep(Duration::from_millis(1));
        }
        worker.wait().expect(0, &[]);
    }
    expect_no_harm(&orx);
}

/// A shell with job control in a terminal of its own.
struct Terminal {
    shell: Child,
    ours: File,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open(orx: &Orx) -> Self {
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: the pointers are valid or null, as openpty(3) allows; on success both descriptors are ours alone.
        let (ours, theirs) = unsafe {
            let null = std::ptr::null_mut();
            assert_eq!(libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast()), 0);
            (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
        };
        let mut shell = Command::new("bash");
        shell.args(["--norc", "--noediting", "-i"]).env_clear().env("HOME", orx.path("")).current_dir(orx.path(""));
        let bin = std::path::Path::new(env!("CARGO_BIN_EXE_orx")).parent().unwrap().display();
        shell
            .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()))
            .env("PS1", "$ ")
            .env("ORX_STORE", orx.url());
        orx.token().map(|token| shell.env("ORX_TOKEN", token));
        shell.stdin(Stdio::from(theirs.try_clone().unwrap())).stdout(theirs.try_clone().unwrap()).stderr(theirs);
        // SAFETY: setsid and ioctl are safe between fork and exec; descriptor 0 is the terminal.
        unsafe {
            shell.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let said = Arc::new(Mutex::new(Vec::new()));
        let (heard, mut from) = (Arc::clone(&said), ours.try_clone().unwrap());
        let terminal = Self { shell: shell.spawn().unwrap(), ours, said };
        drop(shell); // and with it the last of their ends here
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                heard.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        terminal
    }

    fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_raw(self.shell.id() as i32).unwrap(), Signal::KILL); // it may have ended
        let _ = self.shell.wait();
    }
}

#[test]
fn a_worker_in_a_terminal_goes_on_after_each_ctrl_z_and_fg() {
    let orx = Orx::new();
    let line = "{\"command\":[\"sh\",\"-c\",\"echo >> ran\"]}\n";
    let mut terminal = Terminal::open(&orx);
    terminal.press("orx -q worker --slots 4 --lease 1m\n");
    let ran = || orx.read("ran").len();
    for round in 1..=signals() / 10 {
        let before = ran();
        orx.call(&["-q", "enqueue", "--from", "-"]).stdin(line.repeat(50)).run().expect(0, &[]);
        eventually(&format!("a job to run in round {round}"), || ran() > before);
        terminal.press("\x1a");
        eventually("it to be stopped", || terminal.said().matches("Stopped").count() == round);
        terminal.press("fg\n");
    }
    eventually("all to be done", || is_idle(&orx));
    expect_no_harm(&orx);
}

#[test]
fn a_job_has_no_terminal_to_stop_on() {
    let orx = Orx::new();
    let mut terminal = Terminal::open(&orx);
    terminal.press("orx run -- sh -c 'echo $$ > pid; read answer < /dev/tty'; echo ended $? > end\n");
    let ended = orx.wait_line("end");
    assert_ne!(ended, "ended 0", "{}", terminal.said());
    assert!(terminal.said().contains("No such device"), "{}", terminal.said());
}
