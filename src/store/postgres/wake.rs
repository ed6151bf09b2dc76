//! Waking other processes: NOTIFY after the commit, LISTEN on a connection of its own, a slow poll as a safety net.
//!
//! A NOTIFY inside the transaction would hold the server's one lock on notifications while the commit is written to disk:
//! it follows in the same breath, and nobody waits for its answer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;
use tracing::{debug, warn};

use super::place::Place;
use crate::error::Result;
use crate::store::{Listening, Topics};

/// The first and the longest pause before a lost connection is made anew.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The server's processes for this program's own connections: they are not listened to.
pub(super) type Own = Arc<Mutex<HashSet<i32>>>;

/// The channel of a schema.
pub(super) fn channel(place: &Place) -> String {
    format!("orx_{}", place.schema)
}

/// The statement that tells others that `topics` were touched.
pub(super) fn notice(place: &Place, topics: Topics) -> String {
    format!("NOTIFY {}, '{}'", channel(place), topics.0)
}

/// Calls `sink` from a thread of its own whenever another process touched one of `topics`.
pub(super) fn listen(place: Place, topics: Topics, own: Own, sink: Box<dyn Fn(Topics) + Send>) -> Result<Listening> {
    let ended = Arc::new(Ended::default());
    let ear = Ear { place, topics, own, sink, ended: Arc::clone(&ended) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("orx-wake".into()).spawn(move || runtime.block_on(ear.listen()))?;
    Ok(Listening(Box::new(Guard(ended))))
}

#[derive(Default)]
struct Ended {
    flag: AtomicBool,
    told: Notify,
}

struct Guard(Arc<Ended>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.flag.store(true, Ordering::Release);
        self.0.told.notify_one();
    }
}

struct Ear {
    place: Place,
    topics: Topics,
    own: Own,
    sink: Box<dyn Fn(Topics) + Send>,
    ended: Arc<Ended>,
}

impl Ear {
    async fn listen(self) {
        let mut pause = RETRY.0;
        while !self.ended.flag.load(Ordering::Acquire) {
            match self.hear().await {
                Ok(()) => return,
                Err((heard, why)) => {
                    debug!("listening ended: {why}");
                    pause = if heard { RETRY.0 } else { (pause * 2).min(RETRY.1) };
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => (self.sink)(self.topics),
                () = self.ended.told.notified() => return,
            }
        }
    }

    /// Listens until told to end; the error says whether anything could be heard.
    async fn hear(&self) -> Result<(), (bool, String)> {
        let deaf = |e: String| (false, e);
        let tls = self.place.tls().map_err(|e| deaf(e.to_string()))?;
        let (client, mut connection) = self.place.config().connect(tls).await.map_err(|e| deaf(e.to_string()))?;
        let (sender, mut heard) = tokio::sync::mpsc::channel(64);
        let driver = tokio::spawn(async move {
            loop {
                match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(n))) => {
                        let topics = n.payload().parse().map_or(Topics::ALL, Topics);
                        if sender.try_send((n.process_id(), topics)).is_err() && sender.is_closed() {
                            return; // full: whoever listens is about to look anyway
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                }
            }
        });
        let listen = format!("LISTEN {}", channel(&self.place));
        let listening = client.batch_execute(&listen).await;
        listening.map_err(|e| deaf(e.to_string()))?;
        (self.sink)(self.topics); // what happened while nobody listened
        let result = loop {
            tokio::select! {
                next = heard.recv() => match next {
                    Some((backend, topics)) if topics.meets(self.topics) && !self.is_own(backend) => (self.sink)(topics),
                    Some(_) => {}
                    None => break Err((true, "the connection is lost".to_owned())),
                },
                () = tokio::time::sleep(self.place.poll) => {
                    if client.is_closed() {
                        break Err((true, "the connection is lost".to_owned()));
                    }
                    (self.sink)(self.topics);
                }
                () = self.ended.told.notified() => break Ok(()),
            }
        };
        drop(client);
        driver.abort();
        if result.is_err() {
            warn!("the connection that listens to {} is lost; it is made anew", self.place);
        }
        result
    }

    fn is_own(&self, backend: i32) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(&backend)
    }
}
