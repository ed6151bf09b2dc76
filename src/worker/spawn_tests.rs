use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::super::exit::{Exit, wait_exit};
use super::super::testing::{LIMIT, command, eventually, is_alive, output, read_line, spawner};
use super::*;

async fn refusal(program: Program) -> SpawnError {
    spawner().spawn(program).await.unwrap_err()
}

/// A file in a directory of its own, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("orx-spawn-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn exit_codes_and_signals_come_back() {
    assert_eq!(output(command(["true"])).await.0, Exit::Code(0));
    assert_eq!(output(command(["sh", "-c", "exit 42"])).await.0, Exit::Code(42));
    assert_eq!(output(command(["sh", "-c", "kill -9 $$"])).await.0, Exit::Signal(9));
}

#[tokio::test]
async fn a_missing_program_is_127_and_names_the_path() {
    let mut program = command(["foo-of-nowhere"]);
    program.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    let error = refusal(program).await;
    assert_eq!(error.exit_code(), 127);
    assert_eq!(error.to_string(), r#"program "foo-of-nowhere" not found in PATH=/usr/bin:/bin"#);
    assert_eq!(refusal(command(["./foo-of-nowhere"])).await.exit_code(), 127);
    assert_eq!(refusal(command([""])).await.exit_code(), 127);
}

#[tokio::test]
async fn the_path_searched_is_the_jobs_and_relative_to_its_directory() {
    let scratch = Scratch::new("path");
    scratch.file("tool", "#!/bin/sh\necho found\n", 0o755);
    let mut program = command(["tool"]);
    program.cwd = Some(scratch.0.clone());
    program.env = vec![("PATH".into(), ".".into())];
    assert_eq!(output(program.clone()).await.1, "found\n");
    program.env.clear();
    assert_eq!(refusal(program.clone()).await.exit_code(), 127);
    program.argv = vec!["./tool".into()];
    assert_eq!(output(program).await.1, "found\n");
}

#[tokio::test]
async fn what_the_kernel_does_not_execute_is_126() {
    let scratch = Scratch::new("refused");
    let plain = scratch.file("plain", "echo no interpreter line\n", 0o755);
    let closed = scratch.file("closed", "#!/bin/sh\n", 0o644);
    let orphan = scratch.file("orphan", "#!/no/such/interpreter\n", 0o755);
    for (path, reason) in [
        (plain, "no #! line"),
        (closed, "Permission denied"),
        (orphan, "interpreter was not found"),
        (scratch.0.clone(), "directory"),
    ] {
        let error = refusal(command([path.to_str().unwrap()])).await;
        assert_eq!(error.exit_code(), 126, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_bad_working_directory_is_126_and_named() {
    for dir in ["/no/such/dir", "/etc/passwd"] {
        let mut program = command(["true"]);
        program.cwd = Some(dir.into());
        let error = refusal(program).await;
        assert_eq!(error.exit_code(), 126);
        assert!(error.to_string().contains(dir), "{error}");
    }
}

#[tokio::test]
async fn malformed_commands_are_126_and_keep_secrets() {
    assert_eq!(refusal(Program::default()).await.exit_code(), 126);
    assert_eq!(refusal(command(["true", "a\0b"])).await.exit_code(), 126);
    let mut program = command(["true"]);
    program.env.push(("TOKEN".into(), "secret\0".into()));
    let error = refusal(program).await;
    assert_eq!(error.exit_code(), 126);
    assert!(error.to_string().contains("TOKEN") && !error.to_string().contains("secret"));
}

#[tokio::test]
async fn arguments_too_long_for_the_kernel_are_the_jobs_fault() {
    let error = refusal(command(["true", &"x".repeat(4 << 20)])).await;
    assert_eq!(error.exit_code(), 126, "{error}");
}

#[tokio::test]
async fn standard_input_is_what_was_given() {
    let mut program = command(["cat"]);
    assert_eq!(output(program.clone()).await.1, "");
    program.stdin = Some(b"line 1\nline 2".to_vec());
    assert_eq!(output(program.clone()).await.1, "line 1\nline 2");
    // More than a pipe holds, and to a program that never reads.
    program.argv = vec!["true".into()];
    program.stdin = Some(vec![b'x'; 1 << 20]);
    assert_eq!(output(program).await.0, Exit::Code(0));
}

#[tokio::test]
async fn the_environment_is_exact() {
    let mut program = command(["/usr/bin/env"]);
    program.env = vec![("B".into(), "2".into()), ("A".into(), "1 = one".into())];
    assert_eq!(output(program).await.1, "B=2\nA=1 = one\n");
}

#[tokio::test]
async fn the_child_leads_its_own_group_and_session_and_has_no_terminal() {
    let script = "cut -d' ' -f1,5,6,7 /proc/$$/stat";
    let child = spawner().spawn(command(["sh", "-c", script])).await.unwrap();
    assert_eq!(read_line(&child.stdout), format!("{0} {0} {0} 0", child.pid));
    assert!(child.started().unwrap() > 0);
    wait_exit(child.pidfd.as_fd()).await.unwrap();
    assert!(child.started().is_err());
}

#[tokio::test]
async fn no_descriptor_is_inherited() {
    // One that is not close-on-exec, as a C library might leave it.
    let leaky = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    let (exit, listing) = output(command(["ls", "/proc/self/fd"])).await;
    assert_eq!(exit, Exit::Code(0));
    // The fourth is the listing itself.
    assert_eq!(listing, "0\n1\n2\n3\n");
    let flags = rustix::io::fcntl_getfd(&leaky).unwrap();
    assert!(flags.is_empty(), "the parent's own table is untouched");
}

#[tokio::test]
async fn signals_have_their_defaults_and_none_is_blocked() {
    let (_, status) = output(command(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"])).await;
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    assert!(status.contains("SigIgn:\t0000000000000000"), "{status}");
    let script = "kill -PIPE $$; echo survived";
    assert_eq!(output(command(["sh", "-c", script])).await, (Exit::Signal(libc::SIGPIPE), String::new()));
}

#[tokio::test]
async fn a_child_nobody_waits_for_is_killed() {
    let scratch = Scratch::new("abandoned");
    let pid_file = scratch.0.join("pid");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 300", pid_file.display());
    // The reply is ready but never taken: the future is dropped unpolled.
    drop(spawner().spawn(command(["sh", "-c", &script])));
    let taken = spawner().spawn(command(["true"])).await.unwrap();
    wait_exit(taken.pidfd.as_fd()).await.unwrap();
    // Requests are served in order, so that one has been dealt with: not begun, or begun and killed.
    if let Ok(pid) = std::fs::read_to_string(&pid_file) {
        let pid = pid.trim().parse().unwrap();
        eventually("the child dies", || !is_alive(pid));
    }
}

#[tokio::test]
async fn a_child_nobody_accepts_is_killed() {
    let child = spawner().spawn(command(["sleep", "300"])).await.unwrap();
    let pid = child.pid;
    drop(Delivery(Some(Ok(child))));
    eventually("it dies", || !is_alive(pid));
    eventually("it is reaped", || {
        exit::reap_orphans().unwrap();
        census::start_time(pid).is_err()
    });
}

#[tokio::test]
async fn the_child_enters_its_cgroup_itself() {
    // Any directory with such a file will do to see what is written.
    let scratch = Scratch::new("cgroup");
    let procs = scratch.file("cgroup.procs", "", 0o644);
    let mut program = command(["true"]);
    program.cgroup = Some(scratch.0.clone());
    assert_eq!(output(program).await.0, Exit::Code(0));
    assert_eq!(std::fs::read_to_string(procs).unwrap(), "0");
}

#[tokio::test]
async fn a_child_that_is_killed_before_it_executes_is_told_from_a_program_that_is_killed() {
    // What it writes into is full, so it stays there until it is killed.
    let scratch = Scratch::new("unborn");
    let procs = scratch.0.join("cgroup.procs");
    let name = CString::new(procs.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path that lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let full = std::fs::File::options().read(true).write(true).open(&procs).unwrap();
    rustix::fs::fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&full, &[0; 4096]).is_ok() {}
    let mut program = command(["true"]);
    program.cgroup = Some(scratch.0.clone());
    let spawning = tokio::spawn(spawner().spawn(program));
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let mut unborn = None;
    eventually("it stays as it was made", || {
        let census = census::Census::take().unwrap();
        let before = unborn;
        unborn = census.children(me).iter().copied().find(|pid| census::never_executed(*pid));
        unborn.is_some() && unborn == before
    });
    let unborn = rustix::process::Pid::from_raw(unborn.unwrap()).unwrap();
    rustix::process::kill_process(unborn, Signal::KILL).unwrap();
    let child = spawning.await.unwrap().unwrap();
    exit::ended(child.pidfd.as_fd()).await.unwrap();
    assert!(census::never_executed(child.pid));
    assert_eq!(wait_exit(child.pidfd.as_fd()).await.unwrap(), Exit::Signal(libc::SIGKILL));
    let child = spawner().spawn(command(["sh", "-c", "kill -9 $$"])).await.unwrap();
    exit::ended(child.pidfd.as_fd()).await.unwrap();
    assert!(!census::never_executed(child.pid));
    wait_exit(child.pidfd.as_fd()).await.unwrap();
}

#[tokio::test]
async fn a_cgroup_that_is_none_is_the_workers_fault() {
    let mut program = command(["true"]);
    program.cgroup = Some("/no/such/cgroup".into());
    assert!(matches!(refusal(program).await, SpawnError::System { .. }));
}

#[tokio::test]
async fn the_death_of_the_process_kills_its_children() {
    const HELPER: &str = "ORX_TEST_IS_THE_WORKER";
    if std::env::var_os(HELPER).is_some() {
        return helper_worker().await;
    }
    // This very test again, as the worker: only a whole process can die.
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker::spawn::tests::the_death_of_the_process_kills_its_children", "--nocapture"])
        .env(HELPER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(worker.stdout.take().unwrap());
    // The harness writes its own words before ours, on the same line.
    let pid = out.lines().map_while(Result::ok).find_map(|line| {
        let (_, pid) = line.split_once("job=")?;
        pid.parse::<i32>().ok()
    });
    let pid = pid.expect("the helper starts a job");
    assert!(is_alive(pid));
    worker.kill().unwrap();
    worker.wait().unwrap();
    eventually("the job dies", || !is_alive(pid));
}

/// The worker that dies: starts a job, says which, and waits to be killed.
async fn helper_worker() {
    let child = spawner().spawn(command(["sleep", "300"])).await.unwrap();
    println!("job={}", child.pid);
    // Ends without its killer too.
    let _ = tokio::time::timeout(LIMIT, wait_exit(child.pidfd.as_fd())).await;
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
}

#[tokio::test]
async fn thousands_of_spawns_are_fast() {
    const SPAWNS: u32 = 2_000;
    assert!(Path::new("/bin/true").exists());
    // Started before measuring, so that the thread's own birth is not counted.
    output(command(["true"])).await;
    let begun = Instant::now();
    let mut spawning = std::time::Duration::ZERO;
    for _ in 0..SPAWNS {
        let before = Instant::now();
        let child = spawner().spawn(command(["/bin/true"])).await.unwrap();
        spawning += before.elapsed();
        assert_eq!(wait_exit(child.pidfd.as_fd()).await.unwrap(), Exit::Code(0));
    }
    let serial = f64::from(SPAWNS) / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let attempts: Vec<_> = (0..SPAWNS).map(|_| spawner().spawn(command(["/bin/true"]))).collect();
    for attempt in attempts {
        let child = attempt.await.unwrap();
        wait_exit(child.pidfd.as_fd()).await.unwrap();
    }
    let queued = f64::from(SPAWNS) / begun.elapsed().as_secs_f64();
    let per_spawn = spawning / SPAWNS;
    println!("{serial:.0} runs/s one by one ({per_spawn:?} a spawn), {queued:.0} runs/s queued");
}
