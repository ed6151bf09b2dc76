//! Who may ask: host and origin against pages of strangers, tokens against everybody else.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::{Instrument as _, debug, info_span};
use uuid::Uuid;

use super::body::Load;
use super::problem::{PROBLEM, Refusal};
use super::{App, body, figures, ops, problem};
use crate::engine::Try;
use crate::error::{Error, Kind, Result};
use crate::gossip::Counters;
use crate::job::Captured;
use crate::ops::tokens::{Authenticate, Token};
use crate::ops::{Caller, Scopes, Takes};

/// What may be asked without a token: whether the process lives.
pub(super) const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Which requests are looked at at all.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The names under which clients may ask for this coordinator, without ports; a loopback address always is one.
    pub hosts: BTreeSet<String>,
    /// The other nodes of a cluster, where this one is in one.
    pub nodes: Option<Nodes>,
}

/// Whose token it is.
pub type NodeOf = dyn Fn(&str) -> Result<String> + Send + Sync;

/// Knows the nodes of a cluster by the tokens that they show.
#[derive(Clone)]
pub struct Nodes {
    /// What the tokens of nodes begin with.
    pub prefix: &'static str,
    /// Whose token it is, or why it is worth nothing.
    pub node_of: Arc<NodeOf>,
    /// Which jobs they may lease.
    pub takes: Takes,
    /// What gossip refused and what went by, for the metrics.
    pub counters: Arc<Counters>,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nodes({:?})", self.takes)
    }
}

/// Who made a request.
#[derive(Clone)]
pub(super) struct Identity {
    /// The token's id.
    pub(super) token: Uuid,
    /// What it may do.
    pub(super) caller: Arc<Caller>,
    /// What was shown, for those who stay long.
    shown: HeaderValue,
}

/// How often the token of a stream is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A stream that is read, for as long as the token is good that was shown for it.
pub(super) struct Session {
    app: Arc<App>,
    identity: Identity,
    looked_at: Instant,
}

impl Session {
    pub(super) fn new(app: &Arc<App>, identity: &Identity) -> Self {
        Self { app: Arc::clone(app), identity: identity.clone(), looked_at: Instant::now() }
    }

    /// Whether the token is still good. A store that cannot be asked is no reason to end what runs.
    pub(super) async fn is_good(&mut self) -> bool {
        if self.looked_at.elapsed() < LOOK_AGAIN {
            return true;
        }
        self.looked_at = Instant::now();
        match identify(&self.app, Some(&self.identity.shown)).await {
            Ok(identity) => identity.token == self.identity.token,
            Err(refusal) => refusal.status() != StatusCode::UNAUTHORIZED,
        }
    }
}

/// Lets a request through, with the [`Identity`] of its token.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (begun, route) = (Instant::now(), figures::route(&app, &request));
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let id = headers.get("x-request-id").filter(|id| id.len() <= 128).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&Uuid::now_v7().to_string()).ok());
    // What is logged meanwhile says for whom, and in whose trace.
    let word = |value: Option<&HeaderValue>| value.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let trace = Captured::of_trace(headers.get("traceparent").and_then(|v| v.to_str().ok())).trace;
    let span = info_span!("request", id = word(id.as_ref()), op = route, trace);
    let answering = async {
        match admit(&app, &uri, &headers).await {
            // Nobody in particular asks, and has nothing to say: what is sent all the same is not kept.
            Ok(None) => next.run(Request::from_parts(request.into_parts().0, Body::empty())).await,
            Ok(Some(identity)) => answer(&app, identity, request, next).await.unwrap_or_else(Refusal::into_response),
            Err(refusal) => refusal.into_response(),
        }
    };
    let mut response = answering.instrument(span.clone()).await;
    if response.status().is_client_error() && response.headers().get(header::CONTENT_TYPE) != Some(&PROBLEM) {
        response = problem::of_plain(response).await;
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(id) = id {
        headers.insert("x-request-id", id);
    }
    span.in_scope(|| debug!(status = response.status().as_u16(), "answered"));
    app.figures.answered(route, response.status(), begun.elapsed());
    response
}

