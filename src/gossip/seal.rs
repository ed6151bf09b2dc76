//! Noise `NNpsk0`: both ends prove that they hold the cluster key, and every frame is sealed for its place in one stream.

use std::sync::Arc;

use snow::{Builder, HandshakeState, StatelessTransportState};

use super::frame::MAX_FRAME;
use super::key::{ClusterKey, KeyRing};
use crate::error::{Error, Result};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Both sides must have the same before their handshake; with the label after it.
const PROLOGUE: &[u8] = b"orx gossip\0";
/// Bytes by which a sealed message is longer.
const TAG: usize = 16;
/// The longest message that can be sealed.
pub(super) const MAX_MESSAGE: usize = MAX_FRAME - TAG;
const MAX_HANDSHAKE: usize = super::frame::MAX_HANDSHAKE;

/// The message was not sealed by the other end for this place in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forged;

/// One direction of a stream, outwards.
pub(super) struct Sealer {
    state: Arc<StatelessTransportState>,
    nonce: u64,
}

impl Sealer {
    /// Seals the next message.
    ///
    /// # Errors
    /// When it is longer than [`MAX_MESSAGE`].
    pub(super) fn seal(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = vec![0; message.len() + TAG];
        let written = self.state.write_message(self.nonce, message, &mut sealed);
        let len = written.map_err(|e| Error::failed("cannot seal a message").source(e))?;
        sealed.truncate(len);
        self.nonce += 1;
        Ok(sealed)
    }
}

/// One direction of a stream, inwards.
pub(super) struct Opener {
    state: Arc<StatelessTransportState>,
    nonce: u64,
}

impl Opener {
    /// Opens the next message; a changed, repeated, missing or moved one is an error.
    pub(super) fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Forged> {
        let mut message = vec![0; sealed.len()];
        let len = self.state.read_message(self.nonce, sealed, &mut message).map_err(|_| Forged)?;
        message.truncate(len);
        self.nonce += 1;
        Ok(message)
    }
}

/// The side that connects, after its first message.
pub(super) struct Initiator(HandshakeState);

impl Initiator {
    /// Begins a handshake; returns the message for the other side.
    pub(super) fn begin(key: &ClusterKey, label: &str) -> Result<(Self, Vec<u8>)> {
        let mut state = builder(key, &prologue(label), true)?;
        let mut first = vec![0; MAX_HANDSHAKE];
        let len = state.write_message(&[], &mut first).map_err(broken)?;
        first.truncate(len);
        Ok((Self(state), first))
    }

    /// Ends the handshake with the other side's answer.
    pub(super) fn end(mut self, answer: &[u8]) -> Result<(Sealer, Opener), Forged> {
        self.0.read_message(answer, &mut [0; MAX_HANDSHAKE]).map_err(|_| Forged)?;
        split(self.0).map_err(|_| Forged)
    }
}

