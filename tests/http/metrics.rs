//! What a coordinator says of itself: read as strictly as Prometheus does, and compared with what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};

use super::support::*;

type Labels = BTreeMap<String, String>;

/// Every family of a text with its samples, in the order of the text.
#[derive(Debug, Default)]
pub struct Families(BTreeMap<String, Family>);

#[derive(Debug)]
pub struct Family {
    kind: String,
    samples: Vec<(String, Labels, f64)>,
}

fn is_name(name: &str) -> bool {
    name.bytes().enumerate().all(|(n, b)| b.is_ascii_alphabetic() || b == b'_' || (n > 0 && b.is_ascii_digit()))
        && !name.is_empty()
}

/// The labels at the beginning of a text, and what follows them.
fn labels(text: &str) -> (Labels, &str) {
    let mut found = Labels::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (found, text) };
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(is_name(name), "{text}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("{text}")) {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("\\{c} in {text}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(found.insert(name.into(), value).is_none(), "a label twice: {text}");
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (found, rest.strip_prefix('}').unwrap_or_else(|| panic!("{text}"))),
        }
    }
}

/// Reads the text format: one HELP and one TYPE before the samples of a family, no family in two parts, no series
/// twice, histograms whose buckets add up.
fn parse(text: &str) -> Families {
    assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text}");
    let (mut families, mut current, mut help) = (Families::default(), String::new(), String::new());
    let mut series = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, said) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !said.trim().is_empty() && !families.0.contains_key(name), "{line}");
            help = name.into();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(help, name, "its help comes right before");
            assert!(matches!(kind, "gauge" | "counter" | "histogram"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            families.0.insert(name.into(), Family { kind: kind.into(), samples: Vec::new() });
            current = name.into();
            continue;
        }
        assert!(!line.starts_with('#'), "{line}");
        let end = line.find(['{', ' ']).unwrap();
        let (name, rest) = line.split_at(end);
        let (labels, value) = labels(rest);
        let value: f64 = value.strip_prefix(' ').unwrap().parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        let family = families.0.get_mut(&current).unwrap();
        let suffix = name.strip_prefix(&*current).unwrap_or_else(|| panic!("{line} among {current}"));
        let is_histogram = family.kind == "histogram";
        assert!(
            if is_histogram { ["_bucket", "_sum", "_count"].contains(&suffix) } else { suffix.is_empty() },
            "{line}"
        );
        assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
        assert!(family.kind == "gauge" || value >= 0.0, "{line}");
        assert!(series.insert((name.to_owned(), labels.clone())), "twice: {line}");
        family.samples.push((suffix.into(), labels, value));
    }
    families.0.values().filter(|family| family.kind == "histogram").for_each(check_histogram);
    families
}

fn check_histogram(family: &Family) {
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let mut others: BTreeMap<Labels, BTreeMap<&str, f64>> = BTreeMap::new();
    for (suffix, labels, value) in &family.samples {
        let mut of = labels.clone();
        match of.remove("le") {
            Some(bound) => buckets.entry(of).or_default().push((bound.parse().unwrap(), *value)),
            None => assert!(others.entry(of).or_default().insert(suffix, *value).is_none()),
        }
    }
    assert!(buckets.keys().eq(others.keys()), "{family:?}");
    for (labels, buckets) in buckets {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{labels:?} {buckets:?}");
        let last = buckets.last().unwrap();
        assert_eq!((last.0, last.1), (f64::INFINITY, others[&labels]["_count"]));
        assert!(others[&labels]["_sum"] >= 0.0);
    }
}

impl Families {
    /// The sum of the samples with these labels.
    pub fn sum(&self, name: &str, with: &[(&str, &str)]) -> f64 {
        let base =
            ["_count", "_sum"].iter().find_map(|s| name.strip_suffix(s)).filter(|base| self.0.contains_key(*base));
        let (family, suffix) = base.map_or((name, ""), |base| (base, &name[base.len()..]));
        let family = self.0.get(family).unwrap_or_else(|| panic!("no {name}"));
        let wanted = family.samples.iter().filter(|(s, labels, _)| {
            s == suffix && with.iter().all(|(key, value)| labels.get(*key).is_some_and(|v| v == value))
        });
        wanted.map(|(_, _, value)| value).sum()
    }
}

