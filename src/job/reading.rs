//! How the texts of a stored job are read: what a newer orx wrote is told from what no orx can have written.
//!
//! A field or a word that is not known here is of a newer orx: the job is left to that one. A text that ends in the
//! middle, or that has a number where a list belongs, is of none.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};
use serde_json::Value;
use serde_json::value::RawValue;

use super::json_text::{Members, flaw_of, read_members};
use super::plan::{CatchUp, Overlap};
use super::{Captured, Definition, JobSpec, JsonText, Origin, Rule, RuleKind, Target, Workflow};
use crate::error::{Error, Kind, Result};
use crate::time::{Span, Timestamp};

/// What of a stored job cannot be read here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unread {
    /// Why not.
    pub why: Misread,
    /// Which part of it.
    pub what: String,
}

/// Why something stored cannot be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misread {
    /// A newer orx wrote it, and can read it.
    Newer,
    /// No orx can.
    Unreadable,
}

impl Unread {
    /// What a newer orx wrote.
    pub fn newer(what: impl Into<String>) -> Self {
        Self { why: Misread::Newer, what: what.into() }
    }

    /// What no orx can read.
    pub fn unreadable(what: impl Into<String>) -> Self {
        Self { why: Misread::Unreadable, what: what.into() }
    }

    /// Whether no orx can read it.
    pub fn is_unreadable(&self) -> bool {
        self.why == Misread::Unreadable
    }

    /// The error of somebody who needs it.
    pub fn error(&self, of: &str) -> Error {
        let error = |kind| Error::new(kind, format!("{of}: {self}"));
        match self.why {
            Misread::Newer => error(Kind::Failed).hint("use an orx of the version that made it"),
            Misread::Unreadable => error(Kind::Corrupt).hint("'orx db check' says what else is damaged"),
        }
    }

    /// The worse of both: what is damaged stays so, whatever else a newer orx wrote.
    pub fn worse(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if other.is_unreadable() && !one.is_unreadable() => Some(other),
            (one, other) => one.or(other),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Misread::Newer => write!(f, "a newer orx made it: {}", self.what),
            Misread::Unreadable => write!(f, "it cannot be read: {}", self.what),
        }
    }
}

/// What the texts of a job say.
#[derive(Debug, Default)]
pub struct Texts {
    /// What was asked for, as far as it is understood.
    pub spec: JobSpec,
    /// What surrounded whoever asked.
    pub captured: Captured,
    /// Where it comes from.
    pub origin: Origin,
    /// What is not understood; none: all is.
    pub unread: Option<Unread>,
}

impl Texts {
    /// Reads the texts of a job: what was asked for, what surrounded it, where it comes from. Only the first of them must be
    /// there.
    pub fn read(spec: Option<&[u8]>, captured: Option<&[u8]>, origin: Option<&[u8]>) -> Self {
        let spec = match spec {
            Some(text) => read("spec", text),
            None => (JobSpec::default(), Some(Unread::unreadable("spec: it is gone"))),
        };
        let captured = captured.map(|text| read("captured", text)).unwrap_or_default();
        let origin = origin.map(|text| read("origin", text)).unwrap_or_default();
        Self::of(spec, captured, origin)
    }

    /// The same of what a coordinator answers with.
    pub fn given(spec: &RawValue, captured: &RawValue, origin: Option<&RawValue>) -> Self {
        let [spec, captured, origin] =
            [Some(spec), Some(captured), origin].map(|raw| raw.map(|raw| raw.get().as_bytes()));
        Self::read(spec, captured, origin)
    }

    fn of(spec: Part<JobSpec>, captured: Part<Captured>, origin: Part<Origin>) -> Self {
        let ((spec, of_spec), (captured, of_captured), (origin, of_origin)) = (spec, captured, origin);
        let of_spec = of_spec.or_else(|| {
            let runs_one = spec.command.as_ref().is_some_and(|words| !words.is_empty()) != spec.handler.is_some();
            (!runs_one).then(|| Unread::unreadable("spec: it does not say what to run"))
        });
        let unread = Unread::worse(of_spec, Unread::worse(of_captured, of_origin));
        Self { spec, captured, origin, unread }
    }
}

/// What is understood, and what is not.
type Part<T> = (T, Option<Unread>);

/// What a newer orx may answer with: the definition of a schedule, as far as it is understood.
///
/// # Errors
/// Only where it is no JSON.
pub fn definition_given<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Definition, D::Error> {
    let given = JsonText::deserialize(from)?;
    Ok(given.read().unwrap_or_else(|_| definition(given.as_str().as_bytes()).0))
}

/// The same of the options of a job.
///
/// # Errors
/// Only where it is no JSON.
pub fn options_given<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<JobSpec>, D::Error> {
    let given = Option::<JsonText>::deserialize(from)?;
    Ok(given.map(|options| read("options", options.as_str().as_bytes()).0))
}

/// The same of a word; none for one that is not known here.
///
/// # Errors
/// Only where it is no JSON.
pub fn word_given<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> std::result::Result<Option<T>, D::Error> {
    let given = Option::<Value>::deserialize(from)?;
    Ok(given.and_then(|given| serde_json::from_value(given).ok()))
}

