//! Runs: groups of jobs made together, and what the ends of their jobs mean for them (S19).

pub mod cancel;
mod follow;
mod handing;
pub mod replay;
mod start;
pub mod submit;
pub mod view;

pub(super) use self::cancel::cancel_run;
pub(super) use self::follow::{LOOKED_AT, follow, time_out};
pub(super) use self::handing::{begin, pending};
pub use self::start::Started;
pub(super) use self::start::{NewRun, check_payloads, existing, start};

use uuid::Uuid;

use super::Caller;
use crate::error::{Error, Result};
use crate::job::RunId;
use crate::job::ids::RunName;
use crate::store::{Run, RunFilter, Tx};

/// How many runs whose ids begin alike are looked at for a caller who may see some of them.
const MAX_ALIKE: usize = 256;

/// The run that one word names.
fn find(caller: &Caller, tx: &mut dyn Tx, name: &RunName) -> Result<Run> {
    let mine = RunFilter { tenant: caller.tenant.clone(), ..RunFilter::default() };
    let id = match name {
        RunName::Id(id) => Some(*id),
        RunName::Last => tx.runs(&mine, None, 1)?.pop().map(|run| run.id),
        RunName::Prefix(hex) => {
            let end = |fill| {
                let digits: String = hex.chars().chain(std::iter::repeat(fill)).take(32).collect();
                u128::from_str_radix(&digits, 16).map(|n| RunId(Uuid::from_u128(n)))
            };
            let bad = |_| Error::usage(format!("{hex:?} is not the start of an id"));
            let most = if caller.tenant.is_some() { MAX_ALIKE } else { 2 };
            let mut found = tx.find_runs(end('0').map_err(bad)?, end('f').map_err(bad)?, most)?;
            if caller.tenant.is_some() {
                let mut seen = Vec::new();
                for id in found {
                    seen.extend(tx.run(id)?.filter(|run| caller.sees(&run.tenant)).map(|run| run.id));
                }
                found = seen;
            }
            if found.len() > 1 {
                return Err(Error::usage(format!("{hex} is the start of several ids")).hint("use more of it"));
            }
            found.first().copied()
        }
    };
    let run = id.map(|id| tx.run(id)).transpose()?.flatten().filter(|run| caller.sees(&run.tenant));
    run.ok_or_else(|| match name {
        RunName::Last => Error::not_found("there is no run yet").hint("'orx workflow submit FILE' stores one"),
        name => Error::not_found(format!("no run {name}")).hint("'orx workflow list' shows what there is"),
    })
}
