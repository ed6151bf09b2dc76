//! Names for what people call by hand: each reads path and query into the Op that the command line uses too.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::App;
use super::auth::Identity;
use super::body::{Load, on_thread};
use super::ops::{Repeatable, allow, check_type, json as reply, read, run, run_once};
use super::problem::Refusal;
use super::replies::{Digest, digest};
use crate::error::{Error, Kind, Result};
use crate::job::ids::RunName;
use crate::job::many::at_most;
use crate::job::spec::Captured;
use crate::job::{Job, JobId, JobSpec, Number, Origin, Selector, State as JobState, Submission};
use crate::ops::Op as _;
use crate::ops::cancel::Cancel;
use crate::ops::dead_letters::ListLetters;
use crate::ops::enqueue::{Enqueue, Enqueued, MAX_BATCH};
use crate::ops::jobs::{GetJobs, ListJobs};
use crate::ops::lead::{MayLead, Right};
use crate::ops::policies::ListPolicies;
use crate::ops::retry::Retry;
use crate::ops::runs::view::{GetRun, ListRuns};
use crate::ops::schedules::look::ListSchedules;
use crate::ops::select::Select;
use crate::ops::status::Status;
use crate::ops::tokens::ListTokens;
use crate::ops::workers::ListWorkers;
use crate::store::{CancelRequest, Filter, Topics};
use crate::time::Timestamp;

pub(super) type Here = State<Arc<App>>;
pub(super) type Who = Extension<Identity>;

/// Jobs of a page unless said otherwise.
const PAGE: usize = 100;
/// How long looking at the store may take for it to count as ready.
const READY: Duration = Duration::from_secs(2);

/// `POST /jobs`
pub(super) async fn submit(
    State(app): Here,
    Extension(who): Who,
    Extension(load): Extension<Load>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    check_type(&headers)?;
    let key = headers.get("idempotency-key").map(|key| key.to_str().map(str::to_owned));
    let key = key.transpose().map_err(|_| Refusal::malformed("the Idempotency-Key is no text"))?;
    let captured = Captured::of_trace(headers.get("traceparent").and_then(|v| v.to_str().ok()));
    let (here, by) = (Arc::clone(&app), who.clone());
    let look = move || Submitted::read(&here, &by, &body, key, captured);
    let Submitted { op, many, digest } = on_thread(&app, load, look).await??;
    let has_keys = op.jobs.iter().all(|job| job.spec.idempotency_key.is_some());
    let unknown = (!has_keys).then_some(whether_stored as fn() -> Error);
    let stored = run_once(&app, &who, &Repeatable { headers: &headers, digest, unknown }, op).await;
    let stored: Vec<Enqueued> = stored.map_err(|refused| refused.renamed(|field| as_given(field, many)))?;
    let status = if stored.iter().all(|job| job.existing) { StatusCode::OK } else { StatusCode::CREATED };
    match stored.as_slice() {
        [job] if !many => {
            let place = format!("/api/v1/jobs/{}", job.id);
            Ok((status, [(header::LOCATION, place)], Json(job)).into_response())
        }
        _ => Ok((status, Json(&stored)).into_response()),
    }
}

