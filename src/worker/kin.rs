//! Who is kin to whom in one census: by descent, group and session.

use std::collections::{HashMap, HashSet};

use super::census::{Census, Stat};
use super::leaders;
use super::tree::Process;

/// Members gathered from one census.
pub(super) struct Found<'a> {
    pub(super) census: &'a Census,
    pub(super) members: HashMap<i32, Stat>,
    /// Whether one ended before it could be told from a member.
    pub(super) unsure: bool,
    leaders: HashSet<i32>,
    spared: HashSet<i32>,
    pub(super) me: i32,
}

impl<'a> Found<'a> {
    /// `everywhere` spares the trees of this process's living attempts too, which a search by kinship never reaches.
    pub(super) fn new(census: &'a Census, everywhere: bool) -> Self {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let leaders = leaders::all();
        let mut found = Self {
            census,
            members: HashMap::new(),
            unsure: false,
            leaders: HashSet::new(),
            spared: HashSet::new(),
            me,
        };
        if everywhere {
            for leader in &leaders {
                found.descend(*leader);
            }
            found.spared = found.members.drain().map(|(pid, _)| pid).collect();
        }
        found.leaders = leaders;
        // A worker may itself run inside a job; it and those above it are never prey.
        let mut above = Some(me);
        while let Some(pid) = above {
            above = found.spared.insert(pid).then(|| census.get(pid).map(|stat| stat.parent)).flatten();
        }
        found
    }

    /// Adds a process and all below it.
    pub(super) fn descend(&mut self, pid: i32) {
        let mut todo = vec![pid];
        while let Some(pid) = todo.pop() {
            let Some(stat) = self.census.get(pid) else {
                continue;
            };
            if !self.spared.contains(&pid) && self.members.insert(pid, *stat).is_none() {
                todo.extend(self.census.children(pid));
            }
        }
    }

    /// Whether it is one of those that are never ended.
    pub(super) fn spares(&self, pid: i32) -> bool {
        self.spared.contains(&pid)
    }

    pub(super) fn is_adopted(&self, pid: i32, stat: &Stat) -> bool {
        stat.parent == self.me && !self.leaders.contains(&pid)
    }

    /// Adds those who share a group or session with a member, if it was made by a member; until nobody is new.
    pub(super) fn add_groups(&mut self, owned: &HashSet<i32>) {
        loop {
            let held: HashSet<i32> = self
                .members
                .values()
                .flat_map(|stat| [stat.group, stat.session])
                .filter(|id| owned.contains(id) || self.members.contains_key(id))
                .collect();
            let mates: Vec<i32> = self
                .census
                .iter()
                .filter(|(pid, stat)| {
                    let mate = held.contains(&stat.group) || held.contains(&stat.session);
                    mate && !self.members.contains_key(pid) && !self.spared.contains(pid)
                })
                .map(|(pid, _)| pid)
                .collect();
            if mates.is_empty() {
                return;
            }
            for pid in mates {
                self.descend(pid);
            }
        }
    }

    pub(super) fn living(&self) -> impl Iterator<Item = Process> {
        let alive = self.members.iter().filter(|(_, stat)| stat.alive());
        alive.map(|(pid, stat)| Process { pid: *pid, start_time: stat.start_time })
    }
}
