//! A cgroup of its own for each attempt, where systemd has delegated one to the worker.
//!
//! Nobody leaves a cgroup by leaving his session, his parent or his environment behind, and `cgroup.kill` ends all in it
//! at once, those being born included. Under the delegated cgroup lies `orx.STORE.WORKER`, which has a leaf for the worker
//! itself and one for each attempt; only processes in leaves, as the kernel wants it once controllers are switched on.
//! The search by kinship and marker goes on beside: a job may move itself elsewhere in what was delegated.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::Config;
use crate::job::Fence;

/// The leaf of the worker itself.
const SUPERVISOR: &str = "supervisor";
/// How systemd says that a cgroup is delegated. The first needs systemd 251, the second privileges.
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];
/// How often a cgroup is looked at until it is empty.
const LOOK: Duration = Duration::from_millis(1);
/// How deep cgroups that a job made in its own are followed.
const MAX_DEPTH: usize = 16;

/// Where a worker makes the cgroups of its attempts.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// What was delegated, perhaps to other workers as well.
    delegated: PathBuf,
    /// This worker's own part of it.
    own: PathBuf,
}

impl Cgroups {
    /// Takes what is delegated to this process, and kills what a dead worker of this name left in its part.
    ///
    /// None, and the reason in the log at level debug, where nothing is delegated or it cannot be used. Blocks until the
    /// deadline at most.
    pub(super) fn take(config: &Config, deadline: Instant) -> Option<Self> {
        if !config.owns_name {
            return None; // another process may have the same name
        }
        let found = delegated(config.delegated).and_then(|delegated| {
            let own = delegated.join(format!("orx.{}.{}", config.store_id, config.name));
            Self::enter(delegated, own, deadline)
        });
        match found {
            Ok(cgroups) => {
                debug!(path = %cgroups.own.display(), "attempts get cgroups");
                Some(cgroups)
            }
            Err(e) => {
                match config.delegated {
                    true => warn!("attempts get no cgroups: {e}"),
                    false => debug!("attempts get no cgroups: {e}"),
                }
                None
            }
        }
    }

    fn enter(delegated: PathBuf, own: PathBuf, deadline: Instant) -> io::Result<Self> {
        make(&own)?;
        let cgroups = Self { delegated, own };
        cgroups.sweep(deadline);
        let supervisor = cgroups.own.join(SUPERVISOR);
        make(&supervisor)?;
        // Fails where cgroups are not ours to move processes in, and then no attempt is tried with one either.
        fs::write(supervisor.join("cgroup.procs"), "0")?;
        let kills = supervisor.join("cgroup.kill");
        fs::exists(kills)?.then_some(cgroups).ok_or_else(|| io::Error::other("this kernel has no cgroup.kill"))
    }

    /// Kills what is left of the attempts of the last worker of this name.
    fn sweep(&self, deadline: Instant) {
        let left = children(&self.own).into_iter().filter(|dir| dir.file_name() != Some(OsStr::new(SUPERVISOR)));
        for cgroup in left.map(Cgroup) {
            if !cgroup.is_empty() {
                debug!(path = %cgroup.0.display(), "killing what a dead worker of this name left behind");
                cgroup.kill(deadline);
            }
        }
    }

    /// Makes the cgroup of an attempt. None, with a warning, if that fails: it runs all the same.
    pub(super) fn make(&self, fence: Fence) -> Option<Cgroup> {
        let dir = self.own.join(format!("{}.{}", fence.number, fence.attempt));
        match make(&dir) {
            Ok(()) => Some(Cgroup(dir)),
            Err(e) => {
                warn!("an attempt gets no cgroup: {}: {e}", dir.display());
                None
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // Without the worker in it its part can be removed; where that fails, systemd does it when the unit has ended.
        let _ = fs::write(self.delegated.join("cgroup.procs"), "0");
        remove(&self.own, 0);
    }
}

/// The cgroup of one attempt; removed when it is dropped, if it is empty.
#[derive(Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The pids of the living in it and below it.
    pub(super) fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        gather(&self.0, 0, &mut pids);
        pids
    }

