use std::time::Instant;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

/// What happens where the wall clock is set. docs/guide/schedules.md shows this table.
const NAMED_CASES: &str = "
| zone | rule | what the clock does | fires at |
| --- | --- | --- | --- |
| Europe/Berlin | `30 2 * * *` | 2026-03-29 02:00 → 03:00 | 03-28 02:30+01, 03-29 03:00+02, 03-30 02:30+02 |
| Europe/Berlin | `30 2 * * *` | 2026-10-25 03:00 → 02:00 | 10-24 02:30+02, 10-25 02:30+02, 10-26 02:30+01 |
| Europe/Berlin | `0,30 2 * * *` | 2026-03-29 02:00 → 03:00 | 03-28 02:30+01, 03-29 03:00+02, 03-30 02:00+02 |
| Europe/Berlin | `0 2,3 * * *` | 2026-03-29 02:00 → 03:00 | 03-28 03:00+01, 03-29 03:00+02, 03-30 02:00+02 |
| Europe/Berlin | `0 1-3 * * *` | 2026-10-25 03:00 → 02:00 | 10-25 01:00+02, 10-25 02:00+02, 10-25 03:00+01, 10-26 01:00+01 |
| Europe/Berlin | `*/30 * * * *` | 2026-03-29 02:00 → 03:00 | 03-29 01:30+01, 03-29 03:00+02, 03-29 03:30+02 |
| Europe/Berlin | `*/30 * * * *` | 2026-10-25 03:00 → 02:00 | 10-25 02:00+02, 10-25 02:30+02, 10-25 02:00+01, 10-25 02:30+01, 10-25 03:00+01 |
| Europe/Berlin | `0 */2 * * *` | 2026-03-29 02:00 → 03:00 | 03-29 00:00+01, 03-29 04:00+02, 03-29 06:00+02 |
| Europe/Berlin | `*/30 2 * * *` | 2026-03-29 02:00 → 03:00 | 03-28 02:30+01, 03-30 02:00+02 |
| Europe/Berlin | `*/30 * * * * *` | 2026-03-29 02:00 → 03:00 | 03-29 01:59:30+01, 03-29 03:00+02 |
| America/New_York | `0 2 * * sun` | 2026-03-08 02:00 → 03:00 | 03-01 02:00-05, 03-08 03:00-04, 03-15 02:00-04 |
| America/New_York | `@hourly` | 2026-11-01 02:00 → 01:00 | 11-01 00:00-04, 11-01 01:00-04, 11-01 01:00-05, 11-01 02:00-05 |
| Europe/Dublin | `30 1 * * *` | 2026-03-29 01:00 → 02:00 | 03-28 01:30+00, 03-29 02:00+01, 03-30 01:30+01 |
| America/Sao_Paulo | `@daily` | 2018-11-04 00:00 → 01:00 | 11-03 00:00-03, 11-04 01:00-02, 11-05 00:00-02 |
| America/Sao_Paulo | `30 23 * * *` | 2018-02-18 00:00 → 02-17 23:00 | 02-16 23:30-02, 02-17 23:30-02, 02-18 23:30-03 |
| Asia/Beirut | `@weekly` | 2026-03-29 00:00 → 01:00 | 03-22 00:00+02, 03-29 01:00+03, 04-05 00:00+03 |
| Australia/Lord_Howe | `15 2 * * *` | 2026-10-04 02:00 → 02:30 | 10-03 02:15+10:30, 10-04 02:30+11, 10-05 02:15+11 |
| Australia/Lord_Howe | `45 1 * * *` | 2026-04-05 02:00 → 01:30 | 04-04 01:45+11, 04-05 01:45+11, 04-06 01:45+10:30 |
| Australia/Lord_Howe | `*/15 * * * *` | 2026-04-05 02:00 → 01:30 | 04-05 01:30+11, 04-05 01:45+11, 04-05 01:30+10:30, 04-05 01:45+10:30, 04-05 02:00+10:30 |
| Africa/Casablanca | `30 2 * * *` | 2026-02-15 03:00 → 02:00 (Ramadan) | 02-14 02:30+01, 02-15 02:30+01, 02-16 02:30+00 |
| Africa/Casablanca | `30 2 * * *` | 2026-03-22 02:00 → 03:00 | 03-21 02:30+00, 03-22 03:00+01, 03-23 02:30+01 |
| Antarctica/Troll | `30 1,2 * * *` | 2026-03-29 01:00 → 03:00 | 03-28 02:30+00, 03-29 03:00+02, 03-30 01:30+02 |
| America/Caracas | `45 2 * * *` | 2016-05-01 02:30 → 03:00 (for good) | 04-30 02:45-04:30, 05-01 03:00-04, 05-02 02:45-04 |
| Asia/Pyongyang | `45 23 4 5 *` | 2018-05-04 23:30 → 05-05 00:00 (for good) | 05-05 00:00+09 |
| Pacific/Apia | `0 9 * * *` | 2011-12-30 does not exist | 12-29 09:00-10, 12-31 00:00+14, 12-31 09:00+14 |
| Pacific/Apia | `0 9 * * fri` | 2011-12-30 does not exist, a Friday | 12-23 09:00-10, 12-31 00:00+14, 01-06 09:00+14 |
| Pacific/Apia | `0 * * * *` | 2011-12-30 does not exist | 12-29 23:00-10, 12-31 00:00+14, 12-31 01:00+14 |
| Pacific/Apia | R/2011-12-28T00:00/P1D | 2011-12-30 does not exist | 12-29 00:00-10, 12-31 00:00+14, 01-01 00:00+14 |
| Pacific/Kwajalein | `0 9 * * *` | 1993-08-21 does not exist | 08-20 09:00-12, 08-22 00:00+12, 08-22 09:00+12 |
| Europe/Berlin | every 12h | 2026-03-29 02:00 → 03:00 | 03-28 13:00+01, 03-29 01:00+01, 03-29 14:00+02 |
| Europe/Berlin | R/2026-03-28T02:30/P1D | 2026-03-29 02:00 → 03:00 | 03-28 02:30+01, 03-29 03:00+02, 03-30 02:30+02 |
| Europe/Berlin | R/2026-03-28T02:30/PT24H | 2026-03-29 02:00 → 03:00 | 03-28 02:30+01, 03-29 03:30+02, 03-30 03:30+02 |
";

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn rule(kind: RuleKind, expression: &str, tz: &str) -> Rule {
    let created_at = at("1970-01-01T00:00:00Z");
    Rule { kind, expression: expression.into(), tz: tz.into(), start: None, end: None, created_at }
}

