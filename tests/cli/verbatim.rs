//! Payloads and results are kept as they were written, whichever way they take. `ORX_TEST_VALUES=500` tries so many of them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::support::*;
use crate::server;

/// Values that are easily changed on the way.
const ODD: [&str; 12] = [
    "1.10",
    "null",
    "-0",
    "1234e12",
    "1E+400",
    "12345678901234567890123",
    r#""""#,
    r#""\ud83d\ude00 \uD800 \u0000 \/ A""#,
    "{ \"b\" : 1.0,\r\n\t\"a\":[ ] ,\"\":{}}",
    r#"{"$serde_json::private::RawValue":"1","$serde_json::private::Number":"2"}"#,
    "[\n\n0.1e-007 , true,\t\"\u{7f}\u{85}\u{2028}\u{202e}\"]",
    r#"{"a":{"a":{"a":1.50}},"A":"a","\u0061b":0e0}"#,
];

/// Odd values, and others by chance, the same each time.
pub fn values(few: usize) -> Vec<String> {
    let count = std::env::var("ORX_TEST_VALUES").ok().and_then(|n| n.parse().ok()).unwrap_or(few);
    let mut chance = Chance(7);
    let deep = format!("{}1{}", "[ ".repeat(100), "]".repeat(100));
    let odd = ODD.into_iter().map(str::to_owned).chain([deep]);
    odd.chain(std::iter::repeat_with(|| chance.value(0))).take(count).collect()
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) % n as u64) as usize
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn space(&mut self) -> &'static str {
        self.of(&["", "", "", "", " ", "\n", "\t", "\r\n", "  "])
    }

    fn number(&mut self) -> String {
        let mut text = self.of(&["", "-"]).to_owned();
        text += self.of(&["0", "7", "10", "9007199254740993", "18446744073709551616", "98765432109876543210987654321"]);
        text += self.of(&["", "", ".0", ".10", ".000000000000000000000001", ".30000000000000004"]);
        text + self.of(&["", "", "e0", "E5", "e+17", "E-030", "e999", "e-999"])
    }

    fn string(&mut self) -> String {
        const PARTS: [&str; 20] = [
            "a",
            "Zz 9",
            "é",
            "日",
            "😀",
            "\u{7f}",
            "\u{9b}",
            "\u{2028}",
            "\u{202e}",
            "\u{fffd}",
            r"\ud83d\ude00",
            r"\uD800",
            r"\udfff",
            r"\u0000",
            r"\/",
            r#"\""#,
            r"\\",
            r"\n\r\t\b\f",
            r"\u00e9",
            "{}[],:",
        ];
        let parts: String = (0..self.below(6)).map(|_| self.of(&PARTS)).collect();
        format!("\"{parts}\"")
    }

    fn value(&mut self, depth: usize) -> String {
        match self.below(if depth < 5 { 9 } else { 6 }) {
            0 => self.of(&["true", "false", "null"]).to_owned(),
            1..=2 => self.string(),
            3..=5 => self.number(),
            6 => {
                let all: Vec<String> = (0..self.below(5)).map(|_| self.spaced(depth + 1)).collect();
                format!("[{}{}]", self.space(), all.join(","))
            }
            _ => {
                let member = |n: usize| {
                    let key = self.string();
                    let key = format!("{}{n}\"", &key[..key.len() - 1]); // none is there twice
                    format!("{}{key}{}:{}", self.space(), self.space(), self.spaced(depth + 1))
                };
                let all: Vec<String> = (0..3).map(member).collect();
                format!("{{{}}}", all.join(","))
            }
        }
    }

    fn spaced(&mut self, depth: usize) -> String {
        format!("{}{}{}", self.space(), self.value(depth), self.space())
    }
}

/// What of a job is its user's.
#[derive(Deserialize)]
struct Seen {
    name: Option<String>,
    task: Option<String>,
    payload: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
}

fn seen(json: &str) -> Vec<Seen> {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"))
}

