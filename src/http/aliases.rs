//! The routes with names of their own: one table that both serves and describes them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::ops::Asked;
use super::output::OutputQuery;
use super::rest::{CancelBody, JobsQuery, PageQuery, RetryBody, RunsQuery, WaitQuery};
use super::{App, figures, live, openapi, output, rest};
use crate::job::{Job, JobSpec};
use crate::ops::cancel::{Cancel, CancelReply};
use crate::ops::dead_letters::{DeadLetter, ListLetters};
use crate::ops::enqueue::{Enqueue, Enqueued};
use crate::ops::events::ReadEvents;
use crate::ops::jobs::{GetJobs, ListJobs, Page};
use crate::ops::metrics::Measure;
use crate::ops::output::ReadOutput;
use crate::ops::policies::ListPolicies;
use crate::ops::retry::{Retry, RetryReply};
use crate::ops::runs::view::{GetRun, ListRuns, RunLine, RunView};
use crate::ops::schedules::look::{ListSchedules, SchedulePage};
use crate::ops::select::Select;
use crate::ops::status::{Status, StatusReply};
use crate::ops::tokens::{ListTokens, TokenView};
use crate::ops::workers::ListWorkers;
use crate::ops::{Op, Scopes};
use crate::remote::changes::Change;
use crate::store::{QueueTotals, Tenant, Worker};

/// The schema of some type.
pub(super) type Describe = fn(&mut SchemaGenerator) -> Schema;

/// The statuses with which any route refuses.
pub(super) const ALWAYS: [u16; 8] = [400, 401, 403, 408, 413, 421, 500, 503];

/// A route and what is said of it.
pub(super) struct Alias {
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    handler: fn() -> MethodRouter<Arc<App>>,
    /// Its name for programs.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// The parameters of its query, as the fields of an object.
    pub(super) query: Option<Describe>,
    /// What it asks for; none: any token may.
    pub(super) asks: Option<Asked>,
    /// An example of the `{id}` in its path.
    pub(super) names: Option<&'static str>,
    /// Its body, whether there must be one, and an example.
    pub(super) body: Option<(Describe, bool, Value)>,
    /// Headers that it understands, with an example each.
    pub(super) headers: &'static [(&'static str, &'static str, &'static str)],
    /// The statuses with which it answers, each with its media type and schema.
    pub(super) answers: Vec<(u16, &'static str, Option<Describe>)>,
    /// The statuses with which it refuses, beside [`ALWAYS`].
    pub(super) refuses: &'static [u16],
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

/// A job, or many.
fn submissions(schemas: &mut SchemaGenerator) -> Schema {
    one_or_many::<JobSpec>(schemas)
}

fn stored(schemas: &mut SchemaGenerator) -> Schema {
    one_or_many::<Enqueued>(schemas)
}

fn one_or_many<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    let (one, many) = (of::<T>(schemas), of::<Vec<T>>(schemas));
    schemars::json_schema!({ "anyOf": [one, many] })
}

impl Alias {
    /// A route that shows something as JSON.
    fn shows<T: JsonSchema>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: fn() -> MethodRouter<Arc<App>>,
    ) -> Self {
        Self::streams(path, id, summary, handler, (200, JSON)).answers(vec![(200, JSON, Some(of::<T>))])
    }

    /// A route whose answer is no JSON document.
    fn streams(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: fn() -> MethodRouter<Arc<App>>,
        answer: (u16, &'static str),
    ) -> Self {
        let (query, asks, names, body, headers) = (None, None, None, None, &[]);
        let answers = vec![(answer.0, answer.1, None)];
        Self { path, method: "get", handler, id, summary, query, asks, names, body, headers, answers, refuses: &[] }
    }

    fn answers(self, answers: Vec<(u16, &'static str, Option<Describe>)>) -> Self {
        Self { answers, ..self }
    }

    /// A route that asks for an Op, and perhaps for another one before.
    fn asks<O: Op>(self) -> Self {
        let before = self.asks.map_or(Scopes::NONE, |asked| asked.scopes);
        Self { asks: Some(Asked { scopes: O::SCOPES.and(before), ..Asked::of::<O>() }), ..self }
    }

    fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(of::<T>), ..self }
    }

    fn names(self, example: &'static str) -> Self {
        Self { names: Some(example), ..self }
    }

    fn refuses(self, refuses: &'static [u16]) -> Self {
        Self { refuses, ..self }
    }

    fn takes(self, body: Describe, required: bool, example: Value) -> Self {
        Self { method: "post", body: Some((body, required, example)), ..self }
    }
}

