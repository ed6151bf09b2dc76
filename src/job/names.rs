//! What processes and labels may be called, and what may be said why: all else that has a name is a [`super::spec::word`].

use super::spec::{MAX_NAME, field_error};
use crate::error::{Error, Result};

/// The longest reason, in bytes.
pub const MAX_REASON: usize = 1000;

/// Refuses what is no name for a `what`, such as a worker, of at most `longest` bytes: it is part of the names of files.
///
/// # Errors
/// `Usage`.
pub fn process(what: &str, name: &str, longest: usize) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || "-_.@".contains(c);
    let hint = format!("use up to {longest} letters, digits and - _ . @");
    match name {
        n if n.len() > longest => Err(field_error("name", format!("of a {what} is longer than {longest} bytes"))),
        n if n.is_empty() || n.starts_with('.') || !n.chars().all(plain) => {
            Err(Error::usage(format!("{n:?} is no name for a {what}")).field("name"))
        }
        _ => return Ok(()),
    }
    .map_err(|e| e.hint(hint))
}

/// Refuses a reason that is too long, or that not every store can hold.
///
/// # Errors
/// `Usage`.
pub fn reason(given: Option<&str>) -> Result<()> {
    match given {
        Some(text) if text.len() > MAX_REASON => {
            Err(field_error("reason", format!("is longer than {MAX_REASON} bytes")))
        }
        Some(text) if text.contains('\0') => Err(field_error("reason", "contains a NUL character")),
        _ => Ok(()),
    }
}

/// Names, keys and values of labels: short, and all of it can be seen.
pub(super) fn text(field: &str, value: Option<&str>) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    match value {
        "" => Err(field_error(field, "is empty")),
        v if v.len() > MAX_NAME => Err(field_error(field, format!("is longer than {MAX_NAME} bytes"))),
        v if v.chars().any(char::is_control) => Err(field_error(field, "has a control character")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_process_is_one_of_a_file_too() {
        for good in ["a", "host-2", "münchen", "w.1@h_x", &"x".repeat(64)] {
            process("worker", good, 64).unwrap();
        }
        for bad in ["", ".", ".hidden", "a/b", "a b", "a\0b", "\u{1b}[2J", "a\nb", &"x".repeat(65)] {
            let error = process("worker", bad, 64).unwrap_err();
            assert!(error.field_name() == Some("name") && error.message().len() < 100, "{error}");
        }
    }
}
