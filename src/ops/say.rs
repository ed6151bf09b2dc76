//! What a running job says of itself: how far it is, and what it made (S35).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settle::{is_kept, reject_stale};
use super::tenancy::check_jobs;
use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Result};
use crate::job::spec::{MAX_NAME, MAX_PAYLOAD};
use crate::job::view::{Progress, Said};
use crate::job::{Fence, JsonText, WorkerKey};
use crate::store::{Topics, Tx};

/// Records what a running attempt says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Say {
    /// The worker that holds it.
    pub worker: WorkerKey,
    /// The attempt.
    pub fence: Fence,
    /// How far it is, 0…100, and a few words.
    pub progress: Option<(f64, Option<String>)>,
    /// What it made.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::job::json_text::present")]
    #[schemars(with = "Option<JsonText>")]
    pub result: Option<JsonText>,
    /// That was no JSON: it is a text, as a string.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub result_is_text: bool,
}

/// Whether it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// It was.
    Recorded,
    /// The fence is old: nothing was recorded.
    Stale,
}

impl Op for Say {
    type Reply = Heard;
    const NAME: &'static str = "say";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::WORK;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Heard> {
        check_jobs(caller, tx, &[self.fence.number])?;
        if !is_kept(tx, &self.worker.proof(), self.fence)? {
            reject_stale(tx, &[self.fence], Self::NAME)?;
            return Ok(Heard::Stale);
        }
        let at = tx.now();
        let progress = self.progress.as_ref().map(|(percent, text)| {
            let text = text.as_ref().map(|t| t.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect());
            Progress { percent: percent.clamp(0.0, 100.0), text, at }
        });
        if let Some(result) = &self.result {
            let text = result.string().filter(|_| self.result_is_text);
            if text.as_deref().unwrap_or(result.as_str()).len() > MAX_PAYLOAD {
                return Err(
                    Error::usage("the result is larger than 1 MiB").hint("store it in a file and give its path")
                );
            }
            if let Some(flaw) = result.flaw() {
                return Err(Error::usage(format!("the result {flaw}")).hint("a JSON string may hold any text"));
            }
        }
        let (result, result_is_text) = (self.result.clone(), self.result_is_text);
        tx.say(self.fence, &Said { progress, result, result_is_text })?;
        tx.wake(Topics::JOBS);
        Ok(Heard::Recorded)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Heard>> {
        // Saying the same again changes nothing.
        self.run(caller, tx).map(Some)
    }
}
