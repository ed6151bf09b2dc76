//! One connection: statements that are prepared once, and several sent in one breath.
//!
//! What a session is told lasts for one transaction each: behind a pooler it may be another client's afterwards.
//!
//! tokio-postgres is driven by a small runtime per connection, so that whoever runs an Op needs to know nothing of it.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join_all, join4};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement};

use super::fault::{self, Fault};
use super::place::Place;
use super::sql;
use crate::error::{Error, Result};

/// How long the server works on a statement at most.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);
/// How long it waits for a lock, as a rule.
pub(super) const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// How long a transaction of ours may do nothing: then its process hangs, and others wait for it. No longer than the
/// shortest lease in use: who is stopped in the middle of one holds jobs that are to move when their leases are over (S8).
const IDLE_LIMIT: Duration = Duration::from_secs(3);
/// After this time an answer is not to be expected any more.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);
/// The oldest server that is used.
const OLDEST: u32 = 120_000;

/// What differs after each crash: a server that recovers makes its own processes anew, whether it ended itself or not.
pub(super) const ERA: &str = "pg_postmaster_start_time()::text ||
     ARRAY(SELECT pid FROM pg_stat_activity WHERE usesysid IS NULL AND datid IS NULL ORDER BY pid)::text";

/// A value for a statement.
pub(super) type Param = Box<dyn ToSql + Sync + Send>;

/// A statement with its values.
pub(super) struct Call {
    pub(super) sql: &'static str,
    pub(super) params: Vec<Param>,
    /// Its first row begins with what begin.sql gives.
    pub(super) opens: bool,
}

impl Call {
    pub(super) fn new(sql: &'static str, params: Vec<Param>) -> Self {
        Self { sql, params, opens: false }
    }

    /// One that also does what a transaction that begins with it needs, and so spares it a statement.
    pub(super) fn opening(sql: &'static str, params: Vec<Param>) -> Self {
        Self { opens: true, ..Self::new(sql, params) }
    }

    /// Where its text lies, and how long it is; it stays there for ever.
    fn place(&self) -> (usize, usize) {
        (self.sql.as_ptr() as usize, self.sql.len())
    }

    /// Whether it stores nothing.
    pub(super) fn reads(&self) -> bool {
        let mut lines = self.sql.lines().filter(|line| !line.starts_with("--"));
        lines.next().is_some_and(|line| line.starts_with("SELECT"))
    }
}

/// Values for a statement, in order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(Box::new($value) as $crate::store::postgres::conn::Param),*] };
}
pub(super) use values;

/// What went wrong, and what it means for the transaction.
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) error: Error,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(e: tokio_postgres::Error) -> Self {
        Self { fault: fault::of(&e), error: fault::error(&e) }
    }
}

/// A runtime that may be dropped anywhere, also by a task of another.
struct Driver(Option<Runtime>);

