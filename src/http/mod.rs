//! The coordinator's API: every Op is a route, and what people call by hand has names of its own.
//!
//! A request's way: host and origin, token, the least scopes, its body, all scopes, the engine. What must not be here: SQL, the logic of Ops.

mod aliases;
mod auth;
mod body;
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

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::Method;
use axum::routing::post;
use tokio::sync::watch;

pub use self::auth::{Nodes, Policy};
use self::body::Bodies;
use self::figures::Figures;
pub use self::figures::Source;
pub use self::openapi::openapi;
use self::ops::Asked;
pub use self::ops::Routes;
use self::replies::Replies;
pub use self::serve::{Doors, Server, Tls};
use self::trail::Trails;
use crate::engine::Engine;
use crate::error::Error;
use crate::time::Clock;

/// The route of all Ops.
const OPS: &str = "/api/v1/ops/{name}";

/// What every request needs.
pub struct App {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    routes: Routes,
    replies: Replies,
    /// What is asked for by the routes with names of their own, by method and path.
    named: HashMap<(&'static str, &'static str), Asked>,
    bodies: Bodies,
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
            named: aliases::asked(),
            bodies: Bodies::default(),
            figures,
            trails: Trails::default(),
            denied: Mutex::default(),
            refused: Mutex::default(),
            stop,
        })
    }

    /// What a request asks for; none for what is no route, or needs nothing.
    fn asked(&self, request: &Request) -> Option<Asked> {
        let path = request.extensions().get::<MatchedPath>()?.as_str();
        let method = match *request.method() {
            Method::GET | Method::HEAD => "get",
            Method::POST => "post",
            _ => return None,
        };
        if path != OPS {
            return self.named.get(&(method, path)).copied();
        }
        let name = request.uri().path().rsplit('/').next()?;
        self.routes.0.get(name).filter(|_| method == "post").map(|route| route.asked)
    }

    /// Notes how writing to the store went last; while it fails the coordinator is not ready.
    pub fn note_writing(&self, error: Option<&Error>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = error.map(ToString::to_string);
    }

    /// All routes.
    pub fn router(self: &Arc<Self>) -> Router {
        aliases::routes()
            .route(OPS, post(ops::call))
            .fallback(problem::no_route)
            .method_not_allowed_fallback(problem::no_method)
            .layer(axum::middleware::from_fn_with_state(Arc::clone(self), auth::guard))
            .layer(DefaultBodyLimit::max(body::MAX_BODY))
            .with_state(Arc::clone(self))
    }
}
