//! Frames on a stream: four bytes of length, most significant first, then so many bytes.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest frame: what Noise seals at once. The largest message of chitchat fits in one.
pub const MAX_FRAME: usize = 65_535;
/// The longest frame before the other end has shown the key.
pub const MAX_HANDSHAKE: usize = 128;
/// Bytes of the length before each frame.
pub const HEADER: usize = 4;
/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length before it is out of bounds.
    #[error("a frame of {0} bytes")]
    TooLong(u32),
    /// The stream ended or broke.
    #[error("{0}")]
    Stream(#[from] std::io::Error),
}

/// Takes bytes as they come and gives the frames in them; holds at most one frame and one chunk.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame if it is whole.
    ///
    /// # Errors
    /// `TooLong` as soon as its length is known to be over `limit`; the stream is of no use then.
    pub fn next(&mut self, limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let said = u32::from_be_bytes(*header);
        let len = said as usize;
        if len > limit {
            return Err(FrameError::TooLong(said));
        }
        let Some(frame) = rest.get(..len) else { return Ok(None) };
        let frame = frame.to_vec();
        self.buffer.drain(..HEADER + len);
        Ok(Some(frame))
    }
}

/// Puts the length before `body`.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Reads the next frame; may be given up at any time without losing a byte.
pub(super) async fn read_frame<R: AsyncRead + Unpin>(
    stream: &mut R,
    decoder: &mut Decoder,
    limit: usize,
) -> Result<Vec<u8>, FrameError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        if let Some(frame) = decoder.next(limit)? {
            return Ok(frame);
        }
        match stream.read(&mut chunk).await? {
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            n => decoder.push(&chunk[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All frames that come when the stream arrives in these pieces, and whether it was refused.
    fn decode(pieces: &[&[u8]], limit: usize) -> (Vec<Vec<u8>>, bool) {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            loop {
                match decoder.next(limit) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => return (frames, true),
                }
            }
            assert!(decoder.buffer.len() < HEADER + limit, "holds more than a frame");
        }
        (frames, false)
    }

    #[test]
    fn a_frame_of_four_gibibytes_is_refused_at_its_length() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.next(MAX_FRAME), Err(FrameError::TooLong(u32::MAX))));
        assert!(decoder.buffer.capacity() < 100);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in prop::collection::vec(1usize..200, 1..50),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
            let mut pieces = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(decode(&pieces, 300), (bodies, false));
        }

        #[test]
        fn noise_is_refused_or_waits_for_more_and_never_panics(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            limit in 1usize..500,
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (frames, _) = decode(&pieces, limit);
            prop_assert!(frames.iter().all(|frame| frame.len() <= limit));
        }
    }
}
