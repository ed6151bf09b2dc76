//! JSON as somebody wrote it: kept to the last digit, escape and space, and parsed only to be looked at.
//!
//! serde_json says whether a text is JSON. What is here reads texts of which that is known.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::iter::Peekable;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};

/// How deep objects and lists may lie in each other.
pub const MAX_DEPTH: usize = 128;

/// One JSON value, as it was written.
///
/// White space around it is no part of it. Two are equal where their texts are; [`JsonText::canonical`] is the same for those
/// that differ in white space and the order of members only.
#[derive(Clone)]
pub struct JsonText(Arc<RawValue>);

/// The members of an object, each as it was written.
pub type Members = BTreeMap<String, Box<RawValue>>;

impl JsonText {
    /// The text of a value of ours.
    ///
    /// # Errors
    /// Only where it cannot be written as JSON.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        let raw = to_raw_value(value).map_err(|e| Error::failed("cannot be written as JSON").source(e))?;
        Ok(raw.into())
    }

    /// It, as it was written.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// It as a type of ours.
    ///
    /// # Errors
    /// Where it is none.
    pub fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.as_str())
    }

    /// Its members; none where it is no object.
    pub fn members(&self) -> Option<Members> {
        members(&self.0)
    }

    /// The text that it stands for; none where it is no string.
    pub fn string(&self) -> Option<String> {
        self.as_str().starts_with('"').then(|| string(self.as_str()))
    }

    /// What is wrong with it though it is JSON: it means different things to different readers, or nests without end. Begins
    /// as what is said of a field does.
    pub fn flaw(&self) -> Option<String> {
        // The keys of the objects, and nothing for the lists, that the place lies in.
        let mut around: Vec<Option<Vec<Cow<'_, [u8]>>>> = Vec::new();
        let mut last = "";
        for token in tokens(self.as_str()) {
            match token {
                "{" | "[" if around.len() == MAX_DEPTH => return Some(format!("is nested deeper than {MAX_DEPTH}")),
                "{" => around.push(Some(Vec::new())),
                "[" => around.push(None),
                "]" => _ = around.pop(),
                "}" => {
                    let mut keys = around.pop().flatten().unwrap_or_default();
                    keys.sort_unstable();
                    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
                        return Some(format!("has the key {:?} twice", String::from_utf8_lossy(&twice[0])));
                    }
                }
                ":" => {
                    if let Some(Some(keys)) = around.last_mut() {
                        keys.push(decoded(last));
                    }
                }
                _ => {}
            }
            last = token;
        }
        None
    }

    /// It on one line, without the white space.
    pub fn one_line(&self) -> String {
        tokens(self.as_str()).collect()
    }

    /// The same for texts that say the same: without the white space, members by their keys. Numbers and strings are as they
    /// were written. It is not to be asked of one with a [flaw](JsonText::flaw).
    pub fn canonical(&self) -> String {
        let mut all = String::with_capacity(self.as_str().len());
        sort(&mut tokens(self.as_str()).peekable(), &mut all);
        all
    }

    /// It to be looked at. What a value cannot be becomes the nearest: a number that is too large the largest, half a
    /// surrogate a replacement character.
    pub fn value(&self) -> Value {
        // Not by serde_json: some keys mean something to it, and would hide what a schema looks for.
        nearest(&mut tokens(self.as_str()).peekable(), 0, &nearest_number)
    }

    /// The same to be printed: numbers that would be printed otherwise than they were written are strings.
    pub fn printable(&self) -> Value {
        let number = |token: &str| {
            let number = nearest_number(token);
            let printed = number.to_string();
            if printed == token { number } else { token.into() }
        };
        nearest(&mut tokens(self.as_str()).peekable(), 0, &number)
    }

    /// It with other words for those strings and numbers that `other` gives one for, and as it was between them.
    pub fn map(&self, mut other: impl FnMut(&str) -> Option<String>) -> Self {
        let text = self.as_str();
        let (mut mapped, mut end) = (String::with_capacity(text.len()), 0);
        for token in tokens(text) {
            let start = token.as_ptr() as usize - text.as_ptr() as usize;
            mapped.push_str(&text[end..start]);
            match token
                .starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit())
                .then(|| other(token))
                .flatten()
            {
                Some(word) => mapped.push_str(&Value::String(word).to_string()),
                None => mapped.push_str(token),
            }
            end = start + token.len();
        }
        match mapped.parse::<Self>() {
            Ok(mapped) if mapped.flaw().is_none() => mapped,
            Ok(mapped) => mapped.value().into(), // two keys are the same now: one of them is left
            Err(_) => Self::default(),
        }
    }
}

/// The members of an object; none where it is no object.
pub fn members(raw: &RawValue) -> Option<Members> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// What an object with these members is.
///
/// # Errors
/// Where it is no such thing.
pub fn read_members<T: DeserializeOwned>(members: &Members) -> serde_json::Result<T> {
    serde_json::from_str(&serde_json::to_string(members)?)
}

