//! Whose a store is: who may write to it chooses what is run as whoever runs its jobs.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use super::Location;
use crate::error::{Error, Kind, Result};

/// The endings of the files of a store, the database first.
const FILES: [&str; 17] = [
    "",
    "-wal",
    "-shm",
    "-output",
    "-output-wal",
    "-output-shm",
    "-ballast",
    "-line",
    "-next",
    "-leader",
    "-migrate",
    "-output-migrate",
    "-workers",
    "-coordinators",
    "-wake",
    "-restore",
    "-restoring",
];
const ROOT: u32 = 0;
/// The bits of a mode: who may write, and that in a directory each may take away only what is their own.
const BY_GROUP: u32 = 0o020;
const BY_ALL: u32 = 0o002;
const STICKY: u32 = 0o1000;

impl Location {
    /// Looks whether nobody but this user and root chooses what is in the store at this place. A server and a coordinator
    /// look for themselves who may do what.
    ///
    /// It costs some looks at names. Whoever owns the directory is not asked for: in a container root works in directories
    /// of others.
    ///
    /// # Errors
    /// `Denied` where somebody else does, or could.
    pub fn check_owners(&self) -> Result<()> {
        match self {
            Self::File(path) => check(path),
            Self::Memory | Self::Server(_) | Self::Coordinator(_) => Ok(()),
        }
    }
}

fn check(path: &Path) -> Result<()> {
    let path = std::path::absolute(path)?;
    let Some((dir, path)) = resolved(&path) else { return Ok(()) }; // what is made there is ours
    let refused = |path: &Path, fault: &str| {
        Error::new(Kind::Denied, format!("the jobs of this store are not run: {} {fault}", path.display()))
            .hint("they would run as you; where that is meant, use --allow-foreign-store")
    };
    if dir.metadata().is_ok_and(|meta| meta.is_dir() && meta.mode() & (BY_ALL | STICKY) == BY_ALL) {
        return Err(refused(&dir, "may be changed by everybody"));
    }
    for ending in FILES {
        let mut file = path.clone().into_os_string();
        file.push(ending);
        let file = PathBuf::from(file);
        // What cannot be looked at cannot be used either.
        let fault = file.symlink_metadata().ok().and_then(|meta| fault(&Look::at(&meta), Us::now()));
        if let Some(fault) = fault {
            return Err(refused(&file, &fault));
        }
    }
    Ok(())
}

/// The directory and the database without links on the way; none where there is no directory.
fn resolved(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(_) => path.parent()?.canonicalize().ok()?.join(path.file_name()?),
    };
    Some((path.parent()?.to_owned(), path))
}

/// Who we are.
#[derive(Clone, Copy)]
struct Us {
    user: u32,
    group: u32,
}

impl Us {
    fn now() -> Self {
        Self { user: geteuid().as_raw(), group: getegid().as_raw() }
    }
}

/// What counts of a file.
struct Look {
    is_link: bool,
    user: u32,
    group: u32,
    mode: u32,
}

impl Look {
    fn at(meta: &Metadata) -> Self {
        Self { is_link: meta.is_symlink(), user: meta.uid(), group: meta.gid(), mode: meta.mode() }
    }
}

/// By what somebody else than us and root has a file in hand.
fn fault(file: &Look, us: Us) -> Option<String> {
    // A group with the number of its user is that user's own, as many systems make one for each. Root's has it too.
    let is_own = |group: u32| group == ROOT || group == us.group && group == us.user;
    match file {
        Look { is_link: true, .. } => Some("is a symbolic link".into()),
        Look { user, .. } if ![us.user, ROOT].contains(user) => Some(format!("belongs to user {user}")),
        Look { mode, .. } if mode & BY_ALL != 0 => Some("may be written by everybody".into()),
        Look { mode, group, .. } if mode & BY_GROUP != 0 && !is_own(*group) => {
            Some(format!("may be written by group {group}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ours_or_of_root_that_nobody_else_may_write_is_fine() {
        const ANN: Us = Us { user: 1000, group: 1000 };
        const BOB: Us = Us { user: 1001, group: 100 };
        const SUPER: Us = Us { user: 0, group: 0 };
        for (us, user, group, mode, said) in [
            (ANN, 1000, 1000, 0o600, None),
            (ANN, 1000, 100, 0o644, None),
            (ANN, 0, 0, 0o664, None),
            (ANN, 1000, 1000, 0o664, None), // umask 002 of a user with a group of their own
            (ANN, 0, 1000, 0o660, None),
            (ANN, 1000, 100, 0o660, Some("may be written by group 100")),
            (ANN, 0, 100, 0o660, Some("may be written by group 100")),
            (ANN, 1000, 1000, 0o602, Some("may be written by everybody")),
            (ANN, 1001, 1000, 0o600, Some("belongs to user 1001")),
            (BOB, 1001, 100, 0o660, Some("may be written by group 100")), // a group of many
            (BOB, 1001, 1001, 0o660, Some("may be written by group 1001")),
            (SUPER, 0, 0, 0o664, None),
            (SUPER, 1000, 1000, 0o600, Some("belongs to user 1000")),
        ] {
            let file = Look { is_link: false, user, group, mode: 0o100_000 | mode };
            assert_eq!(fault(&file, us).as_deref(), said, "{user}:{group} {mode:o} for {}", us.user);
        }
        let link = Look { is_link: true, user: 1000, group: 1000, mode: 0o120_777 };
        assert_eq!(fault(&link, ANN).as_deref(), Some("is a symbolic link"));
    }

    #[test]
    fn what_is_not_there_yet_is_fine_unless_everybody_may_change_the_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("dir");
        let check = || Location::File(dir.join("orx.db")).check_owners();
        check().unwrap();
        std::fs::create_dir(&dir).unwrap();
        for (mode, fine) in [(0o700, true), (0o777, false), (0o1777, true)] {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check().is_ok(), fine, "{mode:o}");
        }
        for ending in &FILES[1..] {
            let beside = dir.join(format!("orx.db{ending}"));
            std::os::unix::fs::symlink("elsewhere", &beside).unwrap();
            assert!(check().unwrap_err().to_string().contains(&format!("orx.db{ending} is a symbolic link")));
            std::fs::remove_file(beside).unwrap();
        }
        Location::Memory.check_owners().unwrap();
    }
}
