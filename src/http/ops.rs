//! One handler for every Op: `POST /api/v1/ops/{NAME}`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use schemars::{Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;
use uuid::Uuid;

use super::App;
use super::auth::Identity;
use super::body::{Load, on_thread};
use super::problem::Refusal;
use super::replies::{Digest, Key, digest};
use crate::engine::Try;
use crate::error::{Error, Kind, Result};
use crate::ops::catalog::{self, Visitor};
use crate::ops::tokens::Denied;
use crate::ops::{Access, Op, Scopes};

type Answer = BoxFuture<'static, Result<Bytes, Arc<Error>>>;

/// A call that is allowed, and has not begun.
type Begin = Box<dyn FnOnce(Arc<App>, Try) -> Answer + Send>;

/// A call of some Op that was read.
enum Prepared {
    /// It is allowed.
    Call(Begin),
    /// The token lacks some of these.
    Denied(Scopes, Error),
}

/// The least time between two refusals on record.
const DENIALS: Duration = Duration::from_millis(200);

/// What a route asks for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// The Op.
    pub(super) op: &'static str,
    /// What a token must hold, whatever the body says.
    pub(super) scopes: Scopes,
    /// How much memory an object in its body may take, in bytes; none: it has no body.
    pub(super) object: Option<usize>,
}

impl Asked {
    /// An Op with its body.
    pub(super) fn of<O: Op>() -> Self {
        Self { op: O::NAME, scopes: O::SCOPES, object: Some(O::OBJECT) }
    }
}

/// An Op whose type is not known any more.
pub(super) struct Route {
    pub(super) asked: Asked,
    pub(super) access: Access,
    pub(super) request: fn(&mut SchemaGenerator) -> Schema,
    pub(super) reply: fn(&mut SchemaGenerator) -> Schema,
    prepare: fn(&Identity, &[u8]) -> Result<Prepared, Refusal>,
}

/// The Ops that can be called, by name.
#[derive(Default)]
pub struct Routes(pub(super) BTreeMap<&'static str, Route>);

impl Routes {
    /// Every Op of the catalogue.
    pub fn all() -> Self {
        let mut routes = Self::default();
        catalog::each(&mut routes);
        routes
    }
}

impl Visitor for Routes {
    fn op<O: Op>(&mut self) {
        let route = Route {
            asked: Asked::of::<O>(),
            access: O::ACCESS,
            request: |schemas| schemas.subschema_for::<O>(),
            reply: |schemas| schemas.subschema_for::<O::Reply>(),
            prepare: prepare::<O>,
        };
        self.0.insert(O::NAME, route);
    }
}

fn prepare<O: Op>(identity: &Identity, body: &[u8]) -> Result<Prepared, Refusal> {
    let op: O = read(body)?;
    if let Err(refused) = allow(&op, identity) {
        return Ok(Prepared::Denied(op.scopes(), refused));
    }
    op.vet()?;
    Ok(Prepared::Call(begin(identity, op)))
}

fn begin<O: Op>(identity: &Identity, op: O) -> Begin {
    let caller = Arc::clone(&identity.caller);
    Box::new(move |app, attempt| {
        async move {
            let reply = app.engine.call_as(caller, op, attempt).await?;
            written(O::ACCESS, reply).await
        }
        .map(|result: Result<Bytes>| result.map_err(Arc::new))
        .boxed()
    })
}

/// An answer as it goes out. What was only looked up may be long, and is written by a thread of its own.
async fn written<T: Serialize + Send + 'static>(access: Access, reply: T) -> Result<Bytes> {
    let write = move || serde_json::to_vec(&reply).map(Bytes::from);
    let written = match access {
        Access::Read => {
            tokio::task::spawn_blocking(write).await.map_err(|e| Error::failed("the answer is lost").source(e))?
        }
        _ => write(),
    };
    written.map_err(|e| Error::failed("the answer cannot be written").source(e))
}

