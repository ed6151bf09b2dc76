//! The coordinator's API: every Op is a route, and what people call by hand has names of its own.
//!
//! A request's way: host and origin, token, the Op's scopes, the engine. What must not be here: SQL, the logic of Ops.

mod aliases;
mod auth;
mod example;
mod figures;
mod live;
mod openapi;
mod ops;
mod output;
mod problem;
mod replies;
mod rest;
mod serve;
mod trail;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use tokio::sync::{Semaphore, watch};

pub use self::auth::{Nodes, Policy};
use self::figures::Figures;
pub use self::figures::Source;
pub use self::openapi::openapi;
pub use self::ops::Routes;
use self::replies::Replies;
pub use self::serve::{Doors, Server, Tls};
use self::trail::Trails;
use crate::engine::Engine;
use crate::error::Error;
use crate::time::Clock;

/// The longest body that is read, in bytes: 10,000 jobs of 6 KiB.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// The most that all bodies take together, in bytes.
const MAX_BODIES: usize = 4 * MAX_BODY;

/// What every request needs.
pub struct App {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    routes: Routes,
    replies: Replies,
    /// Room for bodies, in bytes.
    bodies: Semaphore,
    figures: Figures,
    trails: Trails,
    /// When a refusal was put on record last.
    denied: Mutex<Option<Instant>>,
    /// Why nothing can be written, while that is so.
    refused: Mutex<Option<String>>,
    /// Streams end when it becomes true.
    stop: watch::Receiver<bool>,
}

impl App {
    /// The API of `engine`, with the Ops of `routes`. Its streams end when `stop` becomes true. `sources` have more
    /// figures for its metrics.
    pub fn new(
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        policy: Policy,
        routes: Routes,
        sources: Vec<Source>,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let (figures, replies) = (Figures::new(clock.now(), sources), Replies::default());
        Arc::new(Self {
            engine,
            clock,
            policy,
            routes,
            replies,
            bodies: Semaphore::new(MAX_BODIES),
            figures,
            trails: Trails::default(),
            denied: Mutex::default(),
            refused: Mutex::default(),
            stop,
        })
    }

    /// Notes how writing to the store went last; while it fails the coordinator is not ready.
    pub fn note_writing(&self, error: Option<&Error>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = error.map(ToString::to_string);
    }

    /// All routes.
    pub fn router(self: &Arc<Self>) -> Router {
        aliases::routes()
            .route("/api/v1/ops/{name}", post(ops::call))
            .fallback(problem::no_route)
            .method_not_allowed_fallback(problem::no_method)
            .layer(axum::middleware::from_fn_with_state(Arc::clone(self), auth::guard))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(self))
    }
}