/// As `-o json` shows it: what a terminal obeys is written as an escape.
fn shown(value: &str) -> String {
    let obeyed = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{202e}');
    value.chars().map(|c| if obeyed(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// The value of a field: one that is `null` is not told from none.
fn same(field: Option<&RawValue>, value: &str) {
    assert_eq!(field.map_or("null", RawValue::get), shown(value));
}

/// A configuration with handlers that keep what they get in `got.NAME`.
pub fn handlers() -> String {
    let result = format!("{} result got.$ORX_TASK", env!("CARGO_BIN_EXE_orx"));
    let keep = format!("cat > got.$ORX_TASK && cmp got.$ORX_TASK $ORX_PAYLOAD_FILE && exec {result}");
    let once = "cat > got.${ORX_NAME:-none} && test -e good";
    let handler = |name: &str, script: &str| format!("[handlers.{name}]\ncommand = ['sh', '-c', '{script}']\n");
    handler("keep", &keep) + &handler("once", once)
}

/// A workflow with a task for each value that gives it on, and one that keeps what they gave in `out.NAME`.
pub fn workflow(values: &[String]) -> String {
    let tasks: String =
        values.iter().enumerate().map(|(n, value)| format!("{{\"name\":\"v{n}\",\"payload\":{value}}},\n")).collect();
    let needs: Vec<String> = (0..values.len()).map(|n| format!("v{n}")).collect();
    let all = serde_json::json!({ "name": "all", "needs": needs, "command": [
        "sh", "-c", format!("for n in {}; do eval cp \"\\$ORX_RESULT_$n\" out.$n || exit 1; done", needs.join(" ")) ] });
    format!("{{\"name\":\"w\",\"defaults\":{{\"handler\":\"keep\"}},\"task\":[{tasks}{all}]}}")
}

/// All have come to the handlers and on to the last task, byte by byte; forgets that.
pub fn arrived(orx: &Orx, values: &[String]) {
    for (n, value) in values.iter().enumerate() {
        for file in [format!("got.v{n}"), format!("out.v{n}")] {
            let got = std::fs::read(orx.path(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert_eq!(String::from_utf8_lossy(&got), *value, "{file}");
            std::fs::remove_file(orx.path(&file)).unwrap();
        }
    }
}

#[test]
fn payloads_and_results_of_a_workflow_arrive_as_they_were_written_and_again_in_a_replay() {
    let orx = Orx::new();
    let values = values(40);
    orx.write(".config/orx/config.toml", handlers());
    let file = orx.write("w.json", workflow(&values));
    orx.ok(&["workflow", "submit", &file]);
    orx.ok(&["-q", "worker", "--burst", "--slots", "4"]);
    arrived(&orx, &values);
    orx.ok(&["workflow", "replay", "last"]);
    orx.ok(&["-q", "worker", "--burst", "--slots", "4"]);
    arrived(&orx, &values);

    let list = |store: &str| orx.ok(&["--store", store, "-o", "json", "list", "--limit", "0"]);
    let listed = list(&orx.url());
    let mut found = 0;
    for job in seen(&listed) {
        let Some(n) = job.task.as_deref().and_then(|task| task.strip_prefix('v')) else { continue };
        let value = &values[n.parse::<usize>().unwrap()];
        same(job.payload.as_deref(), value);
        same(job.result.as_deref(), value);
        found += 1;
    }
    assert_eq!(found, 2 * values.len());
    assert_eq!(orx.ok(&["-o", "ndjson", "list", "--limit", "0"]).lines().count(), found + 2, "a line for each");
    assert!(orx.ok(&["-o", "json", "workflow", "show", "last"]).contains(&shown(&values[8])), "as it was given");
    orx.check().expect(0, &["is sound"]);

    if orx.token().is_none() {
        let server = server::schema();
        for copy in ["copy.db", &server] {
            orx.ok(&["-q", "db", "copy", copy]);
            assert_eq!(list(copy), listed, "{copy}");
        }
        server::drop_schema(&server);
    }
    if !orx.url().contains("://") {
        orx.ok(&["-q", "db", "backup", "backup.db"]);
        orx.ok(&["-q", "--store", "restored.db", "db", "restore", "backup.db"]);
        assert_eq!(list("restored.db"), listed);
    }
}

#[test]
fn dead_letters_and_schedules_keep_payloads_as_they_were_written() {
    let orx = Orx::new();
    let values: Vec<String> = values(9).into_iter().take(9).collect();
    orx.write(".config/orx/config.toml", handlers());
    for (n, value) in values.iter().enumerate() {
        let file = orx.write("payload", format!("\n {value}\n"));
        orx.add(&["--handler", "once", "--name", &format!("v{n}"), "--payload", &format!("@{file}")]);
    }
    let got = |n: usize| std::fs::read_to_string(orx.path(&format!("got.v{n}"))).unwrap();
    orx.burst();
    values.iter().enumerate().for_each(|(n, value)| assert_eq!(got(n), *value));
    #[derive(Deserialize)]
    struct Letter {
        job: Seen,
    }
    let letters: Vec<Letter> = serde_json::from_str(&orx.ok(&["-o", "json", "dlq", "list"])).unwrap();
    assert_eq!(letters.len(), values.len());
    for Letter { job } in letters {
        same(job.payload.as_deref(), &values[job.name.unwrap()[1..].parse::<usize>().unwrap()]);
    }
    orx.write("good", "");
    for (n, _) in values.iter().enumerate() {
        std::fs::remove_file(orx.path(&format!("got.v{n}"))).unwrap();
        orx.ok(&["-q", "dlq", "requeue", &(n + 1).to_string()]);
    }
    orx.burst();
    values.iter().enumerate().for_each(|(n, value)| assert_eq!(got(n), *value));

    let file = orx.write("payload", &values[8]);
    orx.ok(&["-q", "schedule", "add", "s", "--every", "1h", "--handler", "once", "--payload", &format!("@{file}")]);
    orx.ok(&["-q", "schedule", "update", "s", "--priority", "3", "--label", "a=b"]);
    assert!(orx.ok(&["-o", "json", "schedule", "show", "s"]).contains(&values[8]));
    orx.ok(&["-q", "schedule", "trigger", "s"]);
    orx.burst();
    assert_eq!(orx.read("got.none"), values[8]);
}

#[test]
fn lines_of_json_keep_their_payloads_with_and_without_defaults() {
    let orx = Orx::new();
    let values: Vec<String> = values(60).into_iter().map(|value| value.replace('\n', " ")).collect();
    let line =
        |(n, value): (usize, &String)| format!("{{\"handler\":\"h\",\"name\":\"v{n}\", \"payload\": {value}}}\n");
    let lines: String = values.iter().enumerate().map(line).collect();
    for (defaults, tenant) in [(&[][..], "default"), (&["--tenant", "t", "--priority", "3"], "t")] {
        orx.call(&[&["-q", "enqueue", "--from", "-"], defaults].concat()).stdin(lines.clone()).run().expect(0, &[]);
        let listed = seen(&orx.ok(&["-o", "json", "list", "--limit", "0", "--tenant", tenant]));
        assert_eq!(listed.len(), values.len());
        for job in listed {
            same(job.payload.as_deref(), &values[job.name.unwrap()[1..].parse::<usize>().unwrap()]);
        }
    }
}

#[test]
fn s13_payloads_are_the_same_for_a_key_where_their_tokens_are() {
    let orx = Orx::new();
    let add = |payload: &str| {
        orx.run(&[
            "enqueue",
            "--handler",
            "h",
            "--idempotency-key",
            "k",
            "--format",
            "{{number}}",
            "--payload",
            payload,
        ])
    };
    let first = add(r#"{"id":12345678901234567890123,"name":"a"}"#);
    first.expect(0, &[]);
    let again = add("{ \"name\" : \"a\",\n \"id\":12345678901234567890123 }");
    assert_eq!((again.code, again.stdout()), (Some(0), first.stdout()), "{again}");
    for other in [
        r#"{"id":12345678901234567890999,"name":"a"}"#,
        r#"{"id":12345678901234567890123,"name":"\u0061"}"#,
        r#"{"id":12345678901234567890123.0,"name":"a"}"#,
        r#"{"id":12345678901234567890123,"name":"a ","x":1}"#,
    ] {
        add(other).expect(5, &["key"]);
    }
    assert_eq!(orx.states(), "pending");
}

#[test]
fn what_means_two_things_is_refused() {
    let orx = Orx::new();
    let payload = |text: &str| orx.run(&["enqueue", "--handler", "h", "--payload", text]);
    payload(r#"{"a":[{"b":1,"c":2,"\u0062":3}]}"#).expect(2, &[r#"payload has the key "b" twice"#]);
    payload(&format!("{}{}", "[".repeat(129), "]".repeat(129))).expect(2, &["payload is nested deeper than 128"]);
    let file = orx.write("latin", b"\"caf\xe9\"");
    payload(&format!("@{file}")).expect(2, &["--payload is not UTF-8", "hint:"]);
    for (line, flaw) in [
        (r#"{"handler":"h","payload":{"a":1,"a":1}}"#, r#"line 1: payload has the key "a" twice"#),
        (r#"{"handler":"h","label":{"a":"1","a":"2"}}"#, r#"line 1: has the key "a" twice"#),
    ] {
        for defaults in [&[][..], &["--priority", "3"]] {
            orx.call(&[&["enqueue", "--from", "-"], defaults].concat()).stdin(line).run().expect(2, &[flaw]);
        }
    }
    orx.run(&["enqueue", "--priority", "3", "--from", &orx.write("l", r#"{"command":["a"],"command":["b"]}"#)])
        .expect(2, &[r#"has the key "command" twice"#]);
    let task = r#"{"name":"t","handler":"h","handler":"g"}"#;
    let file = orx.write("w.json", format!(r#"{{"name":"w","task":[{task}]}}"#));
    orx.run(&["workflow", "submit", &file]).expect(2, &[r#"the workflow has the key "handler" twice"#]);
    assert_eq!(orx.states(), "");
}

#[test]
fn a_result_is_json_or_text_as_it_was_handed_over_and_never_something_else() {
    let orx = Orx::new();
    let (bin, file) = (env!("CARGO_BIN_EXE_orx"), orx.path("said"));
    let script = format!(
        "printf '%s\\n' '1.10 ' | {bin} result - && echo 1 >&2; printf 'caf\\351' | {bin} result - 2> {file}; echo $? >> {file}
        printf '{{\"a\":1,\"a\":2}}' | {bin} result - 2>> {file}; echo $? >> {file}",
        file = file.display()
    );
    let job = orx.sh(&[], &script);
    orx.burst();
    assert!(orx.ok(&["-o", "json", "status", &job]).contains("\"result\":1.10,"));
    let said = orx.read("said");
    assert!(said.contains("the result is not UTF-8") && said.contains("base64"), "{said}");
    assert!(said.contains(r#"the result has the key "a" twice"#), "{said}");
    assert_eq!(said.lines().filter(|line| *line == "2").count(), 2, "{said}");

    // A text of one word and a JSON string are told apart.
    let task = |name: &str, said: &str| {
        format!("[[task]]\nname = '{name}'\ncommand = ['sh', '-c', '''printf '{said}' | {bin} result -''']\n")
    };
    let all = "[[task]]\nname = 'all'\nneeds = ['text', 'json']\ncommand = ['sh', '-c', 'cat $ORX_RESULT_TEXT > text; cat $ORX_RESULT_JSON > json']\n";
    let tasks = [task("text", "say \"hi\" \\n now\\t\\n\\n"), task("json", "\\n \"say\" \\n"), all.to_owned()].concat();
    orx.ok(&["workflow", "submit", &orx.write("w.toml", format!("name = 'w'\n{tasks}"))]);
    orx.burst();
    assert_eq!((orx.read("text"), orx.read("json")), ("say \"hi\" \n now\t".into(), "\"say\"".into()));
    let texts: Vec<serde_json::Value> = lines_of_json(&orx.ok(&["-o", "ndjson", "list", "--limit", "3"]));
    let texts = texts.iter().filter(|job| job["result_is_text"] == true).map(|job| &job["result"]);
    assert_eq!(texts.collect::<Vec<_>>(), ["say \"hi\" \n now\t"]);
}
