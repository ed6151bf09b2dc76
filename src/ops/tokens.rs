//! Tokens: who may call a coordinator. A secret never reaches the store: its hash does.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::job::EventKind;
use crate::job::spec::word;
use crate::store::{NewEvent, TokenRow, Tx};
use crate::time::{Span, Timestamp};

/// What a token begins with, so that people and scanners know one when they see it.
const PREFIX: &str = "orx_";
/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// A token as its owner has it: `orx_ID_SECRET`.
#[derive(Clone)]
pub struct Token {
    /// Its id, which is no secret.
    pub id: Uuid,
    secret: [u8; 32],
}

impl Token {
    /// A token of 256 bits of chance.
    pub fn new(id: Uuid, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// What the store may know of the secret.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.secret))
    }

    /// The text that its owner keeps.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id.simple(), URL_SAFE_NO_PAD.encode(self.secret))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, …)", self.id)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::usage("this is no token").hint("a token begins with orx_");
        let (id, secret) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or_else(bad)?;
        let secret = URL_SAFE_NO_PAD.decode(secret).ok().and_then(|s| s.try_into().ok()).ok_or_else(bad)?;
        Ok(Self { id: Uuid::parse_str(id).map_err(|_| bad())?, secret })
    }
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the words are those of docs/reference/json.md
pub struct TokenView {
    pub id: Uuid,
    pub name: String,
    pub scopes: Scopes,
    /// The only tenant it may touch; none: all.
    pub tenant: Option<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// Whether it opens anything now.
    pub valid: bool,
}

fn is_valid(row: &TokenRow, now: Timestamp) -> bool {
    row.revoked_at.is_none() && row.expires_at.is_none_or(|at| at > now)
}

fn view(row: TokenRow, now: Timestamp) -> TokenView {
    let valid = is_valid(&row, now);
    let TokenRow { id, name, scopes, tenant, created_at, created_by, expires_at, revoked_at, .. } = row;
    TokenView { id, name, scopes: Scopes(scopes), tenant, created_at, created_by, expires_at, revoked_at, valid }
}

/// Makes a token.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CreateToken {
    /// Its id.
    pub id: Uuid,
    /// The SHA-256 of its secret, in hexadecimal digits.
    pub hash: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The only tenant it may touch; none: all.
    pub tenant: Option<String>,
    /// How long it is worth something; none: until it is revoked.
    pub expires_in: Option<Span>,
}

impl Op for CreateToken {
    type Reply = TokenView;
    const NAME: &'static str = "create_token";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;

    fn scopes(&self) -> Scopes {
        // Nobody gives away what they do not have.
        Self::SCOPES.and(self.scopes)
    }

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<TokenView> {
        if self.name.is_empty() || self.name.len() > MAX_NAME || self.name.chars().any(char::is_control) {
            return Err(Error::usage(format!("a token's name has 1 to {MAX_NAME} bytes")));
        }
        if self.hash.len() != 64 || !self.hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::usage("the hash is not the 64 hexadecimal digits of a SHA-256"));
        }
        if self.scopes == Scopes::NONE {
            return Err(Error::usage("a token without scopes opens nothing").hint(format!("there are {}", Scopes::ALL)));
        }
        word("tenant", self.tenant.as_deref())?;
        if caller.tenant.is_some() && caller.tenant != self.tenant {
            return Err(Error::new(Kind::Denied, "a token of one tenant makes tokens of that tenant only"));
        }
        if tx.token(self.id)?.is_some() {
            return Err(Error::conflict(format!("there is a token {} already", self.id)));
        }
        let now = tx.now();
        let row = TokenRow {
            id: self.id,
            name: self.name.clone(),
            hash: self.hash.to_ascii_lowercase(),
            scopes: self.scopes.0,
            tenant: self.tenant.clone(),
            created_at: now,
            created_by: caller.actor.clone(),
            expires_at: self.expires_in.map(|after| now.plus(after)),
            revoked_at: None,
        };
        tx.add_token(&row)?;
        tell(tx, caller, EventKind::TokenCreated, &row)?;
        Ok(view(row, now))
    }

    fn check(&self) -> String {
        "orx token list".into()
    }

    fn reread(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<TokenView>> {
        let now = tx.now();
        Ok(tx.token(self.id)?.filter(|row| row.hash.eq_ignore_ascii_case(&self.hash)).map(|row| view(row, now)))
    }
}