pub(super) fn cron(expression: &str, tz: &str) -> Recurrence {
    Recurrence::new(rule(RuleKind::Cron, expression, tz)).unwrap()
}

fn every(text: &str) -> Recurrence {
    Recurrence::new(rule(RuleKind::Every, text, "UTC")).unwrap()
}

fn iso(text: &str, tz: &str) -> Recurrence {
    Recurrence::new(rule(RuleKind::Iso, text, tz)).unwrap()
}

/// `03-29 03:00+02`, with seconds and minutes of the offset where they are not zero.
fn shown(t: Timestamp, tz: &TimeZone) -> String {
    let local = t.jiff().to_zoned(tz.clone());
    let seconds = if local.second() == 0 { "" } else { ":%S" };
    let text = local.strftime(&format!("%m-%d %H:%M{seconds}%:z")).to_string();
    text.strip_suffix(":00").map(str::to_owned).unwrap_or(text)
}

#[test]
fn named_cases_of_set_clocks() {
    let rows = NAMED_CASES.trim().lines().skip(2);
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [zone, rule, clock, fires] = cells[..] else { panic!("{row}") };
        let expected: Vec<&str> = fires.split(", ").collect();
        let recurrence = match rule.trim_matches('`') {
            text if text.starts_with('R') => iso(text, zone),
            text => match text.strip_prefix("every ") {
                Some(step) => every(step),
                None => cron(text, zone),
            },
        };
        let tz = TimeZone::get(zone).unwrap();
        // Begins just before the first that is expected: its time on the wall is neither skipped nor repeated.
        let (day, time) = expected[0].split_once(' ').unwrap();
        let time = &time[..time.find(['+', '-']).unwrap()];
        let first: jiff::civil::DateTime = format!("{}-{day}T{time}", &clock[..4]).parse().unwrap();
        let before = Timestamp(first.to_zoned(tz.clone()).unwrap().timestamp().as_millisecond() - 1);
        let found: Vec<String> =
            recurrence.between(before, Timestamp(i64::MAX)).take(expected.len()).map(|t| shown(t, &tz)).collect();
        assert_eq!(found, expected, "{row}");
        let instants: Vec<Timestamp> = recurrence.between(before, Timestamp(i64::MAX)).take(expected.len()).collect();
        let last = instants[instants.len() - 1];
        assert_eq!(recurrence.count(before, last), expected.len() as u64, "{row}");
        assert_eq!(recurrence.last_n(expected.len(), Timestamp(0), last), instants, "{row}");
    }
}

