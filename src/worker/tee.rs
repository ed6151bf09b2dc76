//! Hands what attempts write to somebody in this process: every byte of it, as it comes, and as fast as it is taken.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::capture::MAX_CHUNK;
use crate::job::Fence;
use crate::job::output::Stream;

/// How much of an attempt may wait to be taken, in bytes, before its pipes are read no more.
const ROOM: usize = 1024 * 1024;
/// What a piece costs beside its bytes.
const PIECE: usize = 64;

/// Bytes of one stream of an attempt.
#[derive(Debug)]
pub struct Said {
    /// Where they were written.
    pub stream: Stream,
    /// They.
    pub bytes: Vec<u8>,
}

/// Where a worker says what its attempts write.
#[derive(Clone, Debug)]
pub struct Tee(Arc<Lines>);

/// Who hears what the attempts of a worker write. When it is dropped they are heard no more, and wait for nobody.
#[derive(Debug)]
pub struct Listener(Arc<Lines>);

/// A tee, and who listens at it.
pub fn tee() -> (Tee, Listener) {
    let lines = Arc::new(Lines::default());
    (Tee(Arc::clone(&lines)), Listener(lines))
}

#[derive(Debug, Default)]
struct Lines {
    open: Mutex<Open>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct Open {
    lines: HashMap<Fence, Arc<Line>>,
    /// Nobody listens any more.
    deaf: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one attempt writes.
#[derive(Debug, Default)]
struct Line {
    waiting: Mutex<Waiting>,
    said: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    said: VecDeque<Said>,
    /// What they cost.
    cost: usize,
    ended: bool,
    deaf: bool,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits, and whether that is the last of it.
    fn take(&self) -> (Vec<Said>, bool) {
        let mut waiting = self.lock();
        waiting.cost = 0;
        self.taken.notify_one();
        (std::mem::take(&mut waiting.said).into(), waiting.ended)
    }

    /// Nobody hears it any more.
    fn drop_all(&self) {
        let mut waiting = self.lock();
        waiting.deaf = true;
        waiting.said = VecDeque::new();
        waiting.cost = 0;
        self.taken.notify_one();
    }
}

impl Tee {
    /// An attempt begins; to be called before anything of it can be read elsewhere.
    pub(super) fn begin(&self, fence: Fence) -> Mouth {
        let line = Arc::new(Line::default());
        let mut open = self.0.lock();
        match open.deaf {
            true => line.drop_all(),
            false => _ = open.lines.insert(fence, Arc::clone(&line)),
        }
        drop(open);
        self.0.begun.notify_one();
        Mouth(line)
    }
}

/// What says the output of one attempt; when it is dropped, that was all.
#[derive(Debug)]
pub(super) struct Mouth(Arc<Line>);

impl Mouth {
    /// Waits until there is room for more.
    pub(super) async fn room(&self) {
        while self.0.lock().cost >= ROOM {
            self.0.taken.notified().await;
        }
    }

    /// Says bytes, whether there is room or not.
    pub(super) fn say(&self, stream: Stream, bytes: &[u8]) {
        let mut waiting = self.0.lock();
        if waiting.deaf || bytes.is_empty() {
            return;
        }
        waiting.cost += bytes.len();
        match waiting.said.back_mut() {
            Some(last) if last.stream == stream && last.bytes.len() + bytes.len() <= MAX_CHUNK => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => {
                waiting.cost += PIECE;
                waiting.said.push_back(Said { stream, bytes: bytes.to_vec() });
            }
        }
        self.0.said.notify_one();
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.said.notify_one();
    }
}

impl Listener {
    /// Waits until an attempt begins.
    pub async fn begun(&self) {
        self.0.begun.notified().await;
    }

    /// Whether this process runs the attempt, or ran it, and it is not forgotten.
    pub fn hears(&self, fence: Fence) -> bool {
        self.0.lock().lines.contains_key(&fence)
    }

    /// What an attempt wrote since the last call, as soon as there is anything; none when that was all.
    pub async fn next(&self, fence: Fence) -> Option<Vec<Said>> {
        let line = self.0.lock().lines.get(&fence).cloned()?;
        loop {
            let (said, ended) = line.take();
            if !said.is_empty() || ended {
                return Some(said).filter(|said| !said.is_empty());
            }
            line.said.notified().await;
        }
    }

    /// Hears no more of an attempt.
    pub fn forget(&self, fence: Fence) {
        let line = self.0.lock().lines.remove(&fence);
        line.into_iter().for_each(|line| line.drop_all());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        open.deaf = true;
        open.lines.drain().for_each(|(_, line)| line.drop_all());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FENCE: Fence = Fence { number: 1, attempt: 1 };
    const LIMIT: Duration = Duration::from_secs(20);

    fn bytes(said: &[Said], stream: Stream) -> Vec<u8> {
        said.iter().filter(|said| said.stream == stream).flat_map(|said| said.bytes.clone()).collect()
    }

    #[tokio::test]
    async fn what_is_said_is_heard_in_its_order_to_the_end() {
        let (tee, listener) = tee();
        assert!(!listener.hears(FENCE) && listener.next(FENCE).await.is_none());
        let mouth = tee.begin(FENCE);
        listener.begun().await;
        mouth.say(Stream::Stdout, b"\0o");
        mouth.say(Stream::Stdout, b"ut");
        mouth.say(Stream::Stderr, b"err");
        mouth.say(Stream::Stdout, b"\xff");
        drop(mouth);
        let said = listener.next(FENCE).await.unwrap();
        let said: Vec<_> = said.iter().map(|said| (said.stream, said.bytes.as_slice())).collect();
        assert_eq!(said, [(Stream::Stdout, &b"\0out"[..]), (Stream::Stderr, b"err"), (Stream::Stdout, b"\xff")]);
        assert!(listener.next(FENCE).await.is_none() && listener.hears(FENCE));
        listener.forget(FENCE);
        assert!(!listener.hears(FENCE));
    }

    #[tokio::test]
    async fn who_says_too_much_waits_for_who_listens() {
        let (tee, listener) = tee();
        let mouth = tee.begin(FENCE);
        let (mut said, mut waited) = (0, 0);
        // By turns, one byte at a time: pieces cost more than their bytes.
        while !is_full(&mouth) {
            mouth.say([Stream::Stdout, Stream::Stderr][said % 2], b"x");
            said += 1;
        }
        assert!(said * PIECE <= ROOM + PIECE, "{said}");
        let room = async {
            mouth.room().await;
            waited += 1;
        };
        let hearing = async {
            let heard = listener.next(FENCE).await.unwrap();
            assert_eq!(bytes(&heard, Stream::Stdout).len() + bytes(&heard, Stream::Stderr).len(), said);
        };
        tokio::time::timeout(LIMIT, async { tokio::join!(room, hearing) }).await.unwrap();
        assert_eq!(waited, 1);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_listener_that_is_gone() {
        let (tee, listener) = tee();
        let mouth = tee.begin(FENCE);
        while !is_full(&mouth) {
            mouth.say(Stream::Stdout, &[0; MAX_CHUNK]);
        }
        drop(listener);
        tokio::time::timeout(LIMIT, mouth.room()).await.unwrap();
        mouth.say(Stream::Stdout, b"more");
        assert!(mouth.0.lock().said.is_empty());
        let late = tee.begin(Fence { attempt: 2, ..FENCE });
        late.say(Stream::Stdout, &[0; 2 * ROOM]);
        tokio::time::timeout(LIMIT, late.room()).await.unwrap();
    }

    fn is_full(mouth: &Mouth) -> bool {
        mouth.0.lock().cost >= ROOM
    }
}
