//! What a token may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::schema::schema;

/// What a token must hold for an Op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(pub u8);

/// The scopes by their names.
const NAMES: [(&str, Scopes); 6] = [
    ("read", Scopes::READ),
    ("submit", Scopes::SUBMIT),
    ("exec", Scopes::EXEC),
    ("operate", Scopes::OPERATE),
    ("work", Scopes::WORK),
    ("admin", Scopes::ADMIN),
];

impl Scopes {
    /// Nothing.
    pub const NONE: Scopes = Scopes(0);
    /// See jobs.
    pub const READ: Scopes = Scopes(1);
    /// Submit jobs for registered handlers.
    pub const SUBMIT: Scopes = Scopes(2);
    /// Submit commands.
    pub const EXEC: Scopes = Scopes(4);
    /// Cancel, retry, pause.
    pub const OPERATE: Scopes = Scopes(8);
    /// Lease and settle.
    pub const WORK: Scopes = Scopes(16);
    /// Tokens and limits.
    pub const ADMIN: Scopes = Scopes(32);
    /// Everything.
    pub const ALL: Scopes = Scopes(63);

    /// Both.
    pub const fn and(self, other: Scopes) -> Scopes {
        Scopes(self.0 | other.0)
    }

    /// Whether all of `needed` are held.
    pub const fn cover(self, needed: Scopes) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |(_, scope)| self.cover(*scope)).map(|(name, _)| name)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Scopes {
    type Err = String;

    /// Reads names with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).try_fold(Self::NONE, |all, word| {
            let known = NAMES.iter().find(|(name, _)| *name == word);
            let (_, scope) = known.ok_or_else(|| format!("{word:?} is no scope; there are {}", Self::ALL))?;
            Ok(all.and(*scope))
        })
    }
}

schema!(Scopes, "Scopes", {
    "type": "array",
    "items": { "enum": ["read", "submit", "exec", "operate", "work", "admin"] }
});

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(d)?;
        let mut scopes = words.iter().map(|word| word.parse::<Self>());
        scopes.try_fold(Self::NONE, |all, one| one.map(|one| all.and(one))).map_err(de::Error::custom)
    }
}
