use super::*;

const NOW: Timestamp = Timestamp(1_000_000);
const TERMS: Terms = Terms { fail_fast: true, on_complete: false, timeout: None };

fn went(moves: &[(&str, State, State)]) -> Moved {
    let mut moved = Moved::default();
    moves.iter().for_each(|(task, from, to)| moved.note(task, *from, *to));
    moved
}

fn life(open: u32) -> RunLife {
    RunLife::admit(open, None)
}

#[test]
fn all_done_is_done() {
    let mut run = life(2);
    let one = went(&[("a", State::Running, State::Done)]);
    assert_eq!(run.moved(TERMS, &one, NOW), (false, Step::Nothing));
    assert_eq!(run.moved(TERMS, &one, NOW), (false, Step::End));
    assert_eq!((run.state, run.finished_at), (RunState::Done, Some(NOW)));
}

#[test]
fn s19_the_first_failure_stops_once_and_continue_never() {
    let failed = went(&[("a", State::Running, State::Failed)]);
    let mut run = life(3);
    assert_eq!(run.moved(TERMS, &failed, NOW).1, Step::Stop);
    assert_eq!(run.stop.as_deref(), Some("task a failed"));
    assert_eq!(run.moved(TERMS, &failed, NOW).1, Step::Nothing, "it is being stopped");
    let rest = went(&[("c", State::Pending, State::Skipped)]);
    assert_eq!(run.moved(TERMS, &rest, NOW).1, Step::End);
    assert_eq!(run.state, RunState::Failed);

    let goes_on = Terms { fail_fast: false, ..TERMS };
    let mut run = life(2);
    assert_eq!(run.moved(goes_on, &failed, NOW).1, Step::Nothing);
    assert_eq!(run.moved(goes_on, &went(&[("b", State::Running, State::Done)]), NOW).1, Step::End);
    assert_eq!(run.state, RunState::Failed);
}

#[test]
fn s19_what_runs_last_cannot_change_the_result() {
    let terms = Terms { on_complete: true, ..TERMS };
    for (end, state) in [(State::Done, RunState::Done), (State::Failed, RunState::Failed)] {
        let mut run = life(1);
        assert_eq!(run.moved(terms, &went(&[("a", State::Running, end)]), NOW).1, Step::Complete);
        assert_eq!((run.state, run.result), (RunState::Running, Some(state)));
        let last = went(&[(ON_COMPLETE, State::Running, State::Failed)]);
        assert_eq!(run.moved(terms, &last, NOW).1, Step::End);
        assert_eq!(run.state, state);
    }
}

#[test]
fn s19_the_second_cancel_reaches_everything() {
    let mut run = life(2);
    assert_eq!(run.cancel(None).unwrap(), Reach::Tasks);
    assert_eq!(run.cancel(None).unwrap(), Reach::All);
    let both = went(&[("a", State::Pending, State::Cancelled), ("b", State::Running, State::Cancelled)]);
    assert_eq!(run.moved(TERMS, &both, NOW).1, Step::End);
    assert_eq!(run.state, RunState::Cancelled);
    assert!(run.cancel(None).is_err());
    let mut waits = RunLife::admit(1, Some(7));
    assert_eq!(waits.cancel(None).unwrap(), Reach::All, "nothing of it has run");
}

#[test]
fn a_failed_always_task_fails_a_cancelled_run() {
    let mut run = life(2);
    run.cancel(None).unwrap();
    run.moved(TERMS, &went(&[("a", State::Pending, State::Cancelled)]), NOW);
    run.moved(TERMS, &went(&[("tidy", State::Running, State::Failed)]), NOW);
    assert_eq!(run.state, RunState::Failed);
}

#[test]
fn s19_a_run_that_takes_too_long_fails_though_its_tasks_were_cancelled() {
    let terms = Terms { timeout: Some(Span::from_secs(60)), ..TERMS };
    let mut run = life(1);
    let later = |secs| NOW.plus(Span::from_secs(secs));
    assert!(!run.time_out(terms, later(3600)), "nothing of it has started");
    assert!(run.begin(terms, NOW));
    assert!(!run.begin(terms, later(30)), "its time counts from the first start");
    assert!(!run.time_out(terms, later(59)));
    assert!(run.is_late(later(60)) && run.time_out(terms, later(60)));
    assert!(!run.time_out(terms, later(61)), "once");
    assert_eq!(run.stop.as_deref(), Some("the run timed out after 1m"));
    assert!(!run.begin(terms, later(62)), "an always task of it starts");
    run.moved(terms, &went(&[("a", State::Running, State::Cancelled)]), NOW);
    assert_eq!(run.state, RunState::Failed);
    // A retry gives it as much time again, from the first start then.
    let back = went(&[("a", State::Cancelled, State::Pending)]);
    assert_eq!(run.moved(terms, &back, later(100)), (true, Step::Nothing));
    assert!(!run.is_late(later(9999)) && run.begin(terms, later(200)));
    assert_eq!((run.started_at, run.timeout_at), (Some(NOW), Some(later(260))));
}

#[test]
fn a_retry_opens_it_again() {
    let mut run = life(2);
    run.moved(TERMS, &went(&[("a", State::Running, State::Failed), ("b", State::Blocked, State::Skipped)]), NOW);
    assert_eq!(run.state, RunState::Failed);
    let back = went(&[("a", State::Failed, State::Pending), ("b", State::Skipped, State::Blocked)]);
    assert_eq!(run.moved(TERMS, &back, NOW), (true, Step::Nothing));
    assert_eq!((run.state, run.open, run.failed, run.skipped), (RunState::Running, 2, 0, 0));
    let done = went(&[("a", State::Running, State::Done), ("b", State::Running, State::Done)]);
    assert_eq!(run.moved(TERMS, &done, NOW).1, Step::End);
    assert_eq!((run.state, run.ends), (RunState::Done, 2));
}
