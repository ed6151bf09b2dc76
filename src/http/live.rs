//! Streams: changes for remote processes, events for people and programs.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::App;
use super::auth::{Identity, Session};
use super::figures::{Reader, Stream};
use super::ops::{allow, run};
use super::problem::Refusal;
use super::serve::Place;
use super::trail::{Found, Line, Trail};
use crate::error::{Error, Kind, Result};
use crate::hub::Subscription;
use crate::job::{Event, EventKind, Number, Selector};
use crate::ops::Scopes;
use crate::ops::events::ReadEvents;
use crate::ops::select::Select;
use crate::remote::changes::Change;
use crate::store::Topics;

/// How often a quiet stream says that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// How often somebody who is bound to a tenant is told of what has no event.
const UNTOLD: Duration = Duration::from_secs(1);
/// The pause between two looks for events of its own while others do much.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Pieces that wait for a slow reader, of some hundred events at most.
const WAITING: usize = 1;
/// How long a reader may take for one piece before it is cut off; it can come back with the last id it has.
const SLOW: Duration = Duration::from_secs(30);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// A bit for each topic.
    #[schemars(example = 1)]
    topics: u8,
}

/// `GET /api/v1/changes?topics=BITS`: one line for what changed, as often as a reader can take it.
pub(super) async fn changes(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let scopes = identity.caller.scopes;
    if !scopes.cover(Scopes::READ) && !scopes.cover(Scopes::WORK) {
        return Err(Error::new(Kind::Denied, "the token may not hear of changes").into());
    }
    let topics = Topics(wanted.topics & Topics::ALL.0);
    let changes = match &identity.caller.tenant {
        None => Changes::All(app.engine.subscribe(topics)?),
        // Of what happens it hears by its own events.
        Some(_) => Changes::Own(Own::of(&app, &identity, topics).await?),
    };
    let held = (Session::new(&app, &identity), Reader::new(&app, Stream::Changes));
    let lines = stream::unfold((changes, app.stop.clone(), true, held), |state| async move {
        let (mut changes, mut stop, first, mut held) = state;
        if !held.0.is_good().await {
            return None;
        }
        let topics = match first {
            true => Topics::NONE, // at once: the head goes out with it
            false => tokio::select! {
                topics = changes.next() => topics,
                _ = stop.wait_for(|stop| *stop) => return None,
            },
        };
        let mut line = serde_json::to_vec(&Change { topics: topics.0 }).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), (changes, stop, false, held)))
    });
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// The changes that somebody may hear of.
enum Changes {
    All(Subscription),
    Own(Own),
}

impl Changes {
    /// What changed, or nothing after a while.
    async fn next(&mut self) -> Topics {
        match self {
            Self::All(changes) => changes.changed(Some(Instant::now() + BEAT)).await,
            Self::Own(own) => own.next().await,
        }
    }
}

/// The changes that somebody hears of who is bound to a tenant. Topics are those of all tenants, so it is told of its own
/// events at once. What has none (output, and a slot that became free under a limit which tenants share) it is told of with
/// each second, whether something happened or not.
struct Own {
    changes: Subscription,
    trail: Arc<Trail>,
    after: i64,
    topics: Topics,
    said_at: Instant,
}

impl Own {
    async fn of(app: &Arc<App>, identity: &Identity, topics: Topics) -> Result<Self> {
        let changes = app.engine.subscribe(Topics(Topics::ALL.0 & !Topics::OUTPUT.0))?; // output has no events
        let trail = app.trails.of(&app.engine, &identity.caller);
        let after = trail.end().await?;
        Ok(Self { changes, trail, after, topics, said_at: Instant::now() })
    }

    async fn next(&mut self) -> Topics {
        let due = self.said_at + UNTOLD;
        while Instant::now() < due {
            if self.changes.changed(Some(due)).await == Topics::NONE {
                break;
            }
            if self.has_news(Instant::now()).await {
                self.said_at = Instant::now();
                return self.topics;
            }
            tokio::time::sleep_until(due.min(Instant::now() + LOOK_PAUSE)).await;
        }
        // By the clock, and not by what others do.
        let now = Instant::now();
        self.said_at = if now < due + UNTOLD { due } else { now };
        self.topics
    }

    /// Whether something happened to what is its own.
    async fn has_news(&mut self, woken: Instant) -> bool {
        loop {
            match self.trail.after(self.after, woken).await {
                Ok(Found { to, .. }) if to == self.after => return false,
                Ok(Found { lines, to }) => {
                    self.after = to;
                    if !lines.is_empty() {
                        return true;
                    }
                }
                Err(_) => return false, // the clock tells it
            }
        }
    }
}

/// Which events are wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// After this place in the trail.
    #[schemars(example = 0)]
    from: Option<i64>,
    /// Of this kind.
    kind: Option<EventKind>,
    /// About these jobs: a number, an id or the start of one, `last`; several with commas.
    job: Option<String>,
}

/// The events that are wanted, by the numbers of the jobs.
struct Wish {
    kind: Option<EventKind>,
    jobs: Option<HashSet<Number>>,
}

