//! Errors as `application/problem+json`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{Error, Kind, Problem};

/// The media type of what is refused.
pub(super) const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The longest refusal in plain text, in bytes.
const MAX_PLAIN: usize = 4096;

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Error,
}

impl Refusal {
    /// `error` under another status than its kind has.
    pub(super) fn with(status: StatusCode, error: Error) -> Self {
        Self { status, error }
    }

    /// A body whose `field` is wrong.
    pub(super) fn field(field: String, error: Error) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, error: error.field(field) }
    }

    /// The same, with the field as it is named in what was asked.
    pub(super) fn renamed(mut self, name: impl Fn(&str) -> String) -> Self {
        if let Some(field) = self.error.field_name().map(name) {
            self.error = self.error.field(field);
        }
        self
    }

    /// The status that it goes out with.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The body is no JSON.
    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::with(StatusCode::BAD_REQUEST, Error::usage(what))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        // To try again helps where a limit is on what is used, and not where it is on how large a thing may be.
        let status = match error.kind() {
            Kind::Limit if error.retry_after_time().is_none() => StatusCode::PAYLOAD_TOO_LARGE,
            kind => status(kind),
        };
        Self { status, error }
    }
}

/// The status of an error.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Usage => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Limit => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Unknown | Kind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        Kind::Corrupt | Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem::new(&self.error, self.status.as_u16());
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, PROBLEM)], body).into_response();
        if let Some(after) = self.error.retry_after_time() {
            // Whole seconds, and not before the time.
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs_f64().ceil() as u64));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A refusal of the router, which says in plain text what is wrong with a path, a query or a header.
pub(super) async fn of_plain(response: Response) -> Response {
    let (head, body) = response.into_parts();
    let said = axum::body::to_bytes(body, MAX_PLAIN).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let said = if said.is_empty() { "the request makes no sense" } else { said.trim() };
    let error = Error::usage(said);
    // As in `Failed to deserialize query string: limit: invalid digit found in string`.
    let field = said.strip_prefix("Failed to deserialize query string: ").and_then(|said| said.split_once(": "));
    let error = match field.filter(|(field, _)| !field.contains(' ')) {
        Some((field, _)) => error.field(field),
        None => error,
    };
    let mut refused = Refusal::with(head.status, error).into_response();
    for (name, value) in head.headers.iter().filter(|(name, _)| *name == header::ALLOW || *name == header::UPGRADE) {
        refused.headers_mut().insert(name, value.clone());
    }
    refused
}

pub(super) async fn no_route() -> Refusal {
    Error::not_found("there is no such route").hint("see /api/openapi.json").into()
}

pub(super) async fn no_method() -> Refusal {
    Refusal::with(StatusCode::METHOD_NOT_ALLOWED, Error::usage("this route has no such method"))
}