/// What the side that was connected to has after its answer.
pub(super) struct Answered {
    /// The key that the other side holds.
    pub(super) key: ClusterKey,
    /// For the other side.
    pub(super) answer: Vec<u8>,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

/// Answers a first message made with any of `keys`.
///
/// A first message that was recorded and is sent again is answered too; its sender cannot seal anything afterwards.
pub(super) fn answer(keys: &KeyRing, label: &str, first: &[u8]) -> Result<Answered, Forged> {
    let prologue = prologue(label);
    for key in keys.keys() {
        let mut state = builder(key, &prologue, false).map_err(|_| Forged)?;
        if state.read_message(first, &mut [0; MAX_HANDSHAKE]).is_err() {
            continue;
        }
        let mut answer = vec![0; MAX_HANDSHAKE];
        let len = state.write_message(&[], &mut answer).map_err(|_| Forged)?;
        answer.truncate(len);
        let (sealer, opener) = split(state).map_err(|_| Forged)?;
        return Ok(Answered { key: key.clone(), answer, sealer, opener });
    }
    Err(Forged)
}

fn prologue(label: &str) -> Vec<u8> {
    [PROLOGUE, label.as_bytes()].concat()
}

fn builder(key: &ClusterKey, prologue: &[u8], initiator: bool) -> Result<HandshakeState> {
    let params = PATTERN.parse().map_err(broken)?;
    let builder = Builder::new(params).prologue(prologue).and_then(|b| b.psk(0, key.bytes())).map_err(broken)?;
    if initiator { builder.build_initiator() } else { builder.build_responder() }.map_err(broken)
}

fn split(state: HandshakeState) -> Result<(Sealer, Opener)> {
    let state = Arc::new(state.into_stateless_transport_mode().map_err(broken)?);
    Ok((Sealer { state: state.clone(), nonce: 0 }, Opener { state, nonce: 0 }))
}

fn broken(error: snow::Error) -> Error {
    Error::failed("the Noise handshake broke").source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ClusterKey {
        ClusterKey::generate().unwrap()
    }

    /// Both ends of a stream under `key`.
    fn ends(key: &ClusterKey) -> ((Sealer, Opener), (Sealer, Opener)) {
        let (initiator, first) = Initiator::begin(key, "test").unwrap();
        let answered = answer(&KeyRing::of(key.clone()), "test", &first).unwrap();
        let ours = initiator.end(&answered.answer).unwrap();
        (ours, (answered.sealer, answered.opener))
    }

    #[test]
    fn both_directions_carry_messages_in_order() {
        let ((mut seal_a, mut open_a), (mut seal_b, mut open_b)) = ends(&key());
        for message in [&b"one"[..], b"", &vec![7; MAX_MESSAGE]] {
            let sealed = seal_a.seal(message).unwrap();
            assert!(sealed.len() <= MAX_FRAME);
            assert_eq!(open_b.open(&sealed).unwrap(), message);
            assert_eq!(open_a.open(&seal_b.seal(message).unwrap()).unwrap(), message);
        }
        assert!(seal_a.seal(&vec![7; MAX_MESSAGE + 1]).is_err());
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let ((mut seal, _), (_, mut open)) = ends(&key());
        let sealed = seal.seal(b"pay 10").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open.open(&changed), Err(Forged), "bit {bit}");
        }
        assert_eq!(open.open(&sealed).unwrap(), b"pay 10");
    }

    #[test]
    fn a_message_is_good_once_in_its_place_and_on_its_stream() {
        let key = key();
        let ((mut seal, mut open_own), (_, mut open)) = ends(&key);
        let [first, second, third] = [b"1", b"2", b"3"].map(|m| seal.seal(m).unwrap());
        assert_eq!(open.open(&second), Err(Forged), "out of order");
        assert_eq!(open_own.open(&first), Err(Forged), "sent back to its sender");
        assert_eq!(open.open(&first).unwrap(), b"1");
        assert_eq!(open.open(&first), Err(Forged), "replayed");
        assert_eq!(open.open(&third), Err(Forged), "one is missing");
        let (_, (_, mut elsewhere)) = ends(&key);
        assert_eq!(elsewhere.open(&first), Err(Forged), "another stream of the same key");
        assert_eq!(open.open(&second[..second.len() - 1]), Err(Forged), "cut off");
        assert_eq!(open.open(b""), Err(Forged));
        assert_eq!(open.open(&second).unwrap(), b"2");
    }

    #[test]
    fn another_key_or_label_or_noise_is_refused() {
        let (key, ring) = (key(), KeyRing::of(ClusterKey::generate().unwrap()));
        let (_, first) = Initiator::begin(&key, "test").unwrap();
        assert!(answer(&ring, "test", &first).is_err());
        assert!(answer(&KeyRing::of(key.clone()), "production", &first).is_err());
        assert!(answer(&KeyRing::of(key.clone()), "test", &first[..40]).is_err());
        assert!(answer(&KeyRing::of(key.clone()), "test", &[0; MAX_HANDSHAKE]).is_err());
        assert!(answer(&KeyRing::of(key.clone()), "test", b"").is_err());
        let (initiator, first) = Initiator::begin(&key, "test").unwrap();
        let mut answered = answer(&KeyRing::of(key), "test", &first).unwrap();
        answered.answer[40] ^= 1;
        assert!(initiator.end(&answered.answer).is_err());
    }

    #[test]
    fn a_recorded_first_message_opens_no_stream() {
        let key = key();
        let ring = KeyRing::of(key.clone());
        let (initiator, first) = Initiator::begin(&key, "test").unwrap();
        let answered = answer(&ring, "test", &first).unwrap();
        let (mut seal, _) = initiator.end(&answered.answer).unwrap();
        let recorded = seal.seal(b"hello").unwrap();
        let mut again = answer(&ring, "test", &first).unwrap();
        assert_eq!(again.opener.open(&recorded), Err(Forged));
    }

    #[test]
    fn while_keys_are_rotated_both_are_good() {
        let (old, new) = (key(), key());
        let rotating = KeyRing::of(old.clone()).rotated(new.clone());
        for key in [&old, &new] {
            let (initiator, first) = Initiator::begin(key, "test").unwrap();
            let answered = answer(&rotating, "test", &first).unwrap();
            assert_eq!(&answered.key, key);
            assert!(initiator.end(&answered.answer).is_ok());
        }
        let after = rotating.rotated(super::super::key::ClusterKey::generate().unwrap());
        assert!(answer(&after, "test", &Initiator::begin(&old, "test").unwrap().1).is_err());
    }
}
