-- The queue. Times are milliseconds since 1970 (UTC) unless the name says otherwise.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The oldest schema whose code may still use this store (S29).
INSERT INTO meta VALUES ('min_compatible', '1');

-- The id of this store, and of no copy of it.
INSERT INTO meta VALUES ('store', lower(hex(randomblob(16))));

-- One per (queue, tenant, limit key, needs): what a lease chooses between (S14).
CREATE TABLE lanes (
    id        INTEGER PRIMARY KEY,
    queue     TEXT NOT NULL,
    tenant    TEXT NOT NULL,
    limit_key TEXT NOT NULL DEFAULT '',
    needs     TEXT NOT NULL DEFAULT '',
    blocked   INTEGER NOT NULL DEFAULT 0 CHECK (blocked >= 0),
    scheduled INTEGER NOT NULL DEFAULT 0 CHECK (scheduled >= 0),
    pending   INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    running   INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    done      INTEGER NOT NULL DEFAULT 0 CHECK (done >= 0),
    failed    INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    cancelled INTEGER NOT NULL DEFAULT 0 CHECK (cancelled >= 0),
    skipped   INTEGER NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    -- The place of the event by which it was served last.
    served    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, tenant, limit_key, needs)
) STRICT;
CREATE INDEX lanes_tenant ON lanes (tenant);
CREATE INDEX lanes_turn ON lanes (served, id) WHERE pending > 0;

CREATE TABLE queues (
    name        TEXT PRIMARY KEY,
    paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    shared      INTEGER NOT NULL DEFAULT 1 CHECK (shared IN (0, 1)),
    max_running INTEGER,
    max_queued  INTEGER,
    per_minute  INTEGER,
    max_payload INTEGER,
    blocked     INTEGER NOT NULL DEFAULT 0 CHECK (blocked >= 0),
    scheduled   INTEGER NOT NULL DEFAULT 0 CHECK (scheduled >= 0),
    pending     INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    running     INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    done        INTEGER NOT NULL DEFAULT 0 CHECK (done >= 0),
    failed      INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    cancelled   INTEGER NOT NULL DEFAULT 0 CHECK (cancelled >= 0),
    skipped     INTEGER NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    pruned      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    name        TEXT PRIMARY KEY,
    max_running INTEGER,
    max_queued  INTEGER,
    per_minute  INTEGER,
    max_payload INTEGER,
    queued      INTEGER NOT NULL DEFAULT 0 CHECK (queued >= 0),
    running     INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0)
) STRICT, WITHOUT ROWID;