/// Begins the call `key`, whose answer is kept for whoever makes it again.
fn kept(app: &Arc<App>, key: Key, call: Begin, attempt: Try) -> Answer {
    let app = Arc::clone(app);
    // On its own: a client that goes away does not end it.
    let task = tokio::spawn(async move {
        let reply = call(Arc::clone(&app), attempt).await;
        app.replies.came(key, &reply);
        reply
    });
    task.map(|joined| joined.unwrap_or_else(|_| Err(Arc::new(Error::failed("the call ended"))))).boxed()
}

/// Reads a body; what is wrong is told with its place.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let mut unknown = None;
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.get_or_insert_with(|| path.to_string());
    };
    let tracked = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    let value = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note)).map_err(|e| {
        let path = track.path().to_string();
        match e.classify() {
            serde_json::error::Category::Data => Refusal::field(path.clone(), Error::usage(format!("{path}: {e}"))),
            _ => Refusal::malformed(format!("the body is no JSON: {e}")),
        }
    })?;
    reader.end().map_err(|e| Refusal::malformed(format!("the body is no JSON: {e}")))?;
    match unknown {
        None => Ok(value),
        Some(path) => Err(Refusal::field(path.clone(), Error::usage(format!("there is no field {path}")))),
    }
}

/// Whether the caller's token holds what the Op needs.
pub(super) fn allow<O: Op>(op: &O, identity: &Identity) -> Result<()> {
    covers(identity, O::NAME, op.scopes())
}

/// Whether the caller's token holds what `op` needs.
pub(super) fn covers(identity: &Identity, op: &str, needs: Scopes) -> Result<()> {
    match identity.caller.scopes.cover(needs) {
        true => Ok(()),
        false => Err(Error::new(Kind::Denied, format!("the token may not {}", op.replace('_', " ")))
            .hint(format!("it needs the scope {needs}"))),
    }
}

/// Puts a refusal on record, a few a second at most.
pub(super) async fn record(app: &App, identity: &Identity, op: &str, needs: Scopes) {
    let due = {
        let mut last = app.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| at.elapsed() >= DENIALS);
        if due {
            *last = Some(Instant::now());
        }
        due
    };
    if due {
        let denied = Denied { op: op.into(), needs };
        if let Err(e) = app.engine.call_as(Arc::clone(&identity.caller), denied, Try::First).await {
            warn!("a refusal is not on record: {e}");
        }
    }
}

/// Runs an Op for a route with a name of its own.
pub(super) async fn run<O: Op>(app: &Arc<App>, identity: &Identity, op: O) -> Result<O::Reply, Refusal> {
    if let Err(refused) = allow(&op, identity) {
        record(app, identity, O::NAME, op.scopes()).await;
        return Err(refused.into());
    }
    Ok(app.engine.call_as(Arc::clone(&identity.caller), op, Try::First).await?)
}

/// The call of a route with a name of its own, which may be made again: what tells it from others.
pub(super) struct Repeatable<'a> {
    pub(super) headers: &'a HeaderMap,
    /// Its [`digest`].
    pub(super) digest: Digest,
    /// What it is told when it is made again and its answer is not there any more. None: the store tells what became of it.
    pub(super) unknown: Option<fn() -> Error>,
}

/// As [`run`], once only for a call that is made again under the id that its client gave it.
///
/// Unlike a call by the name of its Op, one under the same id that does not say so is another one: what passes for an id
/// may be that of a whole pipeline.
pub(super) async fn run_once<O: Op>(
    app: &Arc<App>,
    identity: &Identity,
    call: &Repeatable<'_>,
    op: O,
) -> Result<O::Reply, Refusal> {
    let Some(id) = request_id(call.headers) else { return run(app, identity, op).await };
    if let Err(refused) = allow(&op, identity) {
        record(app, identity, O::NAME, op.scopes()).await;
        return Err(refused.into());
    }
    let key = Key::new(identity.token, id, call.digest);
    let attempt = again(call.headers);
    if attempt == Try::First {
        app.replies.forget(key);
    }
    let begun = || match (attempt, call.unknown) {
        (Try::Again, Some(unknown)) => std::future::ready(Err(Arc::new(unknown()))).boxed(),
        _ => kept(app, key, begin(identity, op), attempt),
    };
    let reply = app.replies.answer(key, begun).await.map_err(|error| error.copy())?;
    serde_json::from_slice(&reply).map_err(|e| Error::failed("the answer cannot be read").source(e).into())
}

