//! The description of the API is true: its examples work, and whatever is sent, the answer is one that it names.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::schema::breach;
use super::support::*;

/// One operation of the description.
#[derive(Clone, Debug)]
struct Operation {
    method: String,
    path: String,
    is: Value,
}

/// What is sent.
#[derive(Clone, Debug, Default)]
struct Request {
    line: String,
    headers: Vec<String>,
    body: Option<Vec<u8>>,
}

fn document(orx: &Orx) -> Value {
    ask(orx, "GET /api/openapi.json", "").expect(200).json()
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(|(method, is)| Operation { method: method.to_uppercase(), path: path.clone(), is: is.clone() })
    });
    all.collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Every byte that is no letter or digit, as a URL has it.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

impl Operation {
    fn parameters(&self) -> &[Value] {
        self.is["parameters"].as_array().map_or(&[], Vec::as_slice)
    }

    fn body(&self) -> Option<&Value> {
        self.is.pointer("/requestBody/content/application~1json/example")
    }

    /// Whether its answer has no end.
    fn streams(&self) -> bool {
        let answers = &self.is["responses"];
        answers.get("101").is_some()
            || ["text~1event-stream", "application~1x-ndjson"]
                .iter()
                .any(|media| answers.pointer(&format!("/200/content/{media}")).is_some())
    }

    /// The request that its examples make, with other values for some of its parameters.
    fn request(&self, given: &[(&str, &str)]) -> Request {
        let (mut path, mut query, mut headers) = (self.path.clone(), Vec::new(), Vec::new());
        for parameter in self.parameters() {
            let name = parameter["name"].as_str().unwrap();
            let wanted = given.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned());
            let Some(value) = wanted.or_else(|| parameter.get("example").map(|e| escape(&text(e)))) else { continue };
            match parameter["in"].as_str().unwrap() {
                "path" => path = path.replace(&format!("{{{name}}}"), &value),
                "query" => query.push(format!("{name}={value}")),
                _ => headers.push(format!("{name}: {}", parameter["example"].as_str().unwrap())),
            }
        }
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let body = self.body().map(|body| body.to_string().into_bytes());
        if body.is_some() {
            headers.push("content-type: application/json".into());
        }
        if self.is["responses"].get("101").is_some() {
            let upgrade = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"];
            headers.extend(upgrade.map(str::to_owned));
            headers.push("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==".into());
        }
        Request { line: format!("{} {path}{query}", self.method), headers, body }
    }

    /// Fails unless the answer is one of those that are named.
    fn expects(&self, document: &Value, request: &Request, answer: &Answer) {
        let shown = || format!("{request:?}\n{answer:?}");
        let named = self.is["responses"].get(answer.status.to_string());
        let mut named = named.unwrap_or_else(|| panic!("a status that is not named: {}", shown()));
        if let Some(place) = named["$ref"].as_str() {
            named = document.pointer(place.trim_start_matches('#')).unwrap();
        }
        assert!(answer.status < 500, "{}", shown());
        let Some((media, content)) = named["content"].as_object().and_then(|all| all.iter().next()) else { return };
        let head = answer.head.to_lowercase();
        assert!(head.contains(&format!("content-type: {media}")), "not {media}: {}", shown());
        if media.ends_with("json") && !media.contains("ndjson") {
            let breach = breach(document, &content["schema"], &answer.json());
            assert!(breach.is_none(), "{}\n{}", breach.unwrap(), shown());
        }
    }
}

fn send(orx: &Orx, request: &Request, streams: bool) -> Answer {
    let mut head = format!("{} HTTP/1.1\r\nhost: localhost\r\n", request.line);
    if !request.headers.iter().any(|header| header.starts_with("connection:")) {
        head.push_str("connection: close\r\n");
    }
    head.push_str(&format!("authorization: Bearer {}\r\n", orx.token().unwrap()));
    request.headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
    let body = request.body.as_deref().unwrap_or_default();
    if request.body.is_some() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let bytes = [head.as_bytes(), b"\r\n", body].concat();
    if streams { raw_head(orx, &bytes) } else { raw(orx, &bytes) }
}