#[test]
fn the_guide_tells_named_cases_only() {
    let guide = include_str!("../../docs/guide/schedules.md");
    let told = guide.lines().skip_while(|l| *l != "### When clocks are set").take_while(|l| !l.starts_with("## "));
    let rows: Vec<&str> = told.filter(|l| l.starts_with("| ")).skip(2).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        assert!(NAMED_CASES.contains(row), "{row}");
    }
}

#[test]
fn every_counts_from_the_start_or_the_creation_in_real_time() {
    let mut rule = rule(RuleKind::Every, "90m", "Europe/Berlin");
    rule.created_at = at("2026-01-01T00:10:00Z");
    let instants = |rule: &Rule, from| -> Vec<String> {
        let recurrence = Recurrence::new(rule.clone()).unwrap();
        let found = recurrence.between(at(from), Timestamp(i64::MAX)).take(2);
        found.map(|t| t.to_string()).collect()
    };
    let early = "2020-01-01T00:00:00Z";
    assert_eq!(instants(&rule, early), ["2026-01-01T01:40:00.000Z", "2026-01-01T03:10:00.000Z"]);
    rule.start = Some(at("2026-01-02T00:00:00Z"));
    assert_eq!(instants(&rule, early), ["2026-01-02T00:00:00.000Z", "2026-01-02T01:30:00.000Z"]);
    assert_eq!(instants(&rule, "2036-01-02T00:00:00Z"), ["2036-01-02T01:30:00.000Z", "2036-01-02T03:00:00.000Z"]);
}

#[test]
fn start_and_end_are_part_of_it() {
    let mut rule = rule(RuleKind::Cron, "0 0 * * *", "UTC");
    rule.start = Some(at("2026-01-02T00:00:00Z"));
    rule.end = Some(at("2026-01-04T00:00:00Z"));
    let recurrence = Recurrence::new(rule).unwrap();
    let (low, high) = (Timestamp(i64::MIN), Timestamp(i64::MAX));
    assert_eq!(recurrence.between(low, high).count(), 3);
    assert_eq!(recurrence.count(low, high), 3);
    assert_eq!(recurrence.last_n(9, low, high), recurrence.between(low, high).collect::<Vec<_>>());
}

#[test]
fn at_is_due_once() {
    let once = Recurrence::new(rule(RuleKind::At, "2026-03-29 09:00", "Europe/Berlin")).unwrap();
    assert_eq!(once.rule().expression, "2026-03-29T07:00:00.000Z");
    assert_eq!(once.between(Timestamp(0), Timestamp(i64::MAX)).count(), 1);
    assert_eq!(once.next_after(at("2026-03-29T07:00:00Z")), None);
}

