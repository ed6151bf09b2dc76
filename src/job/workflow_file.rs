//! Workflows as files: TOML or JSON, and where in them something stands.

use std::collections::HashMap;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::DeTable;

use super::JsonText;
use super::workflow::{Flaw, Place, Workflow};
use crate::error::{Error, Result};

/// The largest file, in bytes.
pub const MAX_FILE: usize = 16 * 1024 * 1024;

/// Reads a workflow from the text of a file: JSON where it begins with `{`, else TOML. Gives it as it was given, too.
///
/// # Errors
/// `Usage`, with the line where that can be known.
pub fn parse(text: &str) -> Result<(JsonText, Workflow)> {
    read(text, |_| Ok(()))
}

/// As [`parse`], for a schedule.
///
/// # Errors
/// `Usage`, with the line where that can be known.
pub fn parse_scheduled(text: &str) -> Result<(JsonText, Workflow)> {
    read(text, Workflow::check_scheduled)
}

fn read(text: &str, check: impl Fn(&Workflow) -> Result<(), Flaw>) -> Result<(JsonText, Workflow)> {
    let read = |given: &JsonText| Workflow::read(given).and_then(|workflow| check(&workflow).map(|()| workflow));
    if text.len() > MAX_FILE {
        return Err(Error::usage("the file is larger than 16 MiB"));
    }
    if text.trim_start().starts_with('{') {
        let given: JsonText = text.parse().map_err(|e| Error::usage("not JSON").source(e))?;
        let workflow = read(&given)?;
        return Ok((given, workflow));
    }
    let lines = Lines::new(text);
    let not_toml = |e: toml::de::Error| {
        let place = e.span().map(|span| format!("line {}: ", lines.of(span.start))).unwrap_or_default();
        match looks_like_yaml(text) {
            true => Error::usage("this is YAML, and a workflow is TOML or JSON").hint(FROM_YAML),
            false => Error::usage(format!("{place}not TOML: {}", e.message())),
        }
    };
    let table: toml::Table = toml::from_str(text).map_err(not_toml)?;
    let given = Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect()).into();
    let workflow = read(&given).map_err(|flaw| match lines.find(text, &flaw) {
        Some(line) => Error::usage(format!("line {line}: {flaw}")),
        None => flaw.into(),
    })?;
    Ok((given, workflow))
}

impl From<Flaw> for Error {
    fn from(Flaw { place, message }: Flaw) -> Self {
        let task = place.task.map(|task| format!("task[{task}]"));
        let field: Vec<String> = task.into_iter().chain((!place.key.is_empty()).then_some(place.key)).collect();
        let error = Error::usage(message);
        if field.is_empty() { error } else { error.field(field.join(".")) }
    }
}

/// What to do with YAML.
pub const FROM_YAML: &str = "yq -o json FILE makes JSON of it";

/// Whether a text that is neither JSON nor TOML is most likely YAML: it begins as that does, or with a key and a colon.
pub fn looks_like_yaml(text: &str) -> bool {
    let Some(first) = text.lines().map(str::trim_end).find(|line| !line.is_empty() && !line.starts_with('#')) else {
        return false;
    };
    let key = first.strip_prefix("- ").unwrap_or(first).split_once(':');
    let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    first == "---" || key.is_some_and(|(key, rest)| is_key(key) && (rest.is_empty() || rest.starts_with(' ')))
}

fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(n) => n.into(),
        toml::Value::Float(n) => n.into(),
        toml::Value::Boolean(b) => Value::Bool(b),
        toml::Value::Datetime(at) => Value::String(at.to_string()),
        toml::Value::Array(many) => Value::Array(many.into_iter().map(json).collect()),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect::<Map<_, _>>())
        }
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Self(std::iter::once(0).chain(starts).collect())
    }

    /// The line of a byte, from 1.
    fn of(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte)
    }

    /// The line that a flaw is on, or that of the table it is in.
    fn find(&self, text: &str, flaw: &Flaw) -> Option<usize> {
        let table = DeTable::parse(text).ok()?;
        let mut places = HashMap::new();
        note(table.get_ref(), None, &mut places);
        for list in ["task", "tasks"] {
            let Some(tasks) = table.get_ref().get(list) else { continue };
            for (i, task) in tasks.get_ref().as_array().into_iter().flatten().enumerate() {
                places.insert(Place { task: Some(i), key: String::new() }, task.span().start);
                if let Some(table) = task.get_ref().as_table() {
                    note(table, Some(i), &mut places);
                }
            }
        }
        let whole = Place { key: String::new(), ..flaw.place.clone() };
        [&flaw.place, &whole].into_iter().find_map(|place| places.get(place)).map(|byte| self.of(*byte))
    }
}

fn note(table: &DeTable<'_>, task: Option<usize>, places: &mut HashMap<Place, usize>) {
    for (key, _) in table {
        let key: &Spanned<_> = key;
        places.insert(Place { task, key: key.get_ref().to_string() }, key.span().start);
    }
}
