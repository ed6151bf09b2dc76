//! Cluster keys: who holds one is a member. A file holds the current key, and the one before it during a rotation, and who
//! is banned.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use snow::resolvers::{CryptoResolver as _, DefaultResolver};

use super::hello::is_id;
use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::{hide, private};

/// Bytes of a key.
const KEY_LEN: usize = 32;
/// How many keys are good at once: the current one, and the one that is being replaced.
pub const MAX_KEYS: usize = 2;
/// No key file is longer.
const MAX_FILE: u64 = 16 * 1024;
/// How many nodes may be banned at once; a cluster that bans more needs another key.
const MAX_BANNED: usize = 100;
/// What a line begins with that bans a node.
const BAN: &str = "ban ";

/// A secret that all members of a cluster share.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; KEY_LEN]);

impl ClusterKey {
    /// A new one from the system's randomness.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn generate() -> Result<Self> {
        let mut key = [0; KEY_LEN];
        let mut random = DefaultResolver.resolve_rng().ok_or_else(|| Error::failed("there is no randomness here"))?;
        random.try_fill_bytes(&mut key).map_err(|e| Error::failed("the system gave no randomness").source(e))?;
        Ok(Self(key))
    }

    /// A name for it that gives nothing away: the first 8 bytes of its SHA-256, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.0)[..8])
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let mut key = [0; KEY_LEN];
        if !text.is_ascii() || text.len() != 2 * KEY_LEN {
            return None;
        }
        for (n, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
        }
        Some(Self(key))
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey({})", self.fingerprint())
    }
}

/// The keys that are good now, the current one first and never none, and the nodes that are banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<ClusterKey>,
    banned: BTreeSet<String>,
}

impl KeyRing {
    /// A ring of one key.
    pub fn of(key: ClusterKey) -> Self {
        Self { keys: vec![key], banned: BTreeSet::new() }
    }

    /// The key that is used first.
    pub fn current(&self) -> &ClusterKey {
        &self.keys[0]
    }

    /// All keys, the current one first.
    pub fn keys(&self) -> &[ClusterKey] {
        &self.keys
    }

    /// The ring with `key` before all others; only [`MAX_KEYS`] stay.
    pub fn rotated(&self, key: ClusterKey) -> Self {
        let keys = [key].into_iter().chain(self.keys.iter().cloned()).take(MAX_KEYS).collect();
        Self { keys, banned: self.banned.clone() }
    }

    /// Whether the node of that id is kept out though it holds a key.
    pub fn bans(&self, id: &str) -> bool {
        self.banned.contains(id)
    }

    /// The nodes that are banned.
    pub fn banned(&self) -> &BTreeSet<String> {
        &self.banned
    }

    /// Bans the node of that id; false when it is banned already.
    ///
    /// # Errors
    /// `Usage` when no node can have that id, `Limit` when too many are banned.
    pub fn ban(&mut self, id: &str) -> Result<bool> {
        if !is_id(id) {
            return Err(Error::usage(format!("{id:?} cannot be the id of a node")));
        }
        if self.banned.len() >= MAX_BANNED && !self.bans(id) {
            return Err(Error::new(Kind::Limit, format!("{MAX_BANNED} nodes are banned already"))
                .hint("rotate the key twice, and give the new one to those that are left"));
        }
        Ok(self.banned.insert(id.into()))
    }

    /// Takes a ban back; false when there was none.
    pub fn unban(&mut self, id: &str) -> bool {
        self.banned.remove(id)
    }

    /// Writes a new key file for the owner alone.
    ///
    /// # Errors
    /// `Conflict` when there is such a file already; when it cannot be written.
    pub fn create(&self, path: &Path) -> Result<()> {
        let file = private::file().write(true).create_new(true).open(path);
        let file = file.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::conflict(format!("{} exists", path.display()))
                .hint("choose another FILE, or 'orx cluster rotate FILE' for a new key beside the old one"),
            _ => cannot("write", path, e),
        })?;
        self.write(file).map_err(|e| cannot("write", path, e))
    }

    /// Puts this ring in the place of the key file, in one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace(&self, path: &Path) -> Result<()> {
        let target = path.canonicalize().map_err(|e| cannot("find", path, e))?;
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let beside = target.with_file_name(name);
        let _ = std::fs::remove_file(&beside); // left by a process of that number that was killed here
        let written = private::file().write(true).create_new(true).open(&beside);
        written.and_then(|file| self.write(file)).map_err(|e| cannot("write", &beside, e))?;
        std::fs::rename(&beside, &target).map_err(|e| cannot("write", path, e))?;
        sync_directory(&target);
        Ok(())
    }

    fn write(&self, mut file: File) -> std::io::Result<()> {
        let mut text = String::from("# orx cluster keys, the current one first: keep them secret\n");
        let keys = self.keys.iter().map(|key| hex(key.bytes()));
        for line in keys.chain(self.banned.iter().map(|id| format!("{BAN}{id}"))) {
            text.push_str(&line);
            text.push('\n');
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// `Denied` when others than its owner can read or change it; when it is missing or holds no keys.
    pub fn read(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|e| cannot("read", path, e))?;
        let about = file.metadata().map_err(|e| cannot("read", path, e))?;
        if !about.is_file() {
            return Err(Error::usage(format!("{} is not a file", path.display())));
        }
        let me = rustix::process::geteuid().as_raw();
        if about.mode() & 0o077 != 0 || (about.uid() != me && about.uid() != 0 && me != 0) {
            return Err(Error::new(Kind::Denied, format!("others can read or change {}", path.display()))
                .hint(format!("chmod 600 {0}; chown $USER {0}; and rotate the key", path.display())));
        }
        hide::memory();
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| cannot("read", path, e))?;
        Self::parse(&text).map_err(|e| e.context(path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        if text.len() as u64 > MAX_FILE {
            return Err(Error::usage("too long for a key file"));
        }
        let (mut keys, mut banned) = (Vec::new(), Vec::new());
        for (n, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.strip_prefix(BAN) {
                Some(id) => banned.push(id.trim()),
                None => {
                    let bad = || Error::usage(format!("line {} is not a cluster key", n + 1));
                    keys.push(ClusterKey::parse(line).ok_or_else(bad)?);
                }
            }
        }
        let mut ring = match keys.len() {
            0 => return Err(Error::usage("holds no cluster key").hint("'orx cluster key FILE' makes one")),
            1..=MAX_KEYS => Self { keys, banned: BTreeSet::new() },
            n => return Err(Error::usage(format!("holds {n} keys; at most {MAX_KEYS} are good at once"))),
        };
        banned.into_iter().try_for_each(|id| ring.ban(id).map(drop))?;
        Ok(ring)
    }
}

fn cannot(what: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Failed,
    };
    Error::new(kind, format!("cannot {what} {}", path.display())).source(error)
}