/// What a string stands for.
pub(crate) fn string(token: &str) -> String {
    String::from_utf8_lossy(&decoded(token)).into_owned()
}

/// What serde says of a value, without the place: it is no place of a file.
pub fn flaw_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map(str::to_owned).unwrap_or(text)
}

/// The tokens of a text that is known to be JSON.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        let bytes = rest.as_bytes();
        let end = match bytes.first()? {
            b'{' | b'}' | b'[' | b']' | b':' | b',' => 1,
            b'"' => {
                let mut escaped = false;
                let close = bytes[1..].iter().position(|b| {
                    let closes = *b == b'"' && !escaped;
                    escaped = *b == b'\\' && !escaped;
                    closes
                });
                close.map_or(bytes.len(), |close| close + 2)
            }
            _ => rest.find([',', ':', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(bytes.len()),
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// What a string stands for, in UTF-8 but for halves of surrogates, which are written likewise.
fn decoded(token: &str) -> Cow<'_, [u8]> {
    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> std::result::Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }

    let inner = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(token);
    match inner.contains('\\') {
        false => Cow::Borrowed(inner.as_bytes()),
        true => {
            let bytes = serde_json::Deserializer::from_str(token).deserialize_bytes(Bytes);
            bytes.map_or(Cow::Borrowed(inner.as_bytes()), Cow::Owned)
        }
    }
}

/// Writes the next value with its members in order.
fn sort<'t>(tokens: &mut Peekable<impl Iterator<Item = &'t str>>, out: &mut String) {
    match tokens.next() {
        Some("{") => {
            let mut members: Vec<(&str, String)> = Vec::new();
            while let Some(key) = tokens.next().filter(|key| *key != "}") {
                if key == "," {
                    continue;
                }
                let mut value = String::new();
                tokens.next(); // the colon
                sort(tokens, &mut value);
                members.push((key, value));
            }
            members.sort_unstable();
            let members: Vec<String> = members.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            out.push_str(&format!("{{{}}}", members.join(",")));
        }
        Some("[") => {
            out.push('[');
            while let Some(next) = tokens.peek().copied() {
                match next {
                    "]" | "," => {
                        out.push_str(next);
                        tokens.next();
                        if next == "]" {
                            break;
                        }
                    }
                    _ => sort(tokens, out),
                }
            }
        }
        Some(token) => out.push_str(token),
        None => {}
    }
}

/// The next value, or what comes nearest to it.
fn nearest<'t>(
    tokens: &mut Peekable<impl Iterator<Item = &'t str>>,
    depth: usize,
    number: &impl Fn(&str) -> Value,
) -> Value {
    match tokens.next().unwrap_or("null") {
        "{" | "[" if depth == MAX_DEPTH => Value::Null,
        "{" => {
            let mut all = Map::new();
            while let Some(key) = tokens.next().filter(|key| *key != "}") {
                if key != "," {
                    tokens.next(); // the colon
                    all.insert(string(key), nearest(tokens, depth + 1, number));
                }
            }
            Value::Object(all)
        }
        "[" => {
            let mut all = Vec::new();
            while let Some(next) = tokens.peek().copied() {
                match next {
                    "]" | "," => _ = tokens.next(),
                    _ => all.push(nearest(tokens, depth + 1, number)),
                }
                if next == "]" {
                    break;
                }
            }
            Value::Array(all)
        }
        token if token.starts_with('"') => Value::String(string(token)),
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        token => number(token),
    }
}

fn nearest_number(token: &str) -> Value {
    serde_json::from_str(token).unwrap_or_else(|_| {
        let largest = if token.starts_with('-') { f64::MIN } else { f64::MAX };
        Number::from_f64(largest).map_or(Value::Null, Value::Number)
    })
}

impl From<Box<RawValue>> for JsonText {
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw.into())
    }
}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        to_raw_value(&value).unwrap_or_default().into() // a value is always one
    }
}

impl FromStr for JsonText {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str::<&RawValue>(text).map(|raw| raw.to_owned().into())
    }
}

impl Default for JsonText {
    fn default() -> Self {
        RawValue::NULL.to_owned().into()
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonText {}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        Box::<RawValue>::deserialize(d).map(Self::from)
    }
}

impl JsonSchema for JsonText {
    fn inline_schema() -> bool {
        Value::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        Value::schema_name()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        Value::json_schema(schemas)
    }
}

/// Keeps `null` apart from nothing, in a field that is left out where there is nothing.
pub(crate) mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::JsonText;

    pub(crate) fn serialize<S: Serializer>(v: &Option<JsonText>, s: S) -> Result<S::Ok, S::Error> {
        v.serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<JsonText>, D::Error> {
        JsonText::deserialize(d).map(Some)
    }
}

#[cfg(test)]
#[path = "json_text_tests.rs"]
mod tests;
