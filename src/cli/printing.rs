//! Prints what jobs wrote, where it belongs.

use std::collections::VecDeque;

use super::view::{is_unread, raw, raw_err};
use crate::error::{Error, Result};
use crate::job::output::{Chunk, Stream};
use crate::time::Timestamp;
use crate::worker::tee::Said;

/// Bytes of one stream.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) stream: Stream,
    at: Timestamp,
    /// How many bytes are missing before it.
    gap: u64,
    bytes: Vec<u8>,
}

impl From<Chunk> for Piece {
    fn from(Chunk { stream, at, gap, bytes, .. }: Chunk) -> Self {
        Self { stream, at, gap, bytes }
    }
}

impl From<Said> for Piece {
    fn from(Said { stream, bytes }: Said) -> Self {
        Self { stream, at: Timestamp(0), gap: 0, bytes } // nobody asks for its time
    }
}

/// Prints on another thread: a pager that stops reading must not stop a worker that lives in this process.
///
/// Gives the first error of one that is deaf, if a person should read of it.
pub(super) async fn print_aside(mut printer: Printer, pieces: Vec<Piece>) -> Result<(Printer, Option<Error>)> {
    let printing = tokio::task::spawn_blocking(move || {
        let mut lost = None;
        for piece in &pieces {
            match printer.print(piece) {
                Err(error) if printer.deaf => {
                    let news = !std::mem::replace(&mut printer.failed, true) && !is_unread(&error);
                    lost = lost.or(news.then_some(error));
                }
                printed => printed?,
            }
        }
        Ok((printer, lost))
    });
    printing.await.map_err(|e| Error::failed("printing failed").source(e))?
}

/// Writes pieces where they belong.
#[derive(Default)]
pub(super) struct Printer {
    pub(super) only: Option<Stream>,
    pub(super) timestamps: bool,
    /// Goes on though it cannot print: `run` wants the job's end, not its output.
    pub(super) deaf: bool,
    /// Something could not be printed.
    failed: bool,
    inside_line: [bool; 2],
}

impl Printer {
    pub(super) fn wants(&self, piece: &Piece) -> bool {
        self.only.is_none_or(|only| only == piece.stream)
    }

    fn print(&mut self, piece: &Piece) -> Result<()> {
        if !self.wants(piece) {
            return Ok(());
        }
        if piece.gap > 0 {
            raw_err(format!("[orx: {} bytes cut]\n", piece.gap).as_bytes())?;
        }
        self.write(piece.stream, piece.at, &piece.bytes)
    }

    fn write(&mut self, stream: Stream, at: Timestamp, bytes: &[u8]) -> Result<()> {
        let stamped;
        let bytes = match self.timestamps {
            true => {
                stamped = self.stamp(stream, at, bytes);
                &stamped
            }
            false => bytes,
        };
        match stream {
            Stream::Stdout => raw(bytes),
            Stream::Stderr => raw_err(bytes),
        }
    }

    fn stamp(&mut self, stream: Stream, at: Timestamp, bytes: &[u8]) -> Vec<u8> {
        let inside = &mut self.inside_line[stream as usize];
        let mut out = Vec::with_capacity(bytes.len() + 32);
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if !*inside {
                out.extend_from_slice(format!("{at} ").as_bytes());
            }
            out.extend_from_slice(line);
            *inside = !line.ends_with(b"\n");
        }
        out
    }
}

/// Keeps the last lines of what it gets, or passes everything on.
pub(super) struct LastLines {
    limit: Option<usize>,
    kept: VecDeque<Piece>,
}

impl LastLines {
    pub(super) fn all() -> Self {
        Self { limit: None, kept: VecDeque::new() }
    }

    pub(super) fn new(lines: usize) -> Self {
        Self { limit: Some(lines), kept: VecDeque::new() }
    }

    pub(super) fn push(&mut self, piece: Piece, printer: &mut Printer) -> Result<()> {
        let Some(limit) = self.limit else {
            return printer.print(&piece);
        };
        let mut gap = piece.gap; // before its first line
        for line in piece.bytes.split_inclusive(|b| *b == b'\n') {
            match self.kept.back_mut() {
                Some(last) if gap == 0 && !last.bytes.ends_with(b"\n") && last.stream == piece.stream => {
                    last.bytes.extend_from_slice(line);
                }
                _ => self.kept.push_back(Piece { bytes: line.to_vec(), gap, ..piece.clone() }),
            }
            gap = 0;
            if self.kept.len() > limit {
                self.kept.pop_front();
            }
        }
        Ok(())
    }

    pub(super) fn flush(self, printer: &mut Printer) -> Result<()> {
        self.kept.iter().try_for_each(|line| printer.print(line))
    }
}
