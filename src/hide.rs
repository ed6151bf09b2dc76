//! Secrets that this process was given, out of sight of what runs as the same user.
//!
//! A job can read the environment and the memory of each process of its user under `/proc`, unless that process says no.
//! What is hidden is not dumpable: its files there belong to root, the kernel writes no core of it, and no debugger of the
//! same user can attach. Its children are as all others again once they execute.

use std::ffi::{CStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;
use std::sync::{Once, OnceLock};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Whoever has this variable is a process of a job. Its worker finds it by its environment, so it must stay readable.
const OF_A_JOB: &str = "ORX_FENCE";
/// What stands in the place of a secret.
const NOTHING: u8 = b'*';

/// Whether this process may hide itself: it is the program orx, and in no job. A program that uses the library decides for
/// itself.
static MAY_HIDE: OnceLock<bool> = OnceLock::new();

unsafe extern "C" {
    /// The variables of this process as `NAME=value`, and a null pointer behind them.
    static environ: *const *mut c_char;
}

/// Takes secrets out of the environment that the kernel shows of this process. It has them as before itself, and so have
/// those that it starts with its own environment.
///
/// `is_secret` is told the name and the value of each variable.
///
/// # Safety
/// Only while this process has one thread: nobody else may use the environment meanwhile.
pub(crate) unsafe fn begin(is_secret: impl Fn(&str, &str) -> bool) {
    let _ = MAY_HIDE.set(std::env::var_os(OF_A_JOB).is_none());
    let is_secret = |(name, value): &(OsString, OsString)| is_secret(&name.to_string_lossy(), &value.to_string_lossy());
    let secrets: Vec<_> = std::env::vars_os().filter(is_secret).collect();
    if secrets.is_empty() {
        return;
    }
    // SAFETY: the C library has set it, to as many entries as there were variables just now or more.
    let given: Vec<*mut c_char> =
        (0..).map_while(|at| Some(unsafe { *environ.add(at) }).filter(|it| !it.is_null())).collect();
    // Of a variable that was given twice the first counts.
    for (name, value) in secrets.iter().rev() {
        // SAFETY: nobody else uses the environment. What is set lies on the heap, which the kernel does not show.
        unsafe {
            std::env::remove_var(name);
            std::env::set_var(name, value);
        }
    }
    for entry in given {
        // SAFETY: each is a C string, and they stay as long as the process.
        let text = unsafe { CStr::from_ptr(entry) }.to_bytes();
        let value = secrets.iter().find_map(|(name, _)| text.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        if let Some(length) = value.map(<[u8]>::len) {
            let place = entry.wrapping_add(text.len() - length).cast::<u8>();
            // SAFETY: these bytes of the first stack are ours to write, and nothing refers to them any more.
            unsafe { ptr::write_bytes(place, NOTHING, length) };
        }
    }
    memory();
}

/// Hides the memory of this process, which holds a secret from now on.
pub(crate) fn memory() {
    static HIDDEN: Once = Once::new();
    if MAY_HIDE.get() == Some(&true) {
        HIDDEN.call_once(|| {
            let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable); // no Linux refuses it
        });
    }
}
