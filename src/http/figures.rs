//! What only this process knows: its requests, its readers, how long its calls take. `GET /metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::auth::Identity;
use super::ops::run;
use super::problem::Refusal;
use super::{App, OPS};
use crate::ops::exposition::{Histogram, MEDIA_TYPE, Text};
use crate::ops::metrics::{self, Measure};
use crate::time::Timestamp;

/// Something that has figures of its own, such as the sockets.
pub type Source = Box<dyn Fn(&mut Text) + Send + Sync>;

/// The name of what is no route: whatever strangers ask for is one line.
const OTHER: &str = "other";

/// Streams by what they carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Changes,
    Output,
    Sse,
    WebSocket,
}

impl Stream {
    const ALL: [(Self, &str); 4] =
        [(Self::Changes, "changes"), (Self::Output, "output"), (Self::Sse, "sse"), (Self::WebSocket, "websocket")];
}

/// Requests of one route.
#[derive(Clone, Default)]
struct Requests {
    /// By the first digit of the status, from 1xx on.
    classes: [u64; 5],
    took: Histogram,
}

/// The figures of a coordinator since it began.
pub(super) struct Figures {
    began: Instant,
    began_at: Timestamp,
    requests: Mutex<BTreeMap<String, Requests>>,
    streams: [AtomicI64; Stream::ALL.len()],
    cut: AtomicU64,
    sources: Vec<Source>,
}

impl Figures {
    pub(super) fn new(began_at: Timestamp, sources: Vec<Source>) -> Self {
        Self {
            began: Instant::now(),
            began_at,
            requests: Mutex::default(),
            streams: Default::default(),
            cut: AtomicU64::default(),
            sources,
        }
    }

    /// A request was answered; a stream's answer is its beginning.
    pub(super) fn answered(&self, route: String, status: StatusCode, took: Duration) {
        let mut all = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = all.entry(route).or_default();
        if let Some(count) = usize::from(status.as_u16() / 100).checked_sub(1).and_then(|n| requests.classes.get_mut(n))
        {
            *count += 1;
        }
        requests.took.add(took);
    }

    /// A reader was too slow.
    pub(super) fn cut_off(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Text) {
        text.family("orx_build_info", "gauge", "The version of this coordinator.");
        text.line("orx_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let began_at = self.began_at.0 as f64 / 1000.0;
        text.one("process_start_time_seconds", "gauge", "When this process began, since 1970.", began_at);
        text.one("orx_uptime_seconds", "gauge", "Age of this process.", self.began.elapsed().as_secs_f64());
        process(text);
        self.write_requests(text);
        text.family("orx_http_streams", "gauge", "Readers of streams that are connected.");
        for (kind, word) in Stream::ALL {
            let open = self.streams[kind as usize].load(Ordering::Relaxed);
            text.line("orx_http_streams", &[("kind", word)], open);
        }
        let cut = self.cut.load(Ordering::Relaxed);
        text.one("orx_http_streams_cut_off_total", "counter", "Readers that were too slow.", cut);
        self.sources.iter().for_each(|source| source(text));
    }

    fn write_requests(&self, text: &mut Text) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = "orx_http_requests_total";
        text.family(name, "counter", "Answered requests by Op or route, and class of status.");
        for (route, requests) in &requests {
            for (n, count) in requests.classes.iter().enumerate().filter(|(_, count)| **count > 0) {
                text.line(name, &[("op", route), ("status", &format!("{}xx", n + 1))], count);
            }
        }
        let name = "orx_http_request_duration_seconds";
        text.family(name, "histogram", "Time to the answer, or to the beginning of a stream.");
        for (route, requests) in &requests {
            text.histogram(name, &[("op", route)], &requests.took);
        }
    }
}

/// What the kernel knows of this process; nothing where it does not tell.
fn process(text: &mut Text) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    if let Some(kib) = resident {
        let bytes: u64 = kib;
        text.one("process_resident_memory_bytes", "gauge", "Memory that this process has in RAM.", bytes * 1024);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.one("process_open_fds", "gauge", "Files and sockets that are open.", open.count());
    }
}

/// A reader of a stream, as long as it is connected.
pub(super) struct Reader(Arc<App>, Stream);

impl Reader {
    pub(super) fn new(app: &Arc<App>, kind: Stream) -> Self {
        app.figures.streams[kind as usize].fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(app), kind)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.figures.streams[self.1 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request is counted as: the Op or the route, of which there are so many and not more.
pub(super) fn route(app: &App, request: &Request) -> String {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return OTHER.into() };
    let method = match *request.method() {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        _ => return OTHER.into(), // no route has others, and there are as many as a client makes up
    };
    if path.as_str() != OPS {
        return format!("{method} {}", path.as_str());
    }
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    app.routes.0.get_key_value(name).map_or(OTHER, |(name, _)| name).into()
}

/// `GET /metrics`
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
) -> Result<Response, Refusal> {
    let measured = run(&app, &identity, Measure {}).await?;
    let mut text = metrics::text(&measured);
    let name = "orx_op_duration_seconds";
    text.family(name, "histogram", "Time from the call of an Op in this process to its answer, commit included.");
    for (op, histogram) in app.engine.timings() {
        text.histogram(name, &[("op", op)], &histogram);
    }
    app.figures.write(&mut text);
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text.finish()).into_response())
}
