//! The same Ops, sent to a coordinator: what a lost answer means is found out here, not by the caller.

pub mod changes;
mod client;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;
use uuid::Uuid;

use self::changes::Listener;
pub use self::client::{Address, Failure, Wire};
use crate::error::{Error, Kind, Problem, Result};
use crate::hub::{Hub, Subscription};
use crate::ops::{Access, Op};
use crate::outage::Outage;
use crate::store::Topics;

/// How long a call is tried anew while the coordinator cannot be reached.
const PATIENCE: Duration = Duration::from_secs(10);
/// After which time of trying a person is told that it goes on.
const SILENCE: Duration = Duration::from_secs(1);
/// The waits between tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What to do where an answer has words that are not known here.
const OLDER: &str = "the coordinator may be of a newer version: update this orx";

/// A coordinator, and the tasks of this process that wait for what changes there.
pub struct Remote {
    client: Arc<Wire>,
    hub: Arc<Hub>,
    ears: Mutex<Ears>,
    trouble: OnceLock<Tell>,
    /// The trouble of these moments was told.
    is_told: AtomicBool,
    outage: Outage,
}

/// Hears of trouble that is not the end yet.
type Tell = Box<dyn Fn(&Error) + Send + Sync>;

#[derive(Default)]
struct Ears {
    topics: Topics,
    task: Option<JoinHandle<()>>,
}

impl Drop for Ears {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A call that may be made again when nobody knows what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    id: Uuid,
    again: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self::new()
    }
}

impl Request {
    /// A call that was never made.
    pub fn new() -> Self {
        Self { id: Uuid::now_v7(), again: false }
    }

    /// The same call once more: what was done of it is told, not done twice.
    pub fn again(self) -> Self {
        Self { again: true, ..self }
    }

    /// Whether it may have been done before.
    pub fn is_again(self) -> bool {
        self.again
    }
}

impl Remote {
    /// The coordinator at `url`, called with `token`. Nothing is sent yet.
    ///
    /// # Errors
    /// `Usage` when the URL or token cannot be one.
    pub fn new(url: &str, token: Option<String>) -> Result<Arc<Self>> {
        let client = Arc::new(Wire::new(url.parse()?, token)?);
        let (hub, ears) = (Arc::new(Hub::new()), Mutex::default());
        let (trouble, is_told, outage) = (OnceLock::new(), AtomicBool::new(false), Outage::default());
        Ok(Arc::new(Self { client, hub, ears, trouble, is_told, outage }))
    }

    /// Has `tell` hear of it, once each time, when calls have been tried in vain for a second and are still tried.
    pub fn on_trouble(&self, tell: impl Fn(&Error) + Send + Sync + 'static) {
        let _ = self.trouble.set(Box::new(tell)); // who came first hears of it
    }

    /// Its URL.
    pub fn location(&self) -> &str {
        self.client.address().url()
    }

    /// Shows `token` from now on.
    ///
    /// # Errors
    /// `Usage` when it cannot be one.
    pub fn set_token(&self, token: &str) -> Result<()> {
        self.client.set_token(token)
    }

    /// Has the coordinator run an Op.
    ///
    /// An answer that got lost is asked for again under the same request id, so nothing is done twice.
    ///
    /// # Errors
    /// What the Op says; `Unavailable` when the coordinator was never reached, `Unknown` when a write was sent and
    /// never answered.
    pub async fn call<O: Op>(&self, op: O) -> Result<O::Reply> {
        self.call_since(op, Request::new()).await.map(|(_, reply)| reply)
    }

    /// The same, and an instant before which it was not done.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub async fn call_since<O: Op>(&self, op: O, request: Request) -> Result<(Instant, O::Reply)> {
        let body = serde_json::to_vec(&op).map_err(|e| Error::failed("the request cannot be written").source(e))?;
        let answer = self.ask(O::NAME, O::ACCESS, request, Bytes::from(body), &|| op.check()).await;
        self.outage.note(O::ACCESS, &answer);
        let (since, reply) = answer?;
        let reply = serde_json::from_slice(&reply)
            .map_err(|e| Error::failed("the coordinator's answer is not understood").source(e).hint(OLDER))?;
        Ok((since, reply))
    }

    /// Whether it can be used.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// The same of an Op whose type is not known any more; `check` names the command that tells whether it was done.
    ///
    /// The instant is that of the first try that may have arrived.
    async fn ask(
        &self,
        name: &str,
        access: Access,
        request: Request,
        body: Bytes,
        check: &(dyn Fn() -> String + Sync),
    ) -> Result<(Instant, Bytes)> {
        let path = format!("/api/v1/ops/{name}");
        let (started, mut pause, mut sent) = (Instant::now(), PAUSES.0, request.again);
        let mut since = started;
        loop {
            since = if sent { since } else { Instant::now() };
            let again = sent && access != Access::Read;
            let failure = match self.client.post(&path, body.clone(), request.id, again).await {
                Ok((StatusCode::OK, reply)) => {
                    self.is_told.store(false, Ordering::Relaxed);
                    return Ok((since, reply));
                }
                Ok((status, problem)) => match refusal(status, &problem) {
                    // A coordinator that is ending says that it did nothing: another one may take it. A gateway does not
                    // know.
                    (told, error) if error.kind() == Kind::Unavailable => {
                        Failure { sent: !told, lasting: false, error }
                    }
                    (_, error) => return Err(error),
                },
                Err(failure) => failure,
            };
            sent |= failure.sent;
            self.outage.failed(access, &failure.error);
            // Where nobody can write, whoever asks is to know that now (S2).
            let for_everyone = failure.error.is_for_everyone();
            if for_everyone || failure.lasting || started.elapsed() + pause > PATIENCE {
                if !sent || access == Access::Read {
                    return Err(failure.error);
                }
                let unknown = Error::new(Kind::Unknown, format!("unknown, check with `{}`", check()));
                let unknown = if for_everyone { unknown.for_everyone() } else { unknown };
                return Err(unknown.source(failure.error.to_string()));
            }
            debug!("{name} is tried again: {}", failure.error);
            if let Some(tell) = self.trouble.get()
                && started.elapsed() >= SILENCE
                && !self.is_told.swap(true, Ordering::Relaxed)
            {
                tell(&failure.error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Looks whether the coordinator answers at all, once.
    ///
    /// # Errors
    /// `Unavailable` when it does not.
    pub async fn greet(&self) -> Result<()> {
        self.client.greet().await.map_err(|failure| failure.error)
    }

    /// Hears of changes from now on.
    pub fn subscribe(&self, topics: Topics) -> Subscription {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        if ears.topics | topics != ears.topics {
            ears.topics = ears.topics | topics;
            if let Some(task) = ears.task.take() {
                task.abort();
            }
            let listener = Listener { client: Arc::clone(&self.client), hub: Arc::clone(&self.hub) };
            ears.task = Some(tokio::spawn(listener.listen(ears.topics)));
        }
        self.hub.subscribe(topics)
    }
}

/// What an answer with an error status says, and whether a coordinator says it.
fn refusal(status: StatusCode, body: &[u8]) -> (bool, Error) {
    let told = serde_json::from_slice::<Problem>(body).ok().and_then(Problem::error);
    let guessed = || match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::new(Kind::Denied, "the coordinator refuses us"),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Error::unavailable(format!("the coordinator answers {status}"))
        }
        _ => Error::failed(format!("the coordinator answers {status}")).hint("is it one of orx?"),
    };
    (told.is_some(), told.unwrap_or_else(guessed))
}
