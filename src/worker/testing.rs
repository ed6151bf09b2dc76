//! What the room's tests share: one spawner, bounded waiting for events, and a cleaner that works when a test fails.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::census::Census;
use super::exit::{self, Exit};
use super::spawn::{Child, Program, Spawner};
use super::tree::{Tree, become_subreaper};

pub(super) const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn spawner() -> &'static Spawner {
    static SPAWNER: OnceLock<Spawner> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        become_subreaper().unwrap();
        Spawner::of_process().unwrap()
    })
}

/// A command with a usual PATH and nothing else in its environment.
pub(super) fn command<const N: usize>(argv: [&str; N]) -> Program {
    Program {
        argv: argv.iter().map(OsString::from).collect(),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        ..Program::default()
    }
}

pub(super) fn unique_marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Ends in a slash, so that no marker is the beginning of another: one test sweeps by its own.
    format!("{}/{number}/", std::process::id())
}

/// Looks again until it is so; fails after the limit.
#[track_caller]
pub(super) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn is_alive(pid: i32) -> bool {
    let census = Census::take().unwrap();
    census.get(pid).is_some_and(|stat| stat.alive())
}

/// Everything from a pipe of the child, which must end within the limit.
pub(super) fn read_all(pipe: OwnedFd) -> Vec<u8> {
    let mut file = File::from(pipe);
    let mut bytes = Vec::new();
    eventually("the pipe ends", || match file.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    });
    bytes
}

/// One line from a pipe of the child, without its end.
pub(super) fn read_line(pipe: &OwnedFd) -> String {
    let mut line = Vec::new();
    eventually("a line is written", || {
        let mut byte = [0];
        while let Ok(1) = rustix::io::read(pipe, &mut byte) {
            if byte[0] == b'\n' {
                return true;
            }
            line.push(byte[0]);
        }
        false
    });
    String::from_utf8(line).unwrap()
}

/// Numbers in the next line of a pipe.
pub(super) fn read_pids(pipe: &OwnedFd) -> Vec<i32> {
    let line = read_line(pipe);
    line.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

pub(super) async fn output(program: Program) -> (Exit, String) {
    let child = spawner().spawn(program).await.unwrap();
    let out = read_all(child.stdout);
    let exit = exit::wait_exit(child.pidfd.as_fd()).await.unwrap();
    (exit, String::from_utf8_lossy(&out).into_owned())
}

/// An attempt whose every process dies with the test, however that ends.
pub(super) struct Attempt {
    pub(super) child: Child,
    pub(super) tree: Tree,
}

impl Attempt {
    pub(super) async fn start(mut program: Program) -> Self {
        let value = unique_marker();
        let marker = format!("ORX_TEST={value}");
        program.env.push(("ORX_TEST".into(), value.into()));
        let child = spawner().spawn(program).await.unwrap();
        let pidfd = child.pidfd.try_clone().unwrap();
        let tree = Tree::new(child.pid, pidfd, marker.into_bytes());
        Self { child, tree }
    }

    pub(super) async fn shell(script: &str) -> Self {
        Self::start(command(["sh", "-c", script])).await
    }

    pub(super) async fn python(script: &str) -> Self {
        Self::start(command(["python3", "-c", script])).await
    }

    pub(super) fn pids(&mut self) -> Vec<i32> {
        let members = self.tree.members().unwrap();
        members.iter().map(|process| process.pid).collect()
    }

    pub(super) async fn exit(&self) -> Exit {
        tokio::time::timeout(LIMIT, exit::wait_exit(self.child.pidfd.as_fd()))
            .await
            .expect("the leader ends in time")
            .unwrap()
    }

    /// Kills everything and says whether nobody was left.
    pub(super) fn kill(&mut self) -> bool {
        self.tree.kill_all(Instant::now() + LIMIT)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.kill();
        let _ = exit::reap(self.child.pidfd.as_fd());
    }
}
