//! The peers that one is told of: `host:port`, from the command line or a file, resolved again each time they are needed.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::counters::{Counters, Refusal};
use super::hello::plain;
use crate::error::{Error, Result};

/// How many addresses are tried in one round.
const MAX_SEEDS: usize = 256;
/// The longest list of peers.
const MAX_FILE: usize = 64 * 1024;
/// How long one name may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// Where the first peers are.
#[derive(Clone, Debug, Default)]
pub struct Seeds {
    /// Each `host:port`, `address:port` or `[v6 address]:port`.
    pub peers: Vec<String>,
    /// A list of them, one a line, read again in each round; `#` begins a comment.
    pub file: Option<PathBuf>,
}

impl Seeds {
    /// Whether they can be understood.
    ///
    /// # Errors
    /// `Usage` when one has no port or no host; when the file cannot be read.
    pub fn check(&self) -> Result<()> {
        self.peers.iter().try_for_each(|peer| check_peer(peer))?;
        match &self.file {
            Some(file) => {
                read(file)?.iter().try_for_each(|peer| check_peer(peer).map_err(|e| e.context(file.display())))
            }
            None => Ok(()),
        }
    }

    /// All addresses of all of them now: every A and AAAA record.
    pub(super) async fn resolve(&self, counters: &Counters) -> BTreeSet<SocketAddr> {
        let mut names = self.peers.clone();
        if let Some(file) = &self.file {
            match read(file) {
                Ok(more) => names.extend(more),
                Err(e) => counters.refuse(Refusal::Unresolved, e),
            }
        }
        let mut found = BTreeSet::new();
        for name in names {
            match tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host(&name)).await {
                Ok(Ok(addresses)) => found.extend(addresses.map(plain)),
                Ok(Err(e)) => counters.refuse(Refusal::Unresolved, format_args!("cannot resolve {name}: {e}")),
                Err(_) => counters.refuse(Refusal::Unresolved, format_args!("cannot resolve {name} in time")),
            }
            if found.len() >= MAX_SEEDS {
                break;
            }
        }
        found.into_iter().take(MAX_SEEDS).collect()
    }
}

fn check_peer(text: &str) -> Result<()> {
    let bad = || Error::usage(format!("{text:?} is not a peer")).hint("write host:port, or [address]:port for IPv6");
    if text.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0) {
        return Ok(());
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match port.parse::<u16>() {
        Ok(1..) if !host.is_empty() && host.len() < 256 && host.chars().all(fine) => Ok(()),
        _ => Err(bad()),
    }
}

fn read(path: &Path) -> Result<Vec<String>> {
    let mut text = String::new();
    let most = MAX_FILE as u64 + 1;
    let done = std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    done.map_err(|e| Error::failed(format!("cannot read {}", path.display())).source(e))?;
    if text.len() > MAX_FILE {
        return Err(Error::usage(format!("{} is too long for a list of peers", path.display())));
    }
    let line = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    Ok(text.lines().map(line).filter(|line| !line.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_a_host_and_a_port() {
        let seeds = |peer: &str| Seeds { peers: vec![peer.into()], file: None };
        for good in ["10.0.0.1:7946", "[::1]:7946", "front-1.example.org:7946", "localhost:1", "my_host:65535"] {
            seeds(good).check().unwrap();
        }
        for bad in [
            "",
            "front-1",
            ":7946",
            "front-1:",
            "front-1:0",
            "10.0.0.1:0",
            "::1:7946:x",
            "a b:1",
            "h:65536",
            "http://h:1",
        ] {
            assert!(seeds(bad).check().unwrap_err().hint_text().is_some(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_list_is_read_again_and_names_resolve_to_all_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers");
        let seeds = Seeds { peers: vec!["[::ffff:10.0.0.1]:1".into()], file: Some(path.clone()) };
        let counters = Counters::default();
        assert!(seeds.check().is_err(), "no such file");
        assert_eq!(seeds.resolve(&counters).await.len(), 1, "the others stay");
        assert_eq!(counters.refused(Refusal::Unresolved), 1);
        std::fs::write(&path, "# ours\n10.0.0.2:1 # two\n\n[::1]:5\nlocalhost:7\n").unwrap();
        seeds.check().unwrap();
        let found = seeds.resolve(&counters).await;
        for address in ["10.0.0.1:1", "10.0.0.2:1", "[::1]:5"] {
            assert!(found.contains(&address.parse().unwrap()), "{found:?}");
        }
        let local: Vec<_> = found.iter().filter(|address| address.port() == 7).collect();
        assert!(!local.is_empty() && local.iter().all(|address| address.ip().is_loopback()), "{local:?}");
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(seeds.check().is_err());
    }
}
