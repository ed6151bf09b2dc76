//! What needed tasks made, as files for a task: `ORX_RESULT_<TASK>`.

use std::io::Write as _;

use tempfile::TempDir;

use super::Shared;
use super::files::is_shortage;
use super::secrets::Missing;
use super::socket::prefix;
use crate::error::{Error, Result};
use crate::job::results::variables;
use crate::ops::lease::Leased;
use crate::ops::results::{GetResult, Handed};
use crate::private;

/// Files with what needed tasks made; gone when dropped.
#[derive(Default)]
pub(super) struct Results {
    /// Tasks and the names of their files.
    files: Vec<(String, String)>,
    dir: Option<TempDir>,
}

impl Results {
    /// Variables and paths.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let dir = self.dir.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default();
        self.files.iter().flat_map(move |(task, file)| {
            let path = dir.join(file).display().to_string();
            variables(task).map(|name| (name, path.clone()))
        })
    }
}

/// What is said where they cannot be had.
pub(super) fn missing(error: &Error) -> Missing {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let message = format!("the results of needed tasks cannot be had: {error}");
    Missing { message, shortage: cause.is_some_and(is_shortage) }
}

/// Writes what the needed tasks of `job` made, one at a time: each may be a megabyte.
///
/// # Errors
/// What the store says, or that files cannot be written.
pub(super) async fn write(shared: &Shared, job: &Leased) -> Result<Results> {
    if job.results.is_empty() {
        return Ok(Results::default());
    }
    let dir = private::temp_dir(&format!("{}results-", prefix(&shared.config)))?;
    let mut files = Vec::with_capacity(job.results.len());
    for (n, (task, number)) in job.results.iter().enumerate() {
        let handed =
            shared.persist(&GetResult { worker: shared.config.key.clone(), fence: job.fence, number: *number }).await?;
        let Some(Handed { result, is_text }) = handed else {
            return Err(Error::not_found(format!("the result of task {task} is gone")));
        };
        // As it was handed over: JSON, or else text.
        let text = result.string().filter(|_| is_text).unwrap_or_else(|| result.to_string());
        let file = n.to_string();
        private::file().write(true).create_new(true).open(dir.path().join(&file))?.write_all(text.as_bytes())?;
        files.push((task.clone(), file));
    }
    Ok(Results { files, dir: Some(dir) })
}
