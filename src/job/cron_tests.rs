use proptest::prelude::*;

use super::*;

fn local(text: &str) -> i64 {
    format!("{text}Z").parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// The first `n` local times after `from`.
fn times(line: &str, from: &str, n: usize) -> Vec<String> {
    let cron = Cron::parse(line).unwrap();
    let found = std::iter::successors(cron.next(local(from)), |t| cron.next(*t)).take(n);
    found.map(|t| jiff::Timestamp::from_millisecond(t).unwrap().strftime("%F %T").to_string()).collect()
}

#[test]
fn either_day_field_suffices_when_both_are_restricted() {
    let from = "2026-01-01T00:00:00";
    assert_eq!(
        times("0 9 15 * mon", from, 4),
        ["2026-01-05 09:00:00", "2026-01-12 09:00:00", "2026-01-15 09:00:00", "2026-01-19 09:00:00"]
    );
    // As in Vixie's cron, */2 has a star, so both must match: the odd days that are Mondays.
    assert_eq!(times("0 9 */2 * mon", from, 2), ["2026-01-05 09:00:00", "2026-01-19 09:00:00"]);
    assert_eq!(times("0 9 13 * *", from, 2), ["2026-01-13 09:00:00", "2026-02-13 09:00:00"]);
    assert_eq!(times("0 9 * * 7", from, 2), ["2026-01-04 09:00:00", "2026-01-11 09:00:00"]);
    assert_eq!(times("0 9 * * sun", from, 2), times("0 9 * * 0", from, 2));
    assert_eq!(times("0 9 * * 6", from, 1), ["2026-01-03 09:00:00"]);
}

#[test]
fn six_fields_begin_with_seconds() {
    assert_eq!(times("*/30 0 12 * * *", "2026-01-01T12:00:00", 2), ["2026-01-01 12:00:30", "2026-01-02 12:00:00"]);
    assert_eq!(times("* * * * * *", "2026-12-31T23:59:59", 1), ["2027-01-01 00:00:00"]);
    assert_eq!(times("* * * * *", "2026-12-31T23:59:59.999", 1), ["2027-01-01 00:00:00"]);
}

#[test]
fn names_stand_for_lines() {
    let from = "2026-01-01T00:30:00";
    for (name, first) in [
        ("@hourly", "2026-01-01 01:00:00"),
        ("@daily", "2026-01-02 00:00:00"),
        ("@Midnight", "2026-01-02 00:00:00"),
        ("@weekly", "2026-01-04 00:00:00"),
        ("@monthly", "2026-02-01 00:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
        (" @annually ", "2027-01-01 00:00:00"),
    ] {
        assert_eq!(times(name, from, 1), [first], "{name}");
    }
    assert!(Cron::parse("@hourly").unwrap().is_wild());
    assert!(!Cron::parse("@daily").unwrap().is_wild());
}

#[test]
fn a_star_in_minute_or_hour_makes_it_wild() {
    for (line, wild) in [
        ("* 2 * * *", true),
        ("*/15 2 * * *", true),
        ("0 * * * *", true),
        ("0 */6 * * *", true),
        ("0-59 0-23 * * *", false),
        ("0 2 * * *", false),
        ("* 0 2 * * *", false),
    ] {
        assert_eq!(Cron::parse(line).unwrap().is_wild(), wild, "{line}");
    }
}

#[test]
fn what_can_never_fire_is_refused() {
    for line in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 *", "0 0 30-31 feb *"] {
        let error = Cron::parse(line).unwrap_err();
        assert!(error.message().contains("never fires") && error.hint_text().is_some(), "{error}");
    }
    // Rare is not never; and a weekday makes up for a day that there is not.
    assert_eq!(times("0 0 29 2 *", "2096-03-01T00:00:00", 1), [""; 0]);
    assert_eq!(times("0 0 29 2 *", "2026-03-01T00:00:00", 1), ["2028-02-29 00:00:00"]);
    assert_eq!(times("0 0 30 2 mon", "2026-03-01T00:00:00", 1), ["2027-02-01 00:00:00"]);
}

#[test]
fn lines_that_are_no_lines_are_refused_with_a_hint() {
    for (line, said) in [
        ("", "5 or 6 fields, not 0"),
        ("* * * *", "5 or 6 fields, not 4"),
        ("0 0 0 1 1 * 2030", "5 or 6 fields, not 7"),
        ("@reboot", "\"@reboot\" names no schedule"),
        ("@every 5m", "names no schedule"),
        ("TZ=Europe/Berlin 0 2 * * *", "is no field of a cron expression"),
        ("0 2 * * * /usr/bin/backup --all", "has no command"),
        ("0 2 ? * *", "\"?\" is not understood"),
        ("0 24 * * *", "hour field \"24\": 24 is not from 0 to 23"),
        ("0 0 * * 8", "day of week field \"8\": 8 is not from 0 to 7"),
        ("60 * * * * *", "second field \"60\": 60 is not from 0 to 59"),
        ("0 0 * jan-foo *", "month field"),
    ] {
        let error = Cron::parse(line).unwrap_err();
        assert!(error.message().contains(said) && error.hint_text().is_some(), "{line}: {error}");
    }
    for (line, hint) in
        [("@every 5m", "--every 5m"), ("0/5 * * * *", "*/5"), ("0 2 * * * ./x", "--cron '0 2 * * *' -- CMD")]
    {
        assert!(Cron::parse(line).unwrap_err().hint_text().unwrap().contains(hint), "{line}");
    }
    assert!(Cron::parse("0 0 2 * * mon-fri/2").is_ok());
    assert!(Cron::parse(&"1,".repeat(600)).unwrap_err().message().contains("longer"));
}

/// The numbers of a list field, and its text: a star, a step, or numbers.
fn field(min: u32, max: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let numbers = prop::collection::btree_set(min..=max, 1..4).prop_map(|set| {
        let all: Vec<u32> = set.into_iter().collect();
        (all.iter().map(u32::to_string).collect::<Vec<_>>().join(","), all)
    });
    let step = (2u32..20).prop_map(move |n| (format!("*/{n}"), (min..=max).step_by(n as usize).collect()));
    prop_oneof![Just(("*".to_owned(), (min..=max).collect::<Vec<_>>())), step, numbers]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The search and the count against a look at every minute of a month.
    #[test]
    fn search_and_count_agree_with_a_look_at_every_minute(
        (m, minutes) in field(0, 59), (h, hours) in field(0, 23), (d, days) in field(1, 31),
        (mo, months) in field(1, 12), (w, weekdays) in field(0, 6), start in 0i64..40_000,
    ) {
        let Ok(cron) = Cron::parse(&format!("{m} {h} {d} {mo} {w}")) else { return Ok(()) };
        let begin = start * DAY_MS + 1_234_567;
        let end = begin + 31 * DAY_MS;
        let either = !d.starts_with('*') && !w.starts_with('*');
        let named = |t: i64| {
            let at = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_millisecond(t).unwrap());
            let day = days.contains(&(at.day() as u32));
            let weekday = weekdays.contains(&(at.weekday().to_sunday_zero_offset() as u32));
            minutes.contains(&(at.minute() as u32)) && hours.contains(&(at.hour() as u32))
                && months.contains(&(at.month() as u32)) && if either { day || weekday } else { day && weekday }
        };
        let minutes = (begin / 60_000 + 1..=end / 60_000).map(|n| n * 60_000);
        let expected: Vec<i64> = minutes.filter(|t| named(*t)).collect();
        let found = std::iter::successors(cron.next(begin), |t| cron.next(*t)).take_while(|t| *t <= end);
        prop_assert_eq!(found.take(200).collect::<Vec<_>>(), expected.iter().copied().take(200).collect::<Vec<_>>());
        prop_assert_eq!(cron.count(begin, end), expected.len() as u64);
        for t in expected.iter().take(3) {
            prop_assert_eq!(cron.count(t - 1, *t), 1);
            prop_assert_eq!(cron.count(*t, t + 59_999), 0);
        }
    }

    #[test]
    fn no_text_panics(text in "[0-9*/,@a-zLW#? -]{0,30}") {
        let _ = Cron::parse(&text);
    }
}
