use proptest::prelude::*;

use super::*;
use crate::job::recurrence::tests::any_recurrence;
use crate::job::{Rule, RuleKind};

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z, a Thursday

fn cron(line: &str) -> Recurrence {
    let created_at = Timestamp(0);
    Recurrence::new(Rule {
        kind: RuleKind::Cron,
        expression: line.into(),
        tz: "UTC".into(),
        start: None,
        end: None,
        created_at,
    })
    .unwrap()
}

/// The plan of a schedule whose last instant was recorded `ago` seconds before now.
fn plan(recurrence: &Recurrence, ago: i64, catch_up: CatchUp) -> Plan {
    let last_recorded = Some(Timestamp(NOW - ago * 1000));
    Tick { recurrence, last_recorded, now: Timestamp(NOW), catch_up, paused: false }.plan()
}

/// Seconds before now and whether recovered, of what fires; seconds before now of the ends, count and reason of what does not.
type Shown = (Vec<(i64, bool)>, Vec<(i64, i64, u64, SkipReason)>);

fn shown(plan: &Plan) -> Shown {
    let ago = |t: Timestamp| (NOW - t.0) / 1000;
    let fire = plan.fire.iter().map(|f| (ago(f.due), f.recovered)).collect();
    (fire, plan.skip.iter().map(|s| (ago(s.from), ago(s.to), s.count, s.reason)).collect())
}

#[test]
fn s20_an_instant_up_to_a_minute_late_fires_normally() {
    let minutely = cron("* * * * *");
    let plan = plan(&minutely, 61, CatchUp::None);
    assert_eq!(shown(&plan), (vec![(60, false), (0, false)], vec![]));
    assert_eq!(plan.next_due, Some(Timestamp(NOW + 60_000)));
    let late = Tick { now: Timestamp(NOW + 1), ..tick(&minutely, 61, CatchUp::None) }.plan();
    assert_eq!(shown(&late), (vec![(0, false)], vec![(60, 60, 1, SkipReason::Missed)]));
}

fn tick(recurrence: &Recurrence, ago: i64, catch_up: CatchUp) -> Tick<'_> {
    let last_recorded = Some(Timestamp(NOW - ago * 1000));
    Tick { recurrence, last_recorded, now: Timestamp(NOW), catch_up, paused: false }
}

#[test]
fn s20_what_was_missed_follows_catch_up() {
    use SkipReason::*;
    let hourly = cron("@hourly");
    let hour = 3600;
    let plan = |catch_up| shown(&plan(&hourly, 5 * hour, catch_up));
    assert_eq!(plan(CatchUp::None), (vec![(0, false)], vec![(4 * hour, hour, 4, Missed)]));
    assert_eq!(plan(CatchUp::Last), (vec![(0, false)], vec![(4 * hour, hour, 4, Missed)]));
    assert_eq!(
        plan(CatchUp::Count(2)),
        (vec![(2 * hour, true), (hour, true), (0, false)], vec![(4 * hour, 3 * hour, 2, Missed)])
    );
    assert_eq!(plan(CatchUp::Within(Span::from_secs(7200))), plan(CatchUp::Count(2)));
    assert_eq!(plan(CatchUp::Within(Span::from_secs(30))), plan(CatchUp::None));
    let all = (1..=4).rev().map(|n| (n * hour, true)).chain([(0, false)]).collect();
    assert_eq!(plan(CatchUp::All), (all, vec![]));
    assert_eq!(plan(CatchUp::Count(9)), plan(CatchUp::All));
}

#[test]
fn s20_the_last_is_the_newest_due_instant_on_time_included() {
    use SkipReason::*;
    let minutely = cron("* * * * *");
    let at = |secs: i64, ago| {
        let tick = Tick { now: Timestamp(NOW + secs * 1000), ..tick(&minutely, ago, CatchUp::Last) };
        shown(&tick.plan())
    };
    assert_eq!(at(30, 300), (vec![(0, false)], vec![(240, 60, 4, Missed)]), "the one due now");
    assert_eq!(at(0, 150), (vec![(0, false)], vec![(120, 60, 2, Missed)]), "of two on time the newer");
    assert_eq!(at(0, 61), (vec![(60, false), (0, false)], vec![]), "nothing was missed");
    let hourly = cron("@hourly");
    let late = Tick { now: Timestamp(NOW + 61_000), ..tick(&hourly, 3 * 3600, CatchUp::Last) }.plan();
    assert_eq!(shown(&late), (vec![(0, true)], vec![(2 * 3600, 3600, 2, Missed)]), "none is on time");
}

