//! Tokens in tables.

use super::words::relative;
use super::{Row, Text, Tone};
use crate::ops::tokens::TokenView;
use crate::time::Timestamp;

impl Row for TokenView {
    const HEADERS: &'static [&'static str] = &["TOKEN", "ID", "SCOPES", "TENANT", "AGE", "BY", "EXPIRES", "STATE"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Text> {
        let state = match (self.valid, self.revoked_at) {
            (true, _) => Text::toned("valid", Tone::Good),
            (false, Some(_)) => Text::dim("revoked"),
            (false, None) => Text::dim("expired"),
        };
        vec![
            Text::new(&self.name),
            Text::dim(self.id.to_string()),
            Text::new(self.scopes.to_string()),
            Text::new(self.tenant.as_deref().unwrap_or("all")),
            Text::dim(relative(self.created_at, now)),
            Text::dim(&self.created_by),
            Text::dim(self.expires_at.map_or_else(|| "never".into(), |at| relative(at, now))),
            state,
        ]
    }
}
