//! Prints what jobs wrote, where it belongs.

use std::collections::VecDeque;

use super::view::{is_unread, raw, raw_err};
use crate::error::{Error, Result};
use crate::job::output::{Chunk, Stream};
use crate::time::Timestamp;
use crate::worker::tee::Said;

/// Bytes of one stream.
pub(super) struct Piece {
    stream: Stream,
    at: Timestamp,
    /// How many bytes are missing before it.
    gap: u64,
    bytes: Vec<u8>,
}

impl Piece {
    /// A chunk after one that ends at `place`.
    pub(super) fn after(place: u64, Chunk { stream, at, place: begin, bytes, .. }: Chunk) -> Self {
        Self { stream, at, gap: begin.saturating_sub(place), bytes }
    }
}

impl From<Said> for Piece {
    fn from(Said { stream, bytes }: Said) -> Self {
        Self { stream, at: Timestamp(0), gap: 0, bytes } // nobody asks for its time
    }
}

/// Writes pieces where they belong.
#[derive(Default)]
pub(super) struct Printer {
    only: Option<Stream>,
    timestamps: bool,
    /// Goes on though it cannot print: `run` wants the job's end, not its output.
    deaf: bool,
    /// Something could not be printed, and that was said.
    failed: bool,
    inside_line: [bool; 2],
}

impl Printer {
    /// One that prints what is asked for, or fails.
    pub(super) fn new(only: Option<Stream>, timestamps: bool) -> Self {
        Self { only, timestamps, ..Self::default() }
    }

    /// One for whom the end of the job is what matters.
    pub(super) fn deaf() -> Self {
        Self { deaf: true, ..Self::default() }
    }

    /// Does something on another thread: a pager that stops reading must not stop a worker that lives in this process.
    ///
    /// Gives the first error of one that is deaf, if a person should read of it.
    pub(super) async fn aside(
        mut self,
        work: impl FnOnce(&mut Self) -> Result<()> + Send + 'static,
    ) -> Result<(Self, Option<Error>)> {
        let printing = tokio::task::spawn_blocking(move || match work(&mut self) {
            Err(error) if self.deaf => {
                let news = !std::mem::replace(&mut self.failed, true) && !is_unread(&error);
                Ok((self, news.then_some(error)))
            }
            done => done.map(|()| (self, None)),
        });
        printing.await.map_err(|e| Error::failed("printing failed").source(e))?
    }

    /// Prints these, and if it is deaf also those after one that could not be printed.
    pub(super) fn print_all(&mut self, pieces: &[Piece]) -> Result<()> {
        let mut printed = Ok(());
        for piece in pieces {
            printed = printed.and(self.print(piece));
            if printed.is_err() && !self.deaf {
                break;
            }
        }
        printed
    }

    /// Says that the attempt was lost, and with it what it had written last.
    pub(super) fn lost(&mut self) -> Result<()> {
        self.put(Stream::Stderr, b"[orx: the attempt was lost; nobody knows how much of its output is missing here]\n")
    }

    fn print(&mut self, piece: &Piece) -> Result<()> {
        let mut marked = Ok(());
        if piece.gap > 0 {
            marked = self.put(Stream::Stderr, format!("[orx: {} bytes cut]\n", piece.gap).as_bytes());
        }
        match self.wants(piece) {
            true => marked.and(self.write(piece.stream, piece.at, &piece.bytes)),
            false => marked,
        }
    }

    fn wants(&self, piece: &Piece) -> bool {
        self.only.is_none_or(|only| only == piece.stream)
    }

    fn write(&mut self, stream: Stream, at: Timestamp, bytes: &[u8]) -> Result<()> {
        match self.timestamps {
            true => {
                let stamped = self.stamp(stream, at, bytes);
                self.put(stream, &stamped)
            }
            false => self.put(stream, bytes),
        }
    }

    fn put(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
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
    /// How many bytes are missing before the next line.
    gap: u64,
}

impl LastLines {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self { limit, kept: VecDeque::new(), gap: 0 }
    }

    pub(super) fn push(&mut self, piece: Piece, printer: &mut Printer) -> Result<()> {
        let Some(limit) = self.limit else {
            return printer.print(&piece);
        };
        self.gap = self.gap.saturating_add(piece.gap);
        if !printer.wants(&piece) {
            return Ok(());
        }
        for line in piece.bytes.split_inclusive(|b| *b == b'\n') {
            let gap = std::mem::take(&mut self.gap);
            match self.kept.back_mut() {
                Some(last) if gap == 0 && !last.bytes.ends_with(b"\n") && last.stream == piece.stream => {
                    last.bytes.extend_from_slice(line);
                }
                _ => self.kept.push_back(Piece { stream: piece.stream, at: piece.at, gap, bytes: line.to_vec() }),
            }
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