#[test]
fn s20_a_month_of_an_every_second_schedule_is_a_handful_of_rows() {
    let secondly = cron("* * * * * *");
    let month = 30 * 86_400;
    let begun = std::time::Instant::now();
    let none = plan(&secondly, month, CatchUp::None);
    assert_eq!((none.fire.len(), none.skip.len()), (61, 1));
    assert_eq!(none.skip[0].count, month as u64 - 61);
    let last = plan(&secondly, month, CatchUp::Last);
    assert_eq!((last.fire.len(), last.skip.len(), last.skip[0].count), (1, 1, month as u64 - 1));
    let all = plan(&secondly, month, CatchUp::All);
    assert_eq!((all.fire.len(), all.skip.len()), (1061, 1));
    assert_eq!((all.skip[0].reason, all.skip[0].count), (SkipReason::CatchUpLimit, month as u64 - 1061));
    assert_eq!(all.fire[0].due, Timestamp(NOW - 1_060_000), "the newest are kept");
    let day = plan(&secondly, month, CatchUp::Within(Span::from_secs(86_400)));
    let reasons: Vec<SkipReason> = day.skip.iter().map(|s| s.reason).collect();
    assert_eq!((day.fire.len(), reasons), (1061, vec![SkipReason::Missed, SkipReason::CatchUpLimit]));
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn s20_a_clock_set_back_fires_nothing_twice() {
    let minutely = cron("* * * * *");
    let back = plan(&minutely, -3600, CatchUp::All);
    assert_eq!((back.fire.len(), back.skip.len()), (0, 0));
    assert_eq!(back.next_due, Some(Timestamp(NOW + 3_660_000)));
    assert_eq!(shown(&plan(&minutely, 0, CatchUp::All)), (vec![], vec![]));
}

#[test]
fn a_paused_schedule_fires_nothing_and_records_it() {
    let minutely = cron("* * * * *");
    let paused = Tick { paused: true, ..tick(&minutely, 180, CatchUp::All) }.plan();
    assert_eq!(shown(&paused), (vec![], vec![(120, 0, 3, SkipReason::Paused)]));
    assert_eq!(paused.next_due, Some(Timestamp(NOW + 60_000)));
}

#[test]
fn a_schedule_owes_nothing_from_before_it_was_made() {
    let mut rule = cron("* * * * *").rule().clone();
    rule.created_at = Timestamp(NOW - 120_000);
    let recurrence = Recurrence::new(rule).unwrap();
    let fresh = Tick { last_recorded: None, ..tick(&recurrence, 0, CatchUp::All) }.plan();
    assert_eq!(shown(&fresh), (vec![(120, true), (60, false), (0, false)], vec![]));
}

#[test]
fn what_is_over_has_no_next_instant() {
    let mut rule = cron("* * * * *").rule().clone();
    rule.end = Some(Timestamp(NOW));
    let over = Recurrence::new(rule).unwrap();
    assert_eq!(plan(&over, 60, CatchUp::Last).next_due, None);
    assert_eq!(shown(&plan(&over, 60, CatchUp::Last)).0, [(0, false)]);
}

#[test]
fn policies_have_words() {
    for (text, policy) in [
        ("all", CatchUp::All),
        ("last", CatchUp::Last),
        ("none", CatchUp::None),
        ("5", CatchUp::Count(5)),
        ("2h", CatchUp::Within(Span::from_secs(7200))),
        ("93784s", CatchUp::Within(Span::from_secs(93_784))),
    ] {
        assert_eq!(text.parse(), Ok(policy));
        assert_eq!(policy.to_string(), text);
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str(&json).unwrap()), (format!("{text:?}").as_str(), policy));
    }
    assert_eq!(serde_json::from_str::<CatchUp>("5").unwrap(), CatchUp::Count(5));
    for bad in ["", "0", "1001", "some", "-1", "0s", "99999999999999"] {
        assert!(bad.parse::<CatchUp>().is_err(), "{bad}");
    }
    for policy in Overlap::ALL {
        assert_eq!(policy.to_string().parse(), Ok(policy));
        assert_eq!(serde_json::to_string(&policy).unwrap(), format!("\"{policy}\""));
    }
    assert!("wait".parse::<Overlap>().is_err());
    assert_eq!((Overlap::default(), CatchUp::default()), (Overlap::Skip, CatchUp::Last));
}