/// Jobs that are given alone.
#[derive(Deserialize)]
#[serde(transparent)]
struct Specs(#[serde(deserialize_with = "at_most::<MAX_BATCH, _, _>")] Vec<JobSpec>);

/// What the body of `POST /jobs` says.
struct Submitted {
    op: Enqueue,
    /// It is a list.
    many: bool,
    digest: Digest,
}

impl Submitted {
    fn read(app: &App, who: &Identity, body: &[u8], key: Option<String>, captured: Captured) -> Result<Self, Refusal> {
        // Not by an untagged enum: it would not say what is wrong.
        let many = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
        let mut specs = if many { read::<Specs>(body)?.0 } else { vec![read(body)?] };
        if key.is_some() {
            match specs.as_mut_slice() {
                [spec] => spec.idempotency_key = key,
                _ => {
                    return Err(Refusal::malformed("an Idempotency-Key is for one job; give each its idempotency_key"));
                }
            }
        }
        let captured = Arc::new(captured);
        let submission = |spec| Submission {
            id: new_id(app),
            spec,
            captured: Arc::clone(&captured),
            origin: Origin::default(),
            line: None,
        };
        let op = Enqueue { jobs: specs.into_iter().map(submission).collect() };
        if allow(&op, who).is_ok() {
            op.vet().map_err(|e| Refusal::from(e).renamed(|field| as_given(field, many)))?;
        }
        Ok(Self { op, many, digest: digest("submit", body) })
    }
}

/// A field of the Op, as the body of `POST /jobs` has it.
fn as_given(field: &str, many: bool) -> String {
    let place = field.strip_prefix("jobs").and_then(|field| field.split_once(".spec."));
    match place {
        Some((place, field)) if many => format!("{place}.{field}"),
        Some((_, field)) => field.to_owned(),
        None => field.to_owned(),
    }
}

/// The ids of jobs are made here, so without keys a call that is made again cannot be looked up.
fn whether_stored() -> Error {
    Error::new(Kind::Unknown, "whether the call before has stored jobs is unknown")
        .hint("an Idempotency-Key tells for a day; GET /api/v1/jobs shows what is stored")
}

fn new_id(app: &App) -> JobId {
    let mut chance = [0; 10];
    chance.copy_from_slice(&Uuid::new_v4().as_bytes()[..10]);
    JobId::new(app.clock.now(), chance)
}

/// States with commas, for the description.
const STATES: &str = "^(blocked|scheduled|pending|running|done|failed|cancelled|skipped)(,(blocked|scheduled|pending|running|done|failed|cancelled|skipped))*$";

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct JobsQuery {
    /// In one of these states, with commas.
    #[schemars(example = &"pending,running", regex(pattern = STATES))]
    state: Option<String>,
    /// In this queue.
    #[schemars(example = &"build")]
    queue: Option<String>,
    /// Of this tenant.
    #[schemars(example = &"default")]
    tenant: Option<String>,
    /// With this name.
    name: Option<String>,
    /// With this label, as KEY=VALUE.
    #[schemars(example = &"team=web", regex(pattern = "^[^=]+=.*$"))]
    label: Option<String>,
    /// Stored at this time or later.
    #[schemars(example = &"2026-01-01T00:00:00Z")]
    since: Option<Timestamp>,
    /// At most so many.
    #[schemars(example = 10)]
    limit: Option<usize>,
    /// After this place: `next` of the page before.
    #[schemars(example = 1000)]
    cursor: Option<Number>,
}

/// `GET /jobs`
pub(super) async fn jobs(
    State(app): Here,
    Extension(who): Who,
    Query(query): Query<JobsQuery>,
) -> Result<Response, Refusal> {
    let wrong = |field: &'static str| move |e| Refusal::field(field.to_owned(), e);
    let states = query.state.iter().flat_map(|s| s.split(',')).map(state);
    let states = states.collect::<Result<_>>().map_err(wrong("state"))?;
    let label = query.label.as_deref().map(|label| match label.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Error::usage(format!("{label:?} is no label such as team=build"))),
    });
    let label = label.transpose().map_err(wrong("label"))?;
    let labels: BTreeMap<_, _> = label.into_iter().collect();
    let JobsQuery { queue, tenant, name, since, limit, cursor, .. } = query;
    let filter = Filter { states, queue, tenant, name, labels, since };
    reply(&app, &who, ListJobs { filter, before: cursor, limit: limit.unwrap_or(PAGE) }).await
}

fn state(word: &str) -> Result<JobState> {
    serde_json::from_value(word.into()).map_err(|_| Error::usage(format!("{word:?} is no state of a job")))
}

