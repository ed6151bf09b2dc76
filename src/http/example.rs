//! Examples for the description of the API: those that people wrote, else the smallest value that a schema allows.

use serde_json::{Map, Value, json};

/// How deep schemas may lead into each other.
const MAX_DEPTH: u8 = 24;

/// An id as this program makes them.
const ID: &str = "01987654-0000-7000-8000-000000000001";

/// An example of the body of an Op; of those that say more than their smallest body, one that does.
pub(super) fn of_op(name: &str, schema: &Value, definitions: &Map<String, Value>) -> Value {
    match name {
        "enqueue" => json!({ "jobs": [{ "id": ID, "spec": { "command": ["echo", "hello"], "queue": "build" } }] }),
        "list_jobs" => json!({ "filter": { "states": ["done"], "queue": "build" }, "before": null, "limit": 10 }),
        "get_jobs" => json!({ "numbers": [1], "detail": true }),
        "cancel" => json!({ "numbers": [1], "reason": "wrong branch", "how": { "signal": null, "grace": "5s" } }),
        "read_events" => json!({ "after": 0, "limit": 100 }),
        "read_output" => json!({ "number": 1, "attempt": 1, "after": null }),
        _ => smallest(schema, definitions, 0),
    }
}

/// The smallest value that a schema allows, with its own example where it has one.
pub(super) fn smallest(schema: &Value, definitions: &Map<String, Value>, depth: u8) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    let inner = |schema: &Value| smallest(schema, definitions, depth + 1);
    if let Some(place) = schema["$ref"].as_str() {
        let name = place.rsplit('/').next().unwrap_or_default();
        return definitions.get(name).map_or(Value::Null, inner);
    }
    let first = |key: &str| schema[key].as_array().and_then(|all| all.first());
    if let Some(example) = first("examples").or_else(|| schema.get("const")).or_else(|| first("enum")) {
        return example.clone();
    }
    if let Some(choice) = first("anyOf").or_else(|| first("oneOf")) {
        let mut value = inner(choice);
        // What all choices have in common stands beside them.
        if let (Some(value), Some(rest)) =
            (value.as_object_mut(), schema.get("properties").map(|_| object(schema, inner)))
        {
            value.extend(rest);
        }
        return value;
    }
    match schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object") {
        "object" => Value::Object(object(schema, inner)),
        "array" => {
            schema["prefixItems"].as_array().map_or_else(|| json!([]), |items| items.iter().map(inner).collect())
        }
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(1).max(1)),
        "number" => json!(0.5),
        "boolean" => json!(false),
        "null" => Value::Null,
        _ => match schema["format"].as_str() {
            Some("uuid") => json!(ID),
            Some("date-time") => json!("2030-01-01T00:00:00.000Z"),
            _ => json!("x"),
        },
    }
}

/// The fields that an object must have.
fn object(schema: &Value, inner: impl Fn(&Value) -> Value) -> Map<String, Value> {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    required.map(|name| (name.to_owned(), inner(&schema["properties"][name]))).collect()
}
