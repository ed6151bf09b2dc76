//! The answers of the last calls that wrote: who lost one asks again under the same id and gets the same.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
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

/// A call: who made it, and under which id.
pub(super) type Key = (Uuid, Uuid);

/// The answers of the last calls.
#[derive(Default)]
pub(super) struct Replies(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    replies: HashMap<Key, Reply>,
    order: VecDeque<(Instant, Key)>,
}

impl Replies {
    /// The answer to the call `key`, which is begun by `begin` if it is not known.
    pub(super) fn answer(
        &self,
        key: Key,
        begin: impl FnOnce() -> BoxFuture<'static, Result<Bytes, Arc<Error>>>,
    ) -> Reply {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget();
        if let Some(reply) = kept.replies.get(&key) {
            return reply.clone();
        }
        let reply = begin().shared();
        kept.replies.insert(key, reply.clone());
        kept.order.push_back((Instant::now(), key));
        reply
    }
}

impl Kept {
    fn forget(&mut self) {
        let is_long = |reply: &Reply| reply.peek().is_some_and(|r| r.as_ref().is_ok_and(|b| b.len() > MAX_REPLY));
        while let Some((at, key)) = self.order.front() {
            let long = self.replies.get(key).is_none_or(is_long);
            if !long && at.elapsed() < KEPT && self.order.len() < MAX_KEPT {
                return;
            }
            self.replies.remove(key);
            self.order.pop_front();
        }
    }
}
