//! Bodies: how much of them is read, what they take in memory, and which thread looks at them.
//!
//! What a token may not ask for is not kept. What is long, or becomes large, waits for room and is read by a thread of
//! its own: on those of the runtime, workers renew their leases.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::problem::Refusal;
use crate::error::{Error, Kind, Result};
use crate::job::many::MAX_MANY;

/// The longest body that is read, in bytes: 10,000 jobs of 6 KiB.
pub(super) const MAX_BODY: usize = 64 * 1024 * 1024;
/// The most that all large bodies take together, in bytes: as they came, and once more as they are read.
const MAX_BODIES: usize = 4 * MAX_BODY;
/// How long a client may take for a body.
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// Bodies up to so many bytes need no room among those that are large.
const SMALL_BODY: usize = 64 * 1024;
/// What small bodies may become in memory, in bytes, without room for that.
const LIGHT: usize = 1024 * 1024;
/// What a value, or a name of one, takes in memory at most beside its text: its place in a list or map that grows.
const VALUE: usize = 80;
/// How many bodies are read side by side: the others leave the processors to those who have little to say.
const READERS: usize = 2;
/// When it is worth trying again where there is no room.
const BUSY: Duration = Duration::from_secs(1);

/// The room that all bodies share.
pub(super) struct Bodies {
    /// As they came, in bytes.
    given: Semaphore,
    /// As they are read, in bytes.
    taken: Semaphore,
    readers: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        let (given, taken) = (Semaphore::new(MAX_BODIES), Semaphore::new(MAX_BODIES));
        Self { given, taken, readers: Arc::new(Semaphore::new(READERS)) }
    }
}

/// Whether to look at a body takes so little that it is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Light,
    Heavy,
}

/// The room that a body has, until its request is answered.
pub(super) struct Room<'a>(#[allow(dead_code, reason = "it is held")] [Option<tokio::sync::SemaphorePermit<'a>>; 2]);

/// Reads a body, of bounded length and in bounded time. Each of its objects may take `object` bytes.
pub(super) async fn read_whole(app: &App, request: Request, object: usize) -> Result<(Request, Room<'_>), Refusal> {
    let (mut head, body) = request.into_parts();
    // In chunks it may become as long as is allowed.
    let length = body.size_hint().upper().map_or(MAX_BODY, |n| usize::try_from(n).unwrap_or(usize::MAX));
    if length > MAX_BODY {
        return Err(too_long());
    }
    // Renewals never wait for the loads of others.
    let given = if length > SMALL_BODY { Some(room_in(&app.bodies.given, length).await?) } else { None };
    let body = match tokio::time::timeout(BODY_LIMIT, collect(body, length)).await {
        Ok(body) => body?,
        Err(_) => {
            return Err(Refusal::with(StatusCode::REQUEST_TIMEOUT, Error::usage("the body did not come in time")));
        }
    };
    let weighed = body.clone();
    let load = if body.len() > SMALL_BODY { Load::Heavy } else { Load::Light };
    let weight = on_thread(app, load, move || weigh(&weighed, object)).await?;
    if weight > MAX_BODIES {
        return Err(too_large(weight));
    }
    let (load, taken) = match (load, weight) {
        (Load::Light, ..=LIGHT) => (Load::Light, None),
        _ => (Load::Heavy, Some(room_in(&app.bodies.taken, weight).await?)),
    };
    head.extensions.insert(load);
    Ok((Request::from_parts(head, body.into()), Room([given, taken])))
}

fn too_long() -> Refusal {
    let error = Error::usage(format!("the body is longer than {MAX_BODY} bytes")).hint("send it in parts");
    Refusal::with(StatusCode::PAYLOAD_TOO_LARGE, error)
}

fn too_large(weight: usize) -> Refusal {
    let (takes, most) = (weight / 1024 / 1024, MAX_BODIES / 1024 / 1024);
    let error = Error::usage(format!("to read the body takes {takes} MiB of memory, and there are {most} for all"));
    Refusal::with(StatusCode::PAYLOAD_TOO_LARGE, error.hint("send it in parts"))
}