/// Makes a rename outlive a power cut, where the file system can.
pub(super) fn sync_directory(path: &Path) {
    let directory = path.parent().map(PathBuf::from).unwrap_or_default();
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn key() -> ClusterKey {
        ClusterKey::generate().unwrap()
    }

    #[test]
    fn a_key_file_is_for_its_owner_alone_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let ring = KeyRing::of(key());
        ring.create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(KeyRing::read(&path).unwrap(), ring);
        assert_eq!(KeyRing::of(key()).create(&path).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(KeyRing::read(&path).unwrap(), ring);
        for mode in [0o640, 0o604, 0o620, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = KeyRing::read(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::Denied, "{mode:o}");
            assert!(error.hint_text().is_some());
        }
    }

    #[test]
    fn a_rotation_keeps_one_key_and_the_next_drops_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let [a, b, c] = [key(), key(), key()];
        let ring = KeyRing::of(a.clone());
        ring.create(&path).unwrap();
        ring.rotated(b.clone()).replace(&path).unwrap();
        let ring = KeyRing::read(&path).unwrap();
        assert_eq!(ring.keys(), [b.clone(), a]);
        ring.rotated(c.clone()).replace(&path).unwrap();
        assert_eq!(KeyRing::read(&path).unwrap().keys(), [c, b]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_to_a_key_file_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        KeyRing::of(key()).create(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        KeyRing::read(&link).unwrap().rotated(key()).replace(&link).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(KeyRing::read(&real).unwrap().keys().len(), 2);
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let good = hex(key().bytes());
        let refused = [
            String::new(),
            "# only words\n".into(),
            good[1..].into(),
            format!("{good}0"),
            good.replace(char::is_alphanumeric, "g"),
            "é".repeat(32),
            format!("{good}\n{good}\n{good}\n"),
            format!("{good}\n{}", "#".repeat(17_000)),
            format!("{good}\nban a b\n"),
            format!("{good}\nban\n"),
        ];
        for text in refused {
            assert_eq!(KeyRing::parse(&text).unwrap_err().kind(), Kind::Usage, "{text:?}");
        }
        assert_eq!(KeyRing::parse(&format!("\n# a\n  {good} \r\n")).unwrap().keys().len(), 1);
        assert_eq!(KeyRing::read(Path::new("/")).unwrap_err().kind(), Kind::Usage);
        assert_eq!(KeyRing::read(Path::new("/nowhere/key")).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn a_key_shows_only_its_fingerprint() {
        let key = ClusterKey([7; 32]);
        assert_eq!(key.fingerprint(), "4bb06f8e4e3a7715");
        let shown = format!("{:?}", KeyRing::of(key));
        assert_eq!(shown, "KeyRing { keys: [ClusterKey(4bb06f8e4e3a7715)], banned: {} }");
    }

    #[test]
    fn bans_are_kept_in_the_file_through_a_rotation_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mut ring = KeyRing::of(key());
        assert!(ring.ban("b").unwrap() && !ring.ban("b").unwrap());
        assert_eq!(ring.ban("not an id").unwrap_err().kind(), Kind::Usage);
        ring.rotated(key()).create(&path).unwrap();
        let mut read = KeyRing::read(&path).unwrap();
        assert!(read.bans("b") && !read.bans("a") && read.keys().len() == 2);
        assert!(read.unban("b") && !read.unban("b"));
        for n in 0..MAX_BANNED {
            read.ban(&format!("node-{n}")).unwrap();
        }
        assert_eq!(read.ban("one-more").unwrap_err().kind(), Kind::Limit);
    }
}
