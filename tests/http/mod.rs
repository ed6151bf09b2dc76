//! The coordinator as its clients meet it: real sockets, the real binary.

mod faults;
mod hostile;
mod matrix;
mod routes;
pub mod support;
