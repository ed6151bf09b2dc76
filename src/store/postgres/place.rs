//! Where a PostgreSQL store is: its URL, the password from elsewhere, TLS.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::password;
use crate::certs;
use crate::error::{Error, Result};
use crate::hide;
use crate::time::Span;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long data may lie unacknowledged before a connection counts as dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

/// The parameters of a URL that are orx's, or looked at by it.
const OWN: [&str; 4] = ["schema", "poll", "sslmode", "sslrootcert"];
/// Those that are handed on to the client library.
const KNOWN: [&str; 18] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// Where a PostgreSQL store is, as its URL says it.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    config: Config,
    /// The schema that the tables lie in.
    pub schema: String,
    /// How long a lost notification may go unnoticed.
    pub poll: Duration,
    trust: Trust,
}

/// How the server's certificate is looked at; libpq's words.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trust {
    /// `disable`, and what a unix socket needs.
    Plain,
    /// `prefer` and `require`: encrypted against those who only listen.
    Encrypted,
    /// `verify-full`: the certificate is of that host, by a known authority.
    Verified(Option<PathBuf>),
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let (rest, query) = url.split_once('?').unwrap_or((url, ""));
        let mut kept = Vec::new();
        let (mut schema, mut poll, mut mode, mut roots) = ("orx".to_owned(), Duration::from_secs(1), None, None);
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "schema" => schema = checked_schema(value)?,
                "poll" => {
                    let span: Span = value.parse().map_err(|e| Error::usage(format!("poll={value}: {e}")))?;
                    poll = span.duration().max(Duration::from_millis(10));
                }
                "sslmode" => mode = Some(value),
                "sslrootcert" => roots = Some(PathBuf::from(value.replace("%2F", "/"))),
                _ => kept.push(pair),
            }
        }
        let trust = match mode.unwrap_or("prefer") {
            "disable" => Trust::Plain,
            "prefer" | "require" if roots.is_none() => Trust::Encrypted,
            "prefer" | "require" | "verify-ca" | "verify-full" => Trust::Verified(roots),
            other => {
                return Err(Error::usage(format!("sslmode={other} is not known"))
                    .hint("disable, prefer, require or verify-full"));
            }
        };
        let mut config: Config = match kept.is_empty() {
            true => rest.to_owned(),
            false => format!("{rest}?{}", kept.join("&")),
        }
        .parse()
        // Its message may quote a password.
        .map_err(|_| misunderstood(&kept))?;
        config.ssl_mode(match (mode.unwrap_or("prefer"), &trust) {
            (_, Trust::Plain) => tokio_postgres::config::SslMode::Disable,
            ("prefer", _) => tokio_postgres::config::SslMode::Prefer,
            _ => tokio_postgres::config::SslMode::Require,
        });
        if config.get_hosts().is_empty() {
            config.host(std::env::var("PGHOST").unwrap_or_else(|_| "/var/run/postgresql".into()));
        }
        if config.get_application_name().is_none() {
            config.application_name("orx");
        }
        config.connect_timeout(CONNECT_LIMIT).keepalives_idle(SILENCE_LIMIT).tcp_user_timeout(SILENCE_LIMIT);
        Ok(Self { config, schema, poll, trust })
    }
}

/// What is wrong with a URL: a parameter, where it is one; never with a value, which may be a password.
fn misunderstood(parameters: &[&str]) -> Error {
    let is_wrong = |pair: &&&str| format!("postgres://host?{pair}").parse::<Config>().is_err();
    let error = match parameters.iter().find(is_wrong).map(|pair| pair.split('=').next().unwrap_or(pair)) {
        Some(key) if !KNOWN.contains(&key) => {
            return Error::usage(format!("the PostgreSQL URL has a parameter that is not known: {key}"))
                .hint(format!("the parameters are {}", [&OWN[..], &KNOWN].concat().join(", ")));
        }
        Some(key) => Error::usage(format!("the parameter {key} of the PostgreSQL URL has no value that it may have")),
        None => Error::usage("the PostgreSQL URL is not understood"),
    };
    error.hint("as in postgres://user@host:5432/database?schema=orx")
}

/// A URL as it may be shown: without its password, wherever that stands.
pub(in crate::store) fn shown(url: &str) -> String {
    let (rest, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = rest.split_once(':').unwrap_or(("postgres", rest));
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    // The last @, so that a password with one in it is hidden too.
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split_once(':').map_or(user, |(name, _)| name)),
        None => rest.to_owned(),
    };
    let kept: Vec<&str> = query.split('&').filter(|p| !p.is_empty() && !p.starts_with("password=")).collect();
    match kept.is_empty() {
        true => format!("{scheme}://{rest}"),
        false => format!("{scheme}://{rest}?{}", kept.join("&")),
    }
}

