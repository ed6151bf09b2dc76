//! Output that is held back until it is known whether it is wanted: in a file without a name, however much it is.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read as _, Seek as _, Write as _};

use crate::error::{Error, Result};
use crate::job::output::Stream;
use crate::private;

/// The most of one piece that is read at once.
const PIECE: usize = 64 * 1024;

/// Pieces of output in their order, each behind its stream and length. The file is made for the first of them.
#[derive(Default)]
pub(super) struct Spool {
    file: Option<BufWriter<File>>,
    /// It could not be written, so what comes is not either.
    broken: bool,
}

impl Spool {
    pub(super) fn put(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        if self.broken {
            return Ok(()); // that was said
        }
        bytes.chunks(PIECE).try_for_each(|bytes| self.write(stream, bytes)).map_err(|e| {
            self.broken = true;
            Error::failed("cannot hold the output back in a file").source(e).hint("set TMPDIR to a place with room")
        })
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(private::unnamed_file()?)),
        };
        file.write_all(&[u8::from(stream == Stream::Stderr)])?;
        file.write_all(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        file.write_all(bytes)
    }

    /// Gives all that was put in to `take`, until that is false.
    pub(super) fn read(self, take: impl FnMut(Stream, &[u8]) -> bool) -> Result<()> {
        match self.file {
            Some(file) => {
                read(file, take).map_err(|e| Error::failed("cannot read output that was held back").source(e))
            }
            None => Ok(()),
        }
    }
}

fn read(file: BufWriter<File>, mut take: impl FnMut(Stream, &[u8]) -> bool) -> std::io::Result<()> {
    let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.rewind()?;
    let (mut file, mut head, mut bytes) = (BufReader::new(file), [0; 5], vec![0; PIECE]);
    loop {
        match file.read_exact(&mut head) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let [stream, length @ ..] = head;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        let piece = bytes.get_mut(..length).ok_or(ErrorKind::InvalidData)?;
        file.read_exact(piece)?;
        if !take(if stream == 0 { Stream::Stdout } else { Stream::Stderr }, piece) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_in_its_order() {
        let mut spool = Spool::default();
        let large: Vec<u8> = (0..3 * PIECE + 7).map(|byte| byte as u8).collect();
        spool.put(Stream::Stdout, &large).unwrap();
        spool.put(Stream::Stderr, b"\0\xff").unwrap();
        spool.put(Stream::Stdout, b"end").unwrap();
        let (mut out, mut streams) = (Vec::new(), Vec::new());
        let read = |stream, bytes: &[u8]| {
            streams.push(stream);
            out.extend_from_slice(bytes);
            true
        };
        spool.read(read).unwrap();
        assert_eq!(out, [&large[..], b"\0\xff", b"end"].concat());
        assert_eq!((streams.len(), streams[4], streams[5]), (6, Stream::Stderr, Stream::Stdout));
        Spool::default().read(|_, _| false).unwrap();
    }
}