/// As [`run`], for an answer that goes out as it is.
pub(super) async fn json<O: Op>(app: &Arc<App>, identity: &Identity, op: O) -> Result<Response, Refusal> {
    let reply = run(app, identity, op).await?;
    Ok(of_json(written(O::ACCESS, reply).await?))
}

fn of_json(reply: Bytes) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], reply).into_response()
}

/// `POST /api/v1/ops/{NAME}`
pub(super) async fn call(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Extension(identity): Extension<Identity>,
    Extension(load): Extension<Load>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    check_type(&headers)?;
    let Some(route) = app.routes.0.get(name.as_str()) else {
        return Err(Error::not_found(format!("there is no Op {name:?}")).hint("see /api/openapi.json").into());
    };
    let id = request_id(&headers).filter(|_| route.access != Access::Read);
    let (prepare, op, who) = (route.prepare, route.asked.op, identity.clone());
    let look = move || prepare(&who, &body).map(|prepared| (prepared, id.map(|id| (id, digest(op, &body)))));
    let (prepared, id) = on_thread(&app, load, look).await??;
    let prepared = match prepared {
        Prepared::Call(prepared) => prepared,
        Prepared::Denied(needs, refused) => {
            record(&app, &identity, &name, needs).await;
            return Err(refused.into());
        }
    };
    let reply = match id {
        Some((id, digest)) => {
            let key = Key::new(identity.token, id, digest);
            app.replies.answer(key, || kept(&app, key, prepared, again(&headers))).await
        }
        None => prepared(Arc::clone(&app), Try::First).await,
    };
    reply.map(of_json).map_err(|error| error.copy().into())
}

/// The id that the client gave its request.
fn request_id(headers: &HeaderMap) -> Option<Uuid> {
    headers.get("x-request-id")?.to_str().ok()?.parse().ok()
}

/// Whether the client has made its call before.
fn again(headers: &HeaderMap) -> Try {
    if headers.contains_key("orx-again") { Try::Again } else { Try::First }
}

/// A page that a browser shows cannot make a request of this type elsewhere without asking first.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Refusal::with(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::usage("the body is not of type application/json"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::JobSpec;
    use crate::ops::enqueue::Enqueue;
    use crate::ops::jobs::ListJobs;

    /// Reads a body as several types; none of them panics, and what is refused is refused with a reason.
    fn read_all(body: &[u8]) {
        let reason = |refusal: Refusal| {
            let response = refusal.into_response();
            assert!(matches!(response.status().as_u16(), 400 | 422), "{}", response.status());
        };
        let _ = read::<JobSpec>(body).map_err(reason); // it may be one
        let _ = read::<Vec<JobSpec>>(body).map_err(reason);
        let _ = read::<Enqueue>(body).map_err(reason);
        let _ = read::<ListJobs>(body).map_err(reason);
    }

    /// Bytes that look like JSON of ours.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        const WORDS: [&str; 24] = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"command\"",
            "\"jobs\"",
            "\"spec\"",
            "\"id\"",
            "\"filter\"",
            "\"limit\"",
            "\"delay\"",
            "\"at\"",
            "\"true\"",
            "\"1h\"",
            "1e999",
            "-1",
            "9223372036854775808",
            "null",
            "\u{0}",
            "\"\\u0000\"",
            "\"\\ud800\"",
            "\"2026-01-01T00:00:00Z\"",
        ];
        prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40).prop_map(|words| words.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), nearly()]) {
            read_all(&body);
        }

        #[test]
        fn no_changed_body_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut body = br#"{"jobs":[{"id":"01987654-0000-7000-8000-000000000001","spec":{"command":["a"],"delay":"1h"}}]}"#.to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            body.truncate(if cut { at } else { body.len() });
            read_all(&body);
        }
    }

    #[test]
    fn depth_is_bounded() {
        for open in ["[", "{\"jobs\":[", "{\"command\":["] {
            read_all(open.repeat(100_000).as_bytes());
        }
    }
}
