//! Makes one child process: `clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD)` and everything the child does before `execve`.
//!
//! The child shares this process's memory until it executes, so nothing here allocates, locks or panics on its side; what
//! it needs is prepared in [`Plan`], and what goes wrong comes back through [`Report`]. Cost does not depend on the size
//! of this process, as it would with `fork`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::leaders::Cloning;

/// The size of the kernel's signal set, in bytes; `sigset_t` of the C library is larger.
const KERNEL_SIGSET: usize = 8;
const STACK_BYTES: usize = 64 * 1024;
const GUARD_BYTES: usize = 64 * 1024;

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Clone,
    Session,
    Cgroup,
    DeathSignal,
    Descriptors,
    Directory,
    Execute,
}

impl Stage {
    /// Every stage by its number, which is how it crosses from the child.
    const ALL: [Self; 7] = [
        Self::Clone,
        Self::Session,
        Self::Cgroup,
        Self::DeathSignal,
        Self::Descriptors,
        Self::Directory,
        Self::Execute,
    ];
}

/// Why there is no child.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) error: io::Error,
}

/// C strings and the null-terminated array of pointers to them.
pub(super) struct CArray {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl CArray {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        // The bytes live on the heap, so the pointers stay good when the vector of strings moves.
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// Everything the child needs, prepared before it exists. All descriptors are ≥ 3 and close-on-exec.
pub(super) struct Plan {
    pub(super) path: CString,
    pub(super) argv: CArray,
    pub(super) env: CArray,
    pub(super) cwd: Option<CString>,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// An open `cgroup.procs`.
    pub(super) cgroup: Option<OwnedFd>,
}

/// A stack for the child with a guard below it; one serves all clones, as each is over before the next.
pub(super) struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// Maps the stack. Errors: out of memory.
    pub(super) fn new() -> io::Result<Self> {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
        let flags = MapFlags::PRIVATE | MapFlags::STACK;
        let read_write = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), GUARD_BYTES + STACK_BYTES, read_write, flags) }?;
        let stack = Self { base };
        // SAFETY: the range is the lower part of the mapping made above, which nobody uses yet.
        unsafe { mprotect(base, GUARD_BYTES, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(GUARD_BYTES + STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no child runs on it: `clone_child` returns after the child left the memory.
        // An unmapped range cannot fail to unmap in a way that matters; the memory would merely stay.
        let _ = unsafe { rustix::mm::munmap(self.base, GUARD_BYTES + STACK_BYTES) };
    }
}

/// What the child reads and writes, all of it in the parent's frame.
struct Report<'a> {
    plan: &'a Plan,
    parent: i32,
    stage: AtomicI32,
    errno: AtomicI32,
}

/// Makes the child and registers it as a leader; returns after it executes or has failed and been reaped.
///
/// The calling thread is the one whose death sends the child SIGKILL.
pub(super) fn clone_child(plan: &Plan, stack: &Stack) -> Result<(i32, OwnedFd), Failure> {
    let report = Report {
        plan,
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        stage: AtomicI32::new(0),
        errno: AtomicI32::new(0),
    };
    let cloning = Cloning::begin();
    let mut pidfd: c_int = -1;
    let before = block_all_signals();
    // SAFETY: `child_main` runs on `stack`, which nobody else uses while CLONE_VFORK suspends this thread; `report` and
    // `plan` outlive the child's use of this memory for the same reason. CLONE_PIDFD writes the descriptor to `pidfd`.
    let pid = unsafe {
        libc::clone(
            child_main,
            stack.top(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            ptr::from_ref(&report).cast_mut().cast(),
            &raw mut pidfd,
        )
    };
    let clone_error = io::Error::last_os_error();
    restore_signals(before);
    if pid < 0 {
        return Err(Failure { stage: Stage::Clone, error: clone_error });
    }
    // SAFETY: the clone succeeded, so the kernel stored a new descriptor which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match report.errno.load(Ordering::Relaxed) {
        0 => {
            cloning.born(pid);
            Ok((pid, pidfd))
        }
        errno => {
            reap_failed(pid);
            let stage = usize::try_from(report.stage.load(Ordering::Relaxed))
                .ok()
                .and_then(|number| Stage::ALL.get(number).copied())
                .unwrap_or(Stage::Clone);
            let error = io::Error::from_raw_os_error(errno);
            Err(Failure { stage, error })
        }
    }
}

