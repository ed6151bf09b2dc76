//! `--cluster`: what a command asks of all live nodes of a cluster at once.

use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;

use super::context::Context;
use super::select::Jobs;
use super::ui;
use crate::error::{Error, Kind, Result};
use crate::ops::Op;
use crate::ops::nodes::ListNodes;
use crate::ops::select::Select;
use crate::queue::Queue;
use crate::store::PeerState;

/// How long a node may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whether all nodes are asked.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Everywhere {
    /// Ask all live nodes of the cluster; the token must be good at each
    #[arg(long)]
    cluster: bool,
}

/// Whether all nodes are asked, and must answer.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct EverywhereOrPart {
    #[command(flatten)]
    everywhere: Everywhere,

    /// With --cluster: exit with 0 also when some did not answer
    #[arg(long, requires = "cluster")]
    partial: bool,
}

/// A node that can be asked.
struct Node {
    name: String,
    queue: Result<Queue>,
}

/// What the nodes answered.
pub(super) struct Answers<T> {
    /// By node.
    pub(super) given: Vec<(String, T)>,
    silent: Silent,
}

/// The nodes that gave no answer.
#[derive(Default)]
struct Silent {
    names: Vec<String>,
    /// Some of them know nobody by the token that they were shown.
    denied: bool,
}

impl Silent {
    /// Says why a node gives no answer.
    fn note(&mut self, context: &Context, name: &str, why: &Error) {
        ui::say(context, &format!("node {name} does not answer: {why}"));
        self.names.push(name.to_owned());
        self.denied |= why.kind() == Kind::Denied;
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What cannot be answered without them.
    fn error(&self, hint: &str) -> Error {
        let what = ui::count(self.names.len() as u64, "node");
        let hint = match self.denied {
            true => format!(
                "{hint}; every node must know your token: 'orx token create --from FILE' on the machine of each, and it in \
                 ORX_TOKEN here"
            ),
            false => hint.into(),
        };
        Error::unavailable(format!("{what} did not answer: {}", self.names.join(", "))).hint(hint)
    }
}

impl EverywhereOrPart {
    /// Whether all nodes are asked.
    pub(super) fn is_asked(&self) -> bool {
        self.everywhere.is_asked()
    }

    /// Those of the named jobs' home.
    pub(super) async fn home(&self, context: &Context, jobs: &Jobs) -> Result<Option<Context>> {
        self.everywhere.home(context, jobs).await
    }

    /// Fails when some node did not answer and that matters.
    pub(super) fn check<T>(&self, answers: &Answers<T>) -> Result<()> {
        match answers.silent.is_empty() || self.partial {
            true => Ok(()),
            false => Err(answers.silent.error("--partial is content with the rest")),
        }
    }
}

/// Asks all live nodes at once; says which of them did not answer.
pub(super) async fn ask<O: Op + Clone>(context: &Context, op: O) -> Result<Answers<O::Reply>> {
    let nodes = nodes(context).await?;
    let calls = nodes.into_iter().map(|node| {
        let op = op.clone();
        async move { (node.name, limited(node.queue, op).await) }
    });
    let mut answers = Answers { given: Vec::new(), silent: Silent::default() };
    for (name, result) in join_all(calls).await {
        match result {
            Ok(reply) => answers.given.push((name, reply)),
            Err(e) => answers.silent.note(context, &name, &e),
        }
    }
    Ok(answers)
}

async fn limited<O: Op>(queue: Result<Queue>, op: O) -> Result<O::Reply> {
    let late = || Error::unavailable(format!("it took longer than {} s", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, queue?.call(op)).await.unwrap_or_else(|_| Err(late()))
}

/// The own store first, then the live nodes that its coordinators gossip with.
async fn nodes(context: &Context) -> Result<Vec<Node>> {
    let own = context.queue()?;
    let known = own.call(ListNodes {}).await?;
    let Some(here) = known.iter().find(|node| !node.peers.is_empty()).or(known.first()) else {
        return Err(Error::unavailable("no coordinator of this store is there, which would know the others")
            .hint("'orx coordinator --gossip-listen' makes one"));
    };
    let mut nodes = vec![Node { name: here.name.clone(), queue: Ok(own.clone()) }];
    for peer in known.iter().flat_map(|node| &node.peers) {
        if nodes.iter().any(|node| node.name == peer.name) {
            continue;
        }
        if peer.state == PeerState::Gone {
            ui::say(context, &format!("node {} is gone since {}", peer.name, peer.since));
            continue;
        }
        let nowhere = || Error::unavailable("it does not say where its API is");
        let queue = peer.url.as_ref().ok_or_else(nowhere);
        let queue = queue.and_then(|url| Queue::connect(url, context.token()?));
        nodes.push(Node { name: peer.name.clone(), queue });
    }
    Ok(nodes)
}

impl Everywhere {
    /// Whether all nodes are asked.
    pub(super) fn is_asked(&self) -> bool {
        self.cluster
    }

    /// Without --cluster nothing; with it a context at the node where all the named jobs are.
    ///
    /// # Errors
    /// `NotFound` when no node has them, `Unavailable` when one that is silent may have them, `Usage` when their names
    /// fit jobs of several nodes.
    pub(super) async fn home(&self, context: &Context, jobs: &Jobs) -> Result<Option<Context>> {
        if !self.cluster || jobs.is_empty() {
            return Ok(None);
        }
        let nodes = nodes(context).await?;
        let asked = nodes.iter().map(|node| async {
            let select = Select { selectors: jobs.selectors().to_vec(), all: None };
            match &node.queue {
                Ok(queue) => limited(Ok(queue.clone()), select).await,
                Err(e) => Err(e.copy()),
            }
        });
        let (mut homes, mut silent, mut missing) = (Vec::new(), Silent::default(), None);
        for (node, found) in nodes.iter().zip(join_all(asked).await) {
            match found {
                Ok(_) => homes.push(node),
                Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Usage) => missing = missing.or(Some(e)),
                Err(e) => silent.note(context, &node.name, &e),
            }
        }
        match (homes.as_slice(), missing) {
            ([Node { queue: Ok(queue), .. }], _) => Ok(Some(context.at(queue.clone()))),
            ([], Some(missing)) if silent.is_empty() => {
                Err(missing.hint("all jobs that are named must be at one node of the cluster"))
            }
            ([], _) => Err(silent.error("no other node has these jobs")),
            (several, _) => {
                let names: Vec<&str> = several.iter().map(|node| node.name.as_str()).collect();
                Err(Error::usage(format!("there are such jobs at {}", names.join(" and ")))
                    .hint("numbers are of one node: use the id"))
            }
        }
    }
}
