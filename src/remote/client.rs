//! Requests to a coordinator.

use std::str::FromStr;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use uuid::Uuid;

use crate::certs;
use crate::error::{AUTHORITY_AS_SERVER, Error, Result};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long what was sent may lie about without being received: then the connection is dead, and the call is made on
/// another one. Soon enough for a renewal, which is due after a third of a lease and given up after three quarters.
const DEAD_AFTER: Duration = Duration::from_secs(4);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long a sign of life may take.
const GREET_LIMIT: Duration = Duration::from_secs(4);
/// How long an unused connection is kept; shorter than the coordinator keeps it.
const IDLE: Duration = Duration::from_secs(20);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Where a coordinator is.
#[derive(Clone, Debug)]
pub struct Address {
    url: String,
    secure: bool,
}

impl Address {
    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::usage(format!("{text:?} is no coordinator's URL")).hint("as in http://127.0.0.1:7117");
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') {
            return Err(Error::usage("a coordinator's URL has no user or password").hint("use --token or ORX_TOKEN"));
        }
        if let Some(query) = uri.query() {
            let names: Vec<&str> = query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair)).collect();
            return Err(Error::usage(format!("a coordinator's URL has no parameters, and not {}", names.join(", ")))
                .hint("as in http://127.0.0.1:7117; those of a database go to the coordinator's own --store"));
        }
        if !matches!(uri.path(), "" | "/") {
            return Err(bad().hint("without a path, as in http://127.0.0.1:7117"));
        }
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        Ok(Self { url: text.trim_end_matches('/').to_owned(), secure })
    }
}

/// A request that got no answer.
#[derive(Debug)]
pub struct Failure {
    /// Whether it may have been carried out.
    pub sent: bool,
    /// Whether another try would end alike.
    pub lasting: bool,
    /// What happened.
    pub error: Error,
}

