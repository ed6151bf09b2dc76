//! Secrets of a job: read from files of the worker just before it starts, kept nowhere, masked in what it says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::files::is_shortage;
use super::mask::Mask;
use crate::hide;
use crate::job::JobSpec;
use crate::job::spec::secret_name;
use crate::store;

/// The largest secret, in bytes; Linux takes 128 KiB for one variable.
const MAX_SECRET: u64 = 64 * 1024;
/// Permissions of others and of the group.
const OTHERS: u32 = 0o077;

/// Where secrets are.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// A directory with a file for each, which nobody else may read.
    pub dir: Option<PathBuf>,
    /// The directory that systemd made for this service (`LoadCredential=`).
    pub credentials: Option<PathBuf>,
}

/// Why an attempt has not what it needs.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) message: String,
    /// By no fault of the job: the worker lacks something for now.
    pub(super) shortage: bool,
}

impl Missing {
    pub(super) fn of(what: &str, error: &io::Error) -> Self {
        Self { message: format!("{what}: {error}"), shortage: is_shortage(error) }
    }
}

impl From<String> for Missing {
    fn from(message: String) -> Self {
        Self { message, shortage: false }
    }
}

/// The values that a job gets. Not printable on purpose.
#[derive(Default)]
pub(super) struct Secrets {
    /// Variables of its environment.
    pub(super) env: BTreeMap<OsString, OsString>,
    /// What hides them in what it says.
    pub(super) mask: Mask,
}

impl Secrets {
    /// Reads what `spec` refers to.
    ///
    /// # Errors
    /// Which one cannot be had, and why; never its value.
    pub(super) fn read(places: &Places, spec: &JobSpec) -> Result<Self, Missing> {
        let named = spec.env.iter().filter_map(|(variable, value)| Some((variable, secret_name(value)?)));
        let named = named.map(|(variable, name)| (variable, places.read(name)));
        let files = spec.env_from_file.iter();
        let files = files.map(|(variable, path)| {
            let read = open(Path::new(path)).and_then(|file| contents(&file));
            (variable, read.map_err(|e| Missing::of(&format!("{variable} cannot be read from {path}"), &e)))
        });
        let mut secrets = Self::default();
        for (variable, value) in named.chain(files) {
            hide::memory();
            secrets.env.insert(variable.into(), OsString::from_vec(value?));
        }
        secrets.mask = Mask::of(secrets.env.values().map(|value| value.as_encoded_bytes()));
        Ok(secrets)
    }
}

impl Places {
    /// The secret of that name: the directory first, then systemd's.
    fn read(&self, name: &str) -> Result<Vec<u8>, Missing> {
        let places = [(&self.dir, true), (&self.credentials, false)];
        let places: Vec<_> = places.into_iter().filter_map(|(dir, mine)| Some((dir.as_ref()?, mine))).collect();
        if places.is_empty() {
            return Err(format!(
                "secret {name}: this worker has no secrets (--secrets DIR, or systemd's LoadCredential=)"
            )
            .into());
        }
        for (dir, private) in places {
            let path = dir.join(name);
            let read = open(&path).and_then(|file| match private && file.metadata()?.mode() & OTHERS != 0 {
                true => Err(io::Error::other("others may read it; use chmod 600")),
                false => contents(&file),
            });
            match read {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                read => {
                    let what = || format!("secret {name} cannot be read from {}", path.display());
                    return read.map_err(|e| Missing::of(&what(), &e));
                }
            }
        }
        Err(format!("there is no secret {name} on this worker").into())
    }
}

/// Opens a file; a pipe without a writer must not hold the worker up, and the store's own files are not touched.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Found first and opened then, so that it is looked at what is opened.
    let found = options.read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    let file = found.metadata()?;
    if !file.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if store::is_locked_here(&file) {
        return Err(io::Error::other("it belongs to the store"));
    }
    options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// What is in it, without the line's end that editors add.
fn contents(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(io::Error::other("it is larger than 64 KiB"));
    }
    if bytes.contains(&0) {
        return Err(io::Error::other("it has a NUL character, which no variable can"));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn spec(value: &str) -> JobSpec {
        JobSpec { env: [("V".to_owned(), value.to_owned())].into(), ..JobSpec::default() }
    }

    #[test]
    fn a_secret_comes_from_a_private_file_or_from_systemd() {
        let (mine, given) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let places = Places { dir: Some(mine.path().into()), credentials: Some(given.path().into()) };
        let read = |name: &str| Secrets::read(&places, &spec(&format!("secret://{name}")));
        let error = |name: &str| read(name).err().unwrap().message;
        let value = |name: &str| read(name).ok().unwrap().env[&OsString::from("V")].clone();
        std::fs::write(mine.path().join("a"), "hush\n").unwrap();
        assert!(error("a").contains("chmod 600"), "{}", error("a"));
        std::fs::set_permissions(mine.path().join("a"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(value("a"), "hush");
        std::fs::write(given.path().join("b"), "from systemd").unwrap();
        assert_eq!(value("b"), "from systemd");
        assert_eq!(error("c"), "there is no secret c on this worker");
        std::fs::write(given.path().join("nul"), "a\0b").unwrap();
        assert!(error("nul").contains("NUL") && !error("nul").contains("a\0b"));
        std::fs::write(given.path().join("large"), vec![b'x'; 70_000]).unwrap();
        assert!(error("large").contains("64 KiB"));
        std::fs::create_dir(given.path().join("dir")).unwrap();
        assert!(error("dir").contains("no file"));
    }

    #[test]
    fn a_worker_without_secrets_says_what_to_do() {
        let error = Secrets::read(&Places::default(), &spec("secret://x")).err().unwrap().message;
        assert!(error.contains("--secrets DIR"), "{error}");
        assert!(Secrets::read(&Places::default(), &spec("no secret://x")).ok().unwrap().env.is_empty());
    }
}
