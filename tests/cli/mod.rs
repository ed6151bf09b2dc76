//! The real binary: what a person at a shell meets. The rules (S1…) are those of SEMANTICS.

mod bulk;
mod cancel;
mod completion;
mod config;
mod copying;
mod death;
mod dependencies;
mod drain;
mod enqueue;
mod environment;
mod events;
mod help;
mod list;
mod output;
mod postgres;
mod retry;
mod run;
mod schedules;
mod selectors;
mod signals;
mod status;
mod stores;
pub mod support;
mod tail;
mod wait;
mod worker;
mod workflow;
