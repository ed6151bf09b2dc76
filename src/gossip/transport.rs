//! chitchat's transport over our connections.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chitchat::ChitchatMessage;
use chitchat::transport::{Socket, Transport};
use tokio::sync::{Mutex, mpsc};

use super::net::{Net, Received};

/// Gives chitchat the connections of a member; again after it broke.
#[derive(Clone)]
pub(super) struct Tcp {
    pub(super) net: Arc<Net>,
    pub(super) inbox: Arc<Mutex<mpsc::Receiver<Received>>>,
}

#[async_trait]
impl Transport for Tcp {
    /// The listener is there already: the address is known to nobody before it.
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Socket for Tcp {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        self.net.send(to, &message);
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        let received = self.inbox.lock().await.recv().await;
        received.ok_or_else(|| anyhow::anyhow!("the member has stopped"))
    }
}
