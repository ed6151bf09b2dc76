//! Where connections come from: the system, or in unit tests a network that is simulated.

#[cfg(not(test))]
pub(super) use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(not(test))]
pub(super) use tokio::net::{TcpListener, TcpStream};
#[cfg(test)]
pub(super) use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(test)]
pub(super) use turmoil::net::{TcpListener, TcpStream};
