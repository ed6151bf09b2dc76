//! The slots of a process: its own worker fills them first, and workers for others get what it leaves.

use std::sync::Arc;

use tokio::sync::watch;

use crate::job::WorkerId;

/// The slots that several workers of one process share.
#[derive(Debug)]
pub struct Slots {
    total: u32,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Slots with a job, or for which one is asked.
    used: u32,
    /// Slots whose job runs.
    running: u32,
    /// The process's own worker may find work, so nobody else gets a slot.
    wanted: bool,
    /// The process's own worker has begun to end, or has ended: nobody takes slots any more.
    closed: bool,
    /// The only guest that may take slots now.
    turn: Option<Turn>,
    turns: u64,
    /// The last guest whose turn ended because it found no more, and whether it had found anything.
    done: Option<(WorkerId, bool)>,
}

/// The right of one guest to take slots.
#[derive(Clone, Copy, Debug)]
struct Turn {
    guest: WorkerId,
    number: u64,
    /// It has found something.
    found: bool,
}

impl Slots {
    /// So many slots, all free.
    pub fn new(total: u32) -> Arc<Self> {
        let state = State { wanted: true, ..State::default() };
        Arc::new(Self { total, state: watch::Sender::new(state) })
    }

    /// How many there are.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Those that are free, whoever may take them.
    pub fn free(&self) -> u32 {
        self.total.saturating_sub(self.state.borrow().used)
    }

    /// Those whose job runs.
    pub fn running(&self) -> u32 {
        self.state.borrow().running
    }

    /// Those that are free and that the process's own worker has no use for.
    pub fn spare(&self) -> u32 {
        let state = *self.state.borrow();
        if state.wanted || state.closed { 0 } else { self.total.saturating_sub(state.used) }
    }

    /// Whether the process's own worker takes no more, so that its guests are to end too.
    pub fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// Hears of all that changes.
    pub fn changes(&self) -> SlotChanges {
        SlotChanges(self.state.subscribe())
    }

    /// Lets `guest` take spare slots, and no other, until it finds nothing more or another's turn comes.
    pub fn give_turn(&self, guest: WorkerId) {
        self.state.send_modify(|state| {
            state.turns += 1;
            state.turn = Some(Turn { guest, number: state.turns, found: false });
        });
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Option<WorkerId> {
        self.state.borrow().turn.map(|turn| turn.guest)
    }

    /// The guest whose turn ended because it found no more, and whether it had found anything; told once.
    pub fn done(&self) -> Option<(WorkerId, bool)> {
        let mut done = None;
        self.state.send_if_modified(|state| {
            done = state.done.take();
            false
        });
        done
    }

    /// The place of the process's own worker.
    pub fn own(self: &Arc<Self>) -> Seat {
        Seat { slots: Arc::clone(self), changes: self.state.subscribe(), guest: None, seen: 0, held: 0, running: 0 }
    }

    /// The place of a worker for somebody else's queue.
    pub fn guest(self: &Arc<Self>, guest: WorkerId) -> Seat {
        Seat {
            slots: Arc::clone(self),
            changes: self.state.subscribe(),
            guest: Some(guest),
            seen: 0,
            held: 0,
            running: 0,
        }
    }
}

/// Hears of changes of slots.
pub struct SlotChanges(watch::Receiver<State>);

impl SlotChanges {
    /// Waits for the next change.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await // they are gone, and change no more
        }
    }
}

/// One worker's place at the slots. What it holds it gives back when it goes.
pub struct Seat {
    slots: Arc<Slots>,
    changes: watch::Receiver<State>,
    guest: Option<WorkerId>,
    /// The last turn that it has heard of.
    seen: u64,
    /// The slots that it has.
    held: u32,
    /// Those of them whose job runs.
    running: u32,
}

impl Seat {
    /// Whether it is a guest's.
    pub(super) fn is_guest(&self) -> bool {
        self.guest.is_some()
    }

    /// Whether it may take slots, as long as there are any.
    pub(super) fn may_take(&self) -> bool {
        self.guest.is_none() || self.has_turn(&self.slots.state.borrow())
    }

    fn has_turn(&self, state: &State) -> bool {
        state.turn.is_some_and(|turn| Some(turn.guest) == self.guest)
    }

    /// Takes all that it may, `most` of them.
    pub(super) fn take(&mut self, most: u32) -> u32 {
        let mut taken = 0;
        self.slots.state.send_if_modified(|state| {
            if self.guest.is_some() && (state.wanted || state.closed || !self.has_turn(state)) {
                return false;
            }
            taken = self.slots.total.saturating_sub(state.used).min(most);
            state.used += taken;
            taken > 0
        });
        self.held += taken;
        taken
    }

    /// Of `asked` slots that were taken `filled` are in use now: more than were asked for after a lost answer.
    pub(super) fn filled(&mut self, asked: u32, filled: u32) {
        self.held = (self.held + filled).saturating_sub(asked);
        let guest = self.guest;
        self.slots.state.send_if_modified(|state| {
            if let Some(turn) = &mut state.turn
                && Some(turn.guest) == guest
                && filled > 0
            {
                turn.found = true;
            }
            state.used = (state.used + filled).saturating_sub(asked);
            asked != filled
        });
    }