/// Connections to one coordinator.
pub struct Wire {
    address: Address,
    authorization: RwLock<Option<HeaderValue>>,
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Wire {
    /// A client of the coordinator at `address`; it connects when it is asked for something.
    ///
    /// # Errors
    /// `Usage` when the token cannot be one, `Failed` when the machine has no certificates to trust.
    pub fn new(address: Address, token: Option<String>) -> Result<Self> {
        let authorization = token.map(|token| bearer(&token)).transpose()?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_LIMIT));
        http.set_tcp_user_timeout(Some(DEAD_AFTER));
        let https = HttpsConnectorBuilder::new().with_tls_config(trust(address.secure)?).https_or_http();
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(https.enable_http1().wrap_connector(http));
        Ok(Self { address, authorization: RwLock::new(authorization), pool })
    }

    /// Where the coordinator is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Shows `token` from now on.
    ///
    /// # Errors
    /// `Usage` when it cannot be one.
    pub fn set_token(&self, token: &str) -> Result<()> {
        let value = bearer(token)?;
        *self.authorization.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// Posts JSON under the id `request`; `again`: it may have been done before.
    ///
    /// # Errors
    /// A [`Failure`] when there was no answer.
    pub async fn post(
        &self,
        path: &str,
        body: Bytes,
        request: Uuid,
        again: bool,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut headers =
            vec![("x-request-id", request.to_string()), (CONTENT_TYPE.as_str(), "application/json".into())];
        if again {
            headers.push(("orx-again", "1".into()));
        }
        let call = async {
            let response = self.send(Method::POST, path, &headers, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|e| self.failure(true, "broke off").caused_by(e.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(ANSWER_LIMIT, call).await {
            Ok(answer) => answer,
            Err(_) => Err(self.failure(true, "does not answer")),
        }
    }

    /// Looks whether a coordinator answers there at all, whoever asks.
    ///
    /// # Errors
    /// A [`Failure`] when none does.
    pub async fn greet(&self) -> Result<(), Failure> {
        let head = self.send(Method::GET, "/healthz", &[], Bytes::new());
        match tokio::time::timeout(GREET_LIMIT, head).await {
            Ok(Ok(response)) if response.status() == StatusCode::OK => Ok(()),
            Ok(Ok(response)) => Err(self.failure(true, &format!("answers {}", response.status()))),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(self.failure(true, "does not answer")),
        }
    }

    /// Asks for a stream; its head comes within the limit of an answer.
    ///
    /// # Errors
    /// A [`Failure`] when there was no answer.
    pub async fn stream(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        let headers = [(ACCEPT.as_str(), "application/x-ndjson".into())];
        match tokio::time::timeout(ANSWER_LIMIT, self.send(Method::GET, path, &headers, Bytes::new())).await {
            Ok(answer) => answer,
            Err(_) => Err(self.failure(true, "does not answer")),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address.url));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let authorization = self.authorization.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|e| self.failure(false, "cannot be asked this").caused_by(e.to_string()))?;
        self.pool.request(request).await.map_err(|e| {
            let sent = !e.is_connect();
            let failure = self.failure(sent, if sent { "broke off" } else { "cannot be reached" });
            self.explained(failure, &e).caused_by(reason(&e))
        })
    }

    /// What to do about it, where the cause tells.
    fn explained(&self, failure: Failure, error: &(dyn std::error::Error + 'static)) -> Failure {
        use rustls::{CertificateError, Error as Tls, InvalidMessage};
        // Whoever answers in no HTTP is no coordinator, and did nothing.
        let no_http = |e: &hyper::Error| e.is_parse() && !e.is_parse_status() && !e.is_parse_too_large();
        match find::<Tls>(error) {
            Some(Tls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                failure.lasting("SSL_CERT_FILE=FILE trusts a certificate of your own")
            }
            Some(Tls::InvalidCertificate(e)) if format!("{e:?}").contains("CaUsedAsEndEntity") => {
                failure.lasting(AUTHORITY_AS_SERVER)
            }
            Some(Tls::InvalidCertificate(_)) => failure.lasting("its certificate is not valid for this URL and time"),
            Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                failure.lasting("it speaks no TLS: use http://")
            }
            None if !self.address.secure && find::<hyper::Error>(error).is_some_and(no_http) => {
                Failure { sent: false, ..failure.lasting("it speaks TLS or no HTTP at all: use https://") }
            }
            None if links(error).any(|link| link.to_string().starts_with("dns error")) => {
                Failure { error: failure.error.hint("is the host's name right?"), ..failure }
            }
            _ => failure,
        }
    }

    fn failure(&self, sent: bool, what: &str) -> Failure {
        let error = Error::unavailable(format!("the coordinator at {} {what}", self.address.url));
        Failure { sent, lasting: false, error: error.hint("is 'orx coordinator' running there?") }
    }
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Error::usage("the token has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Failure {
    /// It will be so again, until somebody does what `hint` says.
    fn lasting(self, hint: &str) -> Self {
        Self { lasting: true, error: self.error.hint(hint), ..self }
    }

    fn caused_by(mut self, reason: String) -> Self {
        self.error = self.error.source(reason);
        self
    }
}

/// The error and what caused it; an error of input or output hides its cause inside.
fn links<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => error.source(),
    })
}

/// The cause of that type.
fn find<'e, E: std::error::Error + 'static>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e E> {
    links(error).find_map(|link| link.downcast_ref())
}

/// The innermost error: the outer ones say only that there was one.
fn reason(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The machine's certificates; none are read where nothing is encrypted.
fn trust(secure: bool) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    if secure {
        for certificate in certs::trusted().map_err(|e| Error::usage(e.to_string()))? {
            let _ = roots.add(certificate); // some are of a kind that is not understood
        }
        if roots.is_empty() {
            return Err(Error::failed("this machine has no certificates to trust")
                .hint("install ca-certificates, or name a file in SSL_CERT_FILE"));
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| Error::failed("TLS cannot be used").source(e))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
