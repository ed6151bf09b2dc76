//! The one error type that leaves a room: a kind for machines, a message and a hint for the person.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of thing went wrong; decides the exit code and the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The command line or a body was not understood.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// The caller may not do this.
    Denied,
    /// It contradicts what is stored.
    Conflict,
    /// The store or server cannot be reached, read or written.
    Unavailable,
    /// A limit was hit; later may work.
    Limit,
    /// Whether a write took effect cannot be said.
    Unknown,
    /// The bound on a wait passed.
    TimedOut,
    /// The stored data contradicts itself.
    Corrupt,
    /// Anything else that failed.
    Failed,
}

impl Kind {
    /// The process exit code (docs/reference/exit-codes.md).
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Denied => 4,
            Kind::Conflict => 5,
            Kind::Unavailable | Kind::Unknown => 6,
            Kind::Limit => 8,
            Kind::TimedOut => 75,
            Kind::Corrupt | Kind::Failed => 1,
        }
    }

    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::NotFound => "not_found",
            Kind::Denied => "denied",
            Kind::Conflict => "conflict",
            Kind::Unavailable => "unavailable",
            Kind::Limit => "limit",
            Kind::Unknown => "unknown",
            Kind::TimedOut => "timed_out",
            Kind::Corrupt => "corrupt",
            Kind::Failed => "failed",
        }
    }
}

/// What to do about a server whose certificate is that of an authority.
pub const AUTHORITY_AS_SERVER: &str = "its certificate is marked as that of an authority (CA:TRUE): give it one of its own, \
    signed by that, or made with `openssl req -x509 -addext basicConstraints=critical,CA:FALSE`";

type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error as a person or program meets it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    field: Option<String>,
    retry_after: Option<Duration>,
    for_everyone: bool,
    lasting: bool,
    only_reads: bool,
    source: Option<Source>,
}

/// The result of everything fallible in orx.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message` (lower case, no full stop).
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        let (hint, field, retry_after, source) = (None, None, None, None);
        Self { kind, message, hint, field, retry_after, for_everyone: false, lasting: false, only_reads: false, source }
    }

    /// The input was not understood.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The request contradicts what is stored.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// The store or server cannot be used now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// Anything else that failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Adds what the person could do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the field of what was given that is wrong.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says that what has that field lies in `place` itself.
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.field = self.field.map(|field| format!("{place}.{field}"));
        self
    }

    /// The field of what was given that is wrong, if that is known.
    pub fn field_name(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Adds when it is worth trying again.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Not only this process cannot write: nobody can, so nobody can take anything from it either (S2).
    pub fn for_everyone(mut self) -> Self {
        self.for_everyone = true;
        self
    }

    /// Whether nobody can write.
    pub fn is_for_everyone(&self) -> bool {
        self.for_everyone
    }

    /// It stays so until a person does something about it: who has nothing to lose tries no more.
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// Whether trying again is of no use.
    pub fn is_lasting(&self) -> bool {
        self.lasting
    }

    /// The server that was asked only reads; there may be another one that takes writes.
    pub fn only_reads(mut self) -> Self {
        self.only_reads = true;
        self
    }

    /// Whether the server that was asked only reads.
    pub fn is_only_reads(&self) -> bool {
        self.only_reads
    }

    /// Adds the error beneath.
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `context: ` before the message.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message without its hint and source.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the person could do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// When it is worth trying again, if that is known.
    pub fn retry_after_time(&self) -> Option<Duration> {
        self.retry_after
    }

    /// An equal error for another receiver; the source stays behind as text.
    pub fn copy(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.to_string(),
            hint: self.hint.clone(),
            field: self.field.clone(),
            retry_after: self.retry_after,
            for_everyone: self.for_everyone,
            lasting: self.lasting,
            only_reads: self.only_reads,
            source: None,
        }
    }
}

/// An error on the wire: RFC 9457's problem details, and what an [`Error`] has beyond them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:orx:` and the kind.
    pub r#type: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The message.
    pub detail: String,
    /// What the person could do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The place in the body that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When it is worth trying again, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
    /// Nobody can write, whomever they ask: workers keep their jobs meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_everyone: bool,
}

impl Problem {
    /// What `error` is on the wire, with `status`.
    pub fn new(error: &Error, status: u16) -> Self {
        let word = error.kind.as_str();
        Self {
            r#type: format!("urn:orx:{word}"),
            title: word.replace('_', " "),
            status,
            detail: error.to_string(),
            hint: error.hint.clone(),
            field: error.field.clone(),
            retry_after: error.retry_after.map(|after| after.as_secs_f64()),
            for_everyone: error.for_everyone,
        }
    }

    /// The error that it tells of, if it is one of ours.
    pub fn error(self) -> Option<Error> {
        let word = self.r#type.strip_prefix("urn:orx:")?;
        let kind = serde_json::from_value(serde_json::Value::String(word.into())).ok()?;
        let after = self.retry_after.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
        let for_everyone = self.for_everyone;
        Some(Error {
            hint: self.hint,
            field: self.field,
            retry_after: after,
            for_everyone,
            ..Error::new(kind, self.detail)
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failed("input or output failed").source(error)
    }
}