    /// Gives slots back.
    pub(super) fn give_back(&mut self, count: u32) {
        self.filled(count, 0);
    }

    /// Says how many jobs it runs.
    pub(super) fn runs(&mut self, running: u32) {
        let before = std::mem::replace(&mut self.running, running);
        self.slots.state.send_if_modified(|state| {
            state.running = (state.running + running).saturating_sub(before);
            before != running
        });
    }

    /// Says whether it may find work. A guest that does not loses its turn.
    pub(crate) fn hope(&self, hopes: bool) {
        self.slots.state.send_if_modified(|state| match self.guest {
            None => std::mem::replace(&mut state.wanted, hopes) != hopes,
            Some(_) if !hopes && self.has_turn(state) => {
                state.done = state.turn.take().map(|turn| (turn.guest, turn.found));
                true
            }
            Some(_) => false,
        });
    }

    /// Takes no more. With the process's own worker its guests end.
    pub(super) fn close(&self) {
        if self.guest.is_none() {
            self.slots.state.send_if_modified(|state| !std::mem::replace(&mut state.closed, true));
        }
    }

    /// Whether a turn has begun that it had not heard of: others know of work for it.
    pub(super) fn is_called(&mut self) -> bool {
        let turn = self.slots.state.borrow().turn;
        let new = turn.filter(|turn| Some(turn.guest) == self.guest && turn.number > self.seen);
        self.seen = new.map_or(self.seen, |turn| turn.number);
        new.is_some()
    }

    /// Waits for the next change of the slots.
    pub(super) async fn changed(&mut self) {
        let _ = self.changes.changed().await; // the slots live as long as this does
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.runs(0);
        self.give_back(self.held);
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> WorkerId {
        WorkerId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn the_own_worker_comes_first_and_guests_get_what_it_leaves() {
        let slots = Slots::new(4);
        let (mut own, mut guest) = (slots.own(), slots.guest(id(1)));
        slots.give_turn(id(1));
        assert_eq!((guest.take(u32::MAX), slots.spare()), (0, 0), "the own worker has not looked yet");
        assert_eq!(own.take(u32::MAX), 4);
        own.filled(4, 1);
        assert_eq!(guest.take(u32::MAX), 0, "it got some, so it hopes for more");
        own.hope(false);
        assert_eq!((slots.spare(), guest.take(u32::MAX), guest.take(u32::MAX)), (3, 3, 0));
        guest.filled(3, 2);
        own.hope(true);
        assert_eq!((guest.take(u32::MAX), own.take(u32::MAX)), (0, 1));
    }

    #[test]
    fn nobody_takes_more_when_the_own_worker_begins_to_end() {
        let slots = Slots::new(4);
        let (own, mut guest) = (slots.own(), slots.guest(id(1)));
        own.hope(false);
        slots.give_turn(id(1));
        assert_eq!(guest.take(u32::MAX), 4);
        guest.filled(4, 2);
        guest.close(); // is for guests no more than their own end
        assert_eq!((slots.is_closed(), slots.spare()), (false, 2));
        own.close();
        assert_eq!((slots.is_closed(), slots.spare(), guest.take(u32::MAX)), (true, 0, 0));
        let other = Slots::new(1);
        drop(other.own());
        assert!(other.is_closed(), "it has failed");
    }

    #[test]
    fn only_the_guest_takes_whose_turn_it_is() {
        let slots = Slots::new(2);
        let (own, mut a, mut b) = (slots.own(), slots.guest(id(1)), slots.guest(id(2)));
        own.hope(false);
        assert_eq!((a.take(u32::MAX), b.take(u32::MAX)), (0, 0));
        slots.give_turn(id(1));
        assert!(a.is_called() && !a.is_called() && a.may_take() && !b.may_take());
        assert_eq!((b.take(u32::MAX), a.take(u32::MAX)), (0, 2));
        a.give_back(2);
        b.hope(false); // it is not its turn to lose
        assert_eq!(slots.turn(), Some(id(1)));
        a.hope(false);
        assert_eq!((slots.turn(), a.take(u32::MAX)), (None, 0));
        assert_eq!((slots.done(), slots.done()), (Some((id(1), false)), None));
        slots.give_turn(id(1));
        assert!(a.is_called());
        assert_eq!(a.take(u32::MAX), 2);
        a.filled(2, 1);
        a.hope(false);
        assert_eq!(slots.done(), Some((id(1), true)));
    }

    #[test]
    fn an_answer_that_brings_more_than_was_asked_for_overfills_and_mends() {
        let slots = Slots::new(2);
        let mut own = slots.own();
        assert_eq!(own.take(u32::MAX), 2);
        own.filled(2, 3);
        assert_eq!((slots.free(), own.take(u32::MAX)), (0, 0));
        own.give_back(2);
        assert_eq!(own.take(u32::MAX), 1);
        own.runs(1);
        assert_eq!(slots.running(), 1);
        drop(own);
        assert_eq!((slots.free(), slots.running()), (2, 0), "who goes gives back what it held");
    }
}