-- How often what happened: attempts by outcome, refusals, retries. Never goes back.
CREATE TABLE tallies (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How many jobs were submitted when, over the last minute, where that is limited.
CREATE TABLE submissions (
    scope TEXT NOT NULL CHECK (scope IN ('queue','tenant')),
    name  TEXT NOT NULL,
    at    INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count > 0),
    PRIMARY KEY (scope, name, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE limits (
    tenant      TEXT NOT NULL,
    key         TEXT NOT NULL,
    max_running INTEGER NOT NULL CHECK (max_running > 0),
    running     INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

-- No IN with a list of words in here: SQLite builds a table of them for each statement, which halves the rate of inserts.
-- The hot part of a job; what it was asked to do is in job_specs and never rewritten.
CREATE TABLE jobs (
    number              INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  BLOB NOT NULL CHECK (length(id) = 16),
    lane                INTEGER NOT NULL,
    state               TEXT NOT NULL,
    priority            INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    created_at          INTEGER NOT NULL,
    attempt             INTEGER NOT NULL DEFAULT 0,
    generation          INTEGER NOT NULL DEFAULT 1,
    failures            INTEGER NOT NULL DEFAULT 0,
    losses              INTEGER NOT NULL DEFAULT 0,
    interruptions       INTEGER NOT NULL DEFAULT 0,
    streak              INTEGER NOT NULL DEFAULT 0,
    unstarted           INTEGER NOT NULL DEFAULT 0,
    unstarted_alone     INTEGER NOT NULL DEFAULT 0,
    waiting             INTEGER NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    due_at              INTEGER,
    deadline_at         INTEGER,
    finished_at         INTEGER,
    cancel_requested_at INTEGER,
    reason              TEXT,
    -- The place of its last event: up to here all events of a finished job lie.
    last_seq            INTEGER NOT NULL DEFAULT 0,
    -- The schedule that made it.
    schedule            BLOB,
    CHECK (state = 'pending' OR state = 'running' OR state = 'done' OR state = 'scheduled' OR state = 'blocked'
        OR state = 'failed' OR state = 'cancelled' OR state = 'skipped'),
    CHECK (state <> 'scheduled' OR due_at IS NOT NULL),
    CHECK (state <> 'blocked' OR waiting > 0),
    CHECK (state <> 'running' OR attempt > 0),
    CHECK ((state = 'done' OR state = 'failed' OR state = 'cancelled' OR state = 'skipped') = (finished_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX jobs_id ON jobs (id);
CREATE INDEX jobs_pending ON jobs (lane, priority DESC, number) WHERE state = 'pending';
CREATE INDEX jobs_due ON jobs (due_at, number) WHERE state = 'scheduled';
CREATE INDEX jobs_deadline ON jobs (deadline_at)
    WHERE deadline_at IS NOT NULL AND state <> 'running';
-- The states that are rare among many done jobs, so that listing them does not scan.
CREATE INDEX jobs_rare ON jobs (state, number)
    WHERE state = 'blocked' OR state = 'failed' OR state = 'cancelled' OR state = 'skipped';

-- What of a schedule has not ended (S22).
CREATE INDEX jobs_schedule ON jobs (schedule, number) WHERE schedule IS NOT NULL AND finished_at IS NULL;

CREATE TABLE job_specs (
    number   INTEGER PRIMARY KEY,
    name     TEXT,
    spec     TEXT NOT NULL,
    captured TEXT,
    -- The run, schedule and occurrence that it belongs to.
    origin   TEXT
) STRICT;
CREATE INDEX job_specs_name ON job_specs (name) WHERE name IS NOT NULL;

-- Jobs that were met by whoever leases and that no orx can read, until the leader has put them aside (S29).
CREATE TABLE unreadable (
    number INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE job_labels (
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (key, value, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_labels_number ON job_labels (number);

CREATE TABLE job_dependencies (
    number    INTEGER NOT NULL,
    needs     INTEGER NOT NULL,
    until     TEXT NOT NULL CHECK (until IN ('done','ended')),
    satisfied INTEGER NOT NULL CHECK (satisfied IN (0, 1)),
    PRIMARY KEY (number, needs)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_dependencies_needs ON job_dependencies (needs, number);

-- What an attempt said of itself, the last that said anything; absent for most. It counts until the next one begins.
CREATE TABLE job_said (
    number  INTEGER PRIMARY KEY,
    attempt INTEGER NOT NULL,
    percent REAL,
    text    TEXT,
    at      INTEGER,
    result  TEXT,
    result_is_text INTEGER NOT NULL DEFAULT 0 -- it was no JSON, and is a string
) STRICT;

-- Only running jobs. Expiry is by CLOCK_BOOTTIME of one boot: no wall clock can move it (S1).
CREATE TABLE leases (
    number        INTEGER PRIMARY KEY,
    attempt       INTEGER NOT NULL,
    worker        BLOB NOT NULL,
    worker_name   TEXT NOT NULL,
    started_at    INTEGER NOT NULL,
    ttl           INTEGER NOT NULL,
    boot          TEXT NOT NULL,
    expires_boot  INTEGER NOT NULL,
    cancel        TEXT,
    -- That of its worker.
    secret_hash   BLOB NOT NULL
) STRICT;

-- Ended attempts.
CREATE TABLE attempts (
    number      INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    worker      TEXT,
    started_at  INTEGER,
    finished_at INTEGER NOT NULL,
    outcome     TEXT NOT NULL CHECK (outcome = 'done' OR outcome = 'failed' OR outcome = 'timed_out'
        OR outcome = 'cancelled' OR outcome = 'interrupted' OR outcome = 'not_started' OR outcome = 'snoozed'
        OR outcome = 'lost'),
    exit_code   INTEGER,
    signal      INTEGER,
    error       TEXT,
    PRIMARY KEY (number, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    number      INTEGER PRIMARY KEY,
    reason      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    error       TEXT,
    died_at     INTEGER NOT NULL
) STRICT;

-- The audit trail. One index only, seq (S26).
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    number  INTEGER,
    attempt INTEGER,
    worker  TEXT,
    actor   TEXT,
    state   TEXT,
    data    TEXT
) STRICT;

CREATE TABLE idempotency (
    tenant      TEXT NOT NULL,
    key         TEXT NOT NULL,
    number      INTEGER NOT NULL,
    id          BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    expires_at  INTEGER,
    -- As what its job ended: that may be forgotten before the key.
    state       TEXT,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_number ON idempotency (number);
CREATE INDEX idempotency_expires_at ON idempotency (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE names (
    tenant TEXT NOT NULL,
    name   TEXT NOT NULL,
    number INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    id           BLOB PRIMARY KEY,
    name         TEXT NOT NULL,
    host         TEXT NOT NULL,
    pid          INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('active','draining')),
    offer        TEXT NOT NULL,
    slots        INTEGER NOT NULL,
    version      TEXT NOT NULL,
    solo         INTEGER NOT NULL CHECK (solo IN (0, 1)),
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    ttl          INTEGER NOT NULL,
    boot         TEXT NOT NULL,
    expires_boot INTEGER NOT NULL,
    -- Why it starts no jobs, or fewer than it has slots.
    trouble      TEXT,
    -- The SHA-256 of what the worker shows with all that it does.
    secret_hash  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE leader (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    name    TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    -- It ended as planned: anybody may lead at once.
    released  INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1)),
    boot      TEXT NOT NULL,
    seen_boot INTEGER NOT NULL
) STRICT;

-- Output up to 64 KiB of an attempt, stored with its outcome; more is in the second file (S28).
CREATE TABLE output (
    number  INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    stream  INTEGER NOT NULL CHECK (stream IN (1, 2)),
    at      INTEGER NOT NULL,
    place   INTEGER NOT NULL,
    bytes   BLOB NOT NULL,
    PRIMARY KEY (number, attempt, seq)
) STRICT, WITHOUT ROWID;

-- Coordinators.
CREATE TABLE nodes (
    id           BLOB PRIMARY KEY,
    name         TEXT NOT NULL,
    host         TEXT NOT NULL,
    pid          INTEGER NOT NULL,
    address      TEXT,
    version      TEXT NOT NULL,
    load         REAL NOT NULL,
    draining     INTEGER NOT NULL CHECK (draining IN (0, 1)),
    peers        TEXT NOT NULL,
    homes        TEXT NOT NULL,
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    ttl          INTEGER NOT NULL,
    boot         TEXT NOT NULL,
    expires_boot INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who may call a coordinator. A secret is only known to whom it was given: here is its SHA-256.
CREATE TABLE tokens (
    id         BLOB PRIMARY KEY,
    name       TEXT NOT NULL,
    hash       TEXT NOT NULL CHECK (length(hash) = 64),
    scopes     INTEGER NOT NULL,
    tenant     TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

-- What was set of the whole, such as for how long finished jobs are kept.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Groups of jobs made together; what a run was asked to do is in run_specs and never rewritten.
-- What is counted are its tasks, not what runs when they have ended.
CREATE TABLE runs (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    name          TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    fail_fast     INTEGER NOT NULL CHECK (fail_fast IN (0, 1)),
    on_complete   INTEGER NOT NULL CHECK (on_complete IN (0, 1)),
    timeout       INTEGER,
    -- The limit that its jobs share.
    limit_key     TEXT,
    schedule_id   BLOB,
    occurrence_id BLOB,
    scheduled_for INTEGER,
    replay_of     BLOB,
    reason        TEXT,
    state         TEXT NOT NULL CHECK (state = 'running' OR state = 'done' OR state = 'failed' OR state = 'cancelled'),
    open          INTEGER NOT NULL CHECK (open >= 0),
    failed        INTEGER NOT NULL CHECK (failed >= 0),
    cancelled     INTEGER NOT NULL CHECK (cancelled >= 0),
    skipped       INTEGER NOT NULL CHECK (skipped >= 0),
    stop          TEXT,
    timed_out     INTEGER NOT NULL CHECK (timed_out IN (0, 1)),
    cancels       INTEGER NOT NULL,
    result        TEXT,
    ends          INTEGER NOT NULL,
    -- The run that it waits for.
    behind        INTEGER,
    started_at    INTEGER,
    finished_at   INTEGER,
    timeout_at    INTEGER,
    CHECK ((state = 'running') = (finished_at IS NULL)),
    CHECK (state = 'running' OR open = 0)
) STRICT;
CREATE INDEX runs_running ON runs (tenant, seq) WHERE state = 'running';
CREATE INDEX runs_timeout ON runs (timeout_at) WHERE timeout_at IS NOT NULL;
CREATE INDEX runs_behind ON runs (behind) WHERE behind IS NOT NULL;
-- Those of a schedule that have not ended (S22).
CREATE INDEX runs_schedule ON runs (schedule_id, seq) WHERE state = 'running' AND schedule_id IS NOT NULL;

CREATE TABLE run_specs (
    seq      INTEGER PRIMARY KEY,
    spec     TEXT NOT NULL,
    captured TEXT NOT NULL
) STRICT;

-- The jobs of a run: `always` ones outlive its end, the `last` one runs when the others have ended.
CREATE TABLE run_tasks (
    run    INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind   TEXT NOT NULL CHECK (kind = 'task' OR kind = 'always' OR kind = 'last'),
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX run_tasks_number ON run_tasks (number);
-- Schedules: what changes of them. What they say is in their versions.
CREATE TABLE schedules (
    id               BLOB PRIMARY KEY CHECK (length(id) = 16),
    tenant           TEXT NOT NULL,
    name             TEXT NOT NULL,
    version          INTEGER NOT NULL,
    -- The version that takes over after the instant `then_from`.
    then_version     INTEGER,
    then_from        INTEGER,
    paused           INTEGER NOT NULL CHECK (paused IN (0, 1)),
    created_at       INTEGER NOT NULL,
    -- The ledger says of every instant up to here what became of it.
    recorded_until   INTEGER NOT NULL,
    -- Where the last row of the ledger begins, if it is a range that may grow.
    tail_from        INTEGER,
    next_due_at      INTEGER,
    last_due_at      INTEGER,
    last_skip_reason TEXT,
    removed_at       INTEGER,
    CHECK ((then_version IS NULL) = (then_from IS NULL)),
    CHECK (removed_at IS NULL OR next_due_at IS NULL)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX schedules_name ON schedules (tenant, name) WHERE removed_at IS NULL;
-- By name also those that were removed.
CREATE INDEX schedules_named ON schedules (tenant, name, id);
CREATE INDEX schedules_due ON schedules (next_due_at) WHERE next_due_at IS NOT NULL;

CREATE TABLE schedule_versions (
    schedule   BLOB NOT NULL,
    version    INTEGER NOT NULL,
    definition TEXT NOT NULL,
    PRIMARY KEY (schedule, version)
) STRICT, WITHOUT ROWID;

CREATE VIEW schedule_rows AS
SELECT s.id, s.tenant, s.name, s.version, v.definition, s.then_version, t.definition AS then_definition, s.then_from,
       s.paused, s.created_at, s.recorded_until, s.tail_from, s.next_due_at, s.last_due_at, s.last_skip_reason,
       s.removed_at
FROM schedules s
JOIN schedule_versions v ON v.schedule = s.id AND v.version = s.version
LEFT JOIN schedule_versions t ON t.schedule = s.id AND t.version = s.then_version;

-- The ledger: each due instant of a schedule is in exactly one row (S20). An id follows from its schedule and instant.
CREATE TABLE occurrences (
    schedule    BLOB NOT NULL,
    due_at      INTEGER NOT NULL,
    until       INTEGER NOT NULL,
    count       INTEGER NOT NULL CHECK (count > 0),
    id          BLOB NOT NULL CHECK (length(id) = 16),
    state       TEXT NOT NULL CHECK (state = 'fired' OR state = 'skipped'),
    reason      TEXT,
    run_id      BLOB,
    version     INTEGER NOT NULL,
    recovered   INTEGER NOT NULL CHECK (recovered IN (0, 1)),
    backfilled  INTEGER NOT NULL CHECK (backfilled IN (0, 1)),
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (schedule, due_at),
    CHECK (until >= due_at),
    CHECK ((state = 'fired') = (run_id IS NOT NULL)),
    CHECK ((state = 'skipped') = (reason IS NOT NULL)),
    CHECK (state = 'skipped' OR count = 1)
) STRICT, WITHOUT ROWID;
