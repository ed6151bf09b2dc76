//! How many files a process may have open: each connection is one, and shells allow 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

use crate::worker;

/// More than any coordinator needs.
const ENOUGH: u64 = 65_536;

/// Raises the limit as far as this process may. Programs that it starts get the one of before, which some rely on.
pub(super) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    let Some(before) = current.filter(|before| *before < wanted) else { return };
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => worker::limit_files(before),
        Err(e) => debug!("no more than {before} files: {e}"),
    }
}
