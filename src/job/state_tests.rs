use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn spec(json: &str) -> JobSpec {
    serde_json::from_str(&json.replacen('{', r#"{"command":["x"],"#, 1).replace(",}", "}")).unwrap()
}

fn life(state: State) -> Life {
    let mut life = Life::admit(&spec("{}"), NOW, 0);
    life.state = state;
    match state {
        State::Blocked => life.waiting = 1,
        State::Scheduled => life.due_at = Some(Timestamp(NOW.0 - 1)),
        State::Running => life.attempt = 1,
        _ => {}
    }
    life
}

fn ending(cause: Cause, exit_code: Option<i32>) -> Ending {
    Ending { cause, exit_code, signal: None, error: None }
}

fn settle(life: Life, spec: &JobSpec, ending: &Ending) -> Verdict {
    life.settle(spec, ending, Span::from_secs(1), NOW, NOW, 0.5).unwrap()
}

/// Every event in every state: the machine of docs/semantics.md on one page.
#[test]
fn grid_of_states_and_events() {
    let word = |r: Result<Life, Refused>| r.map_or("-".into(), |l| l.state.to_string());
    let two = spec(r#"{"max_attempts":2,}"#);
    let mut grid = String::new();
    for state in State::ALL {
        let mut expired = life(state);
        expired.deadline_at = Some(NOW);
        let settled = |cause, code| {
            let r = life(state).settle(&two, &ending(cause, code), Span::ZERO, NOW, NOW, 0.5);
            word(r.map(|v| v.life))
        };
        let cancelled = match life(state).cancel(None, NOW) {
            Ok(Cancelled::Ended(l)) => l.state.to_string(),
            Ok(Cancelled::Requested(l)) => format!("{} (asked)", l.state),
            Err(_) => "-".into(),
        };
        let row = [
            ("promote", word(life(state).promote(NOW))),
            ("lease", word(life(state).lease(0))),
            ("satisfy", word(life(state).satisfy(NOW))),
            ("skip", word(life(state).skip("x".into(), NOW))),
            ("revive", word(life(state).revive(&JobSpec::default(), NOW, 1, NOW))),
            ("cancel", cancelled),
            ("expire", word(expired.expire(NOW))),
            ("retry", word(life(state).retry(0, NOW))),
            ("exit 0", settled(Cause::Itself, Some(0))),
            ("exit 1", settled(Cause::Itself, Some(1))),
            ("exit 75", settled(Cause::Itself, Some(75))),
            ("timeout", settled(Cause::Timeout, Some(0))),
            ("drain", settled(Cause::Drain, None)),
            ("not started", settled(Cause::NotStarted, None)),
            ("lost", settled(Cause::Lost, None)),
        ];
        let cells: Vec<_> = row.iter().filter(|(_, s)| s != "-").map(|(e, s)| format!("{e} → {s}")).collect();
        grid += &format!("{state}: {}\n", cells.join(" · "));
    }
    insta::assert_snapshot!(grid, @r"
    blocked: satisfy → pending · skip → skipped · cancel → cancelled · expire → cancelled
    scheduled: promote → pending · skip → skipped · cancel → cancelled · expire → cancelled
    pending: lease → running · skip → skipped · cancel → cancelled · expire → cancelled
    running: cancel → running (asked) · exit 0 → done · exit 1 → scheduled · exit 75 → scheduled · timeout → scheduled · drain → pending · not started → scheduled · lost → pending
    done: 
    failed: retry → pending
    cancelled: retry → pending
    skipped: revive → blocked
    ");
}

#[test]
fn failures_end_in_a_dead_letter_and_snoozes_do_not_count() {
    let spec = spec(r#"{"max_attempts":2,"max_snoozes":1,}"#);
    let exit = |code| ending(Cause::Itself, Some(code));
    let v = settle(life(State::Running), &spec, &exit(75));
    assert_eq!((v.outcome, v.life.failures, v.life.streak), (Outcome::Snoozed, 0, 1));
    let mut again = v.life;
    again.state = State::Running;
    let v = settle(again, &spec, &exit(75));
    assert_eq!((v.life.state, v.life.reason.as_deref()), (State::Failed, Some(reason::SNOOZED_OUT)));

    let v = settle(life(State::Running), &spec, &exit(3));
    let mut again = v.life;
    again.state = State::Running;
    let v = settle(again, &spec, &exit(3));
    assert_eq!((v.life.failures, v.life.state), (2, State::Failed));
    assert_eq!(v.life.reason.as_deref(), Some(reason::ATTEMPTS));
}

#[test]
fn exit_code_classes() {
    let with = |json, code| settle(life(State::Running), &spec(json), &ending(Cause::Itself, Some(code))).life;
    let fatal = with(r#"{"max_attempts":9,"fatal_codes":"2",}"#, 2);
    assert_eq!((fatal.state, fatal.reason.as_deref()), (State::Failed, Some(reason::FATAL)));
    assert_eq!(with(r#"{"max_attempts":9,"fatal_codes":"2",}"#, 3).state, State::Scheduled);
    assert_eq!(with(r#"{"max_attempts":9,"retry_codes":"2",}"#, 3).state, State::Failed);
    assert_eq!(with(r#"{"max_attempts":9,"retry_codes":"2",}"#, 2).state, State::Scheduled);
}

#[test]
fn s3_cancel_against_settle() {
    let asked = || {
        let mut l = life(State::Running);
        l.cancel_requested_at = Some(NOW);
        l
    };
    let spec = spec(r#"{"max_attempts":9,}"#);
    for (cause, code, state) in [
        (Cause::Itself, Some(0), State::Done),
        (Cause::Cancel, Some(0), State::Cancelled),
        (Cause::Itself, Some(1), State::Cancelled),
        (Cause::Itself, Some(75), State::Cancelled),
        (Cause::Lost, None, State::Cancelled),
        (Cause::Drain, None, State::Cancelled),
        (Cause::NotStarted, None, State::Cancelled),
        (Cause::Timeout, Some(0), State::Cancelled),
    ] {
        let v = settle(asked(), &spec, &ending(cause, code));
        assert_eq!(v.life.state, state, "{cause:?} {code:?}");
    }
    let v = settle(life(State::Running), &spec, &ending(Cause::Timeout, Some(0)));
    assert_eq!((v.outcome, v.life.failures), (Outcome::TimedOut, 1));
}

#[test]
fn s4_losses_and_jobs_that_must_not_run_twice() {
    let lost = Ending::lost("x");
    let mut l = life(State::Running);
    for n in 1..=4 {
        l = settle(l, &spec("{}"), &lost).life;
        assert_eq!(l.losses, n);
        if n < 4 {
            assert_eq!(l.state, State::Pending);
            l = l.lease(0).unwrap();
        }
    }
    assert_eq!((l.state, l.reason.as_deref(), l.failures), (State::Failed, Some(reason::POISON), 0));
    for cause in [Cause::Lost, Cause::Drain] {
        let l = settle(life(State::Running), &spec(r#"{"max_losses":0,}"#), &ending(cause, None)).life;
        assert_eq!((l.state, l.reason.as_deref()), (State::Failed, Some(reason::LOST)));
    }
}

#[test]
fn s6_a_service_never_ends_by_itself() {
    let service = spec(r#"{"restart":"always","backoff":"1s..8s",}"#);
    let mut l = life(State::Running);
    for (code, step) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
        l = settle(l, &service, &ending(Cause::Itself, Some(code))).life;
        assert_eq!((l.state, l.streak, l.failures), (State::Scheduled, step, 0));
        l.state = State::Running;
    }
    for code in [1, 75] {
        let v =
            l.clone().settle(&service, &ending(Cause::Itself, Some(code)), Span::from_secs(9), NOW, NOW, 0.5).unwrap();
        assert_eq!((v.life.state, v.life.streak), (State::Scheduled, 1), "a long attempt starts the backoff again");
    }
    let asked = Life { cancel_requested_at: Some(NOW), ..life(State::Running) };
    let ended = settle(asked, &service, &ending(Cause::Itself, Some(0))).life;
    assert_eq!(ended.state, State::Cancelled, "it ends at a cancel, whichever way its process does");
}

#[test]
fn s10_a_job_that_is_brought_back_is_as_late_as_it_was_to_be() {
    let delayed = spec(r#"{"delay":60,}"#);
    let back = |now| {
        let skipped = Life::admit(&delayed, NOW, 1).skip("x".into(), NOW).unwrap();
        let life = skipped.revive(&delayed, NOW, 1, now).unwrap().satisfy(now).unwrap();
        (life.state, life.due_at)
    };
    let due = NOW.plus(Span::from_secs(60));
    assert_eq!(back(NOW.plus(Span::from_secs(9))), (State::Scheduled, Some(due)));
    assert_eq!(back(due), (State::Pending, None));
}

#[test]
fn s7_a_deadline_holds_until_the_first_attempt_that_started_and_was_not_snoozed() {
    let spec = spec(r#"{"deadline":5,"max_attempts":3,}"#);
    let mut l = Life::admit(&spec, NOW, 0).lease(0).unwrap();
    assert!(l.clone().expire(NOW.plus(Span::from_secs(9))).is_err(), "never a running job");
    for ended in [ending(Cause::Itself, Some(75)), ending(Cause::NotStarted, None)] {
        l = settle(l, &spec, &ended).life;
        assert!(l.clone().expire(NOW.plus(Span::from_secs(9))).is_ok());
        l.state = State::Running;
    }
    l = settle(l, &spec, &ending(Cause::Itself, Some(1))).life;
    assert_eq!(l.deadline_at, None);
}

#[test]
fn a_retry_is_a_new_generation_under_a_higher_fence() {
    let mut dead = life(State::Running);
    dead.cancel_requested_at = Some(NOW);
    let dead = settle(dead, &spec("{}"), &ending(Cause::Cancel, None)).life;
    let again = dead.retry(0, NOW).unwrap();
    assert_eq!((again.generation, again.attempt, again.cancel_requested_at), (2, 1, None));
    assert_eq!(again.clone().lease(0).unwrap().attempt, 2);
    assert_eq!(again.clone().lease(1).unwrap().attempt, 2);
    assert_eq!(again.lease(1_000_001).unwrap().attempt, 1_000_002, "S38");
}

/// The wait after an attempt that was not started.
fn waits(verdict: &Verdict) -> Span {
    verdict.life.due_at.unwrap().since(NOW)
}

#[test]
fn s36_what_did_not_start_counts_as_nothing_and_waits_by_the_backoff_up_to_a_minute() {
    let spec = spec(r#"{"max_attempts":1,"max_losses":0,"backoff":"10s..1hx3",}"#);
    let mut l = life(State::Running);
    for bound in [30, 90, 270] {
        let v = settle(l, &spec, &ending(Cause::NotStarted, None));
        assert_eq!((v.outcome, v.life.state), (Outcome::NotStarted, State::Scheduled));
        assert_eq!([v.life.failures, v.life.losses, v.life.interruptions, v.life.streak], [0; 4]);
        assert_eq!(waits(&v), Span::from_secs((10 + bound) / 2).min(Span::from_secs(60)));
        l = Life { state: State::Running, ..v.life };
    }
    let started = settle(l, &spec, &ending(Cause::Timeout, None)).life;
    assert_eq!((started.unstarted, started.unstarted_alone), (0, 0));
}

#[test]
fn s36_a_job_that_is_alone_in_not_starting_fails_at_the_hundredth() {
    let end = |mut l: Life, cause, spec: &JobSpec| {
        l.state = State::Running;
        settle(l, spec, &ending(cause, None)).life
    };
    let (plain, service) = (spec("{}"), spec(r#"{"restart":"always",}"#));
    let mut l = life(State::Running);
    for _ in 0..99 {
        l = end(l, Cause::NotStartedAlone, &plain);
        l = end(l, Cause::NotStarted, &plain);
    }
    assert_eq!((l.state, l.unstarted, l.unstarted_alone), (State::Scheduled, 198, 99));
    assert_eq!(
        end(l.clone(), Cause::NotStartedAlone, &service).state,
        State::Scheduled,
        "a service ends by a cancel only"
    );
    let dead = end(l, Cause::NotStartedAlone, &plain);
    assert_eq!((dead.state, dead.reason.as_deref()), (State::Failed, Some(reason::CANNOT_START)));
    let again = dead.retry(0, NOW).unwrap();
    assert_eq!((again.unstarted, again.unstarted_alone), (0, 0));
}
