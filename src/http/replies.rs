//! The answers of the last calls that wrote: who lost one asks again under the same id and gets the same.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Error;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(60);
/// The most answers that are kept.
const MAX_KEPT: usize = 4096;
/// Longer answers are not kept: looking the Op up again gives them too. In bytes.
const MAX_REPLY: usize = 64 * 1024;

/// An answer that may still be on its way.
pub(super) type Reply = Shared<BoxFuture<'static, Result<Bytes, Arc<Error>>>>;

/// A call: who made it, under which id, and what it is. One id may go through many calls: some pass theirs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    token: Uuid,
    id: Uuid,
    call: Digest,
}

/// What tells a call from others under the same id.
pub(super) type Digest = [u8; 32];

/// The digest of a call of `op`.
pub(super) fn digest(op: &str, body: &[u8]) -> Digest {
    // No Op's name has a zero byte.
    Sha256::new().chain_update(op).chain_update([0]).chain_update(body).finalize().into()
}

impl Key {
    pub(super) fn new(token: Uuid, id: Uuid, call: Digest) -> Self {
        Self { token, id, call }
    }
}

/// The answers of the last calls.
#[derive(Default)]
pub(super) struct Replies(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    replies: HashMap<Key, Reply>,
    order: VecDeque<(Instant, Key)>,
}

impl Replies {
    /// The answer to the call `key`, which is begun by `begin` if it is not known. One that failed did nothing that
    /// could be answered for, and is begun again.
    pub(super) fn answer(
        &self,
        key: Key,
        begin: impl FnOnce() -> BoxFuture<'static, Result<Bytes, Arc<Error>>>,
    ) -> Reply {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget();
        match kept.replies.get(&key) {
            Some(reply) if !reply.peek().is_some_and(Result::is_err) => return reply.clone(),
            Some(_) => {}
            None => kept.order.push_back((Instant::now(), key)),
        }
        let reply = begin().shared();
        kept.replies.insert(key, reply.clone());
        reply
    }

    /// The next call `key` is another one.
    pub(super) fn forget(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replies.remove(&key);
    }

    /// The answer to the call `key` is there: a long one is not kept.
    pub(super) fn came(&self, key: Key, reply: &Result<Bytes, Arc<Error>>) {
        if reply.as_ref().is_ok_and(|reply| reply.len() > MAX_REPLY) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).replies.remove(&key);
        }
    }
}

impl Kept {
    fn forget(&mut self) {
        while let Some((at, key)) = self.order.front() {
            if at.elapsed() < KEPT && self.order.len() < MAX_KEPT {
                return;
            }
            self.replies.remove(key);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_kept_for_its_call_alone_and_a_failure_is_not() {
        let replies = Replies::default();
        let (token, id) = (Uuid::now_v7(), Uuid::now_v7());
        let key = |body: &str| Key::new(token, id, digest("enqueue", body.as_bytes()));
        let ask = async |key, answer: Result<&'static str, Error>| {
            let begin = || async move { answer.map(Bytes::from).map_err(Arc::new) }.boxed();
            replies.answer(key, begin).await.map_err(|e| e.to_string())
        };
        let away = || Err(Error::unavailable("the store is away"));
        assert!(ask(key("a"), away()).await.is_err());
        assert_eq!(ask(key("a"), Ok("one")).await.unwrap(), "one", "it is back");
        assert_eq!(ask(key("a"), Ok("two")).await.unwrap(), "one", "it was done");
        assert_eq!(ask(key("b"), Ok("three")).await.unwrap(), "three", "another call under that id");
        assert_eq!(ask(Key::new(token, id, digest("cancel", b"a")), Ok("four")).await.unwrap(), "four");
    }
}