/// A store with something of everything: job 1 has failed, job 2 waits, a run, a schedule.
fn furnished() -> Orx {
    let orx = served();
    orx.sh(&["--queue", "build", "--label", "team=web"], "echo hello; exit 3");
    orx.write("flow.toml", "name = 'flow'\n[[task]]\nname = 'a'\ncommand = ['true']\n");
    orx.burst();
    orx.add(&["--queue", "build", "--", "true"]);
    orx.ok(&["workflow", "submit", "flow.toml"]);
    orx.ok(&["schedule", "add", "x", "--every", "1h", "--", "true"]);
    orx
}

#[test]
fn every_example_of_the_description_works_as_it_says() {
    let orx = furnished();
    let document = document(&orx);
    let all = operations(&document);
    let (ops, aliases): (Vec<_>, Vec<_>) = all.into_iter().partition(|op| op.is["tags"][0] == "ops");
    assert!(ops.len() > 50 && aliases.len() > 20, "{} {}", ops.len(), aliases.len());
    for operation in &aliases {
        let request = operation.request(&[]);
        let answer = send(&orx, &request, operation.streams());
        operation.expects(&document, &request, &answer);
        assert!(answer.status < 300, "an example that is refused: {request:?} {answer:?}");
    }
    let mut done = 0;
    for operation in &ops {
        let request = operation.request(&[]);
        let schema = &operation.is["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(breach(&document, schema, operation.body().unwrap()), None, "{}", operation.path);
        let answer = send(&orx, &request, false);
        operation.expects(&document, &request, &answer);
        done += usize::from(answer.status == 200);
    }
    assert!(done * 10 > ops.len() * 6, "most Ops can be tried as they stand: {done} of {}", ops.len());
    // The examples of answers are what answers look like.
    for operation in aliases.iter().chain(&ops) {
        for (status, named) in operation.is["responses"].as_object().unwrap() {
            let Some(content) = named.pointer("/content/application~1json") else { continue };
            let breach = breach(&document, &content["schema"], &content["example"]);
            assert_eq!(breach, None, "{} {status}: {}", operation.path, content["example"]);
        }
    }
}

/// JSON that means something else than what is expected, or is none.
const VALUES: [&str; 30] = [
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "1e308",
    "1e400",
    "18446744073709551616",
    "-9223372036854775809",
    "-9223372036854775808",
    "9223372036854775807",
    "[-9223372036854775808]",
    "[9223372036854775807]",
    "4294967296",
    r#""""#,
    r#""x""#,
    r#""\u0000""#,
    "\"\u{1}\"",
    r#""\ud800""#,
    r#""a\u202eb""#,
    r#""1e30d""#,
    r#""9999-12-31T23:59:59Z""#,
    r#""01987654-0000-7000-8000-000000000001""#,
    "[]",
    "[[[]]]",
    "{}",
    r#"{"x":{"y":1}}"#,
    r#"{"x":1,"x":2}"#,
    "nonsense",
    "",
];

/// Words of a URL, already escaped or not at all.
const WORDS: [&str; 20] = [
    "x",
    "-1",
    "0",
    "1.5",
    "99999999999999999999",
    "9223372036854775807",
    "%00",
    "%ff",
    "%0d%0ax:%20y",
    "%2e%2e%2f",
    "1-999999999",
    "@a=b",
    "@",
    "last",
    "%",
    "true",
    "null",
    "1&bogus=1",
    "%C3%A9%F0%9F%98%80",
    "01987654-0000-7000-8000-000000000001",
];

/// What is done to a request.
#[derive(Clone, Debug)]
enum Change {
    /// Another value at some place of the body.
    Value(usize, &'static str),
    /// A field less, or one that nobody knows.
    Field(usize, bool),
    /// The whole body.
    Body(Vec<u8>),
    /// Only its beginning.
    Broken(usize),
    /// As deep as this.
    Deep(usize),
    /// Another type, or none.
    Type(&'static str),
    /// Another value of some parameter.
    Parameter(usize, String),
}

fn change() -> impl Strategy<Value = Change> {
    let words = prop_oneof![select(&WORDS[..]).prop_map(str::to_owned), Just("y".repeat(5000))];
    prop_oneof![
        6 => (any::<usize>(), select(&VALUES[..])).prop_map(|(n, value)| Change::Value(n, value)),
        2 => any::<(usize, bool)>().prop_map(|(n, more)| Change::Field(n, more)),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Change::Body),
        1 => any::<usize>().prop_map(Change::Broken),
        1 => select(&[10, 127, 200, 20_000][..]).prop_map(Change::Deep),
        1 => select(&["text/plain", "application/xml", "multipart/form-data; boundary=x", ""][..]).prop_map(Change::Type),
        6 => (any::<usize>(), words).prop_map(|(n, word)| Change::Parameter(n, word)),
    ]
}

/// Every place of a value, as pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), found))
        }
        _ => {}
    }
}