fn tell(tx: &mut dyn Tx, caller: &Caller, kind: EventKind, row: &TokenRow) -> Result<()> {
    let data = json!({ "token": row.id, "name": row.name, "scopes": Scopes(row.scopes), "tenant": row.tenant });
    tx.append(&[NewEvent { actor: Some(&caller.actor), data, ..NewEvent::of(kind) }])
}

/// The tokens that the caller may see.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListTokens {}

impl Op for ListTokens {
    type Reply = Vec<TokenView>;
    const NAME: &'static str = "list_tokens";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::ADMIN;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let now = tx.now();
        let seen = tx.tokens()?.into_iter().filter(|row| is_seen(caller, row));
        Ok(seen.map(|row| view(row, now)).collect())
    }
}

fn is_seen(caller: &Caller, row: &TokenRow) -> bool {
    caller.tenant.is_none() || caller.tenant == row.tenant
}

/// Ends a token.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevokeToken {
    /// Its id, or its name where only one valid token has it.
    pub token: String,
}

impl Op for RevokeToken {
    type Reply = TokenView;
    const NAME: &'static str = "revoke_token";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<TokenView> {
        let now = tx.now();
        let mut found = self.find(caller, tx)?;
        if found.len() > 1 {
            found.retain(|row| is_valid(row, now));
        }
        let row = match found.as_slice() {
            [row] => row.clone(),
            [] => return Err(Error::not_found(format!("there is no token {}", self.token))),
            _ => return Err(Error::usage(format!("several tokens are named {}", self.token)).hint("use the id")),
        };
        if row.revoked_at.is_none() {
            tx.revoke_token(row.id, now)?;
            tell(tx, caller, EventKind::TokenRevoked, &row)?;
        }
        Ok(view(TokenRow { revoked_at: row.revoked_at.or(Some(now)), ..row }, now))
    }

    fn check(&self) -> String {
        "orx token list".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<TokenView>> {
        let now = tx.now();
        let found = self.find(caller, tx)?;
        if found.iter().any(|row| is_valid(row, now)) {
            return Ok(None); // it is not this one that was revoked
        }
        let revoked = found.into_iter().filter(|row| row.revoked_at.is_some());
        Ok(revoked.max_by_key(|row| row.revoked_at).map(|row| view(row, now)))
    }
}

impl RevokeToken {
    fn find(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<TokenRow>> {
        let id = Uuid::parse_str(&self.token).ok();
        let is_meant = |row: &TokenRow| Some(row.id) == id || row.name == self.token;
        Ok(tx.tokens()?.into_iter().filter(|row| is_seen(caller, row) && is_meant(row)).collect())
    }
}

/// Looks whose token was shown. It is no route: only a coordinator asks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Authenticate {
    id: Uuid,
    hash: String,
}

impl Authenticate {
    /// Asks whether `token` opens anything.
    pub fn of(token: &Token) -> Self {
        Self { id: token.id, hash: token.hash() }
    }
}

impl Op for Authenticate {
    type Reply = Option<TokenView>;
    const NAME: &'static str = "authenticate";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let now = tx.now();
        let found = tx.token(self.id)?.filter(|row| bool::from(row.hash.as_bytes().ct_eq(self.hash.as_bytes())));
        Ok(found.map(|row| view(row, now)).filter(|token| token.valid))
    }
}

/// Records that a token was refused something.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Denied {
    /// What it asked for.
    pub op: String,
    /// What it lacks.
    pub needs: Scopes,
}

impl Op for Denied {
    type Reply = ();
    const NAME: &'static str = "denied";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::NONE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        let data = json!({ "op": self.op, "needs": self.needs });
        tx.append(&[NewEvent { actor: Some(&caller.actor), data, ..NewEvent::of(EventKind::CallDenied) }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_shows_no_secret() {
        let token = Token::new(Uuid::from_u128(7), [0xfb; 32]);
        let text = token.reveal();
        let back: Token = text.parse().unwrap();
        assert_eq!((back.id, back.hash()), (token.id, token.hash()));
        assert!(!format!("{token:?}").contains(&text[37..]));
        for bad in ["", "orx_", "orx__", "orx_7_x", &text[..text.len() - 1], &text[4..], &format!("{text}AAAA")] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
