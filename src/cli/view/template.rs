//! `--format`: one line per thing through minijinja.

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::error::{Error, Result};

/// A template that was understood.
pub(super) struct Template(Environment<'static>);

impl Template {
    /// # Errors
    /// `Usage` when it is not understood.
    pub(super) fn new(text: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_formatter(|out, state, value| match value.is_none() {
            true => Ok(()), // no value prints as nothing
            false => minijinja::escape_formatter(out, state, value),
        });
        environment
            .add_template_owned("format", text.to_owned())
            .map_err(|e| Error::usage("--format is not understood").source(e.to_string()))?;
        Ok(Self(environment))
    }

    /// # Errors
    /// `Usage` when it names something that is not there.
    pub(super) fn render<T: Serialize>(&self, value: &T) -> Result<String> {
        let rendered = self.0.get_template("format").and_then(|t| t.render(minijinja::value::Serde(value)));
        rendered.map_err(|e| {
            Error::usage("--format does not fit the data").source(e.to_string()).hint("-o json shows what there is")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Template;
    use serde_json::json;

    #[test]
    fn fields_are_variables() {
        let t = Template::new("{{number}} {{labels.team}}").unwrap();
        assert_eq!(t.render(&json!({"number": 4, "labels": {"team": "x"}})).unwrap(), "4 x");
        assert!(t.render(&json!({"number": 4})).is_err());
        assert!(Template::new("{{").is_err());
    }
}