impl Deref for Driver {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        match &self.0 {
            Some(runtime) => runtime,
            None => unreachable!("it is taken in drop only"),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection to the server.
pub(super) struct Conn {
    runtime: Driver,
    client: Client,
    /// By where their texts lie: these are long, and many.
    statements: HashMap<(usize, usize), Statement>,
    /// The server's process for it.
    pub(super) backend: i32,
    /// The server's life since its last crash.
    pub(super) era: String,
    /// What its transactions go by: schema and limits, as enter.sql takes them.
    settings: [String; 4],
    /// The role only reads unless told otherwise.
    reads_by_default: bool,
    driver: JoinHandle<()>,
}

impl Conn {
    /// Connects; `lock_limit`: so long statements wait for a lock.
    pub(super) fn open(place: &Place, lock_limit: Duration) -> Result<Self> {
        let runtime = Driver(Some(Builder::new_current_thread().enable_all().build()?));
        let tls = place.tls()?;
        let config = place.config();
        let connected = runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, config.connect(tls)).await });
        let (client, connection) = match connected {
            Ok(Ok(both)) => both,
            Ok(Err(e)) => return Err(fault::error(&e).context(place)),
            Err(_) => return Err(Error::unavailable(format!("{place}: the PostgreSQL server does not answer"))),
        };
        let driver = runtime.spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("a connection to PostgreSQL ended: {e}");
            }
        });
        let limits = [STATEMENT_LIMIT, lock_limit, IDLE_LIMIT].map(|limit| limit.as_millis().to_string());
        let [statement, lock, idle] = limits;
        let settings = [place.schema.clone(), statement, lock, idle];
        let (statements, era) = Default::default();
        let mut conn = Self { runtime, client, statements, backend: 0, era, settings, reads_by_default: false, driver };
        let about = format!(
            "SELECT pg_backend_pid(), current_setting('server_version_num'), current_setting('server_version'), {ERA},
                 current_setting('default_transaction_read_only')"
        );
        let rows = conn.simple(&about).map_err(|f| f.error.context(place))?;
        let cell = |i: usize| rows.first().and_then(|row| row.get(i).cloned().flatten()).unwrap_or_default();
        conn.backend = cell(0).parse().unwrap_or_default();
        conn.era = cell(3);
        conn.reads_by_default = cell(4) == "on";
        let version: u32 = cell(1).parse().unwrap_or_default();
        if version < OLDEST {
            let error = Error::unavailable(format!("{place}: PostgreSQL {} is too old", cell(2)));
            return Err(error.hint("orx needs 12 or newer").lasting());
        }
        Ok(conn)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.driver.is_finished()
    }

    /// Runs statements without values, also several; gives the rows of all as text.
    pub(super) fn simple(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        self.simple_within(ANSWER_LIMIT, sql)
    }

    /// The same where the answer may take up to `limit`.
    pub(super) fn simple_within(&mut self, limit: Duration, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let messages = self.runtime.block_on(bounded(limit, self.client.simple_query(sql)))?;
        let row = |m: SimpleQueryMessage| match m {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Sends all statements in one breath, and gives the rows of each. After a failure the later ones did nothing.
    pub(super) fn run(&mut self, calls: &[Call]) -> Result<Vec<Vec<Row>>, Failure> {
        self.say(None, &Vec::from_iter(calls), None, None)
    }

    /// The same of a transaction that begins with them, by `begin`. They must read only: whether it is at the server's
    /// process that the connection began with is known when they are answered.
    pub(super) fn begin(&mut self, begin: &str, calls: &[&Call]) -> Result<Vec<Vec<Row>>, Failure> {
        let settings = self.settings.iter().map(|text| Box::new(text.clone()) as Param).collect();
        let enter = Call::new(sql!("enter"), settings);
        let all = Vec::from_iter([&enter].into_iter().chain(calls.iter().copied()));
        if all.iter().any(|call| !self.statements.contains_key(&call.place())) {
            // What a statement means is found out when it is prepared, so it is prepared inside.
            self.enter(begin)?;
            self.prepare(&enter)?;
            return self.say(None, calls, None, None);
        }
        let begin = self.begun_by(begin);
        let mut answers = self.say(Some(&begin), &all, None, None)?;
        let calls = answers.split_off(1);
        let backend = answers.first().and_then(|rows| rows.first()).and_then(|row| row.try_get(0).ok());
        self.check(backend)?;
        Ok(calls)
    }

    /// Begins a transaction by `begin`, with all that a statement in it goes by.
    pub(super) fn enter(&mut self, begin: &str) -> Result<(), Failure> {
        let [schema, statement, lock, idle] = self.settings.clone();
        // None of them has a quote in it.
        let values = [("$1", schema), ("$2", statement), ("$3", lock), ("$4", idle)];
        let enter =
            values.iter().fold(sql!("enter").to_owned(), |sql, (n, value)| sql.replace(n, &format!("'{value}'")));
        let rows = self.simple(&format!("{};\n{enter}", self.begun_by(begin)))?;
        let backend = rows.first().and_then(|row| row.first().cloned().flatten()).and_then(|pid| pid.parse().ok());
        self.check(backend)
    }

    fn begun_by(&self, begin: &str) -> String {
        match self.reads_by_default && !begin.contains("READ ONLY") {
            true => format!("{begin}; SET TRANSACTION READ WRITE"),
            false => begin.to_owned(),
        }
    }

    /// Whether it is still the server's process that the connection began with.
    fn check(&self, backend: Option<i32>) -> Result<(), Failure> {
        match backend == Some(self.backend) {
            true => Ok(()),
            false => Err(Failure { fault: Fault::Pooled, error: fault::pooled() }),
        }
    }

    /// Has what transactions go by hold for the whole session: only where that is known to be ours alone.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        self.enter("BEGIN")?;
        let names = "'search_path', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
             'plan_cache_mode', 'enable_seqscan', 'jit', 'timezone', 'client_min_messages'";
        self.simple(&format!(
            "SELECT set_config(name, current_setting(name), false) FROM unnest(ARRAY[{names}]) AS names(name); COMMIT"
        ))?;
        Ok(())
    }

    fn prepare(&mut self, call: &Call) -> Result<(), Failure> {
        if !self.statements.contains_key(&call.place()) {
            let statement = self.runtime.block_on(bounded(ANSWER_LIMIT, self.client.prepare(call.sql)))?;
            self.statements.insert(call.place(), statement);
        }
        Ok(())
    }

    /// The same of a transaction that ends with them, and then `notice`, for whose answer nobody waits.
    ///
    /// A failure that means [`Fault::Gone`] leaves open whether it was committed. After any other it was not, and there
    /// may be something to roll back.
    pub(super) fn commit(&mut self, calls: &[Call], notice: Option<&str>) -> Result<(), Failure> {
        self.say(None, &Vec::from_iter(calls), Some("COMMIT"), notice).map(|_| ())
    }

    fn say(
        &mut self,
        begin: Option<&str>,
        calls: &[&Call],
        end: Option<&str>,
        notice: Option<&str>,
    ) -> Result<Vec<Vec<Row>>, Failure> {
        for call in calls {
            self.prepare(call)?;
        }
        let (client, statements) = (&self.client, &self.statements);
        // One that could not even be sent must keep the others from being committed.
        let (unsent, held_back) = (&Cell::new(false), &Cell::new(false));
        let simple = |sql: Option<&str>| {
            let sql = sql.map(str::to_owned);
            async move {
                match sql {
                    Some(_) if unsent.get() => {
                        held_back.set(true);
                        Ok(())
                    }
                    Some(sql) => client.simple_query(&sql).await.map(|_| ()),
                    None => Ok(()),
                }
            }
        };
        let queries = calls.iter().map(|call| async move {
            let params: Vec<&(dyn ToSql + Sync)> = call.params.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
            client.query(&statements[&call.place()], &params).await.inspect_err(|_| unsent.set(true))
        });
        let notice = async {
            let mut notice = pin!(simple(notice));
            poll_fn(|cx| {
                let _ = notice.as_mut().poll(cx); // sent with the rest; it is there to be heard by others
                Poll::Ready(())
            })
            .await;
        };
        // In order: both joins poll in order, and what is prepared is sent when it is polled first.
        let all = join4(simple(begin), join_all(queries), simple(end), notice);
        let (begun, answers, ended, ()) = self.runtime.block_on(bounded(ANSWER_LIMIT, async { Ok(all.await) }))?;
        let answers = begun.and_then(|()| answers.into_iter().collect::<Result<Vec<_>, _>>());
        match (answers, ended) {
            (Ok(answers), Ok(())) => Ok(answers),
            // Nothing came to its end that nobody was told to end.
            (Err(e), _) if held_back.get() => Err(Failure { fault: Fault::Broken, error: fault::error(&e) }),
            (Err(e), _) | (_, Err(e)) => Err(e.into()),
        }
    }

    /// Runs a statement made at run time.
    pub(super) fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>, Failure> {
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
        self.runtime.block_on(bounded(ANSWER_LIMIT, self.client.query(sql, &params)))
    }
}

/// No answer may be waited for for ever, not even from a server that was unplugged.
async fn bounded<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            Err(Failure { fault: Fault::Gone, error: Error::unavailable("the PostgreSQL server does not answer") })
        }
    }
}
