//! Prints what jobs wrote, where it belongs.

use std::collections::VecDeque;

use super::spool::Spool;
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
    /// Holds back what it prints.
    spool: Option<Spool>,
    /// Something could not be printed, and that was said.
    failed: bool,
    /// Not all of the standard output is where it was to be, though it would be read there.
    torn: bool,
    /// How many bytes were kept no more when they were to be printed.
    missed: u64,
    /// Nobody reads the standard output any more: nothing is lacking there.
    unread: bool,
    inside_line: [bool; 2],
}

impl Printer {
    /// One that prints what is asked for, or fails.
    pub(super) fn new(only: Option<Stream>, timestamps: bool) -> Self {
        Self { only, timestamps, ..Self::default() }
    }

    /// One for whom the end of the job is what matters; it may hold back what it prints.
    pub(super) fn deaf(holds_back: bool) -> Self {
        Self { deaf: true, spool: holds_back.then(Spool::default), ..Self::default() }
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

    /// What is lacking of what was printed, if anything is.
    pub(super) fn lack(&self) -> Option<String> {
        match (self.torn, self.missed) {
            _ if self.unread => None,
            (true, _) => Some("not all of its output could be written".into()),
            (_, 0) => None,
            (_, missed) => Some(format!("{missed} bytes of its output were not printed, as they were kept no more")),
        }
    }

    /// Begins with another attempt: of what is held back there is no need any more.
    pub(super) fn restart(&mut self) {
        if self.spool.is_some() {
            (self.spool, self.torn, self.missed) = (Some(Spool::default()), false, 0);
        }
    }

    /// Prints what was held back.
    pub(super) fn release(&mut self) -> Result<()> {
        let Some(spool) = self.spool.take() else { return Ok(()) };
        let mut printed = Ok(());
        let read = spool.read(|stream, bytes| {
            let one = self.put(stream, bytes);
            let goes_on = one.is_ok() || self.deaf;
            printed = std::mem::replace(&mut printed, Ok(())).and(one);
            goes_on
        });
        self.torn |= read.is_err();
        printed.and(read)
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
            self.missed = self.missed.saturating_add(piece.gap);
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
        let put = match (&mut self.spool, stream) {
            (Some(spool), _) => spool.put(stream, bytes),
            (None, Stream::Stdout) => raw(bytes),
            (None, Stream::Stderr) => raw_err(bytes),
        };
        if let (Stream::Stdout, Err(error)) = (stream, &put) {
            let unread = is_unread(error);
            (self.unread, self.torn) = (self.unread | unread, self.torn | !unread);
        }
        put
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