/// Answers whom the token is of. What it may not ask for, and what asks for nothing, is not read.
async fn answer(app: &Arc<App>, identity: Identity, mut request: Request, next: Next) -> Result<Response, Refusal> {
    let asked = app.asked(&request);
    let refused = asked.and_then(|asked| ops::covers(&identity, asked.op, asked.scopes).err().zip(Some(asked)));
    if let Some((refused, asked)) = refused {
        let (head, body) = request.into_parts();
        ops::record(app, &identity, asked.op, asked.scopes).await;
        body::let_pass(&head.headers, body).await;
        return Err(refused.into());
    }
    request.extensions_mut().insert(identity);
    request.extensions_mut().insert(Load::Light); // unless there is more
    match asked.and_then(|asked| asked.object) {
        Some(object) => {
            let (request, _room) = body::read_whole(app, request, object).await?;
            Ok(next.run(request).await)
        }
        None => {
            let (head, body) = request.into_parts();
            body::let_pass(&head.headers, body).await;
            Ok(next.run(Request::from_parts(head, Body::empty())).await)
        }
    }
}

async fn admit(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
    let host = app.policy.host(uri, headers)?;
    check_origin(headers, host)?;
    if OPEN.contains(&uri.path()) {
        return Ok(None);
    }
    identify(app, headers.get(header::AUTHORIZATION)).await.map(Some)
}

/// Whose token it is.
async fn identify(app: &App, shown: Option<&HeaderValue>) -> Result<Identity, Refusal> {
    let refuse = |why: &str| {
        let error = Error::new(Kind::Denied, why).hint("'orx token create' on the coordinator's machine makes one");
        Refusal::with(StatusCode::UNAUTHORIZED, error)
    };
    let Some(shown) = shown.cloned() else { return Err(refuse("a token is needed")) };
    let secret = shown.to_str().ok().and_then(|v| v.split_once(' '));
    let secret = secret.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, secret)| secret.trim());
    if let (Some(nodes), Some(secret)) = (&app.policy.nodes, secret)
        && secret.starts_with(nodes.prefix)
    {
        let (token, caller) = nodes.identify(secret)?;
        return Ok(Identity { token, caller: Arc::new(caller), shown });
    }
    let token: Token = match secret.map(str::parse) {
        Some(Ok(token)) => token,
        _ => return Err(refuse("this is no token")),
    };
    let asking = Arc::new(Caller::local("coordinator"));
    let known = app.engine.call_as(asking, Authenticate::of(&token), Try::First).await?;
    let Some(token) = known else { return Err(refuse("the token is unknown, expired or revoked")) };
    let caller = Caller {
        actor: format!("token {}", token.name),
        tenant: token.tenant,
        token: Some(token.id),
        scopes: token.scopes,
        schemas: app.engine.caller().schemas.clone(),
        takes: Takes::All,
    };
    Ok(Identity { token: token.id, caller: Arc::new(caller), shown })
}

impl Nodes {
    /// A node works for all tenants, and may do nothing else.
    fn identify(&self, secret: &str) -> Result<(Uuid, Caller), Refusal> {
        let node = (self.node_of)(secret).map_err(|error| Refusal::with(StatusCode::UNAUTHORIZED, error))?;
        let token = Uuid::new_v5(&Uuid::NAMESPACE_URL, node.as_bytes());
        let actor = format!("node {node}");
        Ok((token, Caller { scopes: Scopes::WORK, takes: self.takes, ..Caller::local(actor) }))
    }
}

impl Policy {
    /// The host that the client asked for, if it is ours: a name that a stranger had resolved to this machine is not.
    fn host<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
        let mut given = headers.get_all(header::HOST).iter();
        let host = match (given.next(), given.next()) {
            (Some(host), None) => host.to_str().ok(),
            (None, None) => uri.authority().map(|a| a.as_str()),
            _ => None,
        };
        let host = host.ok_or_else(|| Refusal::malformed("the request names no host"))?;
        match self.knows(host) {
            true => Ok(host),
            false => Err(Refusal::with(
                StatusCode::MISDIRECTED_REQUEST,
                Error::usage(format!("this coordinator is not {host:?}")).hint("name it with --host"),
            )),
        }
    }

    fn knows(&self, host: &str) -> bool {
        let name = without_port(host);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback())
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// A page may ask only the host that it came from.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    match origin.split_once("://") {
        Some((_, from)) if from.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Refusal::with(StatusCode::FORBIDDEN, Error::new(Kind::Denied, "pages of other origins may not ask"))),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_coordinator_are_answered() {
        let policy = Policy { hosts: ["queue.example".to_owned()].into(), nodes: None };
        for ours in
            ["localhost", "LOCALHOST:7117", "127.0.0.1:7117", "[::1]:7117", "queue.example", "queue.example:443"]
        {
            assert!(policy.knows(ours), "{ours}");
        }
        for stranger in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]"]
        {
            assert!(!policy.knows(stranger), "{stranger}");
        }
    }
}
