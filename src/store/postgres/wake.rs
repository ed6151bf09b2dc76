//! Waking other processes: NOTIFY after the commit, LISTEN on a connection of its own, a slow poll as a safety net.
//!
//! A NOTIFY inside the transaction would hold the server's one lock on notifications while the commit is written to disk:
//! it follows in the same breath, and nobody waits for its answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};
use tracing::{debug, warn};

use super::conn::ERA;
use super::fault;
use super::place::Place;
use crate::error::{Error, Result};
use crate::store::{Listening, Topics};

/// The first and the longest pause before a lost connection is made anew.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long is waited for the first connection, which may go on coming about.
const FIRST: Duration = Duration::from_secs(2);

/// This program's own connections, which are not listened to.
pub(super) type Own = Arc<Mutex<Backends>>;

/// The server's processes for the connections of a program.
#[derive(Default)]
pub(super) struct Backends {
    /// Each, and the server's life then.
    pub(super) all: HashMap<i32, String>,
    /// Two connections were seen to have one: there is a pooler, also where the next ones do not show it.
    pooled: bool,
}

impl Backends {
    /// Whether the process of one more connection serves another one too (one that is gone with an earlier life of the
    /// server does not count).
    fn is_shared(&mut self, backend: i32, era: &str) -> bool {
        self.pooled |= self.all.get(&backend).is_some_and(|own| own == era);
        self.pooled
    }
}

/// Takes up the server's process of a new connection.
///
/// # Errors
/// Where it serves another connection of this program too: then a pooler lends it to each transaction.
pub(super) fn adopt(own: &Own, backend: i32, era: &str) -> Result<()> {
    let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
    if own.is_shared(backend, era) {
        return Err(fault::pooled());
    }
    own.all.insert(backend, era.to_owned());
    Ok(())
}

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
    let (tell, told) = mpsc::sync_channel(1);
    let ear = Ear { place, topics, own, sink, tell, ended: Arc::clone(&ended) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("orx-wake".into()).spawn(move || runtime.block_on(ear.listen()))?;
    let listening = Listening(Box::new(Guard(ended)));
    // Before anything is written, and as long as the connections of the pool do nothing: a pooler shows itself.
    match told.recv_timeout(FIRST) {
        Ok(Some(pooled)) => Err(pooled),
        Ok(None) | Err(_) => Ok(listening),
    }
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
    /// Hears once what became of the first connection; an error is one that stays.
    tell: mpsc::SyncSender<Option<Error>>,
    ended: Arc<Ended>,
}

impl Ear {
    async fn listen(self) {
        let mut pause = RETRY.0;
        while !self.ended.flag.load(Ordering::Acquire) {
            match self.hear().await {
                Ok(()) => return,
                Err((heard, why)) => {
                    let _ = self.tell.try_send(None); // it is tried again
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
        if self.is_shared(&client).await.map_err(|e| deaf(e.to_string()))? {
            let pooled = fault::pooled().context(&self.place);
            let why = pooled.to_string();
            let _ = self.tell.try_send(Some(pooled)); // nobody may ask any more
            return Err(deaf(why));
        }
        let listen = format!("LISTEN {}", channel(&self.place));
        let listening = client.batch_execute(&listen).await;
        listening.map_err(|e| deaf(e.to_string()))?;
        let _ = self.tell.try_send(None); // nobody may ask any more
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

    /// Whether the server's process for this connection serves another one of this program too.
    async fn is_shared(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        let rows = client.simple_query(&format!("SELECT pg_backend_pid(), {ERA}")).await?;
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(0)?.parse::<i32>().ok()?, row.get(1)?)),
            _ => None,
        });
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(row.is_some_and(|(backend, era)| own.is_shared(backend, era)))
    }

    fn is_own(&self, backend: i32) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).all.contains_key(&backend)
    }
}
