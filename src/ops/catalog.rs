//! Every Op that can be asked of a coordinator, so that routes, OpenAPI, clients and tests need no list of their own.
//!
//! What only a process that has the store open does is not among them, whoever asks: leading and the upkeep that follows
//! from it, firing schedules, saying that a coordinator is there.

use super::{
    Op, append_output, cancel, dead_letters, enqueue, events, heartbeat, holdings, jobs, lease, metrics, nodes, output,
    outstanding, policies, prune, quarantine, register, renew, results, retention, retry, runs, say, schedules, select,
    settle, sharing, status, tokens, turn, why, workers,
};

/// Something that is done with each Op, whatever its type.
pub trait Visitor {
    /// Does it with `O`.
    fn op<O: Op>(&mut self);
}

/// Shows `visitor` every Op.
pub fn each(visitor: &mut impl Visitor) {
    visitor.op::<append_output::AppendOutput>();
    visitor.op::<cancel::Cancel>();
    visitor.op::<dead_letters::DiscardLetters>();
    visitor.op::<dead_letters::GroupLetters>();
    visitor.op::<dead_letters::ListLetters>();
    visitor.op::<enqueue::Enqueue>();
    visitor.op::<events::ReadEvents>();
    visitor.op::<heartbeat::Heartbeat>();
    visitor.op::<holdings::ListHoldings>();
    visitor.op::<jobs::GetJobs>();
    visitor.op::<jobs::ListJobs>();
    visitor.op::<lease::Lease>();
    visitor.op::<metrics::Measure>();
    visitor.op::<nodes::DrainNode>();
    visitor.op::<nodes::ListNodes>();
    visitor.op::<outstanding::Outstanding>();
    visitor.op::<output::ReadOutput>();
    visitor.op::<policies::ListPolicies>();
    visitor.op::<policies::PauseQueue>();
    visitor.op::<policies::SetLimit>();
    visitor.op::<policies::SetQueue>();
    visitor.op::<policies::SetTenant>();
    visitor.op::<prune::DropOutput>();
    visitor.op::<prune::Prunable>();
    visitor.op::<prune::Prune>();
    visitor.op::<prune::PruneKeys>();
    visitor.op::<prune::PruneLedger>();
    visitor.op::<quarantine::GetQuarantine>();
    visitor.op::<quarantine::ResumeQuarantine>();
    visitor.op::<register::Deregister>();
    visitor.op::<register::Register>();
    visitor.op::<renew::Renew>();
    visitor.op::<results::GetResult>();
    visitor.op::<retention::GetRetention>();
    visitor.op::<retention::SetRetention>();
    visitor.op::<retry::Retry>();
    visitor.op::<runs::cancel::CancelRun>();
    visitor.op::<runs::view::GetRun>();
    visitor.op::<runs::view::ListRuns>();
    visitor.op::<runs::replay::ReplayRun>();
    visitor.op::<runs::submit::SubmitRun>();
    visitor.op::<say::Say>();
    visitor.op::<schedules::change::AddSchedule>();
    visitor.op::<schedules::backfill::Backfill>();
    visitor.op::<schedules::look::History>();
    visitor.op::<schedules::look::ListSchedules>();
    visitor.op::<schedules::life::PauseSchedule>();
    visitor.op::<schedules::life::RemoveSchedule>();
    visitor.op::<schedules::look::ShowSchedule>();
    visitor.op::<schedules::trigger::Trigger>();
    visitor.op::<schedules::change::UpdateSchedule>();
    visitor.op::<select::Select>();
    visitor.op::<settle::Settle>();
    visitor.op::<sharing::ListHomes>();
    visitor.op::<sharing::ListWaiting>();
    visitor.op::<sharing::ShareQueue>();
    visitor.op::<status::Status>();
    visitor.op::<tokens::CreateToken>();
    visitor.op::<tokens::ListTokens>();
    visitor.op::<tokens::RevokeToken>();
    visitor.op::<turn::Turn>();
    visitor.op::<why::Why>();
    visitor.op::<why::WhySchedule>();
    visitor.op::<workers::DrainWorker>();
    visitor.op::<workers::ListWorkers>();
}
