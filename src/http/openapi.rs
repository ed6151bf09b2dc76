//! The description of the API, made of the types that serve it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::ops::Routes;
use super::{App, rest};
use crate::error::Problem;

/// `GET /api/openapi.json`
pub(super) async fn document(State(app): State<Arc<App>>) -> Json<Value> {
    Json(openapi(&app.routes))
}

/// The OpenAPI 3.1 description of an API with these `routes`.
pub fn openapi(routes: &Routes) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<Problem>();
    let refused = json!({ "description": "refused", "content": { "application/problem+json": { "schema": problem } } });
    let mut paths = Map::new();
    for (name, route) in &routes.0 {
        let (request, reply) = ((route.request)(&mut schemas), (route.reply)(&mut schemas));
        let mut responses = Map::new();
        responses.insert(
            "200".into(),
            json!({ "description": "done", "content": { "application/json": { "schema": reply } } }),
        );
        for status in ["400", "401", "403", "404", "409", "413", "415", "421", "422", "429", "503", "504"] {
            responses.insert(status.into(), refused.clone());
        }
        let operation = json!({
            "operationId": name,
            "tags": ["ops"],
            "requestBody": { "required": true, "content": { "application/json": { "schema": request } } },
            "responses": responses,
        });
        paths.insert(format!("/api/v1/ops/{name}"), json!({ "post": operation }));
    }
    rest::describe(&mut paths, &refused);
    json!({
        "openapi": "3.1.0",
        "info": { "title": "orx", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "MIT OR Apache-2.0" } },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}
