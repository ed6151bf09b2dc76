//! Parts of a job's description that have a short text form: `42:ended`, `db=2`, bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::schema::schema;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Selector;
use super::spec::{MAX_COUNT, Until};

/// A job to wait for, written `JOB` or `JOB:ended`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// The job as it was named.
    pub job: Selector,
    /// What is waited for.
    pub until: Until,
}

impl FromStr for After {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (job, until) = match text.rsplit_once(':') {
            Some((job, "done")) => (job, Until::Done),
            Some((job, "ended")) => (job, Until::Ended),
            Some((_, other)) => return Err(format!("{other:?} is neither done nor ended")),
            None => (text, Until::Done),
        };
        Ok(Self { job: job.parse()?, until })
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Until::Done => write!(f, "{}", self.job),
            Until::Ended => write!(f, "{}:ended", self.job),
        }
    }
}

/// At most `max` running jobs of the tenant share `key`, written `KEY=N` (S16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLimit {
    /// What they share.
    pub key: String,
    /// How many may run at once.
    pub max: u32,
}

impl FromStr for KeyLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not KEY=N with N from 1");
        let (key, max) = text.rsplit_once('=').ok_or_else(bad)?;
        match max.parse() {
            Ok(max @ 1..=MAX_COUNT) if !key.is_empty() => Ok(Self { key: key.into(), max }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for KeyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.max)
    }
}

/// Bytes that are text in JSON where they are UTF-8, else `{"base64": …}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

pub(super) fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<After>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum One {
        Number(i64),
        Text(String),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Many(Vec<One>),
        One(One),
    }
    let words = match Raw::deserialize(d)? {
        Raw::Many(words) => words,
        Raw::One(word) => vec![word],
    };
    words
        .into_iter()
        .map(|word| match word {
            One::Number(n) => n.to_string().parse(),
            One::Text(t) => t.parse(),
        })
        .collect::<Result<_, String>>()
        .map_err(de::Error::custom)
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
    )*};
}
as_text!(After, KeyLimit);

schema!(After, "After", { "type": "string", "description": "a job, or JOB:ended", "examples": ["1"] });
schema!(KeyLimit, "KeyLimit", { "type": "string", "description": "KEY=N", "examples": ["db=2"] });

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for KeyLimit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RawBytes {
    Text(String),
    Coded { base64: String },
}

schema!(Bytes, "Bytes", {
    "anyOf": [
        { "type": "string" },
        { "type": "object", "properties": { "base64": { "type": "string" } }, "required": ["base64"] }
    ]
});

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        match std::str::from_utf8(&self.0) {
            Ok(text) => s.serialize_str(text),
            Err(_) => {
                RawBytes::Coded { base64: base64::engine::general_purpose::STANDARD.encode(&self.0) }.serialize(s)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        match RawBytes::deserialize(d)? {
            RawBytes::Text(text) => Ok(Self(text.into_bytes())),
            RawBytes::Coded { base64 } => {
                base64::engine::general_purpose::STANDARD.decode(base64).map(Self).map_err(de::Error::custom)
            }
        }
    }
}

/// A map in which no key is twice: of two, the last would count and nobody would hear of it.
pub(super) fn once<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Once;

    impl<'de> Visitor<'de> for Once {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((key, value)) = from.next_entry::<String, String>()? {
                if all.contains_key(&key) {
                    return Err(de::Error::custom(format!("has the key {key:?} twice")));
                }
                all.insert(key, value);
            }
            Ok(all)
        }
    }
    d.deserialize_map(Once)
}

/// One word or several.
#[derive(Default)]
pub(super) struct Words(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(d)? {
            serde_json::Value::String(one) => Ok(Self(vec![one])),
            many => serde_json::from_value(many).map(Self).map_err(de::Error::custom),
        }
    }
}