#[test]
fn what_can_never_fire_is_refused() {
    let mut late = rule(RuleKind::Cron, "0 0 29 2 *", "UTC");
    (late.start, late.end) = (Some(at("2026-03-01T00:00:00Z")), Some(at("2027-03-01T00:00:00Z")));
    let mut upside = rule(RuleKind::Every, "1h", "UTC");
    (upside.start, upside.end) = (Some(Timestamp(2)), Some(Timestamp(1)));
    let mut missed = rule(RuleKind::At, "2026-01-01T00:00:00Z", "UTC");
    missed.end = Some(at("2025-01-01T00:00:00Z"));
    for (rule, said) in [
        (late, "\"0 0 29 2 *\" never fires"),
        (upside, "is before the start"),
        (missed, "never fires"),
        (rule(RuleKind::Cron, "0 0 30 2 *", "UTC"), "never fires"),
        (rule(RuleKind::Iso, "R0/2026-01-01/P1D", "UTC"), "R0 never fires"),
        (rule(RuleKind::Every, "0s", "UTC"), "more often than once a second"),
        (rule(RuleKind::Every, "soon", "UTC"), "\"soon\" is not a duration such as 90s"),
        (rule(RuleKind::At, "soon", "UTC"), "\"soon\" is not a time such as"),
        (rule(RuleKind::Cron, "0 0 * * *", "Mars/Base"), "there is no time zone \"Mars/Base\""),
    ] {
        let error = Recurrence::new(rule).unwrap_err();
        assert!(error.message().contains(said), "{error}");
    }
}

#[test]
fn it_is_stored_as_its_rule() {
    let recurrence = cron(" 0 2 * * mon-fri ", "europe/berlin");
    let json = serde_json::to_string(&recurrence).unwrap();
    assert_eq!(
        json,
        r#"{"kind":"cron","expression":"0 2 * * mon-fri","tz":"Europe/Berlin","start":null,"end":null,"created_at":"1970-01-01T00:00:00.000Z"}"#
    );
    assert_eq!(serde_json::from_str::<Recurrence>(&json).unwrap(), recurrence);
    let broken = json.replace("mon-fri", "mon-foo");
    assert!(serde_json::from_str::<Recurrence>(&broken).unwrap_err().to_string().contains("day of week"));
}

#[test]
fn cost_does_not_follow_the_length_of_time() {
    let (from, to) = (at("2000-01-01T00:00:00Z"), at("2099-12-31T00:00:00Z"));
    let begun = Instant::now();
    let second = cron("* * * * * *", "America/New_York");
    assert_eq!(second.count(from, to), (to.0 - from.0) as u64 / 1000);
    assert_eq!(second.last_n(1000, from, to)[0], Timestamp(to.0 - 999_000));
    assert_eq!(every("1s").count(from, to), (to.0 - from.0) as u64 / 1000);
    assert_eq!(cron("0 0 29 2 *", "Europe/Berlin").count(from, to), 25);
    // The leap days that are Sundays: */31 is the 1st, so they are said by the step of the weekday.
    assert_eq!(cron("* * 29 2 */7", "Europe/Berlin").count(from, to) % 1440, 0);
    for rule in ["0 0 29 2 *", "* * 29 2 *", "*/5 2 31 12 *"] {
        let rule = cron(rule, "Africa/Casablanca");
        assert_eq!(rule.last_n(3, from, to).len(), 3);
        assert!(rule.between(from, to).take(1000).count() > 20);
    }
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

/// Zones with something to see: half hours, skipped days, Ramadan, double summer time, changes at midnight and for good.
const ZONES: [&str; 18] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",
    "America/Sao_Paulo",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "Asia/Gaza",
    "Asia/Tehran",
    "Asia/Pyongyang",
    "America/Caracas",
    "Europe/Dublin",
    "Europe/Moscow",
    "Africa/Monrovia",
    "UTC",
];

