//! `orx doctor`

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::ui;
use super::view::{Row, Text, Tone};
use crate::error::{Kind, Result};
use crate::job::state::reason;
use crate::ops::dead_letters::GroupLetters;
use crate::ops::quarantine::GetQuarantine;
use crate::ops::status::{Status, StatusReply};
use crate::queue::Queue;
use crate::store::{LetterFilter, Location, WorkerState};
use crate::time::{Span, Timestamp};

/// File systems whose locks and shared memory do not reach other machines, or not reliably (statfs(2)).
const NETWORK: [(i64, &str); 6] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0bd0_0bd0, "Lustre"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
];
/// Less free room is worth a word, in bytes.
const LITTLE_ROOM: u64 = 100 * 1024 * 1024;

#[derive(Args)]
#[command(after_help = "Example:\n  orx doctor")]
pub(super) struct Doctor {}

/// How serious a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    Warning,
    Error,
}

#[derive(Serialize)]
struct Line {
    check: &'static str,
    level: Level,
    message: String,
}

impl Row for Line {
    const HEADERS: &'static [&'static str] = &["CHECK", "", "FOUND"];

    fn id(&self) -> String {
        self.check.into()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Text> {
        let level = match self.level {
            Level::Ok => Text::toned("ok", Tone::Good),
            Level::Warning => Text::toned("warning", Tone::Waiting),
            Level::Error => Text::toned("error", Tone::Bad),
        };
        vec![Text::new(self.check), level, Text::new(&self.message)]
    }
}

impl Doctor {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let mut lines = Vec::new();
        let mut say = |check, level, message: String| lines.push(Line { check, level, message });
        if let Location::File(path) = context.location()? {
            let exists = path.exists();
            let dir = path.parent().filter(|d| d.exists()).unwrap_or(Path::new("."));
            if let Ok(found) = rustix::fs::statfs(dir) {
                disk(&mut say, &found);
            }
            if !exists {
                say("store", Level::Warning, format!("{} does not exist yet; the first job makes it", path.display()));
                return finish(context, &lines);
            }
        }
        let queue = context.queue()?;
        match context.location()? {
            Location::Coordinator(url) => {
                queue.greet().await?;
                say(
                    "store",
                    Level::Ok,
                    format!("{url} answers; 'orx doctor' on its machine looks at the store itself"),
                );
            }
            _ => store(&mut say, queue).await?,
        }
        unreadable(&mut say, queue).await?;
        fleet(&mut say, &queue.call(Status {}).await?);
        finish(context, &lines)
    }
}

async fn store(say: &mut impl FnMut(&'static str, Level, String), queue: &Queue) -> Result<()> {
    let findings = queue.check().await?;
    match findings.first() {
        None => say("store", Level::Ok, format!("{} is sound", queue.location())),
        Some(f) => say("store", Level::Error, format!("{} ({} in all; see orx db check)", f.message, findings.len())),
    }
    match queue.durable().await? {
        Some(true) => say("durability", Level::Ok, "a commit is acknowledged when it is on the disk".into()),
        Some(false) => say("durability", Level::Error, "a commit is acknowledged before it is on the disk".into()),
        None => {} // only its server knows
    }
    if let Some(holder) = queue.holder().await? {
        let what = match (holder.pid, holder.stopped) {
            (Some(pid), true) => format!("; it is stopped, and 'kill -CONT {pid}' has it go on"),
            (Some(pid), false) => format!("; if it does not end by itself, 'kill {pid}' ends it"),
            (None, _) => String::new(),
        };
        say("writing", Level::Error, format!("nobody can write: {holder} keeps the store locked{what}"));
    }
    Ok(())
}

/// Jobs that no orx can read, also where only a coordinator can look.
async fn unreadable(say: &mut impl FnMut(&'static str, Level, String), queue: &Queue) -> Result<()> {
    let reason = Some(reason::UNREADABLE.to_owned());
    let groups = queue.call(GroupLetters { filter: LetterFilter { reason, ..LetterFilter::default() } }).await?;
    let dead: i64 = groups.iter().map(|group| group.count).sum();
    if dead > 0 {
        let message = format!("{} put aside: orx dlq list --reason unreadable", ui::count(dead.unsigned_abs(), "job"));
        say("unreadable", Level::Error, message);
    }
    let found = match queue.call(GetQuarantine {}).await {
        Err(e) if e.kind() == Kind::Denied => return Ok(()), // it concerns all tenants
        found => found?,
    };
    match (found.waiting, found.is_stopped()) {
        (0, _) => {}
        (n, false) => {
            let jobs = ui::count(u64::from(n), "job");
            say("unreadable", Level::Error, format!("{jobs} cannot be read, and are about to be put aside"));
        }
        (n, true) => {
            let jobs = ui::count(u64::from(n), "job");
            let message = format!(
                "{jobs} cannot be read, and {} were put aside before: see orx db check, then orx db quarantine --go-on",
                found.put_aside
            );
            say("unreadable", Level::Error, message);
        }
    }
    Ok(())
}

fn finish(context: &Context, lines: &[Line]) -> Result<ExitCode> {
    context.view()?.rows(lines)?;
    let bad = lines.iter().any(|line| line.level == Level::Error);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn disk(say: &mut impl FnMut(&'static str, Level, String), found: &rustix::fs::StatFs) {
    let free = u64::try_from(found.f_bsize).unwrap_or(0).saturating_mul(found.f_bavail);
    let level = if free < LITTLE_ROOM { Level::Warning } else { Level::Ok };
    say("disk", level, format!("{} MiB free", free / (1024 * 1024)));
    #[allow(clippy::unnecessary_cast)] // its type differs between machines
    let kind = found.f_type as i64;
    if let Some((_, name)) = NETWORK.iter().find(|(magic, _)| *magic == kind) {
        let message = format!("the store is on {name}; SQLite needs a local file system for its locks");
        say("disk", Level::Warning, message);
    }
}

fn fleet(say: &mut impl FnMut(&'static str, Level, String), status: &StatusReply) {
    let count = |state| status.queues.iter().map(|q| q.counts.get(&state).copied().unwrap_or(0)).sum::<i64>();
    let waiting = count(crate::job::State::Pending);
    let active = status.workers.iter().filter(|w| w.state == WorkerState::Active).count();
    match (active, waiting) {
        (0, 0) => say("workers", Level::Ok, "none runs, and no job waits".into()),
        (0, 1) => say("workers", Level::Warning, "none runs, and 1 job waits; start one with 'orx worker'".into()),
        (0, n) => say("workers", Level::Warning, format!("none runs, and {n} jobs wait; start one with 'orx worker'")),
        (n, _) => say("workers", Level::Ok, format!("{n} active")),
    }
    for lost in status.workers.iter().filter(|w| w.state == WorkerState::Lost) {
        say("workers", Level::Warning, format!("{} was last seen at {}", lost.name, lost.heartbeat_at));
    }
    let silent = |age: Option<Span>| age.is_none_or(|age| age > Span::from_secs(15));
    match &status.leader {
        Some(l) if active > 0 && silent(l.age) => {
            say("upkeep", Level::Error, format!("{} leads, and was last seen at {}", l.name, l.seen_at));
        }
        Some(l) if active > 0 => say("upkeep", Level::Ok, format!("{} leads", l.name)),
        _ => say("upkeep", Level::Ok, "done by whichever worker runs".into()),
    }
    for queue in status.queues.iter().filter(|q| q.paused) {
        say("queues", Level::Warning, format!("{} is paused; 'orx queue resume {}' ends that", queue.name, queue.name));
    }
}