/// A name that needs no quotes, so that it can stand in statements.
fn checked_schema(name: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    match starts && name.chars().all(plain) && name.len() <= 63 && !name.starts_with("pg_") {
        true => Ok(name.to_owned()),
        false => Err(Error::usage(format!("{name:?} is no name of a schema"))
            .hint("small letters, digits and _, not starting with a digit or pg_")),
    }
}

impl Place {
    /// The configuration to connect with: the password may have changed since the last time.
    pub(super) fn config(&self) -> Config {
        let mut config = self.config.clone();
        if config.get_user().is_none() {
            config.user(user());
        }
        if config.get_dbname().is_none() {
            let name = config.get_user().unwrap_or_default().to_owned();
            config.dbname(name);
        }
        if config.get_password().is_none()
            && let Some(password) = password::find(&config)
        {
            config.password(password);
        }
        if config.get_password().is_some() {
            hide::memory();
        }
        config
    }

    /// What makes a connection secret.
    ///
    /// # Errors
    /// `Usage` when the file of trusted certificates cannot be read.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::failed("TLS cannot be set up").source(e))?;
        let config = match &self.trust {
            Trust::Plain | Trust::Encrypted => {
                let lenient = Arc::new(super::lenient::AnyCertificate(provider));
                builder.dangerous().with_custom_certificate_verifier(lenient).with_no_client_auth()
            }
            Trust::Verified(file) => builder.with_root_certificates(roots(file.as_ref())?).with_no_client_auth(),
        };
        Ok(MakeRustlsConnect::new(config))
    }
}

fn roots(file: Option<&PathBuf>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match file {
        Some(path) => {
            let cannot = |e: String| Error::usage(format!("sslrootcert {} cannot be used", path.display())).source(e);
            for certificate in certs::chain(path).map_err(|e| cannot(e.to_string()))? {
                store.add(certificate).map_err(|e| cannot(e.to_string()))?;
            }
        }
        None => {
            store.add_parsable_certificates(certs::trusted().map_err(|e| Error::usage(e.to_string()))?);
        }
    }
    match store.is_empty() {
        true => Err(Error::usage("no certificates to trust were found").hint("name a file with sslrootcert=")),
        false => Ok(store),
    }
}

/// Who we are where the URL does not say it.
fn user() -> String {
    ["PGUSER", "USER", "LOGNAME"].into_iter().find_map(|v| std::env::var(v).ok()).unwrap_or_else(|| "postgres".into())
}

impl fmt::Display for Place {
    /// The place without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.config.get_hosts().iter().zip(self.config.get_ports().iter().chain(std::iter::repeat(&5432)));
        let hosts: Vec<String> = hosts
            .map(|(host, port)| match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            })
            .collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        write!(f, "postgres://{}/{database}?schema={}", hosts.join(","), self.schema)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_never_shows_the_password() {
        let place: Place = "postgres://ann:secret@db.example:6432/jobs?schema=ci&sslmode=verify-full".parse().unwrap();
        assert_eq!(place.to_string(), "postgres://db.example:6432/jobs?schema=ci");
        assert!(!format!("{place:?}").contains("secret"));
        assert_eq!(place.trust, Trust::Verified(None));
        let bad = "postgres://ann:secret@db:notaport/x".parse::<Place>().unwrap_err();
        assert!(!bad.to_string().contains("secret") && !format!("{bad:?}").contains("secret"));
    }

    #[test]
    fn what_is_shown_of_a_url_is_all_but_the_password() {
        assert_eq!(shown("postgres://ann:se@cret@db:6432/jobs?schema=ci"), "postgres://ann@db:6432/jobs?schema=ci");
        assert_eq!(shown("postgresql://db/jobs?password=secret"), "postgresql://db/jobs");
        assert_eq!(shown("postgres://ann@db/jobs"), "postgres://ann@db/jobs");
        assert_eq!(shown("postgres:ann:secret@db/jobs"), "postgres://ann@db/jobs");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for url in [
            "postgres://h/d?schema=A",
            "postgres://h/d?schema=pg_x",
            "postgres://h/d?sslmode=maybe",
            "postgres://h/d?poll=x",
        ] {
            assert!(url.parse::<Place>().is_err(), "{url}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_named_and_its_value_is_not() {
        for (query, said) in [
            ("schema=ci&shema=secret", "not known: shema"),
            ("connect_timeout=secret", "parameter connect_timeout"),
            ("target_session_attrs=secret&port=6432", "parameter target_session_attrs"),
            ("secret", "not known: secret"),
        ] {
            let error = format!("postgres://ann:secret@db/jobs?{query}").parse::<Place>().unwrap_err();
            assert!(error.to_string().contains(said), "{query}: {error}");
            assert!(query == "secret" || !format!("{error:?}").contains("secret"), "{error:?}");
        }
        for known in KNOWN {
            assert!(!misunderstood(&[format!("{known}=\u{7f}").as_str()]).to_string().contains("not known"), "{known}");
        }
    }
}
