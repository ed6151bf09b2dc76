//! Whether those who run a job can enter its directory, as far as that can be seen from here.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Access;

use super::context::Context;
use super::{files, ui};
use crate::daemon;
use crate::error::Result;
use crate::ops::workers::ListWorkers;
use crate::store::{Location, WorkerState};

/// The most that is read of a list of users or groups, in bytes.
const USERS: u64 = 4 << 20;
/// Who may enter everything.
const ROOT: u32 = 0;

/// Says on standard error that whoever runs the jobs of a queue, or of any, cannot enter this directory of a job, where that
/// is plain. Nothing is refused: a worker may be elsewhere, and rights may change.
pub(super) async fn warn(context: &Context, queue: Option<&str>, dir: Option<&str>) {
    let Some(dir) = dir else { return };
    if let Ok(Some(who)) = kept_out(context, queue, Path::new(dir)).await {
        ui::say(context, &format!("orx: {dir} cannot be entered by {who}, who runs the job: it will fail there"));
        ui::say(context, "hint: name another directory with --cwd");
    }
}

/// The user of the workers, where none of them can enter `dir`.
async fn kept_out(context: &Context, queue: Option<&str>, dir: &Path) -> Result<Option<String>> {
    let own = rustix::process::getuid().as_raw();
    let users = match context.location()? {
        // All its workers can open the file, which belongs to one of them.
        Location::File(path) => BTreeSet::from([path.metadata()?.uid()]),
        // Most directories are open to all, and then nobody needs to be asked for.
        Location::Server(_) if is_open(dir) => return Ok(None),
        Location::Server(_) => workers(context, queue).await?,
        Location::Memory | Location::Coordinator(_) => return Ok(None),
    };
    let enters = |user: &u32| match *user {
        ROOT => true,
        user if user == own => rustix::fs::access(dir, Access::EXEC_OK).is_ok() || is_missing(dir),
        user => may_enter(user, dir),
    };
    Ok(users.iter().all(|user| !enters(user)).then(|| users.first().map(|user| name(*user))).flatten())
}

/// The users of the workers of this machine that serve a queue.
async fn workers(context: &Context, queue: Option<&str>) -> Result<BTreeSet<u32>> {
    let here = daemon::host();
    let workers = context.queue()?.call(ListWorkers {}).await?;
    let serving = workers.into_iter().filter(|worker| {
        let serves =
            worker.queues.is_empty() || queue.is_none_or(|queue| worker.queues.iter().any(|name| name == queue));
        worker.host == here && worker.state == WorkerState::Active && serves
    });
    Ok(serving.filter_map(|worker| user_of(worker.pid)).collect())
}

/// The user of a process. Not whose its files in /proc are: those of a process that hides its secrets are root's.
fn user_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok() // the effective one
}

/// Whether it is known to be missing: somebody may make it before the job starts.
fn is_missing(dir: &Path) -> bool {
    matches!(dir.try_exists(), Ok(false))
}

/// Whether everybody may enter a directory and all above it.
fn is_open(dir: &Path) -> bool {
    dir.ancestors().all(|dir| dir.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0))
}

/// Whether a user may enter a directory, by the modes of it and of all above it. Of what cannot be looked at it is believed.
fn may_enter(user: u32, dir: &Path) -> bool {
    let Some(groups) = groups(user) else { return true };
    dir.ancestors().all(|dir| {
        let Ok(meta) = dir.metadata() else { return true };
        let bit = match meta.uid() == user {
            true => 0o100,
            false if groups.contains(&meta.gid()) => 0o010,
            false => 0o001,
        };
        meta.mode() & bit != 0
    })
}

/// The groups of a user of this machine; none where it is not in its own list of users.
fn groups(user: u32) -> Option<BTreeSet<u32>> {
    let users = files::text(Path::new("/etc/passwd"), USERS).ok()?;
    let (name, own) = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id, group) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(user)).then_some((name, group.parse::<u32>().ok()?))
    })?;
    let all = files::text(Path::new("/etc/group"), USERS).ok()?;
    let more = all.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (_, _, id, members) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        members.split(',').any(|member| member == name).then_some(id.parse().ok()?)
    });
    Some(more.chain([own]).collect())
}

/// The name of a user, or else the number.
fn name(user: u32) -> String {
    let users = files::text(Path::new("/etc/passwd"), USERS).unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(user)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("uid {user}"))
}
