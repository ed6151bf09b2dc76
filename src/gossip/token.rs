//! Tokens by which nodes know each other over HTTP: each follows from the cluster key, so nobody hands any out.

use snow::params::HashChoice;
use snow::resolvers::{CryptoResolver as _, DefaultResolver};
use subtle::ConstantTimeEq as _;

use super::hello::is_id;
use super::key::{ClusterKey, KeyRing};
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::time::Timestamp;

/// What a node's token begins with; other tokens begin with `orx_`.
pub const NODE_TOKEN: &str = "orxnode_";
/// What it is that is authenticated, so that the key makes nothing here that it makes elsewhere.
const PURPOSE: &[u8] = b"orx node token 1\0";
/// The same of tokens that end.
const PURPOSE_UNTIL: &[u8] = b"orx node token until 1\0";
/// Bytes of a code.
const CODE: usize = 32;

/// Why a token is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worthless {
    /// It does not look like one.
    NoToken,
    /// It was not made for this node from a key that is good.
    Unknown,
    /// It was good once.
    Expired,
    /// It is of this node, which is banned.
    Banned(String),
}

impl KeyRing {
    /// The token by which the node `from` is known to the node `to`.
    ///
    /// # Errors
    /// When there is no way to compute it here.
    pub fn token(&self, label: &str, from: &str, to: &str) -> Result<String> {
        let code = code(self.current(), label, from, to, None)?;
        Ok(format!("{NODE_TOKEN}{from}_{}", hex(&code)))
    }

    /// As [`KeyRing::token`], for a process of the node `from` that does not hold the key: good before `until`, by the clock
    /// of the node `to`.
    ///
    /// # Errors
    /// When there is no way to compute it here.
    pub fn token_until(&self, label: &str, from: &str, to: &str, until: Timestamp) -> Result<String> {
        let code = code(self.current(), label, from, to, Some(until))?;
        Ok(format!("{NODE_TOKEN}{from}_{}.{}", until.0, hex(&code)))
    }

    /// The id of the node whose token it is, if it was made for the node `to` from any key that is good, and is good `now`.
    ///
    /// # Errors
    /// Why it is worth nothing.
    pub fn node_of(&self, label: &str, token: &str, to: &str, now: Timestamp) -> Result<String, Worthless> {
        let (from, given) =
            token.strip_prefix(NODE_TOKEN).and_then(|rest| rest.rsplit_once('_')).ok_or(Worthless::NoToken)?;
        let (until, given) = match given.split_once('.') {
            Some((until, given)) => (Some(Timestamp(until.parse().map_err(|_| Worthless::NoToken)?)), given),
            None => (None, given),
        };
        if !is_id(from) || given.len() != 2 * CODE || !given.is_ascii() {
            return Err(Worthless::NoToken);
        }
        let byte = |n: usize| u8::from_str_radix(&given[2 * n..2 * n + 2], 16);
        let given: Vec<u8> = (0..CODE).map(byte).collect::<Result<_, _>>().map_err(|_| Worthless::NoToken)?;
        let fits =
            |key: &ClusterKey| code(key, label, from, to, until).is_ok_and(|good| bool::from(good.ct_eq(&given)));
        match self.keys().iter().any(fits) {
            false => Err(Worthless::Unknown),
            true if self.bans(from) => Err(Worthless::Banned(from.into())),
            true if until.is_some_and(|until| until <= now) => Err(Worthless::Expired),
            true => Ok(from.into()),
        }
    }
}

