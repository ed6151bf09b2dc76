//! Passwords that stand neither in a URL nor in argv: PGPASSWORD, PGPASSFILE, ~/.pgpass.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tracing::warn;

/// The largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// The password for `config`, if one is known.
pub(super) fn find(config: &Config) -> Option<String> {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Some(password);
    }
    let file = file()?;
    let meta = std::fs::metadata(&file).ok()?;
    if is_open(&meta) {
        warn!("{} is not used: others can read it; chmod 0600 it", file.display());
        return None;
    }
    if meta.len() > MAX_FILE {
        return None;
    }
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        _ => "localhost".into(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let wanted = [&*host, &*port, config.get_dbname().unwrap_or_default(), config.get_user().unwrap_or_default()];
    let mut text = String::new();
    std::fs::File::open(&file).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?; // a device has no length
    text.lines().find_map(|line| matching(line, &wanted))
}

/// Where passwords are kept.
fn file() -> Option<PathBuf> {
    match std::env::var_os("PGPASSFILE") {
        Some(file) => Some(PathBuf::from(file)),
        None => Some(Path::new(&std::env::var_os("HOME")?).join(".pgpass")),
    }
}

/// Whether others than its owner can read it; a device has no secrets.
fn is_open(meta: &Metadata) -> bool {
    meta.is_file() && meta.mode() & 0o077 != 0
}

/// What to do where the server wants a password, and none is known or it is not the right one.
pub(super) fn hint() -> String {
    let open = file().filter(|file| std::fs::metadata(file).is_ok_and(|meta| is_open(&meta)));
    match open.filter(|_| std::env::var_os("PGPASSWORD").is_none()) {
        Some(file) => format!("{0} is not used because others can read it: chmod 0600 {0}", file.display()),
        None => "the password is read from PGPASSWORD, PGPASSFILE or ~/.pgpass".into(),
    }
}

/// The password of a line `host:port:database:user:password`, where the first four match.
fn matching(line: &str, wanted: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let fields = fields(line);
    let [first @ .., password] = fields.as_slice() else { return None };
    let fits = first.len() == 4 && first.iter().zip(wanted).all(|(have, want)| have == "*" || have == want);
    fits.then(|| password.clone())
}

/// The five fields; `\:` and `\\` stand for themselves.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        };
        if let Some(last) = fields.last_mut() {
            last.push(c);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let wanted = ["db", "5432", "jobs", "ann"];
        assert_eq!(matching("db:5432:jobs:ann:se\\:cr\\\\et", &wanted).as_deref(), Some("se:cr\\et"));
        assert_eq!(matching("*:*:*:ann:x", &wanted).as_deref(), Some("x"));
        for line in ["# *:*:*:*:x", "db:5432:jobs:bob:x", "db:5432:jobs:ann", ""] {
            assert_eq!(matching(line, &wanted), None, "{line}");
        }
    }
}
