//! The sockets: bounded, with time limits, encrypted where it leaves the machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::process::{Resource, getrlimit};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::certs;
use crate::error::{Error, Result};
use crate::ops::exposition::Text;

/// The most connections at once.
const MAX_CONNECTIONS: usize = 10_000;
/// Connections that wait to be accepted. Beyond it the kernel drops one, whose client tries again after a second.
const BACKLOG: u32 = 4096;
/// Files that are no connections.
const SPARE_FILES: usize = 200;
/// How long a client may take for a request's head; also how long a connection may be idle.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long a client may take to agree on encryption.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// The longest head, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// How long requests may take to end when the coordinator does.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How long what was sent may lie about without being received: a machine that went away gives its place back.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// The wait after an accept that failed: no file descriptors are left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Doors {
    /// The address.
    pub listen: SocketAddr,
    /// The certificate; none: not encrypted.
    pub tls: Option<Tls>,
    /// Not encrypted on an address that others reach, because something in front of it does that.
    pub insecure: bool,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Doors {
    /// How it is encrypted, where it must be.
    fn lock(&self) -> Result<Option<RwLock<Arc<ServerConfig>>>> {
        if !self.listen.ip().is_loopback() && self.tls.is_none() && !self.insecure {
            return Err(Error::usage(format!("{} can be reached by others, and nothing is encrypted", self.listen))
                .hint("give --tls-cert and --tls-key, or --insecure-no-tls behind a proxy that encrypts"));
        }
        self.tls.as_ref().map(|tls| tls.load().map(RwLock::new)).transpose()
    }
}

impl Tls {
    fn load(&self) -> Result<Arc<ServerConfig>> {
        let cannot = |path: &PathBuf, e: String| Error::usage(format!("cannot use {}", path.display())).source(e);
        let chain = certs::chain(&self.cert).map_err(|e| cannot(&self.cert, e.to_string()))?;
        let key = certs::key(&self.key).map_err(|e| cannot(&self.key, e.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| Error::failed("TLS cannot be used").source(e))?;
        let config = config.with_no_client_auth().with_single_cert(chain, key);
        config.map(Arc::new).map_err(|e| cannot(&self.cert, e.to_string()))
    }
}

/// A socket that listens.
pub struct Server {
    doors: Doors,
    listener: TcpListener,
    tls: Option<RwLock<Arc<ServerConfig>>>,
    /// The most connections at once, and the room that is left.
    most: usize,
    room: Arc<Semaphore>,
    accepted: AtomicU64,
    turned_away: AtomicU64,
}

impl Server {
    /// Listens; nothing is answered before [`Server::serve`].
    ///
    /// # Errors
    /// `Usage` when others could reach it and it is not encrypted, `Unavailable` when the address cannot be had.
    pub async fn open(doors: Doors) -> Result<Self> {
        let tls = doors.lock()?;
        let listener = listen(doors.listen);
        let listener =
            listener.map_err(|e| Error::unavailable(format!("cannot listen on {}", doors.listen)).source(e))?;
        Ok(Self::new(doors, listener, tls))
    }

    /// A socket that somebody else, such as systemd, listens on for us.
    ///
    /// # Errors
    /// As [`Server::open`].
    pub fn from_listener(listener: std::net::TcpListener, doors: Doors) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let doors = Doors { listen: listener.local_addr()?, ..doors };
        let tls = doors.lock()?;
        Ok(Self::new(doors, TcpListener::from_std(listener)?, tls))
    }

    fn new(doors: Doors, listener: TcpListener, tls: Option<RwLock<Arc<ServerConfig>>>) -> Self {
        let most = most_connections();
        let room = Arc::new(Semaphore::new(most));
        Self { doors, listener, tls, most, room, accepted: AtomicU64::default(), turned_away: AtomicU64::default() }
    }

    /// Its figures for `/metrics`.
    pub fn figures(&self, text: &mut Text) {
        let (accepted, away) = (&self.accepted, &self.turned_away);
        let open = self.most - self.room.available_permits();
        text.one("orx_http_connections", "gauge", "Connections that are open.", open);
        let accepted = accepted.load(Ordering::Relaxed);
        text.one("orx_http_connections_total", "counter", "Connections that were accepted.", accepted);
        let away = away.load(Ordering::Relaxed);
        text.one("orx_http_connections_refused_total", "counter", "Connections beyond the most there may be.", away);
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let address = self.listener.local_addr().unwrap_or(self.doors.listen);
        format!("{}://{address}", if self.tls.is_some() { "https" } else { "http" })
    }

    /// Reads the certificate again.
    pub fn reload(&self) {
        let (Some(files), Some(tls)) = (&self.doors.tls, &self.tls) else { return };
        match files.load() {
            Ok(config) => {
                *tls.write().unwrap_or_else(PoisonError::into_inner) = config;
                info!("the certificate was read again");
            }
            Err(e) => warn!("the old certificate stays: {e}"),
        }
    }

    /// Answers until `stop` becomes true, then lets requests end.
    pub async fn serve(&self, router: Router, mut stop: watch::Receiver<bool>) {
        let stopped = stop.clone();
        while !*stop.borrow() {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    warn!("cannot accept: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Beyond the cap a connection is closed at once: one that waits would only time out.
            let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.accepted.fetch_add(1, Ordering::Relaxed);
            let tls = self.tls.as_ref().map(|tls| Arc::clone(&tls.read().unwrap_or_else(PoisonError::into_inner)));
            let (router, stop) = (router.clone(), stopped.clone());
            tokio::spawn(connection(stream, tls, router, Place(Arc::new(place)), stop));
        }
        info!("the doors are closed");
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        if tokio::time::timeout(DRAIN_LIMIT, self.room.acquire_many(all)).await.is_err() {
            warn!("some requests did not end in time");
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?; // a coordinator that restarts does not wait for old connections
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// As many as there may be files, with some left for the store.
fn most_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    MAX_CONNECTIONS.min(files.saturating_sub(SPARE_FILES).max(files / 2))
}

/// A place among the connections. What a connection turns into, such as a WebSocket, keeps it.
#[derive(Clone)]
pub(super) struct Place(#[allow(dead_code, reason = "it is held")] Arc<OwnedSemaphorePermit>);

async fn connection(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    place: Place,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true); // only slower without
    let _ = set_tcp_user_timeout(&stream, DEAD_AFTER.as_millis() as u32); // it only keeps its place longer without
    match tls {
        None => answer(stream, router, place, stop).await,
        Some(config) => match tokio::time::timeout(TLS_LIMIT, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, router, place, stop).await,
            Ok(Err(e)) => debug!("no TLS: {e}"),
            Err(_) => debug!("no TLS in time"),
        },
    }
}

async fn answer<S>(stream: S, router: Router, place: Place, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        routes.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(MAX_HEAD.max(8192));
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_LIMIT, connection).await {
                Ok(ended) => ended,
                Err(_) => return, // a stream, which its reader resumes elsewhere
            }
        }
    };
    if let Err(e) = ended {
        debug!("a connection ended: {e}");
    }
}
