//! The coordinator as its clients meet it: real sockets, the real binary.

mod faults;
mod hostile;
mod lost;
mod matrix;
pub mod metrics;
mod openapi;
mod ready;
mod recipes;
mod routes;
mod schema;
pub mod support;
mod systemd;
mod tenants;
mod traces;
mod verbatim;
