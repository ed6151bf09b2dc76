//! `orx coordinator`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::context::Context;
use super::log::{self, LogFormat};
use super::worker::{self, check_name};
use crate::daemon::{self, CoordinatorSignals, Gossip, Share};
use crate::error::Result;
use crate::gossip::Seeds;
use crate::http::{Doors, Policy, Tls};

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx coordinator --slots 4             serve, and run jobs too
  orx coordinator --listen 0.0.0.0:7117 --host queue.example --tls-cert cert.pem --tls-key key.pem
  orx --store postgres://orx@db/jobs coordinator --name front-1")]
pub(super) struct Coordinator {
    /// Its name, unique on this machine [default: the machine's name]
    #[arg(long)]
    name: Option<String>,

    /// The address to listen on; one that others reach needs a certificate
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7117")]
    listen: SocketAddr,

    /// A name that clients ask for it by, beside localhost; several with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    host: Vec<String>,

    /// The certificate's chain, a PEM file; read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Listen for others without encryption: a proxy in front of it does that
    #[arg(long)]
    insecure_no_tls: bool,

    /// Run so many jobs at once in this process
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=4096))]
    pub(super) slots: u32,

    /// Run the jobs of a store that belongs to another user, or that others may write to
    #[arg(long)]
    pub(super) allow_foreign_store: bool,

    /// Gossip with other coordinators: the address to listen on
    #[arg(long, value_name = "ADDR", requires = "cluster_key_file", help_heading = "Peers")]
    gossip_listen: Option<SocketAddr>,

    /// Where peers reach it, if that is another address
    #[arg(long, value_name = "ADDR", requires = "gossip_listen", help_heading = "Peers")]
    gossip_advertise: Option<SocketAddr>,

    /// A peer to begin with, as HOST:PORT; several with commas
    #[arg(long, value_name = "ADDR", value_delimiter = ',', requires = "gossip_listen", help_heading = "Peers")]
    peer: Vec<String>,

    /// A list of peers, one a line, read again whenever peers are looked for
    #[arg(long, value_name = "FILE", requires = "gossip_listen", help_heading = "Peers")]
    peer_file: Option<PathBuf>,

    /// The key of the cluster ('orx cluster key'); read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "gossip_listen", help_heading = "Peers")]
    cluster_key_file: Option<PathBuf>,

    /// Where peers reach its API, if that is not where it listens
    #[arg(long, value_name = "URL", requires = "gossip_listen", help_heading = "Peers")]
    advertise: Option<String>,

    /// Which jobs it shares with its peers: it takes theirs for slots that are free, gives its own, or both
    #[arg(long, value_name = "WHICH", default_value = "both", help_heading = "Peers")]
    share: Sharing,

    /// Which cluster: peers of another label are strangers
    #[arg(long, value_name = "TEXT", default_value = "default", help_heading = "Peers")]
    cluster_label: String,

    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Which jobs are shared.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sharing {
    None,
    Take,
    Give,
    Both,
}

impl From<Sharing> for Share {
    fn from(sharing: Sharing) -> Self {
        match sharing {
            Sharing::None => Share::None,
            Sharing::Take => Share::Take,
            Sharing::Give => Share::Give,
            Sharing::Both => Share::Both,
        }
    }
}

impl Coordinator {
    pub(super) async fn run(mut self, context: &Context) -> Result<ExitCode> {
        let _log = log::start(context, self.log_format);
        let mut signals = CoordinatorSignals::listen()?;
        let Some(queue) = context.queue_in_time(false, signals.end()).await? else { return Ok(ExitCode::SUCCESS) };
        if let Some(name) = &self.name {
            check_name(name, "coordinator")?;
        }
        let name = daemon::claim(&queue, "coordinator", self.name.as_deref())?;
        let worker = match self.slots {
            0 => None,
            slots => Some(worker::beside(context, &queue, slots)?),
        };
        let (worker, worker_lock) = worker.unzip();
        let gossip = self.gossip(&name.name)?;
        let tls = self.tls_cert.zip(self.tls_key).map(|(cert, key)| Tls { cert, key });
        let doors = Doors { listen: self.listen, tls, insecure: self.insecure_no_tls };
        let policy = Policy { hosts: self.host.into_iter().collect(), nodes: None };
        let config = daemon::Coordinator { name: name.name, doors, policy, worker, gossip };
        daemon::run_coordinator(queue, config, context.clock.clone(), signals).await?;
        drop((name.lock, worker_lock));
        Ok(ExitCode::SUCCESS)
    }

    /// How it gossips; not at all without an address for that.
    fn gossip(&mut self, name: &str) -> Result<Option<Gossip>> {
        let Some((listen, key_file)) = self.gossip_listen.zip(self.cluster_key_file.take()) else { return Ok(None) };
        let state = super::context::directories()?.data_dir().join("gossip");
        crate::private::make_dirs(&state)?;
        Ok(Some(Gossip {
            listen,
            advertise: self.gossip_advertise,
            url: self.advertise.take(),
            seeds: Seeds { peers: std::mem::take(&mut self.peer), file: self.peer_file.take() },
            key_file,
            label: std::mem::take(&mut self.cluster_label),
            generation_file: state.join(format!("{name}.generation")),
            share: self.share.into(),
        }))
    }
}
