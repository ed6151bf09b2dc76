//! Starts programs from one permanent thread.
//!
//! PDEATHSIG, which kills the jobs of a worker that dies, follows the *thread* that made the child. A runtime ends its
//! threads when it likes, so one thread that lives as long as the process makes all children.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::process::Signal;
use tokio::sync::oneshot;

use super::clone::{CArray, Failure, Plan, Stack, Stage, clone_child};
use super::files::is_shortage;
use super::{census, exit, leaders, resolve};

/// The name of that thread, and of a child until it is a program.
pub(super) const THREAD: &str = "orx-spawn";

/// A program to run, complete: nothing is inherited but the worker's user and limits.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Name and arguments. A name without a slash is looked up in PATH of `env`, one with a slash relative to `cwd`.
    pub argv: Vec<OsString>,
    /// The complete environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory; the worker's own if none.
    pub cwd: Option<PathBuf>,
    /// What the program reads from standard input; `/dev/null` if none.
    pub stdin: Option<Vec<u8>>,
    /// A cgroup directory (version 2) the child enters before it executes.
    pub cgroup: Option<PathBuf>,
}

/// A running program, leader of its own session and process group.
#[derive(Debug)]
pub struct Child {
    /// Its process id, which is its process group id too. Not recycled before it is reaped through `pidfd`.
    pub pid: i32,
    /// The process, beyond doubt; readable once it has ended. Reap it with [`exit::wait_exit`] or [`exit::reap`].
    pub pidfd: OwnedFd,
    /// Our end of its standard output, non-blocking.
    pub stdout: OwnedFd,
    /// Our end of its standard error, non-blocking.
    pub stderr: OwnedFd,
}

impl Child {
    /// Reads when it started, in clock ticks since boot; with the pid it names the process for ever.
    ///
    /// Errors: not found if it has been reaped.
    pub fn started(&self) -> io::Result<u64> {
        census::start_time(self.pid)
    }
}

/// Why a program did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("program {program:?} not found{place}")]
    NotFound {
        /// The name as given.
        program: OsString,
        /// ` in PATH=…` if it was looked up there, else empty.
        place: String,
    },
    /// There is one, but the kernel does not execute it.
    #[error("program {program:?} cannot be executed: {}", describe(source))]
    NotExecutable {
        /// The absolute path.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The working directory is missing, none or closed to us.
    #[error("working directory {dir:?}: {source}")]
    Directory {
        /// The directory as given.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The command itself is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The worker lacks processes, memory or descriptors, or its machinery failed: not the job's fault, try again.
    #[error("{doing}: {source}")]
    System {
        /// What the worker was doing.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SpawnError {
    /// The exit code a shell would give: 127 not found, 126 not executable; 125 if the fault is the worker's.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } | Self::Directory { .. } | Self::Invalid(_) => 126,
            Self::System { .. } => 125,
        }
    }

    fn system(doing: &'static str, source: impl Into<io::Error>) -> Self {
        Self::System { doing, source: source.into() }
    }
}

fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => "not a binary for this machine, and no #! line".to_owned(),
        Some(libc::ENOENT) => "its interpreter was not found".to_owned(),
        _ => error.to_string(),
    }
}

/// A handle to the thread that makes children. Clones share the thread.
#[derive(Clone, Debug)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    program: Program,
    reply: oneshot::Sender<Delivery>,
}

impl Spawner {
    /// The one of this process, started when it is first asked for.
    ///
    /// Errors: no thread or no memory.
    pub fn of_process() -> io::Result<Self> {
        static SPAWNER: Mutex<Option<Spawner>> = Mutex::new(None);
        let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
        match &*spawner {
            Some(spawner) => Ok(spawner.clone()),
            None => Ok(spawner.insert(Self::start()?).clone()),
        }
    }

