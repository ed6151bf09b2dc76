//! Kills what a dead predecessor of this worker left running.

use std::time::Instant;

use super::tree::{Marker, Tree};

/// Kills every process of this user whose environment has an entry that starts with `marker_prefix`, and their trees.
///
/// Returns how many it found. Only for a worker that knows its predecessor dead (by its lock), and before it starts jobs
/// of its own: what descends from a living leader is spared all the same, as are this process and those above it, but a
/// living job's orphans are not. The prefix must contain a `=`, and must end where the name of a worker ends:
/// `ORX_FENCE=web` would match the jobs of `web-2` as well. Blocks, until the deadline at most. Deaths among another
/// process's orphans cannot be seen, so that nobody is left is likely here, where [`Tree::kill_all`] is certain.
pub fn sweep(marker_prefix: &[u8], deadline: Instant) -> usize {
    let mut tree = Tree::marked(Marker::Anywhere(marker_prefix.to_vec()));
    let (found, nobody_left) = tree.kill_counting(deadline);
    if !nobody_left {
        tracing::warn!(found, "processes of the last worker are still running");
    }
    found
}