/// Text of a field and its numbers.
fn field(min: u32, max: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let numbers = prop::collection::btree_set(min..=max, 1..4).prop_map(|set| {
        let all: Vec<u32> = set.into_iter().collect();
        (all.iter().map(u32::to_string).collect::<Vec<_>>().join(","), all)
    });
    let step = (1u32..20).prop_map(move |n| (format!("*/{n}"), (min..=max).step_by(n as usize).collect()));
    let range = (1u32..20).prop_map(move |n| (format!("{min}-{max}/{n}"), (min..=max).step_by(n as usize).collect()));
    prop_oneof![step, range, numbers]
}

/// A cron daemon that looks at the clock each half minute, as Vixie's does: its own time never goes back, fixed entries follow that and
/// are caught up at once when the clock jumps, wild ones follow the clock.
fn daemon(tz: &TimeZone, wild: bool, named: impl Fn(jiff::civil::DateTime) -> bool, from: i64, to: i64) -> Vec<i64> {
    const TICK: i64 = 30_000;
    let local = |t: i64| {
        let zoned = jiff::Timestamp::from_millisecond(t).unwrap().to_zoned(tz.clone());
        jiff::tz::Offset::UTC.to_timestamp(zoned.datetime()).unwrap().as_millisecond()
    };
    let civil = |l: i64| jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_millisecond(l).unwrap());
    let early = (from - 3 * 86_400_000).div_euclid(TICK) * TICK;
    let mut virtual_time = local(early);
    let mut fired = Vec::new();
    for t in (early / TICK + 1..=to.div_euclid(TICK)).map(|n| n * TICK) {
        let now = local(t);
        let mut due = (virtual_time / TICK + 1..=now / TICK).map(|n| n * TICK);
        let fires = match wild {
            true => now % 60_000 == 0 && named(civil(now)),
            false => due.any(|l| l % 60_000 == 0 && named(civil(l))),
        };
        virtual_time = virtual_time.max(now);
        if fires && t > from {
            fired.push(t);
        }
    }
    fired
}

