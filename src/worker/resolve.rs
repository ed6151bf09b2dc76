//! Finds the file a job's program name means, as the job would see it, before any child exists.
//!
//! `execvp` is not used: it searches the worker's PATH, and a search in the child costs a failed `execve` a directory.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::spawn::SpawnError;

/// Where programs are looked for if the job's environment has no PATH; the C library's own default.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Resolves `name` to an absolute path through PATH of `env`, or relative to `cwd` if it contains a slash.
///
/// Errors: [`SpawnError::NotFound`], [`SpawnError::NotExecutable`], or [`SpawnError::Directory`] if `cwd` is none.
pub(super) fn program(name: &OsStr, env: &[(OsString, OsString)], cwd: Option<&Path>) -> Result<PathBuf, SpawnError> {
    let cwd = directory(cwd)?;
    if name.as_bytes().contains(&b'/') {
        return match verdict(&cwd.join(name)) {
            Verdict::Good(path) => Ok(path),
            Verdict::Absent => Err(not_found(name, None)),
            Verdict::Refused(path, reason) => Err(refused(path, reason)),
        };
    }
    let path =
        env.iter().find(|(key, _)| key == "PATH").map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value.as_os_str());
    let mut first_refused = None;
    for dir in path.as_bytes().split(|byte| *byte == b':') {
        // An empty entry means the working directory, and so does joining it.
        let candidate = cwd.join(OsStr::from_bytes(dir)).join(name);
        match verdict(&candidate) {
            Verdict::Good(found) if !name.is_empty() => return Ok(found),
            Verdict::Refused(path, reason) if reason.kind() != io::ErrorKind::IsADirectory => {
                first_refused.get_or_insert((path, reason));
            }
            Verdict::Good(_) | Verdict::Refused(..) | Verdict::Absent => {}
        }
    }
    match first_refused {
        Some((path, reason)) => Err(refused(path, reason)),
        None => Err(not_found(name, Some(path))),
    }
}

/// The absolute working directory of the job; the worker's own if it has none.
fn directory(cwd: Option<&Path>) -> Result<PathBuf, SpawnError> {
    let own = || std::env::current_dir();
    let Some(cwd) = cwd else {
        return own().map_err(|source| SpawnError::Directory { dir: PathBuf::from("."), source });
    };
    let check = || {
        let dir = if cwd.is_absolute() { cwd.to_path_buf() } else { own()?.join(cwd) };
        match std::fs::metadata(&dir)?.is_dir() {
            true => Ok(dir),
            false => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        }
    };
    check().map_err(|source| SpawnError::Directory { dir: cwd.to_path_buf(), source })
}

enum Verdict {
    Good(PathBuf),
    Absent,
    Refused(PathBuf, io::Error),
}

fn verdict(path: &Path) -> Verdict {
    let refused = |errno| Verdict::Refused(path.to_path_buf(), io::Error::from_raw_os_error(errno));
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => refused(libc::EISDIR),
        Ok(_) => match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => Verdict::Good(path.to_path_buf()),
            Err(errno) => refused(errno.raw_os_error()),
        },
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) | None => Verdict::Absent,
            Some(errno) => refused(errno),
        },
    }
}

fn refused(path: PathBuf, source: io::Error) -> SpawnError {
    SpawnError::NotExecutable { program: path, source }
}

/// What to say to somebody who gave a whole line for a program.
fn shell_line(name: &OsStr) -> &'static str {
    match name.as_bytes().contains(&b' ') {
        true => "; a line for the shell is run by: sh -c 'LINE'",
        false => "",
    }
}

fn not_found(name: &OsStr, path: Option<&OsStr>) -> SpawnError {
    let place = match path {
        Some(path) => format!(" in PATH={}{}", path.display(), shell_line(name)),
        None => String::new(),
    };
    SpawnError::NotFound { program: name.to_os_string(), place }
}
