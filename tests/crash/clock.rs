//! Wall clocks that can be set while processes run by them.

use std::ffi::OsString;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::witness::compile;

/// The wall clock of some processes: the machine's own, and so many seconds.
#[derive(Clone)]
pub struct Clock(PathBuf);

impl Clock {
    /// A clock that goes right, kept in a file of this name.
    pub fn new(file: PathBuf) -> Self {
        let clock = Self(file);
        std::fs::write(&clock.0, [0; 8]).unwrap();
        clock
    }

    /// From now on it is off by so many seconds. In place: who runs by it has the file mapped.
    pub fn set(&self, seconds: i64) {
        let file = std::fs::OpenOptions::new().write(true).open(&self.0).unwrap();
        file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    /// What a process must find in its environment to run by it.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", shim().into()), ("ORX_CLOCK_FILE", self.0.clone().into())]
    }
}

fn shim() -> &'static str {
    static SHIM: OnceLock<String> = OnceLock::new();
    SHIM.get_or_init(|| compile("clock", &[&["-shared", "-fPIC"]]))
}