/// HMAC-BLAKE2s of who shows it to whom in which cluster, and until when; no part can hold a zero byte but the label, which
/// comes last.
fn code(key: &ClusterKey, label: &str, from: &str, to: &str, until: Option<Timestamp>) -> Result<[u8; CODE]> {
    let hash = DefaultResolver.resolve_hash(&HashChoice::Blake2s);
    let mut hash = hash.ok_or_else(|| Error::failed("there is no BLAKE2s here"))?;
    let purpose = match until {
        None => PURPOSE.to_vec(),
        Some(until) => [PURPOSE_UNTIL, until.0.to_string().as_bytes(), b"\0"].concat(),
    };
    let said = [&purpose, from.as_bytes(), b"\0", to.as_bytes(), b"\0", label.as_bytes()].concat();
    let mut code = [0; CODE];
    hash.hmac(key.bytes(), &said, &mut code);
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn ring() -> KeyRing {
        KeyRing::of(ClusterKey::generate().unwrap())
    }

    #[test]
    fn a_token_says_who_shows_it_and_only_to_whom_it_was_made_for() {
        let ring = ring();
        let token = ring.token("test", "front_1", "back").unwrap();
        assert!(token.starts_with("orxnode_front_1_"));
        assert_eq!(ring.node_of("test", &token, "back", NOW), Ok("front_1".into()));
        assert_eq!(ring.node_of("test", &token, "other", NOW), Err(Worthless::Unknown));
        assert_eq!(ring.node_of("production", &token, "back", NOW), Err(Worthless::Unknown));
        assert_eq!(ring.node_of("test", &token.replace("front_1", "front_2"), "back", NOW), Err(Worthless::Unknown));
        assert_ne!(token, ring.token("test", "front_1", "front_1").unwrap());
        let swapped = ring.token("test", "back", "front_1").unwrap();
        assert_ne!(token.rsplit_once('_').unwrap().1, swapped.rsplit_once('_').unwrap().1);
    }

    #[test]
    fn both_keys_are_good_during_a_rotation_and_the_dropped_one_is_not() {
        let old = ring();
        let new = old.rotated(ClusterKey::generate().unwrap());
        let newest = new.rotated(ClusterKey::generate().unwrap());
        let token = |ring: &KeyRing| ring.token("test", "a", "b").unwrap();
        assert_eq!(new.node_of("test", &token(&old), "b", NOW), Ok("a".into()));
        assert_eq!(new.node_of("test", &token(&new), "b", NOW), Ok("a".into()));
        assert_eq!(newest.node_of("test", &token(&old), "b", NOW), Err(Worthless::Unknown));
    }

    #[test]
    fn a_banned_node_is_told_apart_from_a_stranger() {
        let mut ring = ring();
        let token = ring.token("test", "a", "b").unwrap();
        ring.ban("a").unwrap();
        assert_eq!(ring.node_of("test", &token, "b", NOW), Err(Worthless::Banned("a".into())));
        assert_eq!(
            ring.node_of("test", &KeyRing::token(&self::ring(), "test", "a", "b").unwrap(), "b", NOW),
            Err(Worthless::Unknown)
        );
    }

    #[test]
    fn a_token_that_ends_is_good_until_then_and_cannot_be_made_to_last() {
        let ring = ring();
        let token = ring.token_until("test", "a_1", "b", Timestamp(2_000)).unwrap();
        let node_of = |token: &str, now: i64| ring.node_of("test", token, "b", Timestamp(now));
        assert_eq!((node_of(&token, 1_999), node_of(&token, -5)), (Ok("a_1".into()), Ok("a_1".into())));
        assert_eq!(node_of(&token, 2_000), Err(Worthless::Expired));
        assert_eq!(node_of(&token.replace("_2000.", "_9000."), 1), Err(Worthless::Unknown));
        assert_eq!(node_of(&token.replace("_2000.", "_"), 1), Err(Worthless::Unknown));
        assert_eq!(
            node_of(&ring.token("test", "a_1", "b").unwrap().replace("a_1_", "a_1_9000."), 1),
            Err(Worthless::Unknown)
        );
        assert_eq!(ring.node_of("test", &token, "c", NOW), Err(Worthless::Unknown));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let ring = ring();
        let good = ring.token("test", "a", "b").unwrap();
        let bad = [
            "".to_owned(),
            "orxnode_".into(),
            "orxnode_a".into(),
            "orxnode_a_".into(),
            "orx_a_b".into(),
            good[..good.len() - 1].into(),
            format!("{good}0"),
            good.replace("orxnode_a_", "orxnode_a_soon."),
            good.replace("orxnode_a_", "orxnode_a_1.2."),
            good.replace("orxnode_a_", "orxnode__"),
            format!("orxnode_a_{}", "é".repeat(32)),
            format!("orxnode_a_{}", "g".repeat(64)),
        ];
        for token in bad {
            assert_eq!(ring.node_of("test", &token, "b", NOW), Err(Worthless::NoToken), "{token:?}");
        }
    }
}
