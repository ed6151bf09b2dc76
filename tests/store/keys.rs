use orx::error::Kind;
use orx::job::Selector;
use orx::job::State;
use orx::job::lanes::Offer;
use orx::job::state::Cause;
use orx::ops::enqueue::Enqueue;
use orx::ops::prune::PruneKeys;
use orx::ops::retry::Retry;
use orx::ops::select::Select;
use orx::time::Span;

use super::support::*;

on_every_store! {
    async fn s13_a_key_makes_one_job_and_another_body_is_a_conflict(f: Fixture) {
        let first = f.enqueue(&command(r#""idempotency_key":"k""#)).await.unwrap();
        let again = f.enqueue(&command(r#""idempotency_key":"k""#)).await.unwrap();
        assert_eq!((again.number, again.id, again.existing), (first.number, first.id, true));
        let other = f.enqueue(&command(r#""idempotency_key":"k","priority":1"#)).await.unwrap_err();
        assert_eq!(other.kind(), Kind::Conflict);
        let elsewhere = f.enqueue(&command(r#""idempotency_key":"k","tenant":"t""#)).await.unwrap();
        assert!(!elsewhere.existing, "keys are per tenant");
    }

    async fn s13_a_key_is_kept_for_a_day_after_the_end(f: Fixture) {
        let key = command(r#""idempotency_key":"k""#);
        f.enqueue(&key).await.unwrap();
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 0).await;
        f.clock.pass(Span::from_secs(24 * 3600 - 1));
        assert!(f.enqueue(&key).await.unwrap().existing);
        f.clock.pass(Span::from_secs(1));
        assert!(!f.enqueue(&key).await.unwrap().existing);
    }

    async fn s13_keys_whose_day_is_over_are_removed_and_a_retry_takes_its_own_back(f: Fixture) {
        let keys = ["ended", "again", "runs", "taken"].map(|key| command(&format!(r#""idempotency_key":"{key}""#)));
        let mut jobs = Vec::new();
        for key in &keys {
            jobs.push(f.enqueue(key).await.unwrap().number);
        }
        let w = f.worker("w", Offer::default()).await;
        let (first, second, _, last) = (w.take().await, w.take().await, w.take().await, w.take().await);
        w.exit(first, 0).await;
        w.exit(second, 1).await;
        w.exit(last, 1).await;
        let prune = async || f.queue.call(PruneKeys { epoch: None }).await.unwrap();
        f.clock.pass(Span::from_secs(24 * 3600 - 1));
        assert_eq!(prune().await, 0);
        f.clock.pass(Span::from_secs(1));
        assert_eq!((prune().await, prune().await), (3, 0));
        let taken = f.enqueue(&keys[3]).await.unwrap().number;
        f.queue.call(Retry { numbers: vec![jobs[1], jobs[3]], only: false }).await.unwrap();
        let mut found = Vec::new();
        for key in &keys {
            found.push(f.enqueue(key).await.unwrap());
        }
        assert!(!found[0].existing);
        assert_eq!(found[1..].iter().map(|job| job.number).collect::<Vec<_>>(), [jobs[1], jobs[2], taken]);
    }

    async fn the_same_id_never_doubles(f: Fixture) {
        let job = submission(&command(""));
        let jobs = vec![job.clone()];
        let first = f.queue.call(Enqueue { jobs: jobs.clone() }).await.unwrap().remove(0);
        let again = f.queue.call(Enqueue { jobs }).await.unwrap().remove(0);
        assert_eq!((first.number, first.existing, again.number, again.existing), (1, false, 1, true));
    }

    async fn ids_that_are_there_already_are_found_among_many_new_ones(f: Fixture) {
        let jobs: Vec<_> = (0..70).map(|n| submission(&command(&format!(r#""priority":{n}"#)))).collect();
        let old = [3, 40, 41].map(|i: usize| jobs[i].clone()).to_vec();
        f.queue.call(Enqueue { jobs: old }).await.unwrap();
        let mut all = jobs.clone();
        all.insert(20, jobs[18].clone()); // a new one twice
        let stored = f.queue.call(Enqueue { jobs: all.clone() }).await.unwrap();
        let existing: Vec<usize> = (0..all.len()).filter(|i| stored[*i].existing).collect();
        assert_eq!(existing, [3, 20, 41, 42]);
        for (job, stored) in all.iter().zip(&stored) {
            let found = f.job(stored.number).await;
            assert_eq!((stored.id, found.id, found.priority), (job.id, job.id, job.spec.priority()));
        }
        let new: Vec<_> = stored.iter().filter(|job| !job.existing).map(|job| job.number).collect();
        assert!(new.is_sorted() && new.len() == 67, "numbers are an order: {new:?}");
        assert!(f.audit().await.is_empty());
    }

    async fn s12_a_name_is_for_one_unfinished_job(f: Fixture) {
        let first = f.add(r#""name":"n""#).await;
        let taken = f.enqueue(&command(r#""name":"n""#)).await.unwrap_err();
        assert_eq!(taken.kind(), Kind::Conflict);
        let returned = f.enqueue(&command(r#""name":"n","on_conflict":"return""#)).await.unwrap();
        assert_eq!((returned.number, returned.existing), (first, true));
        f.add(r#""name":"n","tenant":"t""#).await;
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 0).await;
        assert_ne!(f.add(r#""name":"n""#).await, first, "its holder has ended");
    }

    async fn s12_replace_cancels_a_waiting_holder(f: Fixture) {
        let first = f.add(r#""name":"n""#).await;
        let second = f.add(r#""name":"n","on_conflict":"replace""#).await;
        assert_eq!(f.states(&[first, second]).await, "cancelled pending");
    }

    async fn s12_replace_waits_for_a_running_holder_and_one_more_cancels_the_waiter(f: Fixture) {
        let first = f.add(r#""name":"n""#).await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        let second = f.add(r#""name":"n","on_conflict":"replace""#).await;
        assert_eq!(f.states(&[first, second]).await, "running blocked");
        let third = f.add(r#""name":"n","on_conflict":"replace""#).await;
        assert_eq!(f.states(&[first, second, third]).await, "running cancelled blocked");
        w.end(fence, Cause::Cancel, None).await;
        assert_eq!(f.states(&[first, second, third]).await, "cancelled cancelled pending");
        assert_eq!(f.enqueue(&command(r#""name":"n""#)).await.unwrap_err().kind(), Kind::Conflict);
    }

    async fn s12_replace_sees_what_it_ended_of_what_the_new_job_waits_for(f: Fixture) {
        let holder = f.add(r#""name":"n""#).await;
        let follows = f.add(&format!(r#""after":{holder}"#)).await;
        let new = f.add(&format!(r#""name":"n","on_conflict":"replace","after":[{holder},{follows}]"#)).await;
        assert_eq!(f.states(&[holder, follows, new]).await, "cancelled skipped skipped");
    }

    async fn s12_a_running_holder_that_the_new_job_waits_for_anyway_is_waited_for_once(f: Fixture) {
        let w = f.worker("w", Offer::default()).await;
        for (until, state) in [("", "skipped"), (":ended", "pending")] {
            let holder = f.add(r#""name":"n""#).await;
            let fence = w.take().await;
            let new = f.add(&format!(r#""name":"n","on_conflict":"replace","after":"{holder}{until}""#)).await;
            assert_eq!(f.states(&[holder, new]).await, "running blocked");
            w.end(fence, Cause::Cancel, None).await;
            assert_eq!(f.states(&[holder, new]).await, format!("cancelled {state}"));
        }
    }

    async fn s13_the_key_of_a_job_that_is_skipped_at_once_is_kept_for_a_day(f: Fixture) {
        let failed = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        w.exit(w.take().await, 1).await;
        let key = command(&format!(r#""idempotency_key":"k","after":{failed}"#));
        assert_eq!(f.enqueue(&key).await.unwrap().state, State::Skipped);
        assert!(f.enqueue(&key).await.unwrap().existing);
        f.clock.pass(Span::from_secs(24 * 3600));
        assert!(!f.enqueue(&key).await.unwrap().existing);
    }

    async fn jobs_are_named_by_number_range_id_prefix_last_and_label(f: Fixture) {
        let a = f.enqueue(&command(r#""label":{"team":"x"}"#)).await.unwrap();
        let b = f.add("").await;
        let select = |word: String| {
            let queue = f.queue.clone();
            async move {
                let selectors = vec![word.parse::<Selector>().unwrap()];
                queue.call(Select { selectors, all: None }).await.map(|s| s.iter().map(|j| j.number).collect::<Vec<_>>())
            }
        };
        assert_eq!(select("1".into()).await.unwrap(), [a.number]);
        assert_eq!(select("1-9".into()).await.unwrap(), [a.number, b]);
        assert_eq!(select("last".into()).await.unwrap(), [b]);
        assert_eq!(select(a.id.to_string()).await.unwrap(), [a.number]);
        assert_eq!(select("@team=x".into()).await.unwrap(), [a.number]);
        let ambiguous = select(format!("0{}", &a.id.to_string()[1..4])).await.unwrap_err();
        assert_eq!(ambiguous.kind(), Kind::Usage);
        assert_eq!(select("99".into()).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(f.state(a.number).await, State::Pending);
    }
}
