//! Files that somebody names, read within bounds: a device that never ends is not read for ever.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// All of a file that has at most so many bytes.
///
/// # Errors
/// Those of reading, and `InvalidData` where it is larger.
pub fn bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(invalid(&format!("it is larger than {}", indicatif::BinaryBytes(most)))),
        false => Ok(bytes),
    }
}

/// The same of text.
///
/// # Errors
/// As [`bytes`]; and `InvalidData` where it is no UTF-8.
pub fn text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(bytes(path, most)?).map_err(|_| invalid("it is no UTF-8"))
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}