/// Something that no example has.
const MARK: &str = "the-place";

fn changed(operation: &Operation, change: &Change) -> Request {
    let mut request = operation.request(&[]);
    let mut body = operation.body().cloned().unwrap_or(Value::Null);
    let mut all = Vec::new();
    places(&body, "", &mut all);
    match change {
        Change::Value(n, value) => {
            *body.pointer_mut(&all[n % all.len()]).unwrap() = json!(MARK);
            request.body = Some(body.to_string().replace(&format!("\"{MARK}\""), value).into_bytes());
        }
        Change::Field(n, more) => {
            let objects: Vec<_> = all.iter().filter(|at| body.pointer(at).unwrap().is_object()).collect();
            if let Some(at) = objects.get(n % objects.len().max(1)) {
                let object = body.pointer_mut(at).unwrap().as_object_mut().unwrap();
                match object.keys().nth(n / 7 % object.len().max(1)).cloned() {
                    Some(name) if !more => drop(object.remove(&name)),
                    _ => drop(object.insert("bogus".into(), json!(1))),
                }
            }
            request.body = Some(body.to_string().into_bytes());
        }
        Change::Body(bytes) => request.body = Some(bytes.clone()),
        Change::Broken(n) => request.body.iter_mut().for_each(|body| body.truncate(n % body.len())),
        Change::Deep(depth) => request.body = Some([vec![b'['; *depth], vec![b']'; *depth]].concat()),
        Change::Type(media) => {
            request.headers.retain(|header| !header.starts_with("content-type"));
            request.headers.push(format!("content-type: {media}"));
        }
        Change::Parameter(n, word) => {
            let all: Vec<_> = operation.parameters().iter().filter(|p| p["in"] != "header").collect();
            if let Some(parameter) = all.get(n % all.len().max(1)) {
                request = operation.request(&[(parameter["name"].as_str().unwrap(), word)]);
            }
        }
    }
    request
}

#[test]
fn whatever_is_sent_the_answer_is_one_that_is_named_and_no_5xx() {
    let orx = furnished();
    let document = document(&orx);
    // What streams has no end, and what waits does so for whom a number was meant.
    let all: Vec<_> =
        operations(&document).into_iter().filter(|op| !op.streams() && op.path != "/api/v1/jobs/{id}").collect();
    let (ops, aliases): (Vec<_>, Vec<_>) = all.into_iter().partition(|op| op.is["tags"][0] == "ops");
    let cases = std::env::var("ORX_TEST_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() });
    let any_operation = prop_oneof![select(ops), select(aliases)];
    let checked = runner.run(&(any_operation, change()), |(operation, change)| {
        let request = changed(&operation, &change);
        let answer = send(&orx, &request, false);
        operation.expects(&document, &request, &answer);
        Ok(())
    });
    checked.unwrap();
    assert_eq!(request(&orx, None, "GET /readyz", &[], "").status, 200);
    orx.check().expect(0, &["is sound"]);
}
