//! Where a store is, in words.

use std::path::PathBuf;
use std::str::FromStr;

use super::postgres;
use crate::error::{Error, Result};

/// Where a store is, as `--store` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// Nowhere: it ends with the process.
    Memory,
    /// A PostgreSQL server.
    Server(Box<postgres::Place>),
    /// A coordinator, by its URL: not a store itself, but it has one.
    Coordinator(String),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            _ if text.is_empty() => Err(Error::usage("the store's place is empty")),
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(Error::usage("sqlite: needs a path").hint("as in sqlite:///var/lib/orx/orx.db")),
                path => Ok(Self::File(path.into())),
            },
            Some(("postgres" | "postgresql", _)) => Ok(Self::Server(Box::new(text.parse()?))),
            Some(("http" | "https", _)) => Ok(Self::Coordinator(text.trim_end_matches('/').into())),
            Some((scheme, rest)) if rest.starts_with("//") => {
                Err(Error::usage(format!("{scheme} is no kind of store"))
                    .hint("use a path, sqlite:///path, postgres://… or a coordinator's http(s)://…"))
            }
            Some((host, port)) if is_address(host, port) => {
                Err(Error::usage(format!("{text} may be a host and its port, or a file"))
                    .hint(format!("http://{text} is a coordinator, ./{text} a file")))
            }
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// Whether somebody forgot to say of what kind the server is.
fn is_address(host: &str, port: &str) -> bool {
    !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
}
