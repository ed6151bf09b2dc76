//! How long the machine stood still: only that excuses a worker that lived and lost a lease.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::world::now;

/// How often it is looked at.
const BEAT: Duration = Duration::from_millis(50);
/// A pause that is shorter is none.
const SHORT: i64 = 200;

/// Says that something is over, also when a test fails on the way.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The pauses of the machine, in milliseconds of the wall clock.
#[derive(Default)]
pub struct Pauses(Vec<(i64, i64)>);

impl Pauses {
    /// Does again and again what a worker must be able to do, a write that is synced, until told to `stop`.
    pub fn watch(file: PathBuf, stop: &AtomicBool) -> Self {
        let mut file = File::create(file).unwrap();
        let mut pauses = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let begun = now();
            std::thread::sleep(BEAT); // a measurement, not a wait
            file.write_all(b".").unwrap();
            file.sync_data().unwrap();
            let end = now();
            if end - begun > SHORT {
                pauses.push((begun, end));
            }
        }
        Self(pauses)
    }

    pub fn longest(&self) -> i64 {
        self.0.iter().map(|(from, to)| to - from).max().unwrap_or_default()
    }

    /// How long it stood still between two instants, in milliseconds.
    pub fn between(&self, from: i64, to: i64) -> i64 {
        self.0.iter().map(|(begun, end)| ((*end).min(to) - (*begun).max(from)).max(0)).sum()
    }
}
