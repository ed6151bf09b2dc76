//! Files and directories for their owner alone, whatever the umask: all that orx makes for itself.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

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
    std::fs::set_permissions(path, Permissions::from_mode(FILE))
}

/// Keeps others out of an open file.
///
/// # Errors
/// That it is not ours.
pub(crate) fn close_file(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(FILE))
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
