//! Rows about tokens.

use uuid::Uuid;

use crate::time::Timestamp;

/// A token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id, which is no secret.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// The SHA-256 of its secret, in hexadecimal digits.
    pub hash: String,
    /// What it may do, as bits.
    pub scopes: u8,
    /// The only tenant it may touch; none: all.
    pub tenant: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
}
