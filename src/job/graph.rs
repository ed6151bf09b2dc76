//! From a workflow to the jobs of a run and the edges between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use super::JobSpec;
use super::spec::Until;
use super::workflow::{Flaw, Mode, ON_COMPLETE, ON_START, Place, Workflow};

/// A job that a run is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its task.
    pub task: String,
    /// It runs however those that it needs ended, and whatever becomes of the run.
    pub always: bool,
    /// What it does.
    pub spec: JobSpec,
    /// What it waits for: places in the plan.
    pub edges: BTreeMap<usize, Until>,
    /// What it waits for that this run does not do again: tasks of the run that it replays.
    pub inherited: Vec<(String, Until)>,
}

impl Planned {
    /// Whether it waits for no other job of the run.
    pub fn is_first(&self) -> bool {
        self.edges.is_empty()
    }
}

impl Workflow {
    /// All its jobs with the names of their tasks, hooks last.
    pub fn jobs(&self) -> impl Iterator<Item = (&str, &JobSpec)> {
        let hooks = [(ON_START, &self.on_start), (ON_COMPLETE, &self.on_complete)];
        let hooks = hooks.into_iter().filter_map(|(name, spec)| Some((name, spec.as_ref()?)));
        self.tasks.iter().map(|task| (task.name.as_str(), &task.spec)).chain(hooks)
    }

    /// The places of the tasks, each after those that it needs, otherwise as in the file.
    ///
    /// # Errors
    /// A cycle, with the place of one of its tasks.
    pub fn order(&self) -> Result<Vec<usize>, Flaw> {
        let mut open: Vec<usize> = self.tasks.iter().map(|task| task.needs.len()).collect();
        let dependants = self.dependants();
        let ready = open.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| Reverse(i));
        let mut ready: BinaryHeap<Reverse<usize>> = ready.collect();
        let mut order = Vec::with_capacity(self.tasks.len());
        while let Some(Reverse(i)) = ready.pop() {
            order.push(i);
            for next in &dependants[i] {
                open[*next] -= 1;
                if open[*next] == 0 {
                    ready.push(Reverse(*next));
                }
            }
        }
        match order.len() == self.tasks.len() {
            true => Ok(order),
            false => Err(self.cycle(&open)),
        }
    }

    /// Those that need each task.
    fn dependants(&self) -> Vec<Vec<usize>> {
        let mut dependants = vec![Vec::new(); self.tasks.len()];
        for (i, task) in self.tasks.iter().enumerate() {
            for need in &task.needs {
                dependants[*need].push(i);
            }
        }
        dependants
    }

    /// Walks from need to need among those that can never start, until it comes to one that it has seen.
    fn cycle(&self, open: &[usize]) -> Flaw {
        let stuck = |i: &usize| open[*i] > 0;
        let mut walk: Vec<usize> = (0..open.len()).find(|i| stuck(i)).into_iter().collect();
        let from = loop {
            let here = walk.last().copied().unwrap_or_default();
            let Some(next) = self.tasks[here].needs.iter().copied().find(|i| stuck(i)) else { break 0 };
            if let Some(from) = walk.iter().position(|i| *i == next) {
                break from;
            }
            walk.push(next);
        };
        let round: Vec<&str> =
            walk[from..].iter().chain(walk.get(from)).map(|i| self.tasks[*i].name.as_str()).collect();
        Flaw {
            place: Place { task: walk.get(from).copied(), key: "needs".into() },
            message: format!("tasks need each other in a circle: {}", round.join(" → ")),
        }
    }

    /// `from` and all tasks that need them, however far.
    pub fn downstream<'a>(&'a self, from: impl IntoIterator<Item = &'a str>) -> HashSet<&'a str> {
        let places: HashMap<&str, usize> = self.tasks.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let dependants = self.dependants();
        let mut open: Vec<usize> = from.into_iter().filter_map(|name| places.get(name).copied()).collect();
        let mut found = HashSet::new();
        while let Some(i) = open.pop() {
            if found.insert(self.tasks[i].name.as_str()) {
                open.extend(&dependants[i]);
            }
        }
        found
    }

    /// The jobs of a run, each after those that it waits for. `only`: these tasks; others were done by an earlier run.
    pub fn plan(&self, only: Option<&HashSet<&str>>) -> Vec<Planned> {
        let mut jobs = Vec::with_capacity(self.tasks.len() + 1);
        let start = self.on_start.as_ref().map(|spec| {
            jobs.push(Planned {
                task: ON_START.into(),
                always: false,
                spec: spec.clone(),
                edges: BTreeMap::new(),
                inherited: Vec::new(),
            });
            0
        });
        let mut places: Vec<Option<usize>> = vec![None; self.tasks.len()];
        let mut last = None;
        // A workflow without an order is refused when it is read.
        for i in self.order().unwrap_or_default() {
            let task = &self.tasks[i];
            if only.is_some_and(|only| !only.contains(task.name.as_str())) {
                continue;
            }
            let until = if task.always { Until::Ended } else { Until::Done };
            let mut edges: BTreeMap<usize, Until> =
                task.needs.iter().filter_map(|n| Some((places[*n]?, until))).collect();
            let missing = task.needs.iter().filter(|n| places[**n].is_none());
            let inherited = missing.map(|n| (self.tasks[*n].name.clone(), until)).collect();
            if let (Some(start), true) = (start, edges.is_empty()) {
                edges.insert(start, until);
            }
            if let (Mode::Sequential, Some(last)) = (self.mode, last) {
                edges.entry(last).or_insert(Until::Ended);
            }
            places[i] = Some(jobs.len());
            last = Some(jobs.len());
            let (task, always, spec) = (task.name.clone(), task.always, task.spec.clone());
            jobs.push(Planned { task, always, spec, edges, inherited });
        }
        jobs
    }
}