/// Takes the status of a child that has called `_exit`.
fn reap_failed(pid: i32) {
    loop {
        // SAFETY: a null status pointer is allowed.
        let reaped = unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        if reaped >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Blocks every signal of this thread, the C library's own included, and returns the mask before.
///
/// The raw call, as `pthread_sigmask` leaves two internal signals open, whose handlers must not run in the child.
fn block_all_signals() -> u64 {
    let all = u64::MAX;
    let mut before = 0_u64;
    // SAFETY: both pointers are to 8 bytes, the size given.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, &raw mut before, KERNEL_SIGSET)
    };
    before
}

fn restore_signals(mask: u64) {
    // SAFETY: the pointer is to 8 bytes, the size given; a null old mask is allowed.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            ptr::null_mut::<u64>(),
            KERNEL_SIGSET,
        )
    };
}

/// How many files a program may have open; 0: as many as this process.
static FILES: AtomicU64 = AtomicU64::new(0);

/// Programs that are started from now on may have so many files open, whatever this process may.
pub(super) fn limit_files(most: u64) {
    FILES.store(most, Ordering::Relaxed);
}

/// As said by [`limit_files`]; a program starts without it too.
///
/// # Safety
/// Only in a child: it changes the calling process.
unsafe fn limit_files_of_child() {
    let most = FILES.load(Ordering::Relaxed);
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls on a local value.
    unsafe {
        if most > 0 && libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = most.min(limit.rlim_max);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// The child's whole life before the program. Async-signal-safe: no allocation, no lock, no panic.
extern "C" fn child_main(argument: *mut c_void) -> c_int {
    // SAFETY: `clone_child` passed a `Report` that lives until this process executes or exits.
    let report = unsafe { &*argument.cast::<Report<'_>>() };
    // SAFETY: see `become_program`; `_exit` runs no handlers of the parent's.
    unsafe {
        let stage = become_program(report);
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        report.stage.store(stage as i32, Ordering::Relaxed);
        report.errno.store(errno.max(1), Ordering::Relaxed);
        libc::_exit(127)
    }
}

/// Turns the child into the program; returns only the stage that failed, with the reason in `errno`.
///
/// # Safety
/// Only in a child made by `clone_child`: it changes signals, descriptors and directory of the calling process.
unsafe fn become_program(report: &Report<'_>) -> Stage {
    let plan = report.plan;
    // SAFETY: plain system calls on values prepared by the parent; every pointer is to a live C string or array.
    unsafe {
        // First, as until then it is in this process's group: a signal to that group (Ctrl-C, Ctrl-Z, `timeout`, a closed
        // terminal, systemd's KillMode) is sent to it too. Without a terminal it cannot stop for ever on /dev/tty either.
        if libc::setsid() < 0 {
            return Stage::Session;
        }
        forget_signals();
        if let Some(procs) = &plan.cgroup
            && libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) < 0
        {
            return Stage::Cgroup;
        }
        limit_files_of_child();
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
            return Stage::DeathSignal;
        }
        if libc::getppid() != report.parent {
            // The parent died before the line above, so no signal will come and nobody reads a report.
            libc::_exit(127);
        }
        for (target, source) in [(0, &plan.stdin), (1, &plan.stdout), (2, &plan.stderr)] {
            let source: RawFd = source.as_raw_fd();
            if libc::dup2(source, target) < 0 {
                return Stage::Descriptors;
            }
        }
        if let Some(cwd) = &plan.cwd
            && libc::chdir(cwd.as_ptr()) < 0
        {
            return Stage::Directory;
        }
        // A belt beside the braces: all our descriptors are close-on-exec, those of a C library may not be. The table is
        // a copy (no CLONE_FILES), so the parent's flags stay. An old kernel without it loses only the belt.
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        restore_signals(0);
        libc::execve(plan.path.as_ptr(), plan.argv.pointers.as_ptr(), plan.env.pointers.as_ptr());
        Stage::Execute
    }
}

/// Throws away what was sent to the group that the child was born in, and gives every signal its default action, SIGPIPE
/// (which Rust ignores) included.
///
/// # Safety
/// Only in a child made by `clone_child`. It must run before signals are unblocked: the handlers belong to the parent.
unsafe fn forget_signals() {
    // The handler, no flags, no restorer and an empty mask, in the kernel's layout on x86-64, ARM and RISC-V. The raw
    // call, as `sigaction` of the C library refuses its two internal signals.
    let mut action = [0_u64; 8];
    let mut signal: c_int = 1;
    while signal <= 64 {
        // A signal that waits outlives a change to the default action, but not one to being ignored.
        for handler in [libc::SIG_IGN, libc::SIG_DFL] {
            action[0] = handler as u64;
            // SAFETY: the pointer is to more bytes than the kernel reads; SIGKILL and SIGSTOP are refused, as they should be.
            unsafe {
                libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null_mut::<c_void>(), KERNEL_SIGSET)
            };
        }
        signal += 1;
    }
}
