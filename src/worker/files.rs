//! How many files a process may have open: each connection is one, a job that runs has some, and shells allow 1,024.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

use super::clone::limit_files;

/// More than any process of orx needs.
const ENOUGH: u64 = 65_536;
/// What a job that runs has open here: two pipes, its process, a word on its socket, and its output on the way.
const FILES_PER_JOB: u64 = 5;
/// What is left to everything else: the store with its readers and wake-ups, looks at /proc, and a start under way.
const SPARE_FILES: u64 = 64;

/// Raises the limit as far as this process may. Programs that it starts get the one of before, which some rely on.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    let Some(before) = current.filter(|before| *before < wanted) else { return };
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => limit_files(before),
        Err(e) => debug!("no more than {before} files: {e}"),
    }
}

/// As many of the `wanted` slots as there are files for, but one at least; says so where that is fewer.
///
/// It raises the limit first. To be called when the store is open.
pub(crate) fn affordable_slots(wanted: u32) -> u32 {
    raise_limit();
    let Some(most) = getrlimit(Resource::Nofile).current else { return wanted };
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64);
    let slots = slots_within(most, open).min(wanted);
    if slots < wanted {
        warn!(slots, "not {wanted} slots: this process may have {most} files open, and a job needs some of them");
    }
    slots
}

fn slots_within(most: u64, open: u64) -> u32 {
    let left = most.saturating_sub(open + SPARE_FILES) / FILES_PER_JOB;
    u32::try_from(left).unwrap_or(u32::MAX).max(1)
}

/// Whether this process, or the machine, lacks something for now: descriptors, processes, memory, room.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS, libc::ENOSPC];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_what_is_left_of_the_files_and_one_at_least() {
        assert_eq!(slots_within(256, 20), 34);
        assert_eq!(slots_within(65_536, 20), 13_090);
        for little in [0, 20, 84, 88] {
            assert_eq!(slots_within(little, 20), 1, "{little}");
        }
    }
}