    /// Kills everybody in it and below it, and waits for their end until the deadline. Returns whether nobody is left.
    pub(super) fn kill(&self, deadline: Instant) -> bool {
        if let Err(e) = fs::write(self.0.join("cgroup.kill"), "1") {
            warn!("{} cannot be killed: {e}", self.0.display());
            return false;
        }
        while !self.is_empty() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// Whether nobody lives in it or below it. One that is gone or cannot be read holds nobody that we could find.
    pub(super) fn is_empty(&self) -> bool {
        let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
        !events.lines().any(|line| line == "populated 1")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.0, 0);
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

fn gather(dir: &Path, depth: usize, pids: &mut Vec<i32>) {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // A process of another pid namespace has the number 0 here.
    pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth < MAX_DEPTH {
        children(dir).iter().for_each(|child| gather(child, depth + 1, pids));
    }
}

/// Removes a cgroup and those in it. One that is not empty stays, for the next worker of this name.
fn remove(dir: &Path, depth: usize) {
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    match fs::remove_dir(dir) {
        Err(e) if depth < MAX_DEPTH && !gone(&e) => {
            children(dir).iter().for_each(|child| remove(child, depth + 1));
            if let Err(e) = fs::remove_dir(dir) {
                debug!("{} stays: {e}", dir.display());
            }
        }
        Ok(()) | Err(_) => {}
    }
}

/// The directory of the cgroup that is delegated to this process.
fn delegated(said: bool) -> io::Result<PathBuf> {
    let cgroup = own_cgroup(&fs::read_to_string("/proc/self/cgroup")?)
        .ok_or_else(|| io::Error::other("there are no cgroups of version 2"))?;
    let dir = directory(&fs::read("/proc/self/mountinfo")?, &cgroup)
        .ok_or_else(|| io::Error::other("cgroups of version 2 are not mounted"))?;
    if said {
        return Ok(dir);
    }
    // systemd may have put the worker into a leaf of what it delegates (DelegateSubgroup=).
    let candidates = [Some(dir.as_path()), dir.parent()].into_iter().flatten();
    let found = candidates.into_iter().find(|dir| is_delegated(dir));
    found.map(Path::to_owned).ok_or_else(|| io::Error::other(format!("{} is not delegated", dir.display())))
}

fn is_delegated(dir: &Path) -> bool {
    let mut value = [0_u8; 8];
    DELEGATED.into_iter().any(|name| {
        let length = rustix::fs::getxattr(dir, name, &mut value);
        length.is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// The path of the cgroup of version 2, from the text of `/proc/self/cgroup`.
fn own_cgroup(text: &str) -> Option<PathBuf> {
    // A cgroup that was removed, or that lies outside the namespace, is none that we could use.
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (!path.ends_with(" (deleted)") && !path.starts_with("/..")).then(|| path.into())
}

/// Where a cgroup of version 2 is mounted, from the text of `/proc/self/mountinfo`.
fn directory(mountinfo: &[u8], cgroup: &Path) -> Option<PathBuf> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let optional_end = fields.iter().position(|field| *field == b"-")?;
        let is_cgroup2 = fields.get(optional_end + 1) == Some(&b"cgroup2".as_slice());
        is_cgroup2.then_some((unescape(fields.get(3)?), unescape(fields.get(4)?)))
    });
    let mut found = mounts.filter_map(|(root, at)| {
        let below = cgroup.strip_prefix(root).ok()?;
        Some(if below.as_os_str().is_empty() { at } else { at.join(below) })
    });
    found.next()
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "25 24 0:23 / /proc rw - proc proc rw\n\
        31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn place(mountinfo: &str, cgroup: &str) -> Option<String> {
        let path = directory(mountinfo.as_bytes(), Path::new(cgroup));
        path.map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_own_cgroup_is_that_of_version_2() {
        let hybrid = "9:name=systemd:/\n4:memory:/x\n0::/system.slice/orx.service\n";
        assert_eq!(own_cgroup(hybrid), Some("/system.slice/orx.service".into()));
        for none in ["", "4:memory:/x\n", "0::/a (deleted)\n", "0::/../b\n"] {
            assert_eq!(own_cgroup(none), None, "{none}");
        }
    }

    #[test]
    fn the_directory_follows_from_the_mount() {
        assert_eq!(place(UNIFIED, "/a/b").unwrap(), "/sys/fs/cgroup/a/b");
        assert_eq!(place(UNIFIED, "/").unwrap(), "/sys/fs/cgroup");
        let hybrid = UNIFIED.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ");
        assert_eq!(place(&hybrid, "/a").unwrap(), "/sys/fs/cgroup/unified/a");
        let bound = UNIFIED.replace(" / /sys/fs/cgroup ", " /docker/1 /with\\040blank ");
        assert_eq!(place(&bound, "/docker/1/a").unwrap(), "/with blank/a");
        assert_eq!(place(&bound, "/docker/12"), None);
        assert_eq!(place("31 24 0:27 / /sys rw - cgroup cgroup rw\n\n- \n", "/a"), None);
    }

    #[test]
    fn only_the_word_of_systemd_makes_a_directory_delegated() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_delegated(dir.path()));
        let set =
            |value: &[u8]| rustix::fs::setxattr(dir.path(), "user.delegate", value, rustix::fs::XattrFlags::empty());
        if let Err(e) = set(b"0") {
            println!("skipped: no extended attributes in {}: {e}", dir.path().display());
            return;
        }
        assert!(!is_delegated(dir.path()));
        set(b"1").unwrap();
        assert!(is_delegated(dir.path()));
    }

    #[test]
    fn a_directory_that_is_none_holds_nobody() {
        let gone = Cgroup("/no/such/cgroup".into());
        assert!(gone.is_empty());
        assert!(gone.pids().is_empty());
        assert!(!gone.kill(Instant::now()));
    }
}
