//! All integration tests in one binary; `tidy` fails when a file here is not part of it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod crash;
mod docs;
mod generated;
mod gossip;
mod http;
mod proxy;
mod server;
mod store;
mod tidy;
