use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::job::spec::Until;
use crate::job::workflow_file::parse;

fn toml(text: &str) -> Workflow {
    parse(text).unwrap().1
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const NIGHTLY: &str = r#"
name = "nightly"
on_failure = "continue"
timeout = "2h"
on_start = ["./prepare"]
on_complete = { command = ["./tell"], queue = "light" }

[defaults]
queue = "build"
max_attempts = 3
env = { CI = "1" }

[[task]]
name = "build"
command = ["make"]

[[task]]
name = "test"
needs = ["build"]
command = ["make", "test"]
max_attempts = 1
env = { SUITE = "all" }

[[task]]
name = "tidy"
needs = "test"
always = true
command = ["rm", "-rf", "out"]
"#;

#[test]
fn a_task_s_option_beats_the_defaults() {
    let w = toml(NIGHTLY);
    let of = |name: &str| w.tasks.iter().find(|t| t.name == name).unwrap();
    assert_eq!((of("build").spec.max_attempts(), of("test").spec.max_attempts()), (3, 1));
    assert_eq!(of("test").spec.queue(), "build");
    let env = BTreeMap::from([("CI".into(), "1".into()), ("SUITE".into(), "all".into())]);
    assert_eq!(of("test").spec.env, env, "maps are merged key by key");
    assert!(of("tidy").always);
    assert_eq!(w.on_complete.as_ref().unwrap().queue(), "light");
    assert_eq!(w.on_start.as_ref().unwrap().queue(), "build");
    assert_eq!(w.on_failure, OnFailure::Continue);
}

#[test]
fn json_says_the_same_as_toml() {
    let (given, from_toml) = parse(NIGHTLY).unwrap();
    let (_, from_json) = parse(&given.to_string()).unwrap();
    assert_eq!(from_toml, from_json);
}

#[test]
fn edges_wait_for_success_and_those_of_always_for_the_end() {
    let plan = toml(NIGHTLY).plan(None);
    let shown: Vec<String> = plan
        .iter()
        .map(|p| {
            let edges: Vec<String> = p.edges.iter().map(|(i, u)| format!("{}:{u:?}", plan[*i].task)).collect();
            format!("{} <- {}", p.task, edges.join(","))
        })
        .collect();
    assert_eq!(shown, ["on_start <- ", "build <- on_start:Done", "test <- build:Done", "tidy <- test:Ended"]);
}

#[test]
fn a_sequence_follows_the_file() {
    let w = toml(
        "name='s'\nmode='sequential'\n[[task]]\nname='a'\nneeds='c'\ncommand=['x']\n\
         [[task]]\nname='b'\ncommand=['x']\n[[task]]\nname='c'\ncommand=['x']",
    );
    let plan = w.plan(None);
    assert_eq!(plan.iter().map(|p| p.task.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
    assert_eq!(plan[2].edges, BTreeMap::from([(1, Until::Done)]));
    assert_eq!(plan[1].edges, BTreeMap::from([(0, Until::Ended)]));
    assert_eq!(w.width(), Some(1));
}

#[test]
fn a_replay_takes_what_was_done_from_the_run_before() {
    let w = toml(NIGHTLY);
    let only = w.downstream(["test"]);
    let plan = w.plan(Some(&only));
    assert_eq!(plan.iter().map(|p| p.task.as_str()).collect::<Vec<_>>(), ["on_start", "test", "tidy"]);
    assert_eq!(plan[1].inherited, [("build".to_owned(), Until::Done)]);
    assert_eq!(plan[1].edges, BTreeMap::from([(0, Until::Done)]));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, told) in [
        ("name = 'x'\n", "the workflow has no task"),
        ("[[task]]\nname='a'\ncommand=['x']", "the workflow has no name"),
        ("name='w'\nmode='both'\n", "line 2: mode: unknown variant `both`, expected `parallel` or `sequential`"),
        ("name='w'\nmodus=1\n[[task]]\nname='a'\ncommand=['x']", "line 2: unknown field `modus`"),
        ("name='w'\n\n[[task]]\nname='a'\ncommand=['x']\nneeds=['b']\n", "line 6: task a needs b, which is no task"),
        ("name='w'\n[[task]]\nname='a'\ncommand=['x']\nneeds='a'\n", "line 5: task a needs itself"),
        (
            "name='w'\n[[task]]\nname='a.b'\ncommand=['x']\n[[task]]\nname='A-b'\ncommand=['x']\n[[task]]\nname='c'\ncommand=['x']\nneeds=['a.b','A-b']\n",
            "line 11: task c needs a.b and A-b: both results are in ORX_RESULT_A_B",
        ),
        (
            "name='w'\n[[task]]\nname='a'\ncommand=['x']\n[[task]]\nname='a'\ncommand=['x']",
            "line 6: task a is there twice, as number 1 too",
        ),
        (
            "name='w'\n[[task]]\nname='a'\ncommand=['x']\nneeds='b'\n[[task]]\nname='b'\nneeds='a'\ncommand=['x']",
            "line 5: tasks need each other in a circle: a → b → a",
        ),
        ("name='w'\n[[task]]\ncommand=['x']", "line 2: task number 1 has no name"),
        ("name='w'\n[[task]]\nname='a'", "line 2: task a: command is missing"),
        ("name='w'\n[[task]]\nname='a'\ncomand=['x']", "line 4: task a: comand is no option of a job"),
        ("name='w'\n[[task]]\nname='a'\ncommand=['x']\npriority=900", "line 5: task a: priority is not between"),
        ("name='w'\n[[task]]\nname='a'\ncommand='x y'", "line 4: task a: command: invalid type: string \"x y\""),
        ("name='w'\n[[task]]\nname='on_start'\ncommand=['x']", "line 3: the name on_start is not free"),
        ("name='w'\n[[task]]\nname='a b'\ncommand=['x']", "line 3: task number 1: name \"a b\" may have letters"),
        (
            "name='w'\nmax_parallel=2\n[[task]]\nname='a'\ncommand=['x']\nlimit='db=1'",
            "line 6: task a: limit and max_parallel exclude each other",
        ),
        ("name='w'\n[[task]]\nname='a'\ncommand=['x']\nrestart='always'", "line 5: task a: restart is for services"),
        ("name='w'\ndefaults={name='x'}\n[[task]]\nname='a'\ncommand=['x']", "line 2: defaults: name belongs to each"),
        (
            "name='w'\non_start={command=['x'],tenant='t'}\n[[task]]\nname='a'\ncommand=['x']",
            "line 2: on_start: tenant is one for all tasks",
        ),
        (
            "name='w'\non_complete={command=['x'],restart='always'}\n[[task]]\nname='a'\ncommand=['x']",
            "line 2: on_complete: restart is for services",
        ),
        (
            "name='w'\non_start={command=['x'],name='n'}\n[[task]]\nname='a'\ncommand=['x']",
            "line 2: on_start: name belongs",
        ),
        ("name='w'\non_complete='x'\n[[task]]\nname='a'\ncommand=['x']", "line 2: on_complete is a command"),
        (
            "name='w'\non_complete={command=['x'],after=[1]}\n[[task]]\nname='a'\ncommand=['x']",
            "line 2: on_complete: it runs when all tasks",
        ),
        ("name = \n", "line 1: not TOML"),
    ] {
        let said = error(text);
        assert!(said.starts_with(told), "{text}\n{said}");
    }
}

#[test]
fn the_number_of_tasks_has_a_bound() {
    let task = |i: usize| json!({ "name": format!("t{i}"), "command": ["true"] });
    let of = |n: usize| json!({ "name": "w", "task": (0..n).map(task).collect::<Vec<_>>() });
    assert_eq!(Workflow::read(&of(MAX_TASKS).into()).unwrap().tasks.len(), MAX_TASKS);
    let flaw = Workflow::read(&of(MAX_TASKS + 1).into()).unwrap_err();
    assert_eq!(flaw.message, "10001 tasks, and at most 10000 are allowed");
    let all = |i: usize| {
        let needs: Vec<String> = (0..i).map(|n| format!("t{n}")).collect();
        json!({ "name": format!("t{i}"), "command": ["true"], "needs": needs })
    };
    let dense = json!({ "name": "w", "task": (0..500).map(all).collect::<Vec<_>>() });
    let flaw = Workflow::read(&dense.into()).unwrap_err();
    assert_eq!(flaw.message, "the tasks need each other more than 100000 times");
}

proptest! {
    /// Whatever the graph: the plan has each task once, after all it needs; or there is a circle, and it is one.
    #[test]
    fn a_plan_is_an_order_or_a_circle_is_shown(
        edges in prop::collection::vec((0usize..12, 0usize..12), 0..40),
        acyclic in any::<bool>(),
    ) {
        let mut needs: Vec<Vec<usize>> = vec![Vec::new(); 12];
        for (a, b) in edges {
            let (a, b) = if acyclic { (a.max(b), a.min(b)) } else { (a, b) };
            if a != b {
                needs[a].push(b);
            }
        }
        let name = |i: &usize| format!("t{i}");
        let task = |(i, n): (usize, &Vec<usize>)| {
            json!({ "name": name(&i), "command": ["x"], "needs": n.iter().map(name).collect::<Vec<_>>() })
        };
        let tasks: Vec<_> = needs.iter().enumerate().map(task).collect();
        match Workflow::read(&json!({ "name": "w", "task": tasks }).into()) {
            Ok(workflow) => {
                let plan = workflow.plan(None);
                let place: BTreeMap<&str, usize> = plan.iter().enumerate().map(|(i, p)| (p.task.as_str(), i)).collect();
                prop_assert_eq!(place.len(), 12);
                for (i, n) in needs.iter().enumerate() {
                    let own = place[name(&i).as_str()];
                    let wanted: std::collections::BTreeSet<usize> = n.iter().map(|n| place[name(n).as_str()]).collect();
                    prop_assert!(wanted.iter().all(|need| *need < own));
                    prop_assert_eq!(plan[own].edges.keys().copied().collect::<std::collections::BTreeSet<_>>(), wanted);
                }
            }
            Err(flaw) => {
                prop_assert!(!acyclic, "{}", flaw);
                let round = flaw.message.rsplit(": ").next().unwrap();
                let round: Vec<usize> = round.split(" → ").map(|t| t[1..].parse().unwrap()).collect();
                prop_assert!(round.len() > 2 && round.first() == round.last());
                prop_assert!(round.windows(2).all(|pair| needs[pair[0]].contains(&pair[1])));
            }
        }
    }
}
