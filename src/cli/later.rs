//! Commands whose options are only made when they are asked for.

use std::cell::Cell;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::{ArgMatches, Args, Command, FromArgMatches, Id};

/// The options of a command, made when that command is named: those of all commands together cost every call more than
/// half a millisecond.
///
/// What the list of commands shows of it stands beside it there, as `T` is not looked at for it.
pub(super) struct Later<T>(pub(super) T);

thread_local! {
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// What `make` makes has all options of all commands, as manual pages need it.
pub(super) fn at_once<T>(make: impl FnOnce() -> T) -> T {
    AT_ONCE.set(true);
    let made = make();
    AT_ONCE.set(false);
    made
}

/// `orx help COMMAND` as what it stands for, `orx COMMAND --help`.
pub(super) fn spelled(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "help") {
        words.remove(1);
        words.push("--help".into());
    }
    words
}

impl<T: Args> Args for Later<T> {
    fn augment_args(command: Command) -> Command {
        let augment = |command| keeping_about(command, T::augment_args);
        if AT_ONCE.get() { augment(command) } else { command.defer(augment) }
    }

    fn augment_args_for_update(command: Command) -> Command {
        command.defer(|command| keeping_about(command, T::augment_args_for_update))
    }

    fn group_id() -> Option<Id> {
        T::group_id()
    }
}

/// Options that others share bring a description of themselves along, which is none of the command.
fn keeping_about(command: Command, augment: fn(Command) -> Command) -> Command {
    let (about, long_about) = (command.get_about().cloned(), command.get_long_about().cloned());
    augment(command).about(Resettable::from(about)).long_about(Resettable::from(long_about))
}

impl<T: FromArgMatches> FromArgMatches for Later<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }

    fn update_from_arg_matches_mut(&mut self, matches: &mut ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches_mut(matches)
    }
}