/// The task that a job is, by the text of where it comes from, as far as that is understood.
pub fn task_of(origin: &[u8]) -> Option<String> {
    read::<Origin>("origin", origin).0.task
}

/// The value of `text` as far as it is understood, and what is not; `part` names it.
///
/// Each field of `T` has a default, so that those that are understood can be had without the others.
pub fn read<T: DeserializeOwned + Default>(part: &str, text: &[u8]) -> Part<T> {
    // A list would be taken for the fields in their order.
    let is_object = text.first() == Some(&b'{');
    match serde_json::from_slice(text) {
        Ok(value) if is_object => (value, None),
        Ok(_) => (T::default(), Some(Unread::unreadable(format!("{part}: it is no JSON object")))),
        Err(error) => match serde_json::from_slice(text) {
            Ok(fields) if is_object => fields_of(part, fields),
            _ => (T::default(), Some(Unread::unreadable(format!("{part}: {error}")))),
        },
    }
}

/// What a run was asked to do, as it was given, what surrounded whoever asked, and what of both is not understood.
pub fn run(given: &[u8], around: &[u8]) -> (JsonText, Captured, Option<Unread>) {
    let (given, of_given) = match serde_json::from_slice::<JsonText>(given) {
        Ok(given) if given.as_str().starts_with('{') => {
            let unknown = Workflow::read(&given).err().map(|e| Unread::newer(format!("workflow: {}", Error::from(e))));
            (given, unknown)
        }
        Ok(_) => (JsonText::default(), Some(Unread::unreadable("workflow: it is no JSON object"))),
        Err(e) => (JsonText::default(), Some(Unread::unreadable(format!("workflow: {e}")))),
    };
    let (captured, of_captured) = read("captured", around);
    (given, captured, Unread::worse(of_given, of_captured))
}

/// What a version of a schedule says. What cannot be read says nothing that could be done.
pub fn definition(text: &[u8]) -> Part<Definition> {
    let mut unknown = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let read = Definition::deserialize(serde_ignored::Deserializer::new(&mut reader, &mut note));
    let unread = match read.and_then(|definition| reader.end().map(|()| definition)) {
        Ok(definition) if unknown.is_empty() => return (definition, None),
        Ok(_) => Unread::newer(format!("definition.{} is not known here", unknown.join(", definition."))),
        // A schedule is left alone and never ended for this: what may be new is taken for it.
        Err(e) if serde_json::from_slice::<Members>(text).is_ok() => Unread::newer(format!("definition: {e}")),
        Err(e) => Unread::unreadable(format!("definition: {e}")),
    };
    let rule = Rule {
        kind: RuleKind::Cron,
        expression: "(unreadable)".to_owned(),
        tz: "UTC".to_owned(),
        start: None,
        end: None,
        created_at: Timestamp(0),
    };
    let nothing = Definition {
        rule,
        overlap: Overlap::default(),
        catch_up: CatchUp::default(),
        jitter: Span::ZERO,
        target: Target::Job(Box::default()),
        captured: Arc::default(),
    };
    (nothing, Some(unread))
}

/// The same for somebody who needs it.
///
/// # Errors
/// `Corrupt`, or `Failed` where a newer orx wrote it.
pub fn whole(text: &[u8]) -> Result<Definition> {
    match definition(text) {
        (definition, None) => Ok(definition),
        (_, Some(unread)) => Err(unread.error("a schedule")),
    }
}

/// Those fields of an object that are understood, each by itself.
fn fields_of<T: DeserializeOwned + Default>(part: &str, fields: Members) -> Part<T> {
    let known = names::<T>();
    let (mut good, mut newer, mut broken) = (Members::new(), Vec::new(), Vec::new());
    for (name, value) in fields {
        if !known.contains(&name.as_str()) {
            newer.push(format!("{part}.{name} is not known here"));
            continue;
        }
        match read_members::<T>(&Members::from([(name.clone(), value.clone())])) {
            Ok(_) => _ = good.insert(name, value),
            Err(e) if is_of_another_kind(&e) => broken.push(format!("{part}.{name}: {}", flaw_of(&e))),
            Err(e) => newer.push(format!("{part}.{name}: {}", flaw_of(&e))),
        }
    }
    let unread = match (newer.is_empty(), broken.is_empty()) {
        (false, _) => Unread::newer(newer.join(", ")),
        (true, false) => Unread::unreadable(broken.join(", ")),
        (true, true) => Unread::unreadable(format!("{part}: a field is in it twice")),
    };
    (read_members(&good).unwrap_or_default(), Some(unread))
}

/// Whether a value is not of the kind that its field has, such as a number for a list. A word that is not known is of the
/// right kind. serde tells the two apart by its words only.
fn is_of_another_kind(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("invalid ")
}

/// The names of the fields of a struct.
fn names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    let _ = T::deserialize(Names(&mut names)); // it only asks
    names
}

/// Is asked for a struct, and notes the names of its fields.
struct Names<'n>(&'n mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> std::result::Result<V::Value, Self::Error> {
        Err(Self::Error::custom("it is asked for names only"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
