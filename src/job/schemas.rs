//! What payloads of handlers must look like: a JSON Schema each, where one is given.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value;

use super::{JobSpec, JsonText};
use crate::error::{Error, Result};

/// The longest description of what is wrong, in characters: it may quote the payload.
const MAX_FLAW: usize = 300;

/// The schemas of handlers, by their names.
#[derive(Clone, Default)]
pub struct Schemas(Arc<BTreeMap<String, Validator>>);

impl Schemas {
    /// Reads schemas; what they refer to must be in them.
    ///
    /// # Errors
    /// `Usage`, naming the handler whose schema is none.
    pub fn new(schemas: impl IntoIterator<Item = (String, Value)>) -> Result<Self> {
        let read = |(name, schema): (String, Value)| match jsonschema::validator_for(&schema) {
            Ok(validator) => Ok((name, validator)),
            Err(e) => Err(Error::usage(format!("the schema of handler {name} is no JSON Schema")).source(flaw(&e))),
        };
        Ok(Self(Arc::new(schemas.into_iter().map(read).collect::<Result<_>>()?)))
    }

    /// Whether the payload of `spec` fits, as far as its handler's schema is known here. No payload is `null`.
    ///
    /// # Errors
    /// `Usage`, naming the place in the payload.
    pub fn check(&self, spec: &JobSpec) -> Result<()> {
        let Some((name, validator)) = spec.handler.as_ref().and_then(|name| self.0.get_key_value(name)) else {
            return Ok(());
        };
        let payload = spec.payload.as_ref().map_or(Value::Null, JsonText::value);
        validator.validate(&payload).map_err(|e| {
            let place = e.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
            Error::usage(format!("payload does not fit the schema of handler {name}{place}: {}", flaw(&e)))
        })
    }
}

fn flaw(error: &jsonschema::ValidationError) -> String {
    error.to_string().chars().filter(|c| !c.is_control()).take(MAX_FLAW).collect()
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schemas() -> Schemas {
        let schema = json!({ "type": "object", "required": ["month"],
            "properties": { "month": { "type": "integer", "maximum": 12 } } });
        Schemas::new([("report".to_owned(), schema)]).unwrap()
    }

    fn spec(handler: &str, payload: Option<Value>) -> JobSpec {
        JobSpec { handler: Some(handler.into()), payload: payload.map(Into::into), ..JobSpec::default() }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        schemas().check(&spec("report", Some(json!({ "month": 12 })))).unwrap();
        schemas().check(&spec("other", Some(json!(1)))).unwrap();
        schemas().check(&JobSpec::default()).unwrap();
        let said = |payload| schemas().check(&spec("report", payload)).unwrap_err().to_string();
        let wrong = said(Some(json!({ "month": 13 })));
        assert!(wrong.starts_with("payload does not fit the schema of handler report at /month: 13"), "{wrong}");
        assert!(said(None).contains("null is not of type"), "{}", said(None));
        assert!(said(Some(json!("x".repeat(10_000)))).len() < 500);
    }

    #[test]
    fn what_is_no_schema_or_refers_elsewhere_is_refused() {
        for bad in [
            json!({ "type": 1 }),
            json!({ "$ref": "https://example.com/other.json" }),
            json!({ "$ref": "file:///etc/passwd" }),
        ] {
            let error = Schemas::new([("h".to_owned(), bad.clone())]).unwrap_err();
            assert!(error.message().contains("handler h"), "{bad}: {error}");
        }
    }
}
