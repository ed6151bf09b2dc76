//! Requests, written by hand so that they can be wrong too.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

pub use crate::cli::support::*;

/// A home with a coordinator in front of its store.
pub fn served() -> Orx {
    let mut orx = Orx::file();
    orx.serve();
    orx
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Panics unless the status is this one, and errors are problem details.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        if status >= 400 {
            assert!(self.head.contains("application/problem+json"), "{self:?}");
            let problem = self.json();
            assert_eq!(problem["status"], status);
            assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty()), "{self:?}");
        }
        self
    }
}

/// The host and port of the coordinator.
pub fn address(orx: &Orx) -> String {
    orx.url().trim_start_matches("http://").to_owned()
}

pub fn connect(orx: &Orx) -> TcpStream {
    let stream = TcpStream::connect(address(orx)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends bytes and reads until the coordinator closes.
pub fn raw(orx: &Orx, request: &[u8]) -> Answer {
    let mut stream = connect(orx);
    let _ = stream.write_all(request); // it may have been refused half-way
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // a reset ends it too
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") { dechunk(body) } else { body.into() };
    Answer { status, head: head.into(), body }
}

/// Sends bytes and reads no more than the head of the answer.
pub fn raw_head(orx: &Orx, request: &[u8]) -> Answer {
    let mut stream = connect(orx);
    stream.write_all(request).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
    Answer { status, head, body: String::new() }
}

fn dechunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or_default();
        body.push_str(after.get(..size).unwrap_or_default());
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}

/// A request with a token and headers of its own, one `NAME: VALUE` each.
pub fn request(orx: &Orx, token: Option<&str>, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut text = format!("{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", address(orx));
    if let Some(token) = token {
        text.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    for header in headers {
        text.push_str(&format!("{header}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    raw(orx, text.as_bytes())
}

/// A request of the administrator.
pub fn ask(orx: &Orx, line: &str, body: &str) -> Answer {
    request(orx, orx.token(), line, &[], body)
}

/// An Op of the administrator.
pub fn op(orx: &Orx, name: &str, body: &str) -> Answer {
    ask(orx, &format!("POST /api/v1/ops/{name}"), body)
}

/// A new token.
pub fn token(orx: &Orx, args: &[&str]) -> String {
    orx.ok(&[&["token", "create"], args].concat()).trim().to_owned()
}