/// The figures of the coordinator.
pub fn figures(orx: &Orx) -> Families {
    let answer = ask(orx, "GET /metrics", "").expect(200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    parse(&answer.body)
}

#[test]
fn the_figures_are_those_of_what_happened_and_can_be_read_strictly() {
    let orx = served();
    let worker = orx.worker(&[]);
    for script in ["exit 0", "exit 3"] {
        let job = orx.sh(&["--queue", "a-b"], script);
        orx.run(&["wait", &job]);
    }
    orx.run(&["dlq", "list"]).expect(0, &[]);
    orx.add(&["--queue", "other-queue", "--delay", "1h", "--", "true"]);
    worker.stop().expect(0, &[]);
    orx.add(&["--queue", "idle", "--", "true"]);
    let m = figures(&orx);
    assert_eq!(m.sum("orx_jobs", &[("queue", "a-b"), ("state", "done")]), 1.0);
    assert_eq!(m.sum("orx_jobs", &[]), 4.0);
    assert_eq!(m.sum("orx_attempts_total", &[("outcome", "done")]), 1.0);
    assert_eq!(m.sum("orx_attempts_total", &[("outcome", "failed")]), 1.0);
    assert_eq!((m.sum("orx_dead_letters", &[]), m.sum("orx_retries_total", &[])), (1.0, 0.0));
    assert_eq!((m.sum("orx_stale_writes_total", &[]), m.sum("orx_leader", &[])), (0.0, 1.0));
    assert!(m.sum("orx_queue_oldest_pending_seconds", &[("queue", "idle")]) >= 0.0);
    assert_eq!(m.sum("orx_schedule_lag_seconds", &[]), 0.0);
    assert!(m.sum("orx_store_size_bytes", &[]) > 10_000.0);
    // Its own: settling and leasing is one Op, and each was counted.
    let turns = m.sum("orx_op_duration_seconds_count", &[("op", "turn")]);
    assert!(turns >= 3.0 && m.sum("orx_op_duration_seconds_sum", &[("op", "turn")]) > 0.0, "{turns}");
    assert_eq!(m.sum("orx_http_requests_total", &[("op", "enqueue"), ("status", "2xx")]), 4.0);
    assert_eq!(m.sum("orx_http_request_duration_seconds_count", &[("op", "enqueue")]), 4.0);
    assert!(m.sum("orx_http_connections", &[]) >= 1.0 && m.sum("orx_http_connections_total", &[]) >= 5.0);
    assert_eq!(m.sum("orx_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(m.sum("process_resident_memory_bytes", &[]) > 1e6 && m.sum("orx_uptime_seconds", &[]) > 0.0);
    // The same without a server, as far as it is about the store.
    let here = parse(&orx.ok(&["metrics"]));
    assert_eq!(here.sum("orx_jobs", &[("queue", "idle"), ("state", "pending")]), 1.0);
    let names: BTreeSet<&String> = here.0.keys().collect();
    assert!(names.is_subset(&m.0.keys().collect()), "{names:?}");
}

#[test]
fn whoever_reads_the_figures_needs_the_scope_for_it() {
    let orx = served();
    let may = |scope: &str| {
        let token = token(&orx, &["--name", scope, "--scope", scope]);
        request(&orx, Some(&token), "GET /metrics", &[], "")
    };
    may("read").expect(200);
    for scope in ["submit", "exec", "operate", "work", "admin"] {
        may(scope).expect(403);
    }
    let bound = token(&orx, &["--name", "bound", "--scope", "read", "--tenant", "t"]);
    request(&orx, Some(&bound), "GET /metrics", &[], "").expect(403); // they are about all tenants
}

#[test]
fn what_strangers_ask_for_makes_no_more_series() {
    let orx = served();
    for n in 0..50 {
        ask(&orx, &format!("GET /made/up/{n}"), "").expect(404);
        ask(&orx, &format!("POST /api/v1/ops/made_up_{n}"), "{}").expect(404);
        ask(&orx, &format!("M{n} /api/v1/jobs"), "").expect(405);
        request(&orx, None, &format!("GET /api/v1/jobs/{n}?x={n}"), &[], "").expect(401);
    }
    let jobs: Vec<String> = (0..130).map(|n| format!(r#"{{"queue":"q{n}","command":["true"]}}"#)).collect();
    ask(&orx, "POST /api/v1/jobs", &format!("[{}]", jobs.join(","))).expect(201);
    let m = figures(&orx);
    assert_eq!(m.sum("orx_http_requests_total", &[("op", "other"), ("status", "4xx")]), 150.0);
    assert_eq!(m.sum("orx_http_requests_total", &[("op", "GET /api/v1/jobs/{id}"), ("status", "4xx")]), 50.0);
    let of = |family: &str, label: &str| {
        m.0[family].samples.iter().map(|(_, labels, _)| labels[label].clone()).collect::<BTreeSet<_>>()
    };
    assert!(of("orx_http_requests_total", "op").len() < 10);
    assert!(of("orx_jobs", "queue").len() <= 101);
}

#[test]
fn readers_are_counted_while_they_are_there() {
    let orx = served();
    let streams = |kind: &str| figures(&orx).sum("orx_http_streams", &[("kind", kind)]);
    let before = streams("sse");
    let mut stream = connect(&orx);
    let head =
        format!("GET /events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", orx.token().unwrap());
    stream.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    while !line.starts_with("id: ") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    assert_eq!(streams("sse"), before + 1.0);
    drop(reader);
    // The coordinator sees it when it says something.
    orx.add(&["--", "true"]);
    eventually("the reader to be counted no more", || streams("sse") == before);
}