impl Wish {
    async fn of(selection: &Selection, app: &Arc<App>, who: &Identity) -> Result<Self, Refusal> {
        let jobs = match &selection.job {
            None => None,
            Some(words) => {
                let selectors: Result<_, _> = words.split(',').map(|word| word.parse::<Selector>()).collect();
                let selectors = selectors.map_err(|e| Refusal::field("job".into(), Error::usage(e)))?;
                let found = run(app, who, Select { selectors, all: None }).await?;
                Some(found.into_iter().map(|job| job.number).collect())
            }
        };
        Ok(Self { kind: selection.kind, jobs })
    }

    fn wants(&self, event: &Event) -> bool {
        let about = |jobs: &HashSet<Number>| event.number.is_some_and(|number| jobs.contains(&number));
        event.kind != EventKind::Hidden
            && self.kind.is_none_or(|kind| event.kind == kind)
            && self.jobs.as_ref().is_none_or(about)
    }
}

/// What a stream of events sends.
enum Piece {
    Lines(Vec<Arc<Line>>),
    /// Nothing happened for a while.
    Beat,
}

/// `GET /events`: server-sent events.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Query(selection): Query<Selection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let last = headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse::<i64>().ok()));
    let after = match last {
        Some(Some(last)) => last,
        Some(None) => return Err(Refusal::malformed("Last-Event-ID is no number")),
        None => selection.from.unwrap_or(0),
    };
    let wish = Wish::of(&selection, &app, &identity).await?;
    let pieces = feed(&app, &identity, wish, after)?;
    let reader = Reader::new(&app, Stream::Sse);
    let body = stream::unfold((pieces, reader), |(mut pieces, reader)| async move {
        let text = match pieces.recv().await? {
            Piece::Lines(lines) => match &lines[..] {
                [line] => line.sse(),
                // One write is cheaper than many.
                lines => lines.iter().map(|line| line.sse()).collect::<Vec<_>>().concat().into(),
            },
            Piece::Beat => Bytes::from_static(b":\n\n"),
        };
        Some((Ok::<_, Infallible>(text), (pieces, reader)))
    });
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response())
}

/// `GET /ws`: the same events, one JSON text each.
pub(super) async fn socket(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Extension(place): Extension<Place>,
    Query(selection): Query<Selection>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let after = selection.from.unwrap_or(0);
    let wish = Wish::of(&selection, &app, &identity).await?;
    let pieces = feed(&app, &identity, wish, after)?;
    Ok(upgrade.max_message_size(64 * 1024).on_upgrade(move |socket| async move {
        let _held = (place, Reader::new(&app, Stream::WebSocket));
        send_all(&app, socket, pieces).await;
    }))
}

async fn send_all(app: &App, mut socket: WebSocket, mut pieces: mpsc::Receiver<Piece>) {
    loop {
        let messages = tokio::select! {
            piece = pieces.recv() => match piece {
                Some(Piece::Lines(lines)) => lines.iter().filter_map(|line| text(line)).collect(),
                Some(Piece::Beat) => vec![Message::Ping(Bytes::new())],
                None => break,
            },
            // What clients say is read, so that pings are answered and an end is seen.
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        for message in messages {
            match tokio::time::timeout(SLOW, socket.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => return app.figures.cut_off(),
            }
        }
    }
    let _ = socket.send(Message::Close(None)).await; // it may be gone
}

fn text(line: &Line) -> Option<Message> {
    line.json().try_into().ok().map(Message::Text) // JSON is always text
}

/// Events after a place, for as long as the reader keeps up. The writer never waits for it.
fn feed(app: &Arc<App>, identity: &Identity, wish: Wish, after: i64) -> Result<mpsc::Receiver<Piece>, Refusal> {
    allow(&ReadEvents { after, limit: 1 }, identity)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let (app, trail) = (Arc::clone(app), app.trails.of(&app.engine, &identity.caller));
    let mut changes = app.engine.subscribe(Topics::ALL)?;
    let mut stop = app.stop.clone();
    let mut session = Session::new(&app, identity);
    tokio::spawn(async move {
        let mut after = after;
        let mut woken = Instant::now();
        let mut last_said = woken;
        while !*stop.borrow() && !sender.is_closed() && session.is_good().await {
            let Ok(Found { lines, to }) = trail.after(after, woken).await else { return };
            if to > after {
                after = to;
                let wanted: Vec<_> = lines.into_iter().filter(|line| wish.wants(&line.event)).collect();
                if !wanted.is_empty() {
                    last_said = Instant::now();
                    if !hand_over(&app, &sender, Piece::Lines(wanted)).await {
                        return;
                    }
                }
                continue;
            }
            loop {
                let changed = tokio::select! {
                    changed = changes.changed(Some(last_said + BEAT)) => changed,
                    () = sender.closed() => return,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                woken = Instant::now();
                if changed != Topics::NONE {
                    break;
                }
                last_said = woken;
                if !session.is_good().await || !hand_over(&app, &sender, Piece::Beat).await {
                    return;
                }
            }
        }
    });
    Ok(receiver)
}

/// Gives a reader a piece; false when it is gone, or cut off because it is slow.
async fn hand_over(app: &App, reader: &mpsc::Sender<Piece>, piece: Piece) -> bool {
    match reader.send_timeout(piece, SLOW).await {
        Ok(()) => true,
        Err(mpsc::error::SendTimeoutError::Closed(_)) => false,
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
            app.figures.cut_off();
            false
        }
    }
}
