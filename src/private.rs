//! Files and directories for their owner alone, whatever the umask: all that orx makes for itself.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Uid, chownat};
use rustix::process::geteuid;
use tempfile::{NamedTempFile, TempDir};

/// The mode of a directory.
const DIR: u32 = 0o700;
/// The mode of a file.
const FILE: u32 = 0o600;

/// How a file is opened that may be made by it.
pub(crate) fn file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE);
    options
}

/// Keeps others out of a file or socket that was made by somebody who knows no modes.
///
/// # Errors
/// That it is not there, or not ours.
pub(crate) fn close(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(itself(&found(path)?), Permissions::from_mode(FILE))
}

/// Keeps others out of an open file.
///
/// # Errors
/// That it is not ours.
pub(crate) fn close_file(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(FILE))
}

/// What is at `path`, be it a link, without opening it.
fn found(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)
}

/// A path to what was opened, whatever its name means by now.
fn itself(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A path to `name` in a directory that was opened, whatever the name of that means by now. It is short, too: the path of
/// a socket has 108 bytes only.
pub(crate) fn within(dir: &File, name: &str) -> PathBuf {
    itself(dir).join(name)
}

/// Opens a directory that may be no link.
///
/// # Errors
/// As [`File::open`].
pub(crate) fn open_dir(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// How often a file is opened or made that comes and goes meanwhile.
const TRIES: usize = 10;

/// What lies beside a file. Root gives what it makes there to the owner of the file, who could not use it otherwise.
///
/// That owner may be hostile, and could mean any file of the machine by a name there: no link is followed, root opens no
/// file that has another name too, and gives away only what is new and empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside(Option<(Uid, Gid)>);

impl Beside {
    /// Beside the file at `path`.
    pub(crate) fn of(path: &Path) -> Self {
        let other = |meta: &Metadata| meta.uid() != geteuid().as_raw();
        let file = geteuid().is_root().then(|| path.metadata().ok()).flatten().filter(other);
        Self(file.map(|meta| (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()))))
    }

    /// Opens a file for reading and writing, made where there is none.
    ///
    /// # Errors
    /// As [`OpenOptions::open`], and that it is a link.
    pub(crate) fn open(self, path: &Path) -> io::Result<File> {
        for _ in 0..TRIES {
            match self.open_existing(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
            match file().read(true).write(true).create_new(true).open(path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.inspect(|made| self.give_new(made)),
            }
        }
        Err(io::Error::other("it comes and goes"))
    }

    /// The same of a file that is there.
    ///
    /// # Errors
    /// As [`Beside::open`]; not found if it is not there.
    pub(crate) fn open_existing(self, path: &Path) -> io::Result<File> {
        let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path);
        let opened = opened.map_err(|e| match e.raw_os_error() {
            Some(libc::ELOOP) => io::Error::other("it is a symbolic link"), // the kernel calls it a loop
            _ => e,
        })?;
        match self.0.is_some() && opened.metadata()?.nlink() > 1 {
            true => Err(io::Error::other("it has another name too (a hard link)")),
            false => Ok(opened),
        }
    }

    /// Makes a directory, where there is none, and opens it.
    ///
    /// # Errors
    /// As [`std::fs::create_dir`], and that it is no directory.
    pub(crate) fn dir(self, path: &Path) -> io::Result<File> {
        match make_dir(path) {
            Ok(()) => self.give(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        open_dir(path)
    }

    /// Gives away what this process has just made at `path`, as far as it can.
    pub(crate) fn give(self, path: &Path) {
        if self.0.is_some()
            && let Ok(made) = found(path)
        {
            self.give_new(&made);
        }
    }

    /// The same of what was opened. Something else may have been put in its place before.
    fn give_new(self, made: &File) {
        let Some((user, group)) = self.0 else { return };
        let is_new = made.metadata().is_ok_and(|meta| {
            let is_empty = match meta.is_dir() {
                true => std::fs::read_dir(itself(made)).is_ok_and(|mut entries| entries.next().is_none()),
                false => meta.len() == 0 && meta.nlink() == 1,
            };
            is_empty && meta.uid() == geteuid().as_raw()
        });
        if is_new {
            let _ = chownat(made, "", Some(user), Some(group), AtFlags::EMPTY_PATH); // root may be without that right
        }
    }
}

/// Gives `made`, a file of this process, to whoever owns the file whose place it is to take, where root does that.
///
/// # Errors
/// As those of `chown`.
pub(crate) fn give_as(made: &Path, before: &Path) -> io::Result<()> {
    let Beside(Some((user, group))) = Beside::of(before) else { return Ok(()) };
    let made = found(made)?;
    Ok(chownat(&made, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?)
}

/// Makes a directory.
///
/// # Errors
/// As [`std::fs::create_dir`]: also that it is there.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIR).create(path)
}

/// Makes a directory and those above it, where they are not there.
///
/// # Errors
/// As [`std::fs::create_dir_all`].
pub(crate) fn make_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR).create(path)
}

/// Makes the directory above `path`, where it is not there.
///
/// # Errors
/// As [`make_dirs`].
pub(crate) fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().filter(|dir| !dir.exists()).map_or(Ok(()), make_dirs)
}

/// A directory in `place` that goes when it is dropped.
///
/// # Errors
/// That it cannot be made.
pub(crate) fn temp_dir_in(place: &Path, prefix: &str) -> io::Result<TempDir> {
    let mode = Permissions::from_mode(DIR);
    tempfile::Builder::new().prefix(prefix).permissions(mode).tempdir_in(place)
}

/// A directory that goes when it is dropped, where such things lie (`TMPDIR`).
///
/// # Errors
/// That it cannot be made.
pub(crate) fn temp_dir(prefix: &str) -> io::Result<TempDir> {
    temp_dir_in(&std::env::temp_dir(), prefix)
}

/// A file that goes when it is dropped, where such things lie (`TMPDIR`).
///
/// # Errors
/// That it cannot be made.
pub(crate) fn temp_file(prefix: &str, suffix: &str) -> io::Result<NamedTempFile> {
    let mode = Permissions::from_mode(FILE);
    tempfile::Builder::new().prefix(prefix).suffix(suffix).permissions(mode).tempfile()
}

/// A file without a name, where such things lie: nobody else can open it, and it goes with the process at the latest.
///
/// # Errors
/// That it cannot be made.
pub(crate) fn unnamed_file() -> io::Result<File> {
    tempfile::tempfile()
}
