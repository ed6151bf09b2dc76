//! Hearing of changes at a coordinator: one stream for all tasks of this process.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::client::Wire;
use crate::hub::Hub;
use crate::store::Topics;

/// How long the stream may be silent: the coordinator says every five seconds that it lives.
const SILENCE: Duration = Duration::from_secs(15);
/// The waits between connections: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// The longest line that is one of ours, in bytes.
const MAX_LINE: usize = 1024;

/// A line of the stream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The topics that were touched, as bits; none: a sign of life.
    pub topics: u8,
}

/// The task that listens.
pub(super) struct Listener {
    pub(super) client: Arc<Wire>,
    pub(super) hub: Arc<Hub>,
}

impl Listener {
    /// Listens for ever, and connects again whenever the stream ends.
    pub(super) async fn listen(self, topics: Topics) {
        let path = format!("/api/v1/changes?topics={}", topics.0);
        let mut pause = PAUSES.0;
        loop {
            match self.client.stream(&path).await {
                Ok(response) if response.status() == StatusCode::OK => {
                    pause = PAUSES.0;
                    self.hub.tell(topics); // whatever changed before
                    self.follow(response.into_body()).await;
                }
                // Calls tell of that.
                Ok(response) if response.status().is_server_error() => debug!("no changes: {}", response.status()),
                Ok(response) => warn!("the coordinator tells of no changes: {}", response.status()),
                Err(failure) => debug!("{}", failure.error),
            }
            // What is not heard of is looked up instead.
            self.hub.tell(topics);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn follow(&self, mut body: Incoming) {
        let mut rest = Vec::new();
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(SILENCE, body.frame()).await {
            let Some(data) = frame.data_ref() else { continue };
            rest.extend_from_slice(data);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if let Ok(change) = serde_json::from_slice::<Change>(&line)
                    && change.topics != 0
                {
                    self.hub.tell(Topics(change.topics & Topics::ALL.0));
                }
            }
            if rest.len() > MAX_LINE {
                return;
            }
        }
    }
}