#[test]
fn reasons_have_words() {
    use SkipReason::*;
    for reason in [Overlap, Paused, Missed, CatchUpLimit, Limit] {
        assert_eq!(SkipReason::parse(reason.as_str()), Some(reason));
        assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
    }
}

#[test]
fn jitter_follows_from_the_instant_and_is_spread() {
    let schedule = ScheduleId(Uuid::from_u128(7));
    let max = Span::from_secs(100);
    let found: Vec<i64> = (0..1000).map(|n| jitter(schedule, Timestamp(NOW + n * 1000), max).as_millis()).collect();
    assert!(found.iter().all(|ms| (0..100_000).contains(ms)));
    let mean = found.iter().sum::<i64>() / 1000;
    assert!((45_000..55_000).contains(&mean), "{mean}");
    assert_eq!(jitter(schedule, Timestamp(NOW), max), jitter(schedule, Timestamp(NOW), max));
    assert_ne!(jitter(schedule, Timestamp(NOW), max), jitter(ScheduleId(Uuid::from_u128(8)), Timestamp(NOW), max));
    assert_eq!(jitter(schedule, Timestamp(NOW), Span::ZERO), Span::ZERO);
}

fn any_catch_up() -> impl Strategy<Value = CatchUp> {
    prop_oneof![
        Just(CatchUp::All),
        Just(CatchUp::Last),
        Just(CatchUp::None),
        (1u32..=MAX_RECOVERED).prop_map(CatchUp::Count),
        (1u64..1_000_000).prop_map(|s| CatchUp::Within(Span::from_secs(s))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However the time until now is cut into ticks, each due instant is recorded once.
    #[test]
    fn each_due_instant_is_covered_exactly_once(
        recurrence in any_recurrence(), catch_up in any_catch_up(), paused in prop::bool::weighted(0.1),
        last in 300_000_000_000i64..1_900_000_000_000, cuts in prop::collection::vec(0i64..100_000_000, 1..5),
    ) {
        let last = Timestamp(last);
        let mut now = last;
        let mut recorded = last;
        let mut rows: Vec<Timestamp> = Vec::new();
        for cut in cuts {
            now = Timestamp(now.0 + cut);
            let plan = Tick { recurrence: &recurrence, last_recorded: Some(recorded), now, catch_up, paused }.plan();
            prop_assert!(plan.fire.is_sorted_by(|a, b| a.due < b.due));
            prop_assert!(plan.fire.iter().filter(|f| f.recovered).count() <= MAX_RECOVERED as usize);
            for fire in &plan.fire {
                prop_assert_eq!(fire.recovered, now.since(fire.due) > GRACE);
            }
            let covered = plan.fire.iter().map(|f| f.due).chain(plan.skip.iter().map(|s| s.to)).max();
            prop_assert_eq!(plan.next_due, recurrence.next_after(now));
            recorded = covered.unwrap_or(recorded).max(recorded);
            rows.extend(plan.fire.iter().map(|f| f.due));
            for skip in &plan.skip {
                let inside = Timestamp(skip.from.0 - 1);
                prop_assert_eq!(recurrence.count(inside, skip.to), skip.count);
                if skip.count < 20_000 {
                    let all: Vec<Timestamp> = recurrence.between(inside, skip.to).collect();
                    prop_assert_eq!((all[0], all[all.len() - 1], all.len() as u64), (skip.from, skip.to, skip.count));
                    rows.extend(all);
                } else {
                    return Ok(()); // too many to write out; the count is checked above
                }
            }
        }
        rows.sort_unstable();
        prop_assert_eq!(rows, recurrence.between(last, now).collect::<Vec<_>>());
    }
}
