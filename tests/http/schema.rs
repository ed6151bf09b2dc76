//! Whether a value is what a JSON Schema says: the keywords that the description of the API uses, and no other.

use serde_json::Value;

/// Keywords that say nothing about whether a value fits.
const SAYINGS: [&str; 6] = ["title", "description", "default", "examples", "example", "$schema"];

/// Where `value` is not what `schema` says; nothing if it is.
pub fn breach(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    check(document, schema, value, "").err()
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(anything) = schema.as_bool() {
        return if anything { Ok(()) } else { Err(format!("{at}: nothing is allowed here")) };
    }
    let fields = schema.as_object().unwrap_or_else(|| panic!("no schema: {schema}"));
    for (keyword, says) in fields {
        check_keyword(document, schema, keyword, says, value, at)?;
    }
    Ok(())
}

fn check_keyword(
    doc: &Value,
    schema: &Value,
    keyword: &str,
    says: &Value,
    value: &Value,
    at: &str,
) -> Result<(), String> {
    let all = || says.as_array().unwrap();
    let expect = |fits: bool| if fits { Ok(()) } else { Err(format!("{at}: {keyword} {says}, but it is {value}")) };
    match keyword {
        "$ref" => {
            let place = says.as_str().unwrap().trim_start_matches('#');
            check(doc, doc.pointer(place).unwrap_or_else(|| panic!("there is no {place}")), value, at)
        }
        "type" => {
            expect(says.as_str().map_or_else(
                || all().iter().any(|kind| is_of(kind.as_str().unwrap(), value)),
                |kind| is_of(kind, value),
            ))
        }
        "const" => expect(value == says),
        "enum" => expect(all().contains(value)),
        "format" => expect(value.as_str().is_none_or(|text| is_format(says.as_str().unwrap(), text))),
        "minimum" => expect(value.as_f64().is_none_or(|n| n >= says.as_f64().unwrap())),
        "maximum" => expect(value.as_f64().is_none_or(|n| n <= says.as_f64().unwrap())),
        "minLength" => expect(value.as_str().is_none_or(|s| s.chars().count() as u64 >= says.as_u64().unwrap())),
        "minItems" => expect(value.as_array().is_none_or(|a| a.len() as u64 >= says.as_u64().unwrap())),
        "maxItems" => expect(value.as_array().is_none_or(|a| a.len() as u64 <= says.as_u64().unwrap())),
        "anyOf" | "oneOf" => {
            let why: Vec<String> = all().iter().filter_map(|one| check(doc, one, value, at).err()).collect();
            let fits = all().len() - why.len();
            if fits == 1 || (fits > 0 && keyword == "anyOf") { Ok(()) } else { Err(why.join("; or ")) }
        }
        "allOf" => all().iter().try_for_each(|one| check(doc, one, value, at)),
        "items" => value.as_array().into_iter().flatten().enumerate().try_for_each(|(n, item)| {
            let prefix = schema["prefixItems"].as_array().map_or(0, Vec::len);
            if n < prefix { Ok(()) } else { check(doc, says, item, &format!("{at}[{n}]")) }
        }),
        "prefixItems" => value
            .as_array()
            .into_iter()
            .flatten()
            .zip(all())
            .enumerate()
            .try_for_each(|(n, (item, one))| check(doc, one, item, &format!("{at}[{n}]"))),
        "required" => match value.as_object() {
            Some(given) => expect(all().iter().all(|name| given.contains_key(name.as_str().unwrap()))),
            None => Ok(()),
        },
        "properties" => value.as_object().into_iter().flatten().try_for_each(|(name, value)| {
            says.get(name).map_or(Ok(()), |one| check(doc, one, value, &format!("{at}.{name}")))
        }),
        "additionalProperties" => value.as_object().into_iter().flatten().try_for_each(|(name, value)| {
            let known = schema["properties"].get(name).is_some();
            if known { Ok(()) } else { check(doc, says, value, &format!("{at}.{name}")) }
        }),
        "unevaluatedProperties" => Ok(()), // of what comes from several types: what we send is read by them
        word if SAYINGS.contains(&word) => Ok(()),
        word => panic!("{word} is not understood here: {schema}"),
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        word => panic!("there is no type {word}"),
    }
}

fn is_format(format: &str, text: &str) -> bool {
    match format {
        "uuid" => text.len() == 36 && uuid::Uuid::parse_str(text).is_ok(),
        "date-time" => text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z'),
        _ => true, // of numbers: how wide they are
    }
}

#[test]
fn what_does_not_fit_is_found() {
    let document = serde_json::json!({ "n": { "type": "object", "properties": { "x": { "type": ["integer", "null"] } },
        "required": ["x"], "additionalProperties": false } });
    let schema = serde_json::json!({ "type": "array", "items": { "$ref": "#/n" } });
    let breach = |text: &str| breach(&document, &schema, &serde_json::from_str(text).unwrap());
    assert_eq!(breach(r#"[{"x":1},{"x":null}]"#), None);
    for wrong in ["{}", "[1]", "[{}]", r#"[{"x":1.5}]"#, r#"[{"x":1,"y":2}]"#] {
        assert!(breach(wrong).is_some(), "{wrong}");
    }
}
