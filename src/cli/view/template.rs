//! `--format`: one line per thing through minijinja.

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::job::JsonText;

/// A template that was understood.
pub(super) struct Template {
    environment: Environment<'static>,
    /// What it names of the data, without what lies below.
    names: Vec<String>,
}

impl Template {
    /// # Errors
    /// `Usage` when it is not understood.
    pub(super) fn new(text: &str) -> Result<Self> {
        if !text.contains("{{") && !text.contains("{%") {
            return Err(Error::usage(format!("--format {text:?} names no field"))
                .hint("such as '{{number}} {{state}}'; -o json and -o ndjson print all there is"));
        }
        let mut environment = Environment::new();
        // What lies below a name differs: labels, the data of events, results. There may be none of it.
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_formatter(|out, state, value| match value.is_none() || value.is_undefined() {
            true => Ok(()), // no value prints as nothing
            false => minijinja::escape_formatter(out, state, value),
        });
        environment
            .add_template_owned("format", text.to_owned())
            .map_err(|e| Error::usage("--format is not understood").source(e.to_string()))?;
        let known: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
        let names = environment.get_template("format").map(|template| template.undeclared_variables(false));
        let names = names.unwrap_or_default().into_iter().filter(|name| !known.contains(&name.as_str())).collect();
        Ok(Self { environment, names })
    }

    /// # Errors
    /// `Usage` when it names something that is not there.
    pub(super) fn render<T: Serialize>(&self, value: &T) -> Result<String> {
        let misfit = |why: String| {
            Error::usage("--format does not fit the data").source(why).hint("-o json shows what there is")
        };
        let data = minijinja::Value::from(minijinja::value::Serde(JsonText::of(value)?.printable()));
        let is_there = |name: &str| data.get_attr(name).is_ok_and(|value| !value.is_undefined());
        if let Some(name) = self.names.iter().find(|name| !is_there(name)) {
            return Err(misfit(format!("there is no {name}")));
        }
        let rendered = self.environment.get_template("format").and_then(|t| t.render(data));
        rendered.map_err(|e| misfit(e.to_string()))
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
        assert_eq!(t.render(&json!({"number": 4, "labels": {}})).unwrap(), "4 ", "another one has none");
        assert_eq!(t.render(&json!({"number": 4, "labels": null})).unwrap(), "4 ");
        let each = Template::new("{% for n in range(2) %}{{n}}{{number}}{% endfor %}").unwrap();
        assert_eq!(each.render(&json!({"number": 4})).unwrap(), "0414");
        assert!(Template::new("{{").is_err());
        assert!(Template::new("json").is_err(), "of each thing it would print just that");
        let said: crate::job::JsonText =
            r#"{"n":1.10,"big":12345678901234567890123,"half":0.5,"all":[1e3]}"#.parse().unwrap();
        let numbers = Template::new("{{n}} {{big}} {{half * 2}} {{n|float + 1}} {{all[0]}}").unwrap();
        assert_eq!(numbers.render(&said).unwrap(), "1.10 12345678901234567890123 1.0 2.1 1e3", "as they were written");
    }
}
