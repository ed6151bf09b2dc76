//! A job whose process tree is hard to end, and what `/proc` says of it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::Value;

use super::witness;
use super::world::{World, now};

/// The trees that `tree.c` makes.
pub const FIXTURES: [&str; 12] = [
    "setsid",
    "double-fork",
    "ignores-term",
    "fork-loop",
    "held-pipe",
    "gigabyte",
    "one-line",
    "closed-stdin",
    "stopped",
    "exec-chain",
    "outlives",
    "late-output",
];

/// One more, which only a cgroup holds.
pub const ESCAPES: &str = "escapes";

/// A process beyond doubt.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Member {
    pid: i32,
    /// Clock ticks since boot.
    start_time: u64,
    /// It lives until it is killed.
    stays: bool,
}

/// One tree.
pub struct Tree {
    pub fixture: &'static str,
    pub job: String,
    roll: PathBuf,
    /// When this is there, the first process ends by itself.
    go: Option<PathBuf>,
    /// How much of the roll has been read, in bytes.
    read: usize,
    ready: bool,
    members: Vec<Member>,
    /// Those of them that were not yet seen to be gone; of the others nobody comes back.
    here: Vec<Member>,
    /// When all of it was last seen alive, in milliseconds of the wall clock.
    pub alive_at: i64,
    /// The most zombies that the worker had not yet reaped.
    pub zombies: usize,
    /// Since when none of it is there.
    pub gone_at: Option<i64>,
}

impl Tree {
    /// Stores the job. With `bytes` its first process ends when it is told to, and what floods writes so many.
    ///
    /// [`ESCAPES`] is a fixture too.
    pub fn plant(world: &World, fixture: &'static str, name: &str, options: &[&str], bytes: Option<u64>) -> Self {
        static PROGRAM: OnceLock<String> = OnceLock::new();
        let program = PROGRAM.get_or_init(|| witness::compile("tree", &[&["-static"], &[]]));
        let roll = world.path(&format!("roll-{name}-{fixture}"));
        let go = bytes.map(|_| roll.with_extension("go"));
        let go_text = go.as_ref().map_or("", |path| path.to_str().unwrap());
        let bytes = bytes.unwrap_or_default().to_string();
        let command = ["--", program, fixture, roll.to_str().unwrap(), go_text, &bytes];
        let job = world.ok(&[&["-q", "-o", "id", "enqueue"], options, &command].concat()).trim().to_owned();
        Self {
            fixture,
            job,
            roll,
            go,
            read: 0,
            ready: false,
            members: Vec::new(),
            here: Vec::new(),
            alive_at: 0,
            zombies: 0,
            gone_at: None,
        }
    }

    /// Whether all of it has started.
    pub fn is_ready(&mut self) -> bool {
        self.read_roll();
        self.ready && (self.fixture != "stopped" || self.members.iter().any(|m| state(m, 0) == Some('T')))
    }

    /// Reads what is new: the roll of a fork loop has thousands of lines.
    fn read_roll(&mut self) {
        let Ok(mut file) = File::open(&self.roll) else { return };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.read as u64)).unwrap();
        file.read_to_string(&mut text).unwrap();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            self.read += line.len();
            let fields: Vec<&str> = line.trim_end().split(',').collect();
            let [role, pid, start_time] = fields[..] else { panic!("{line:?}") };
            self.ready |= role == "ready";
            if role != "ready" {
                let [pid, start_time] = [pid, start_time].map(|n| n.parse::<u64>().unwrap());
                let member = Member { pid: pid as i32, start_time, stays: role == "stays" };
                self.members.push(member);
                self.here.push(member);
            }
        }
    }

    /// How many processes were ever seen in it, those that end by themselves included.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Looks who is there; a zombie counts if `worker` is to reap it. Gives who is left.
    pub fn look(&mut self, worker: u32) -> Vec<String> {
        self.read_roll();
        let at = now();
        let states = self.here.iter().map(|m| (*m, state(m, worker))).collect::<Vec<_>>();
        self.zombies = self.zombies.max(states.iter().filter(|(_, state)| *state == Some('Z')).count());
        self.here = states.into_iter().filter_map(|(m, state)| state.map(|_| m)).collect();
        let moving = self.fixture != "fork-loop" || self.here.iter().any(|m| !m.stays);
        if moving && self.members.iter().filter(|m| m.stays).all(|m| self.here.contains(m)) {
            self.alive_at = at;
        }
        match self.here.is_empty() {
            true => self.gone_at = self.gone_at.or(Some(at)),
            false => self.gone_at = None,
        }
        self.here.iter().map(|m| format!("{} of {}", m.pid, self.fixture)).collect()
    }

    /// Those that stay and are not in a cgroup below `dir`.
    pub fn outside(&self, dir: &str) -> Vec<String> {
        let staying = self.members.iter().filter(|m| m.stays);
        let cgroup = |m: &Member| std::fs::read_to_string(format!("/proc/{}/cgroup", m.pid)).unwrap_or_default();
        let outside = staying.filter(|m| !cgroup(m).lines().any(|line| line.starts_with("0::") && line.contains(dir)));
        outside.map(|m| format!("{} of {}", m.pid, self.fixture)).collect()
    }

    /// Lets the first process end.
    pub fn let_go(&self) {
        std::fs::write(self.go.as_ref().unwrap(), "").unwrap();
    }

    /// Holds the pipe that the job writes to, as a stranger might whom nobody may kill.
    pub fn hold_pipe(&self) -> File {
        let pid = self.members.iter().find(|m| m.stays).unwrap().pid;
        OpenOptions::new().write(true).open(format!("/proc/{pid}/fd/1")).unwrap()
    }

    /// The first attempt, as the store tells of it.
    pub fn attempt(&self, world: &World) -> Value {
        world.json(&["status", &self.job])["attempts"][0].clone()
    }
}

/// The state of a process that is there. A zombie is there if `worker` is to reap it.
fn state(member: &Member, worker: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", member.pid)).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let (state, parent) = (fields[0].chars().next()?, fields[1].parse::<u32>().ok()?);
    // Field 22 of proc(5), of which the first two are cut off.
    let same = fields[19].parse() == Ok(member.start_time);
    (same && (state != 'Z' || parent == worker)).then_some(state)
}
