//! Files that are named on the command line or in the configuration: read within bounds, written where they are meant to be.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// The most that a file of settings has, in bytes.
pub(super) const SETTINGS: u64 = 1 << 20;

/// All of a file that has at most so many bytes; a device that never ends is not read for ever.
///
/// # Errors
/// Those of reading, and `InvalidData` where it is larger.
pub(super) fn bytes(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("it is larger than {}", indicatif::BinaryBytes(most)),
        )),
        false => Ok(bytes),
    }
}

/// The same of text.
///
/// # Errors
/// As [`bytes`]; and `InvalidData` where it is no UTF-8.
pub(super) fn text(path: &Path, most: u64) -> std::io::Result<String> {
    let not_text = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no UTF-8");
    String::from_utf8(bytes(path, most)?).map_err(not_text)
}

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
