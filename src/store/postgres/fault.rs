//! What the server or the network said, in the words of orx.

use tokio_postgres::error::SqlState;

use super::password;
use crate::error::{Error, Kind};

/// What a failure means for the transaction it happened in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another transaction stood in the way: the same again will work.
    Again,
    /// The connection is gone.
    Gone,
    /// The server only reads: its name may have moved to another by now.
    ReadOnly,
    /// A pooler gives each transaction another session.
    Pooled,
    /// Somebody else held a lock for too long.
    Locked,
    /// The server cannot do it now.
    Broken,
}

pub(super) fn of(error: &tokio_postgres::Error) -> Fault {
    let Some(state) = error.code() else { return Fault::Gone };
    match *state {
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Fault::Again,
        SqlState::ADMIN_SHUTDOWN
        | SqlState::CRASH_SHUTDOWN
        | SqlState::CANNOT_CONNECT_NOW
        | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Fault::Gone,
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => Fault::Pooled,
        SqlState::LOCK_NOT_AVAILABLE => Fault::Locked,
        SqlState::READ_ONLY_SQL_TRANSACTION => Fault::ReadOnly,
        _ => Fault::Broken,
    }
}

/// The error of a fault that says all by itself.
pub(super) fn named(fault: Fault) -> Option<Error> {
    match fault {
        Fault::ReadOnly => Some(only_reads(Error::unavailable("PostgreSQL takes no writes"))),
        Fault::Pooled => Some(pooled()),
        _ => None,
    }
}

/// Locks, notifications and prepared statements belong to a session, so it must be ours from its beginning to its end.
pub(super) fn pooled() -> Error {
    Error::unavailable("a pooler between orx and PostgreSQL gives each transaction another session")
        .hint("set the pooler to session mode (pool_mode = session), or give orx the server's own address")
        .lasting()
}

/// A standby, or a server that was made one.
fn only_reads(error: Error) -> Error {
    error
        .hint(
            "this server is a standby: name the primary, or all servers and target_session_attrs=read-write in the URL",
        )
        .only_reads()
}

/// The server did not get as far as to say anything.
fn unreached(error: &tokio_postgres::Error, said: String) -> Error {
    // The library tells it by its text only.
    if said.contains("database does not allow writes") {
        return only_reads(Error::unavailable("PostgreSQL takes no writes").source(said));
    }
    if said == "password missing" {
        return Error::unavailable("PostgreSQL wants a password, and none is known").hint(password::hint());
    }
    if !error.to_string().starts_with("error performing TLS handshake") {
        return Error::unavailable("the PostgreSQL server cannot be reached").source(said);
    }
    // What can be mended here only; a server that is about to end says neither.
    let lasts = said.contains("does not support TLS") || said.contains("certificate");
    let hint = match said.contains("does not support TLS") {
        true => "the server takes no TLS: set it up there, or say sslmode=disable on a network that is trusted",
        false if said.contains("CaUsedAsEndEntity") => crate::error::AUTHORITY_AS_SERVER,
        false => "sslrootcert=FILE names the authority to trust; the certificate must be of the host in the URL",
    };
    let error = Error::unavailable("TLS with the PostgreSQL server failed").source(said).hint(hint);
    if lasts { error.lasting() } else { error }
}

/// The error for a person; never with a password in it.
pub(super) fn error(error: &tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        let said = match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        return unreached(error, said);
    };
    let message = db.message().to_owned();
    let say = |what: &str| Error::unavailable(format!("{what}: {message}"));
    match *db.code() {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            say("PostgreSQL refused us").hint(password::hint()).lasting()
        }
        SqlState::INVALID_CATALOG_NAME => say("PostgreSQL refused us").hint("make it with: createdb NAME").lasting(),
        SqlState::INSUFFICIENT_PRIVILEGE => say("PostgreSQL refused us")
            .hint("docs/guide/postgresql.md names the rights that owner, worker and reader need")
            .lasting(),
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::UNDEFINED_FUNCTION => {
            Error::new(Kind::Corrupt, format!("the schema is not what orx made: {message}"))
        }
        SqlState::DISK_FULL | SqlState::OUT_OF_MEMORY | SqlState::INSUFFICIENT_RESOURCES => {
            say("PostgreSQL has no room").hint("nothing is lost; it goes on when there is room").for_everyone()
        }
        // Not for everyone: others may be at the server that takes writes, and be given our jobs.
        SqlState::READ_ONLY_SQL_TRANSACTION => only_reads(say("PostgreSQL takes no writes")),
        // Only a pooler makes statements come and go.
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => pooled().source(message),
        SqlState::TOO_MANY_CONNECTIONS => say("PostgreSQL takes no more connections"),
        SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => {
            say("PostgreSQL took too long").hint("another session may hold a lock; pg_stat_activity tells")
        }
        // What the statements of orx say themselves.
        _ if db.code().code() == "OX001" => Error::new(Kind::Corrupt, message),
        _ if db.code().code() == "OX002" => Error::conflict(message),
        _ if db.code().code().starts_with("23") => {
            Error::new(Kind::Corrupt, format!("a rule of the schema was broken: {message}"))
        }
        _ => say("PostgreSQL failed"),
    }
}
