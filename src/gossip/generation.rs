//! The generation of a node: a number that rises with each start, so that peers know the new process from the old.

use std::io::Write as _;
use std::path::Path;

use tracing::warn;

use super::key::sync_directory;
use crate::error::{Error, Result};
use crate::time::Timestamp;

/// The next generation, written to `path` before it is returned.
///
/// It is the wall clock in milliseconds, or one more than the file says where that is higher. So it rises when the clock
/// was set back, and when the file was lost; only where both happened at once do peers take the new process for another
/// of that id until they have seen the old one dead.
///
/// # Errors
/// When the file cannot be written: a generation that is forgotten could come again.
pub fn next_generation(path: &Path, now: Timestamp) -> Result<u64> {
    let clock = u64::try_from(now.0).unwrap_or_default();
    let generation = match std::fs::read_to_string(path) {
        Ok(text) => match text.trim().parse::<u64>() {
            Ok(last) => clock.max(last.saturating_add(1)),
            Err(_) => {
                warn!("{} holds no generation: going on by the clock", path.display());
                clock
            }
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => clock,
        Err(e) => return Err(cannot(path, e)),
    };
    let beside = path.with_extension("new");
    let written = crate::private::file().write(true).create(true).truncate(true).open(&beside).and_then(|mut file| {
        writeln!(file, "{generation}")?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    written.map_err(|e| cannot(path, e))?;
    sync_directory(path);
    Ok(generation)
}

fn cannot(path: &Path, error: std::io::Error) -> Error {
    Error::failed(format!("cannot keep the node's generation in {}", path.display()))
        .source(error)
        .hint("without it peers may take a restarted node for the old one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_also_when_the_clock_goes_back_or_the_file_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation");
        let next = |ms| next_generation(&path, Timestamp(ms)).unwrap();
        assert_eq!(next(1_000), 1_000);
        assert_eq!(next(1_000), 1_001, "twice in a millisecond");
        assert_eq!(next(5), 1_002, "the clock was set back");
        assert_eq!(next(-5), 1_003, "before 1970");
        assert_eq!(next(2_000), 2_000);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(next(2_500), 2_500, "the file was lost");
        std::fs::write(&path, "\0\0\0").unwrap();
        assert_eq!(next(2_600), 2_600, "the file is torn");
        std::fs::write(&path, u64::MAX.to_string()).unwrap();
        assert_eq!(next(2_700), u64::MAX, "no further, but no panic");
    }

    #[test]
    fn a_generation_that_cannot_be_kept_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let error = next_generation(&dir.path().join("missing/generation"), Timestamp(1)).unwrap_err();
        assert!(error.hint_text().is_some());
        assert!(next_generation(dir.path(), Timestamp(1)).is_err());
    }
}
