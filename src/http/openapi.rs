//! The description of the API, made of the types that serve it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::aliases::{ALWAYS, Alias, aliases};
use super::ops::{Route, Routes};
use super::{App, auth, example};
use crate::error::Problem;
use crate::ops::Scopes;

/// The statuses with which an Op may refuse.
const REFUSED: [u16; 14] = [400, 401, 403, 404, 408, 409, 413, 415, 421, 422, 429, 500, 503, 504];

/// `GET /api/openapi.json`
pub(super) async fn document(State(app): State<Arc<App>>) -> Json<Value> {
    Json(openapi(&app.routes))
}

/// The OpenAPI 3.1 description of an API with these `routes`.
pub fn openapi(routes: &Routes) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    let mut add = |path: String, method: &str, operation: Value| {
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = operation;
    };
    for (name, route) in &routes.0 {
        add(format!("/api/v1/ops/{name}"), "post", of_op(name, route, &mut schemas));
    }
    for alias in aliases() {
        add(alias.path.into(), alias.method, of_alias(&alias, &mut schemas));
    }
    let mut definitions = schemas.take_definitions(true);
    paths.values().for_each(|methods| refuse_unknown(&methods["post"], &mut definitions));
    paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut).for_each(|operation| {
        give_examples(operation, &definitions);
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "orx",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A durable job queue. Every use case is a POST below /api/v1/ops; what people call by hand has a name of its own.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "security": [{ "token": [] }],
        "tags": [
            { "name": "rest", "description": "What people call by hand" },
            { "name": "ops", "description": "Every use case, as the command line and workers call it" },
        ],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "responses": {
                "Refused": {
                    "description": "Refused, with the reason",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// An answer of a media type; what it looks like is told of JSON only.
fn answer(description: &str, media: &str, schema: Option<Value>) -> Value {
    let schema = schema.unwrap_or_else(|| json!({ "type": "string" }));
    json!({ "description": description, "content": { media: { "schema": schema } } })
}

fn refuse(responses: &mut Map<String, Value>, statuses: impl IntoIterator<Item = u16>) {
    for status in statuses {
        let refused = json!({ "$ref": "#/components/responses/Refused" });
        responses.entry(status.to_string()).or_insert(refused);
    }
}

fn of_op(name: &str, route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let (request, reply) = ((route.request)(schemas), (route.reply)(schemas));
    let mut responses = Map::new();
    responses.insert("200".into(), answer("Done", "application/json", Some(reply.into())));
    refuse(&mut responses, REFUSED);
    json!({
        "operationId": name,
        "summary": name.replace('_', " "),
        "tags": ["ops"],
        "requestBody": { "required": true, "content": { "application/json": { "schema": request } } },
        "responses": responses,
        "security": needs(route.asked.scopes),
    })
}

/// What a token must hold, whatever is asked with it.
fn needs(scopes: Scopes) -> Value {
    json!([{ "token": scopes }])
}

fn of_alias(alias: &Alias, schemas: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for (status, media, schema) in &alias.answers {
        let schema = schema.map(|describe| Value::from(describe(schemas)));
        let description = if *status < 400 { alias.summary } else { "Not now, with the reason" };
        let answer = match *status {
            101 => json!({ "description": description }),
            _ => answer(description, media, schema),
        };
        responses.insert(status.to_string(), answer);
    }
    let open = auth::OPEN.contains(&alias.path);
    // What needs no token looks at nothing that could be wrong with a request but its host.
    refuse(&mut responses, ALWAYS.into_iter().filter(|status| !open || !matches!(status, 401 | 403 | 500)));
    refuse(&mut responses, alias.refuses.iter().copied());
    let mut operation = json!({
        "operationId": alias.id,
        "summary": alias.summary,
        "tags": ["rest"],
        "parameters": parameters(alias, schemas),
        "responses": responses,
    });
    if let Some((describe, required, example)) = &alias.body {
        let content = json!({ "schema": describe(schemas), "example": example });
        operation["requestBody"] = json!({ "required": required, "content": { "application/json": content } });
    }
    match &alias.asks {
        _ if open => operation["security"] = json!([]),
        Some(asked) => operation["security"] = needs(asked.scopes),
        None => {}
    }
    operation
}

/// What its path, query and headers may say.
fn parameters(alias: &Alias, schemas: &mut SchemaGenerator) -> Vec<Value> {
    let mut all = Vec::new();
    if let Some(example) = alias.names {
        let about = "A number, an id, the start of an id, or last";
        let schema = json!({ "type": "string", "pattern": "^([1-9][0-9]{0,17}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|last)$" });
        all.push(json!({
            "name": "id", "in": "path", "required": true, "description": about, "schema": schema, "example": example,
        }));
    }
    if let Some(describe) = alias.query {
        // Its fields are parameters: nobody asks for the object itself.
        let name =
            Value::from(describe(schemas))["$ref"].as_str().and_then(|r| r.rsplit('/').next()).map(str::to_owned);
        let object = name.and_then(|name| schemas.definitions_mut().remove(&name)).unwrap_or_default();
        let required = object["required"].as_array().cloned().unwrap_or_default();
        for (name, schema) in object["properties"].as_object().into_iter().flatten() {
            all.push(parameter(name, schema.clone(), required.contains(&json!(name))));
        }
    }
    for (name, about, example) in alias.headers {
        let schema = json!({ "type": "string" });
        all.push(json!({ "name": name, "in": "header", "description": about, "schema": schema, "example": example }));
    }
    all
}

/// A parameter of a query: it is there or not, and never null.
fn parameter(name: &str, mut schema: Value, required: bool) -> Value {
    let mut parameter = json!({ "name": name, "in": "query", "required": required });
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("default");
        if let Some(about) = fields.remove("description") {
            parameter["description"] = about;
        }
        if let Some(example) = fields.remove("examples").and_then(|all| all.get(0).cloned()) {
            parameter["example"] = example;
        }
        // What is larger than any number here is none.
        let largest = fields.get("format").and_then(Value::as_str).and_then(|format| match format {
            "uint" | "uint64" => Some(u64::MAX),
            "int64" => Some(i64::MAX.unsigned_abs()),
            "uint32" => Some(u64::from(u32::MAX)),
            _ => None,
        });
        if let Some(largest) = largest {
            fields.entry("maximum").or_insert(largest.into());
        }
        if let Some(kinds) = fields.get_mut("type").filter(|kinds| kinds.is_array()) {
            *kinds = kinds[0].take();
        }
    }
    if let Some(choice) = schema["anyOf"].get(0) {
        schema = choice.clone();
    }
    parameter["schema"] = schema;
    parameter
}

/// Says of the body of an operation that fields which nobody knows are refused, as they are wherever a body is read.
fn refuse_unknown(operation: &Value, definitions: &mut Map<String, Value>) {
    let body = operation.pointer("/requestBody/content/application~1json/schema/$ref");
    let name = body.and_then(Value::as_str).and_then(|place| place.rsplit('/').next());
    let Some(body) = name.and_then(|name| definitions.get_mut(name)).and_then(Value::as_object_mut) else { return };
    if body.get("type") == Some(&json!("object"))
        && !["anyOf", "oneOf", "allOf", "$ref"].iter().any(|k| body.contains_key(*k))
    {
        body.insert("additionalProperties".into(), json!(false));
    }
}

/// Gives bodies and answers an example where they have none.
fn give_examples(operation: &mut Value, definitions: &Map<String, Value>) {
    let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let body = operation.pointer_mut("/requestBody/content/application~1json");
    if let Some(body) = body.filter(|body| body.get("example").is_none()) {
        body["example"] = example::of_op(&name, &body["schema"], definitions);
    }
    for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(content) = response.pointer_mut("/content/application~1json") {
            content["example"] = example::smallest(&content["schema"], definitions, 0);
        }
    }
}
