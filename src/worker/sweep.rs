//! Kills what a dead predecessor of this worker left running.

use std::time::Instant;

use tracing::warn;

use super::census::{self, Census, Mark};
use super::kin::Found;
use super::tree::{Marker, Tree};
use crate::time::{Clock as _, Span, SystemClock};

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many processes it ended.
    pub found: usize,
    /// How old the youngest process is that may be the first one of an attempt, and that it could neither look at nor end.
    /// None: nobody is left, beyond doubt.
    pub doubt: Option<Span>,
}

/// Kills every process whose environment has an entry that starts with one of `marks`, and their trees, whoever owns them.
///
/// Only for a worker that knows the makers of those marks dead (by its lock), and before it starts jobs of its own: what
/// descends from a living leader is spared all the same, as are this process and those above it, but a living job's
/// orphans are not. Each mark must contain a `=`, and be followed by nothing in a mark that is not meant: `ORX_FENCE=web`
/// would match the jobs of `web-2` as well. Blocks, until the deadline at most. Deaths among another process's orphans
/// cannot be seen, so that nobody is left is likely here, where [`Tree::kill_all`] is certain.
pub fn sweep(marks: Vec<Vec<u8>>, deadline: Instant) -> Swept {
    let mut tree = Tree::marked(Marker::Anywhere(marks));
    let (found, nobody_left) = tree.kill_counting(deadline);
    if !nobody_left {
        warn!(found, "processes of the last worker are still running");
    }
    Swept { found, doubt: doubt(&tree.marker) }
}

/// The age of the youngest process that may be the first one of an attempt. That one leads its session for as long as it
/// lives; one whose environment may not be read (it changed its user, and this worker is not allowed to look) can be it.
fn doubt(marker: &Marker) -> Option<Span> {
    let Ok(census) = Census::take() else { return Some(Span::ZERO) };
    let found = Found::new(&census, true);
    let mark = |pid| census::mark_of(pid, |entry| marker.accepts(entry));
    let leaders = census.session_leaders().filter(|(pid, _)| !found.spares(*pid));
    let doubtful = leaders.filter(|(pid, _)| matches!(mark(*pid), Mark::Has | Mark::Unreadable));
    let now = SystemClock.boot().ms;
    let ages = doubtful.map(|(_, stat)| Span::from_millis(now.saturating_sub(census::millis(stat.start_time)).max(0)));
    ages.min()
}