/// The job that a path names.
pub(super) async fn find(app: &Arc<App>, who: &Identity, id: &str) -> Result<Number, Refusal> {
    let selector: Selector = id.parse().map_err(Error::usage)?;
    let found = run(app, who, Select { selectors: vec![selector], all: None }).await?;
    match found.as_slice() {
        [job] => Ok(job.number),
        [] => Err(Error::not_found(format!("there is no job {id}")).into()),
        _ => Err(Error::usage(format!("{id} names several jobs")).into()),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    /// Seconds to wait for its end, at most 300.
    #[schemars(example = 1)]
    wait: Option<u16>,
}

/// `GET /jobs/{id}`
pub(super) async fn job(
    State(app): Here,
    Extension(who): Who,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<Job>, Refusal> {
    let number = find(&app, &who, &id).await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(query.wait.unwrap_or(0).min(300).into());
    let mut changes = app.engine.subscribe(Topics::JOBS)?;
    let mut stop = app.stop.clone();
    loop {
        let jobs = run(&app, &who, GetJobs { numbers: vec![number], detail: true }).await?;
        let job = jobs.into_iter().next().ok_or_else(|| Error::not_found(format!("there is no job {id}")))?;
        if job.state.is_terminal() || tokio::time::Instant::now() >= deadline || *stop.borrow() {
            return Ok(Json(job));
        }
        tokio::select! {
            _ = changes.changed(Some(deadline)) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// A body that may be left out.
async fn given<T>(app: &Arc<App>, load: Load, body: &Bytes) -> Result<T, Refusal>
where
    T: Default + DeserializeOwned + Send + 'static,
{
    let body = body.clone();
    on_thread(app, load, move || if body.is_empty() { Ok(T::default()) } else { read(&body) }).await?
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CancelBody {
    /// Why, for people.
    reason: Option<String>,
    #[serde(flatten)]
    how: CancelRequest,
}

/// `POST /jobs/{id}/cancel`
pub(super) async fn cancel(
    State(app): Here,
    Extension(who): Who,
    Path(id): Path<String>,
    Extension(load): Extension<Load>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let CancelBody { reason, how } = given(&app, load, &body).await?;
    let number = find(&app, &who, &id).await?;
    let digest = on_thread(&app, load, move || digest(&format!("cancel {number}"), &body)).await?;
    let call = Repeatable { headers: &headers, digest, unknown: None };
    let cancelled = run_once(&app, &who, &call, Cancel { numbers: vec![number], reason, how }).await?;
    Ok(Json(cancelled.first()).into_response())
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryBody {
    /// Not those that were skipped because of it.
    only: bool,
}

/// `POST /jobs/{id}/retry`
pub(super) async fn retry(
    State(app): Here,
    Extension(who): Who,
    Path(id): Path<String>,
    Extension(load): Extension<Load>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let RetryBody { only } = given(&app, load, &body).await?;
    let number = find(&app, &who, &id).await?;
    let digest = on_thread(&app, load, move || digest(&format!("retry {number}"), &body)).await?;
    let call = Repeatable { headers: &headers, digest, unknown: None };
    Ok(Json(run_once(&app, &who, &call, Retry { numbers: vec![number], only }).await?).into_response())
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PageQuery {
    /// At most so many.
    #[schemars(example = 10)]
    limit: Option<usize>,
    /// After this place: the number of the last job of the page before.
    #[schemars(example = 1000)]
    cursor: Option<Number>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunsQuery {
    /// At most so many.
    #[schemars(example = 10)]
    limit: Option<usize>,
}

pub(super) async fn runs(
    State(app): Here,
    Extension(who): Who,
    Query(query): Query<RunsQuery>,
) -> Result<Response, Refusal> {
    let op = ListRuns { filter: Default::default(), limit: query.limit.unwrap_or(PAGE) };
    reply(&app, &who, op).await
}

pub(super) async fn one_run(
    State(app): Here,
    Extension(who): Who,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let run: RunName = id.parse().map_err(Error::usage)?;
    reply(&app, &who, GetRun { run, options: false }).await
}

pub(super) async fn schedules(State(app): Here, Extension(who): Who) -> Result<Response, Refusal> {
    reply(&app, &who, ListSchedules { filter: Default::default() }).await
}

pub(super) async fn workers(State(app): Here, Extension(who): Who) -> Result<Response, Refusal> {
    reply(&app, &who, ListWorkers {}).await
}

pub(super) async fn queues(State(app): Here, Extension(who): Who) -> Result<Response, Refusal> {
    Ok(Json(run(&app, &who, ListPolicies {}).await?.queues).into_response())
}

pub(super) async fn tenants(State(app): Here, Extension(who): Who) -> Result<Response, Refusal> {
    Ok(Json(run(&app, &who, ListPolicies {}).await?.tenants).into_response())
}

pub(super) async fn letters(
    State(app): Here,
    Extension(who): Who,
    Query(query): Query<PageQuery>,
) -> Result<Response, Refusal> {
    let op = ListLetters { filter: Default::default(), before: query.cursor, limit: query.limit.unwrap_or(PAGE) };
    reply(&app, &who, op).await
}

pub(super) async fn tokens(State(app): Here, Extension(who): Who) -> Result<Response, Refusal> {
    reply(&app, &who, ListTokens {}).await
}

pub(super) async fn status(State(app): Here, Extension(who): Who) -> Result<Response, Refusal> {
    reply(&app, &who, Status {}).await
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the store answers too, and the coordinator is not ending.
pub(super) async fn readyz(State(app): Here) -> Response {
    let look = app.engine.call(MayLead { right: Right::Silence });
    let what = match tokio::time::timeout(READY, look).await {
        _ if *app.stop.borrow() => "ending\n".to_owned(),
        Ok(Ok(_)) => match app.refused.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            None => return "ready\n".into_response(),
            Some(why) => format!("not ready: nothing can be written: {why}\n"),
        },
        Ok(Err(e)) => format!("not ready: {e}\n"),
        Err(_) => "not ready: the store does not answer\n".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, what).into_response()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_query_and_no_cursor_panics(query in "[ -~]{0,60}", cursor in "[-+0-9a-f.]{0,24}") {
            for query in [query.clone(), format!("cursor={cursor}"), format!("cursor={cursor}&limit={query}")] {
                let Ok(uri) = format!("/api/v1/jobs?{query}").parse() else { continue };
                let Ok(Query(found)) = Query::<JobsQuery>::try_from_uri(&uri) else { continue };
                if let Some(cursor) = found.cursor {
                    prop_assert!(query.contains(&cursor.unsigned_abs().to_string()), "{query} is {cursor}");
                }
            }
        }
    }
}
