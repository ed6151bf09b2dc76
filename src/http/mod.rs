//! The coordinator's API: every Op is a route, and what people call by hand has names of its own.
//!
//! A request's way: host and origin, token, the Op's scopes, the engine. What must not be here: SQL, the logic of Ops.

mod auth;
mod live;
mod openapi;
mod ops;
mod problem;
mod replies;
mod rest;
mod serve;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::sync::watch;

pub use self::auth::{Nodes, Policy};
pub use self::openapi::openapi;
pub use self::ops::Routes;
use self::replies::Replies;
pub use self::serve::{Doors, Server, Tls};
use crate::engine::Engine;
use crate::time::Clock;

/// The longest body that is read, in bytes: 10,000 jobs of 6 KiB.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What every request needs.
pub struct App {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    routes: Routes,
    replies: Replies,
    /// When a refusal was put on record last.
    denied: Mutex<Option<Instant>>,
    /// Streams end when it becomes true.
    stop: watch::Receiver<bool>,
}

impl App {
    /// The API of `engine`, with the Ops of `routes`. Its streams end when `stop` becomes true.
    pub fn new(
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        policy: Policy,
        routes: Routes,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Self { engine, clock, policy, routes, replies: Replies::default(), denied: Mutex::default(), stop })
    }

    /// All routes.
    pub fn router(self: &Arc<Self>) -> Router {
        let guarded = Router::new()
            .route("/ops/{name}", post(ops::call))
            .route("/changes", get(live::changes))
            .route("/events", get(live::events))
            .route("/ws", get(live::socket))
            .merge(rest::routes());
        Router::new()
            .nest("/api/v1", guarded)
            .route("/events", get(live::events))
            .route("/ws", get(live::socket))
            .route("/api/openapi.json", get(openapi::document))
            .route("/metrics", get(rest::metrics))
            .route("/healthz", get(rest::healthz))
            .route("/readyz", get(rest::readyz))
            .fallback(problem::no_route)
            .method_not_allowed_fallback(problem::no_method)
            .layer(axum::middleware::from_fn_with_state(Arc::clone(self), auth::guard))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(self))
    }
}
