//! Reads what a program writes until it has ended and its pipes are empty, or held open by somebody else.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::files::is_shortage;
use crate::job::output::Stream;

/// How long the pipes are read after the leader has ended, if nobody says otherwise.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(2);

/// How often a pipe is looked at that the kernel does not watch.
const LOOK: Duration = Duration::from_millis(20);
/// The capacity of a pipe, in bytes: what one read can get.
const CAPACITY: usize = 64 * 1024;
/// Reads of one pipe before other tasks have their turn.
const READS_PER_TURN: usize = 4;
/// The most that is taken after there was room, in bytes.
pub(super) const TURN: usize = READS_PER_TURN * CAPACITY;
/// Reads of each pipe after the time is up, for what was written before: enough for the largest pipe an unprivileged
/// program can ask for, and bounded, as somebody may be writing still.
const LAST_READS: usize = 16;

/// How the reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pumped {
    /// Somebody held a pipe open past the time to drain, so what they write is lost.
    pub cut: bool,
}

/// Reads both pipes and gives the bytes to `take`, until both have ended. Before it reads it waits for `room`.
///
/// From the moment `leader_ended` is ready it reads for `drain` at most, so that a daemon which holds a pipe cannot hang
/// the attempt. The pipes do not block. Errors: a descriptor is no pipe, or cannot be read.
pub async fn pump<R: Future<Output = ()>>(
    stdout: OwnedFd,
    stderr: OwnedFd,
    leader_ended: impl Future<Output = ()>,
    drain: Duration,
    room: impl Fn() -> R,
    mut take: impl FnMut(Stream, &[u8]),
) -> io::Result<Pumped> {
    let mut pipes = Pipes { stdout: Some(Pipe::watch(stdout)?), stderr: Some(Pipe::watch(stderr)?) };
    let mut time_is_up = pin!(async {
        leader_ended.await;
        tokio::time::sleep(drain).await;
    });
    while pipes.stdout.is_some() || pipes.stderr.is_some() {
        tokio::select! {
            biased;
            () = &mut time_is_up => return pipes.read_last(&mut take),
            ready = pipes.ready_after(room()) => pipes.read(ready?, READS_PER_TURN, &mut take)?,
        }
        // A program that writes without pause keeps its pipe ready for ever.
        tokio::task::yield_now().await;
    }
    Ok(Pumped { cut: false })
}

thread_local! {
    /// One for all pipes of a thread, as it is used between two waits only: a job that prints nothing costs no memory.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CAPACITY]);
}

fn with_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| read(buffer))
}

/// Our end of a pipe.
enum Pipe {
    Watched(AsyncFd<OwnedFd>),
    /// The kernel watches no more for this user, or has no memory for that.
    Unwatched(OwnedFd),
}

impl Pipe {
    fn watch(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: the watch owns the descriptor, which stays open for as long.
        let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        watched.map(Self::Watched).or_else(|refused| {
            let (fd, error) = refused.into_parts();
            if is_shortage(&error) { Ok(Self::Unwatched(fd)) } else { Err(error) }
        })
    }

    /// Waits until it is worth reading.
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Watched(fd) => fd.readable().await?.retain_ready(),
            Self::Unwatched(_) => tokio::time::sleep(LOOK).await,
        }
        Ok(())
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Watched(fd) => fd.try_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, buffer)?)),
            Self::Unwatched(fd) => Ok(rustix::io::read(fd, buffer)?),
        }
    }

    fn into_fd(self) -> OwnedFd {
        match self {
            Self::Watched(fd) => fd.into_inner(),
            Self::Unwatched(fd) => fd,
        }
    }
}

struct Pipes {
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
}

impl Pipes {
    /// Waits until whoever gets it has room, and one of the pipes has something.
    async fn ready_after(&self, room: impl Future<Output = ()>) -> io::Result<Stream> {
        room.await;
        self.ready().await
    }

    /// Waits until one of the open pipes has something; for ever if none is open.
    async fn ready(&self) -> io::Result<Stream> {
        // In random order, so that neither stream can starve the other.
        tokio::select! {
            ready = readable(self.stdout.as_ref()) => ready.map(|()| Stream::Stdout),
            ready = readable(self.stderr.as_ref()) => ready.map(|()| Stream::Stderr),
        }
    }

    /// Reads what there is, and closes the pipe at its end.
    fn read(&mut self, stream: Stream, reads: usize, take: &mut impl FnMut(Stream, &[u8])) -> io::Result<()> {
        let pipe = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        for _ in 0..reads {
            let Some(open) = pipe.as_ref() else {
                return Ok(());
            };
            let ended: io::Result<bool> = with_buffer(|buffer| {
                let length = open.try_read(buffer)?;
                if length > 0 {
                    take(stream, buffer.get(..length).unwrap_or_default());
                }
                Ok(length == 0)
            });
            match ended {
                Ok(true) => *pipe = None,
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what was written before the time was up.
    fn read_last(&mut self, take: &mut impl FnMut(Stream, &[u8])) -> io::Result<Pumped> {
        let mut cut = false;
        for (stream, pipe) in [(Stream::Stdout, self.stdout.take()), (Stream::Stderr, self.stderr.take())] {
            let Some(pipe) = pipe else { continue };
            let pipe = pipe.into_fd();
            cut |= !with_buffer(|buffer| read_directly(&pipe, buffer, |bytes| take(stream, bytes)))?;
        }
        Ok(Pumped { cut })
    }
}

async fn readable(pipe: Option<&Pipe>) -> io::Result<()> {
    match pipe {
        Some(pipe) => pipe.readable().await,
        None => std::future::pending().await,
    }
}

/// Reads past the runtime, whose knowledge of what is ready may be a turn old. Returns whether the pipe has ended.
fn read_directly(pipe: &OwnedFd, buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<bool> {
    for _ in 0..LAST_READS {
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => return Ok(true),
            Ok(length) => take(buffer.get(..length).unwrap_or_default()),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
