//! Files that are named on the command line or in the configuration: read within bounds, written where they are meant to be.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

pub(super) use crate::bounded::{bytes, text};
use crate::error::{Error, Result};

/// The most that a file of settings has, in bytes.
pub(super) const SETTINGS: u64 = 1 << 20;

/// Writes a file, and no other one that a symbolic link of that name leads to.
///
/// # Errors
/// `Failed` where it cannot be written.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW);
    options.open(path).and_then(|mut file| file.write_all(text)).map_err(|e| {
        let error = Error::failed(format!("cannot write {}", path.display()));
        match e.raw_os_error() {
            Some(libc::ELOOP) => error.source("it is a symbolic link").hint("take the link away"),
            _ => error.source(e),
        }
    })
}