/// All of them.
pub(super) fn aliases() -> Vec<Alias> {
    let mut all = jobs();
    all.extend(lists());
    all.extend(live());
    all
}

fn jobs() -> Vec<Alias> {
    const SUBMIT: &[u16] = &[404, 409, 415, 422, 429, 504];
    const CHANGE: &[u16] = &[404, 409, 422, 429, 504];
    let command = json!({ "command": ["echo", "hello"], "queue": "build", "label": { "team": "web" } });
    let submit =
        Alias::shows::<Enqueued>("/api/v1/jobs", "submit", "Store a job, or an array of jobs", || post(rest::submit));
    vec![
        Alias {
            headers: &[
                ("Idempotency-Key", "The same key never makes a second job.", "build-1"),
                ("traceparent", "The W3C trace that the job belongs to.", TRACE),
            ],
            ..submit
                .asks::<Enqueue>()
                .takes(submissions, true, command)
                .refuses(SUBMIT)
                .answers(vec![(200, JSON, Some(stored)), (201, JSON, Some(stored))])
        },
        Alias::shows::<Page>("/api/v1/jobs", "list_jobs_page", "Jobs, newest first", || get(rest::jobs))
            .asks::<ListJobs>()
            .query::<JobsQuery>()
            .refuses(&[422]),
        Alias::shows::<Job>("/api/v1/jobs/{id}", "get_job", "All about a job; or wait for its end", || get(rest::job))
            .asks::<GetJobs>()
            .names("1")
            .query::<WaitQuery>()
            .refuses(&[404, 422]),
        Alias::shows::<Option<CancelReply>>("/api/v1/jobs/{id}/cancel", "cancel_job", "End a job", || {
            post(rest::cancel)
        })
        .asks::<Select>()
        .asks::<Cancel>()
        .names("2")
        .takes(of::<CancelBody>, false, json!({ "reason": "wrong branch" }))
        .refuses(CHANGE),
        Alias::shows::<Vec<RetryReply>>(
            "/api/v1/jobs/{id}/retry",
            "retry_job",
            "Run a failed or cancelled job again",
            || post(rest::retry),
        )
        .asks::<Select>()
        .asks::<Retry>()
        .names("1")
        .takes(of::<RetryBody>, false, json!({ "only": true }))
        .refuses(CHANGE),
        Alias::streams(
            "/api/v1/jobs/{id}/output",
            "get_output",
            "What a job wrote, as it wrote it",
            || get(output::output),
            (200, "application/octet-stream"),
        )
        .asks::<ReadOutput>()
        .names("1")
        .query::<OutputQuery>()
        .refuses(&[404, 422]),
    ]
}