    /// Starts a thread, which then lives as long as the process.
    ///
    /// Errors: no thread or no memory.
    fn start() -> io::Result<Self> {
        let (requests, queue) = mpsc::channel();
        let stack = ChildStack(Stack::new()?);
        let keep_open = requests.clone();
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
            // With a sender of its own the loop never ends: its end would be SIGKILL for every job.
            let _keep_open = keep_open;
            serve(&queue, stack);
        })?;
        Ok(Self { requests })
    }

    /// Starts a program, polled or not; ready when it has executed or failed to.
    ///
    /// If the future is dropped before that, a program that still starts is killed. The search for the program happens
    /// on the spawner's thread, so a dead network file system delays other programs but no task.
    pub fn spawn(&self, program: Program) -> impl Future<Output = Result<Child, SpawnError>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request { program, reply });
        async move {
            let gone = || SpawnError::system("starting a program", io::Error::other("no spawner thread"));
            sent.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?.accept()
        }
    }
}

/// Moves the stack, a raw mapping, into the spawner's thread.
struct ChildStack(Stack);

// SAFETY: the mapping belongs to this value alone and is not tied to the thread that made it.
unsafe impl Send for ChildStack {}

/// A result on its way to the caller. A child nobody accepts is killed rather than left to run unowned.
#[derive(Debug)]
struct Delivery(Option<Result<Child, SpawnError>>);

impl Delivery {
    fn accept(mut self) -> Result<Child, SpawnError> {
        self.0
            .take()
            .unwrap_or_else(|| Err(SpawnError::system("starting a program", io::Error::other("delivered twice"))))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(Ok(child)) = self.0.take() {
            abandon(&child);
        }
    }
}

fn abandon(child: &Child) {
    // Unreaped, so the group is still its own. It may be dead already, and then there is nothing to do.
    if let Some(group) = rustix::process::Pid::from_raw(child.pid) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    if !matches!(exit::reap(child.pidfd.as_fd()), Ok(Some(_))) {
        leaders::forget(child.pid);
    }
}

fn serve(queue: &mpsc::Receiver<Request>, stack: ChildStack) {
    block_signals();
    for request in queue {
        if request.reply.is_closed() {
            continue;
        }
        // A panic must not end this thread, for that would kill every running job.
        let result = catch_unwind(AssertUnwindSafe(|| start(request.program, &stack.0))).unwrap_or_else(|_| {
            let panicked = io::Error::other("the spawner panicked");
            Err(SpawnError::system("starting a program", panicked))
        });
        // A caller who has gone gets the delivery back here, and its drop kills the child.
        let _ = request.reply.send(Delivery(Some(result)));
    }
}