/// An instant near a transition of the zone, or anywhere.
fn near_a_turn(zone: &str, pick: usize, shift: i64) -> i64 {
    let tz = TimeZone::get(zone).unwrap();
    let turns: Vec<i64> =
        tz.following(jiff::Timestamp::UNIX_EPOCH).take(120).map(|t| t.timestamp().as_millisecond()).collect();
    turns.get(pick % turns.len().max(1)).copied().unwrap_or(1_700_000_000_000) + shift
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_fires_when_a_cron_daemon_does(
        zone in prop::sample::select(&ZONES[..]), pick in 0usize..120,
        (m, minutes) in field(0, 59), (h, hours) in field(0, 23), (d, days) in field(1, 31), (w, weekdays) in field(0, 6),
    ) {
        let Ok(recurrence) = Recurrence::new(rule(RuleKind::Cron, &format!("{m} {h} {d} * {w}"), zone)) else {
            return Ok(());
        };
        let tz = TimeZone::get(zone).unwrap();
        let turn = near_a_turn(zone, pick, 0);
        let (from, to) = (turn - 40 * 3_600_000, turn + 40 * 3_600_000);
        let either = !d.starts_with('*') && !w.starts_with('*');
        let named = |at: jiff::civil::DateTime| {
            let day = days.contains(&(at.day() as u32));
            let weekday = weekdays.contains(&(at.weekday().to_sunday_zero_offset() as u32));
            minutes.contains(&(at.minute() as u32)) && hours.contains(&(at.hour() as u32))
                && if either { day || weekday } else { day && weekday }
        };
        let wild = m.starts_with('*') || h.starts_with('*');
        let expected = daemon(&tz, wild, named, from, to);
        let found: Vec<i64> = recurrence.between(Timestamp(from), Timestamp(to)).map(|t| t.0).collect();
        prop_assert_eq!(&found, &expected, "{} {} around {}", zone, recurrence.rule().expression, Timestamp(turn));
        prop_assert_eq!(recurrence.count(Timestamp(from), Timestamp(to)), expected.len() as u64);
    }

    #[test]
    fn next_count_and_last_n_agree(
        recurrence in any_recurrence(), pick in 0usize..120, shift in -400_000_000i64..400_000_000,
        length in 0i64..3_000_000_000, n in 0usize..50,
    ) {
        let from = Timestamp(near_a_turn(&recurrence.rule().tz, pick, shift));
        let to = Timestamp(from.0 + length);
        let all: Vec<Timestamp> = recurrence.between(from, to).take(5000).collect();
        prop_assert!(all.is_sorted_by(|a, b| a < b), "monotone");
        prop_assert!(all.iter().all(|t| from < *t && *t <= to));
        let to = if all.len() == 5000 { all[4999] } else { to };
        prop_assert_eq!(recurrence.count(from, to), all.len() as u64);
        prop_assert_eq!(&recurrence.last_n(n, from, to)[..], &all[all.len() - n.min(all.len())..]);
        for pair in all.windows(2).take(20) {
            for between in [pair[0].0, pair[0].0 + 1, (pair[0].0 + pair[1].0) / 2, pair[1].0 - 1] {
                let between = Timestamp(between.min(pair[1].0 - 1));
                prop_assert_eq!(recurrence.next_after(between), Some(pair[1]));
            }
        }
        if let Some(middle) = all.get(all.len() / 2) {
            prop_assert_eq!(recurrence.count(from, *middle) + recurrence.count(*middle, to), all.len() as u64);
        }
    }

    #[test]
    fn a_rule_survives_the_store(recurrence in any_recurrence()) {
        let json = serde_json::to_string(&recurrence).unwrap();
        let back: Recurrence = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&back, &recurrence);
        prop_assert_eq!(serde_json::to_string(&back).unwrap(), json);
    }
}

/// A rule of any kind, in any of the zones, with or without bounds.
pub(in crate::job) fn any_recurrence() -> impl Strategy<Value = Recurrence> {
    let lines = (field(0, 59), field(0, 23), field(1, 31), field(0, 6), prop::option::of(field(0, 59))).prop_map(
        |(m, h, d, w, s)| {
            let seconds = s.map(|s| format!("{} ", s.0)).unwrap_or_default();
            (RuleKind::Cron, format!("{seconds}{} {} {} * {}", m.0, h.0, d.0, w.0))
        },
    );
    let simple = prop::sample::select(&["0 2 * * *", "30 2,3 * * *", "* * * * * *", "@hourly", "@monthly"][..])
        .prop_map(|line| (RuleKind::Cron, line.to_owned()));
    let every = (1u32..200_000).prop_map(|s| (RuleKind::Every, format!("{s}s")));
    const STEPS: [&str; 8] = ["P1D", "P1M", "P1Y", "P1W", "PT7M", "P1DT1H", "P2M3D", "PT36H"];
    let iso = (prop::sample::select(&STEPS[..]), 0i64..1_800_000_000).prop_map(|(step, secs)| {
        let start = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_second(secs).unwrap());
        (RuleKind::Iso, format!("R/{start}/{step}"))
    });
    let kinds = prop_oneof![4 => lines, 2 => simple, 1 => every, 3 => iso];
    let bound = prop::option::weighted(0.2, 0i64..2_000_000_000_000);
    (kinds, prop::sample::select(&ZONES[..]), bound).prop_filter_map("it can fire", |((kind, text), tz, start)| {
        let mut rule = rule(kind, &text, tz);
        rule.start = start.map(Timestamp);
        Recurrence::new(rule).ok()
    })
}