/// An example of a trace: that of the W3C's document.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn lists() -> Vec<Alias> {
    vec![
        Alias::shows::<Vec<RunLine>>("/api/v1/runs", "list_runs_page", "Runs, newest first", || get(rest::runs))
            .asks::<ListRuns>()
            .query::<RunsQuery>(),
        Alias::shows::<RunView>("/api/v1/runs/{id}", "get_one_run", "A run with its tasks", || get(rest::one_run))
            .asks::<GetRun>()
            .names("last")
            .refuses(&[404, 409, 422]),
        Alias::shows::<SchedulePage>("/api/v1/schedules", "list_all_schedules", "Schedules", || get(rest::schedules))
            .asks::<ListSchedules>(),
        Alias::shows::<Vec<Worker>>("/api/v1/workers", "list_all_workers", "Workers", || get(rest::workers))
            .asks::<ListWorkers>(),
        Alias::shows::<Vec<QueueTotals>>("/api/v1/queues", "list_queues", "Queues and how many jobs each has", || {
            get(rest::queues)
        })
        .asks::<ListPolicies>(),
        Alias::shows::<Vec<Tenant>>("/api/v1/tenants", "list_tenants", "Tenants and their limits", || {
            get(rest::tenants)
        })
        .asks::<ListPolicies>(),
        Alias::shows::<Vec<DeadLetter>>("/api/v1/dead-letters", "list_dead_letters", "Dead letters", || {
            get(rest::letters)
        })
        .asks::<ListLetters>()
        .query::<PageQuery>()
        .refuses(&[422]),
        Alias::shows::<StatusReply>("/api/v1/status", "get_status", "The whole: queues, workers, leader", || {
            get(rest::status)
        })
        .asks::<Status>(),
        Alias::shows::<Vec<TokenView>>("/api/v1/tokens", "list_all_tokens", "Tokens, without their secrets", || {
            get(rest::tokens)
        })
        .asks::<ListTokens>(),
        Alias::shows::<Value>("/api/openapi.json", "get_openapi", "This description", || get(openapi::document)),
        Alias::streams(
            "/metrics",
            "get_metrics",
            "Figures as Prometheus reads them",
            || get(figures::metrics),
            (200, TEXT),
        )
        .asks::<Measure>(),
        Alias::streams("/healthz", "get_healthz", "The process answers", || get(rest::healthz), (200, TEXT)),
        Alias::streams("/readyz", "get_readyz", "The store answers too", || get(rest::readyz), (200, TEXT))
            .answers(vec![(200, TEXT, None), (503, TEXT, None)]),
    ]
}

fn live() -> Vec<Alias> {
    let events = |path, id| {
        let answer = (200, "text/event-stream");
        let summary = "Events as they happen; a reader resumes where it was";
        let alias = Alias::streams(path, id, summary, || get(live::events), answer).asks::<ReadEvents>();
        let headers = &[("Last-Event-ID", "The id of the last event that was seen.", "0")];
        Alias { headers, ..alias.query::<live::Selection>().refuses(&[404, 422]) }
    };
    let socket = |path, id| {
        let summary = "The same events over a WebSocket";
        let alias = Alias::streams(path, id, summary, || get(live::socket), (101, JSON)).asks::<ReadEvents>();
        alias.query::<live::Selection>().refuses(&[404, 422, 426])
    };
    vec![
        events("/events", "follow_events"),
        events("/api/v1/events", "follow_events_below"),
        socket("/ws", "follow_events_by_websocket"),
        socket("/api/v1/ws", "follow_events_by_websocket_below"),
        Alias::shows::<Change>("/api/v1/changes", "follow_changes", "A line for each change, for orx itself", || {
            get(live::changes)
        })
        .query::<live::Wanted>()
        .answers(vec![(200, "application/x-ndjson", None)]),
    ]
}

/// What they ask for, by method and path.
pub(super) fn asked() -> HashMap<(&'static str, &'static str), Asked> {
    let asks = |alias: Alias| {
        let object = |asked: Asked| asked.object.filter(|_| alias.body.is_some());
        Some(((alias.method, alias.path), alias.asks.map(|asked| Asked { object: object(asked), ..asked })?))
    };
    aliases().into_iter().filter_map(asks).collect()
}

/// Routes that lead to them.
pub(super) fn routes() -> Router<Arc<App>> {
    aliases().into_iter().fold(Router::new(), |router, alias| router.route(alias.path, (alias.handler)()))
}
