//! The coordinator as its clients meet it: real sockets, the real binary.

mod faults;
mod hostile;
mod lost;
mod matrix;
mod routes;
mod support;