async fn room_in(room: &Semaphore, bytes: usize) -> Result<tokio::sync::SemaphorePermit<'_>, Refusal> {
    let wanted = room.acquire_many(bytes as u32); // at most MAX_BODIES
    let found = tokio::time::timeout(BODY_LIMIT, wanted).await.ok().and_then(Result::ok);
    let busy = || Error::new(Kind::Limit, "too much is being sent by others").retry_after(BUSY);
    Ok(found.ok_or_else(busy)?)
}

/// All that comes, piece by piece: to put it together at the end would hold up all others.
async fn collect(mut body: Body, length: usize) -> Result<Bytes, Refusal> {
    // What is announced takes no memory before it is there.
    let mut all = Vec::with_capacity(if body.size_hint().exact().is_some() { length } else { 0 });
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::malformed("the body broke off"))?.into_data() else { continue };
        if all.len() + data.len() > MAX_BODY {
            return Err(too_long());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}

/// Lets a client say what nobody wants to hear: before it has, it would not hear why. Nothing of it is kept.
pub(super) async fn let_pass(headers: &HeaderMap, mut body: Body) {
    if headers.contains_key(header::EXPECT) {
        return; // it asks first
    }
    let passing = async {
        let mut passed = 0;
        while let Some(Ok(frame)) = body.frame().await {
            passed += frame.data_ref().map_or(0, Bytes::len);
            if passed > MAX_BODY {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(BODY_LIMIT, passing).await; // it is answered all the same
}

/// Looks at a body: on a thread of its own where that takes long.
pub(super) async fn on_thread<T: Send + 'static>(
    app: &App,
    load: Load,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if load == Load::Light {
        return Ok(look());
    }
    let ended = || Refusal::from(Error::failed("the body cannot be read"));
    let turn: OwnedSemaphorePermit = Arc::clone(&app.bodies.readers).acquire_owned().await.map_err(|_| ended())?;
    let looking = tokio::task::spawn_blocking(move || {
        let _turn = turn; // also where the client has gone
        look()
    });
    looking.await.map_err(|_| ended())
}

/// What a body may take in memory when it has been read, in bytes: its text, and a place for each value and object in it.
/// Lists of objects are bounded, and those in what is free to be anything are values only.
fn weigh(body: &[u8], object: usize) -> usize {
    let (mut values, mut objects) = (1, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b',' | b':' | b'[' => values += 1,
            b'{' => (values, objects) = (values + 1, objects + 1),
            _ => {}
        }
    }
    let (values, objects) = (values * VALUE, objects.min(MAX_MANY) * object);
    body.len() + values + objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobSpec;
    use crate::ops::Op as _;
    use crate::ops::enqueue::Enqueue;

    #[test]
    fn a_body_weighs_what_its_values_take_and_not_only_its_text() {
        let weigh = |body: &str| weigh(body.as_bytes(), 1000);
        assert_eq!(weigh("7"), 1 + VALUE);
        assert_eq!(weigh("[7,7]"), 5 + 3 * VALUE);
        assert_eq!(weigh(r#"{"a":7}"#), 7 + 3 * VALUE + 1000);
        assert_eq!(weigh(r#""{,[:\"{,[:""#), 12 + VALUE, "text is text");
        assert_eq!(weigh(r#"["\\",7]"#), 8 + 3 * VALUE, "an escaped escape ends nothing");
        let many = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
        assert_eq!(weigh(&many(MAX_MANY + 50)) - weigh(&many(MAX_MANY)), 50 * (3 + 2 * VALUE));
    }

    #[test]
    fn jobs_take_no_more_than_they_are_charged_for() {
        let body = format!("[{}]", vec!["{}"; MAX_MANY].join(","));
        let jobs: Vec<JobSpec> = serde_json::from_str(&body).unwrap();
        let takes = jobs.capacity() * size_of::<JobSpec>();
        let charged = weigh(body.as_bytes(), Enqueue::OBJECT);
        assert!(takes <= charged && charged < 64 * 1024 * 1024, "{takes} of {charged}");
        // Nor does free data, whose lists grow too.
        let body = format!("[{}0]", "[],".repeat(100_000));
        let lists: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
        assert!(lists.capacity() * size_of::<serde_json::Value>() <= weigh(body.as_bytes(), 0));
    }
}
