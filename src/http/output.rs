//! What a job writes, so far or while it writes: `GET /jobs/{id}/output`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::App;
use super::auth::{Identity, Session};
use super::figures::{Reader, Stream};
use super::ops::run;
use super::problem::Refusal;
use super::rest::{Here, Who, find};
use crate::error::Result;
use crate::hub::Subscription;
use crate::ops::jobs::GetJobs;
use crate::ops::output::ReadOutput;
use crate::store::Topics;

/// How long a follower waits for more before it looks by itself.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputQuery {
    /// Of this attempt only; when absent, of the last one and those that come after it.
    #[schemars(example = 1)]
    attempt: Option<u32>,
    /// Go on until the job, or the attempt, ends.
    #[serde(default)]
    #[schemars(example = false)]
    follow: bool,
}

/// `GET /jobs/{id}/output`: the bytes as the job wrote them, both streams as they came.
pub(super) async fn output(
    State(app): Here,
    Extension(who): Who,
    Path(id): Path<String>,
    Query(query): Query<OutputQuery>,
) -> Result<Response, Refusal> {
    let number = find(&app, &who, &id).await?;
    let first = ReadOutput { number, attempt: query.attempt, after: None };
    run(&app, &who, first.clone()).await?; // what is wrong is said before the head goes out
    let reading = Reading {
        changes: app.engine.subscribe(Topics::OUTPUT | Topics::JOBS)?,
        session: Session::new(&app, &who),
        _counted: Reader::new(&app, Stream::Output),
        next: first,
        one: query.attempt.is_some(),
        follow: query.follow,
        app,
        who,
    };
    let pieces = stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.piece().await {
            Ok(piece) => piece.map(|bytes| (Ok(bytes), Some(reading))),
            Err(_) => Some((Err(std::io::Error::other("the output cannot be read")), None)),
        }
    });
    let body = Body::from_stream(pieces);
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// Somebody who reads output.
struct Reading {
    app: Arc<App>,
    who: Identity,
    session: Session,
    changes: Subscription,
    next: ReadOutput,
    /// One attempt was named, and no other is wanted.
    one: bool,
    follow: bool,
    _counted: Reader,
}

impl Reading {
    /// The next piece; none at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let found = run(&self.app, &self.who, self.next.clone()).await?;
            if found.attempt > 0 {
                self.next.attempt = Some(found.attempt); // stay with it though a retry begins
            }
            if let Some(last) = found.chunks.last() {
                self.next.after = Some(last.seq);
                return Ok(Some(found.chunks.into_iter().flat_map(|chunk| chunk.bytes).collect()));
            }
            if !self.follow || found.ended && self.one || *self.app.stop.borrow() || !self.session.is_good().await {
                return Ok(None);
            }
            if found.ended {
                let op = GetJobs { numbers: vec![self.next.number], detail: false };
                let job = run(&self.app, &self.who, op).await?.into_iter().next();
                if job.is_some_and(|job| job.attempt > found.attempt) {
                    (self.next.attempt, self.next.after) = (Some(found.next.unwrap_or(found.attempt + 1)), None);
                    continue;
                }
            }
            if found.state.is_terminal() {
                return Ok(None);
            }
            self.changes.changed(Some(Instant::now() + LOOK)).await;
        }
    }
}