/// Leaves all signals to other threads. Not the C library's internal ones: `setuid` waits for each thread to take those.
fn block_signals() {
    // SAFETY: a zeroed set is a valid place for `sigfillset` to write, and the calls touch nothing else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

fn start(program: Program, stack: &Stack) -> Result<Child, SpawnError> {
    refuse_nul(&program)?;
    let Some(name) = program.argv.first().cloned() else {
        return Err(SpawnError::Invalid("the command is empty".to_owned()));
    };
    let cwd = program.cwd;
    let path = resolve::program(&name, &program.env, cwd.as_deref())?;
    let (stdout, child_stdout) = pipe()?;
    let (stderr, child_stderr) = pipe()?;
    let env = program.env.into_iter().map(|(mut entry, value)| {
        entry.push("=");
        entry.push(value);
        entry
    });
    let plan = Plan {
        path: c_string(path.clone().into_os_string())?,
        argv: c_array(program.argv)?,
        env: c_array(env)?,
        cwd: cwd.clone().map(|dir| c_string(dir.into_os_string())).transpose()?,
        stdin: lift(stdin(program.stdin.as_deref())?)?,
        stdout: child_stdout,
        stderr: child_stderr,
        cgroup: program.cgroup.map(cgroup_procs).transpose()?,
    };
    let (pid, pidfd) = clone_child(&plan, stack).map_err(|failure| explain(failure, &name, path, cwd))?;
    Ok(Child { pid, pidfd, stdout, stderr })
}

/// Names the fault: the program's, the directory's or the worker's.
fn explain(failure: Failure, name: &OsStr, path: PathBuf, cwd: Option<PathBuf>) -> SpawnError {
    let Failure { stage, error } = failure;
    let scarce = is_shortage(&error) || error.kind() == io::ErrorKind::Interrupted;
    match stage {
        Stage::Directory if !scarce => SpawnError::Directory { dir: cwd.unwrap_or_default(), source: error },
        // ENOENT from a file that is there means the interpreter of its `#!` line or its ELF header.
        Stage::Execute if error.raw_os_error() == Some(libc::ENOENT) && std::fs::metadata(&path).is_err() => {
            SpawnError::NotFound { program: name.to_os_string(), place: String::new() }
        }
        Stage::Execute if !scarce => SpawnError::NotExecutable { program: path, source: error },
        Stage::Execute => SpawnError::system("executing the program", error),
        Stage::Directory => SpawnError::system("entering the working directory", error),
        Stage::Clone => SpawnError::system("making a process", error),
        Stage::Cgroup => SpawnError::system("entering the cgroup", error),
        Stage::Session => SpawnError::system("making a session", error),
        Stage::DeathSignal => SpawnError::system("asking for the death signal", error),
        Stage::Descriptors => SpawnError::system("connecting standard streams", error),
    }
}

/// A pipe: our non-blocking end to read, the child's blocking end to write.
fn pipe() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    let fault = |errno: rustix::io::Errno| SpawnError::system("making a pipe", errno);
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fault)?;
    // The two ends are separate open files, so the child's stays blocking.
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).map_err(fault)?;
    Ok((read, lift(write)?))
}

/// Moves a descriptor out of 0, 1 and 2, where the child's `dup2` would overwrite it or leave it close-on-exec.
fn lift(fd: OwnedFd) -> Result<OwnedFd, SpawnError> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, 3).map_err(|errno| SpawnError::system("moving a descriptor", errno))
}

/// A file to read the bytes from. Not a pipe: a pipe must be fed, by somebody who outlives a program that never reads.
fn stdin(bytes: Option<&[u8]>) -> Result<OwnedFd, SpawnError> {
    let Some(bytes) = bytes else {
        return rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| SpawnError::system("opening /dev/null", errno));
    };
    sealed(bytes).map_err(|source| SpawnError::system("preparing standard input", source))
}

fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(rustix::fs::memfd_create(c"orx-stdin", flags)?);
    file.write_all(bytes)?;
    // Sealed, as the program could reopen it to write through /proc and see other bytes on a second reading.
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file.into())
}

fn cgroup_procs(cgroup: PathBuf) -> Result<OwnedFd, SpawnError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let procs = rustix::fs::open(cgroup.join("cgroup.procs"), flags, Mode::empty())
        .map_err(|errno| SpawnError::system("opening the cgroup", errno))?;
    lift(procs)
}

/// Refuses what no C string can carry. Names the place, never the value: an environment holds secrets.
fn refuse_nul(program: &Program) -> Result<(), SpawnError> {
    let has_nul = |string: &OsString| string.as_bytes().contains(&0);
    if let Some(index) = program.argv.iter().position(has_nul) {
        let message = format!("argument {index} of the command contains a NUL byte");
        return Err(SpawnError::Invalid(message));
    }
    match program.env.iter().find(|(key, value)| has_nul(key) || has_nul(value)) {
        Some((key, _)) => Err(SpawnError::Invalid(format!("environment variable {key:?} contains a NUL byte"))),
        None => Ok(()),
    }
}

fn c_array(strings: impl IntoIterator<Item = OsString>) -> Result<CArray, SpawnError> {
    let strings: Result<_, _> = strings.into_iter().map(c_string).collect();
    strings.map(CArray::new)
}

fn c_string(string: OsString) -> Result<CString, SpawnError> {
    CString::new(string.into_vec()).map_err(|_| SpawnError::Invalid("the command contains a NUL byte".to_owned()))
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
