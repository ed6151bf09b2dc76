-- The queue. Times are milliseconds since 1970 (UTC), all of them by this server's clock.

CREATE TABLE meta (
    key   text PRIMARY KEY,
    value text NOT NULL
);

-- The oldest schema whose code may still use this store (S29).
INSERT INTO meta VALUES ('min_compatible', '1');

-- The id of this store, and of no copy of it.
INSERT INTO meta VALUES ('store', replace(gen_random_uuid()::text, '-', ''));

-- The only reading of the clock: fixed when the transaction begins.
CREATE FUNCTION clock_ms() RETURNS bigint LANGUAGE sql STABLE AS
    $$ SELECT floor(extract(epoch FROM now()) * 1000)::bigint $$;

-- Has a statement fail that did not find what it must.
CREATE FUNCTION must(had bigint, meant bigint, code text, complaint text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF had <> meant THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = complaint;
    END IF;
END
$$;

CREATE TABLE queues (
    name        text PRIMARY KEY,
    paused      boolean NOT NULL DEFAULT false,
    shared      boolean NOT NULL DEFAULT true,
    max_running bigint CHECK (max_running >= 0),
    max_queued  bigint CHECK (max_queued >= 0),
    per_minute  bigint CHECK (per_minute >= 0),
    max_payload bigint CHECK (max_payload >= 0)
);

CREATE TABLE tenants (
    name        text PRIMARY KEY,
    max_running bigint CHECK (max_running >= 0),
    max_queued  bigint CHECK (max_queued >= 0),
    per_minute  bigint CHECK (per_minute >= 0),
    max_payload bigint CHECK (max_payload >= 0)
);

-- How often what happened: attempts by outcome, refusals, retries. Never goes back.
CREATE TABLE tallies (
    name  text PRIMARY KEY,
    value bigint NOT NULL
);
CREATE TABLE tally_deltas (
    name  text NOT NULL,
    value bigint NOT NULL
);

-- How many jobs were submitted when, over the last minute, where that is limited.
CREATE TABLE submissions (
    scope text NOT NULL CHECK (scope IN ('queue','tenant')),
    name  text NOT NULL,
    at    bigint NOT NULL,
    count bigint NOT NULL CHECK (count > 0),
    PRIMARY KEY (scope, name, at)
);

CREATE TABLE limits (
    tenant      text NOT NULL,
    key         text NOT NULL,
    max_running bigint NOT NULL CHECK (max_running > 0),
    PRIMARY KEY (tenant, key)
);

-- One per (queue, tenant, limit key, needs): what a lease chooses between (S14).
-- It counts nothing, so that jobs of one lane can be stored and handed out side by side. `active` is true while it has
-- pending jobs: who makes one pending holds the row FOR SHARE, who takes `active` away needs it for itself.
CREATE TABLE lanes (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue     text NOT NULL REFERENCES queues,
    tenant    text NOT NULL REFERENCES tenants,
    limit_key text NOT NULL DEFAULT '',
    needs     text NOT NULL DEFAULT '',
    active    boolean NOT NULL DEFAULT false,
    UNIQUE (queue, tenant, limit_key, needs)
) WITH (fillfactor = 50);
CREATE INDEX lanes_active ON lanes (id) WHERE active;
CREATE INDEX lanes_tenant ON lanes (tenant);

-- Whose turn it is; apart from the lanes, so that a turn never waits for whoever stores a job.
CREATE SEQUENCE turns;
CREATE TABLE lane_turns (
    lane   bigint PRIMARY KEY REFERENCES lanes,
    served bigint NOT NULL
) WITH (fillfactor = 50);

-- Totals by lane and state, and what is to be added to them: the leader adds it up (S31).
CREATE TABLE lane_totals (
    lane      bigint PRIMARY KEY REFERENCES lanes,
    blocked   bigint NOT NULL DEFAULT 0,
    scheduled bigint NOT NULL DEFAULT 0,
    pending   bigint NOT NULL DEFAULT 0,
    running   bigint NOT NULL DEFAULT 0,
    done      bigint NOT NULL DEFAULT 0,
    failed    bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    skipped   bigint NOT NULL DEFAULT 0,
    pruned    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE lane_deltas (
    lane      bigint NOT NULL,
    blocked   bigint NOT NULL,
    scheduled bigint NOT NULL,
    pending   bigint NOT NULL,
    running   bigint NOT NULL,
    done      bigint NOT NULL,
    failed    bigint NOT NULL,
    cancelled bigint NOT NULL,
    skipped   bigint NOT NULL,
    pruned    bigint NOT NULL
);
CREATE INDEX lane_deltas_lane ON lane_deltas (lane);
CREATE VIEW lane_counts AS
    SELECT * FROM lane_totals UNION ALL SELECT * FROM lane_deltas;

-- The hot part of a job; what it was asked to do is in job_specs and never rewritten. It has no CHECK, nor have attempts:
-- each statement that writes would read those anew, which takes longer than to write the row. See check_rows.sql.
CREATE SEQUENCE job_numbers;
CREATE TABLE jobs (
    number              bigint PRIMARY KEY,
    id                  uuid NOT NULL UNIQUE,
    lane                bigint NOT NULL,
    state               text NOT NULL,
    priority            integer NOT NULL,
    created_at          bigint NOT NULL,
    attempt             integer NOT NULL DEFAULT 0,
    generation          integer NOT NULL DEFAULT 1,
    failures            integer NOT NULL DEFAULT 0,
    losses              integer NOT NULL DEFAULT 0,
    interruptions       integer NOT NULL DEFAULT 0,
    streak              integer NOT NULL DEFAULT 0,
    unstarted           integer NOT NULL DEFAULT 0,
    unstarted_alone     integer NOT NULL DEFAULT 0,
    waiting             integer NOT NULL DEFAULT 0,
    due_at              bigint,
    deadline_at         bigint,
    finished_at         bigint,
    cancel_requested_at bigint,
    reason              text,
    -- Up to this place all events of a finished job lie.
    last_seq            bigint NOT NULL DEFAULT 0,
    -- The schedule that made it.
    schedule            uuid
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX jobs_pending ON jobs (lane, priority DESC, number) WHERE state = 'pending';
CREATE INDEX jobs_due ON jobs (due_at, number) WHERE state = 'scheduled';
CREATE INDEX jobs_deadline ON jobs (deadline_at) WHERE deadline_at IS NOT NULL AND state <> 'running';
-- The states that are rare among many done jobs, so that listing them does not scan.
CREATE INDEX jobs_rare ON jobs (state, number) WHERE state IN ('blocked','failed','cancelled','skipped');

-- What of a schedule has not ended (S22).
CREATE INDEX jobs_schedule ON jobs (schedule, number) WHERE schedule IS NOT NULL AND finished_at IS NULL;

CREATE TABLE job_specs (
    number   bigint PRIMARY KEY,
    name     text,
    spec     text NOT NULL,
    captured text,
    -- The run, schedule and occurrence that it belongs to.
    origin   text
);
CREATE INDEX job_specs_name ON job_specs (name, number) WHERE name IS NOT NULL;

-- Jobs that were met by whoever leases and that no orx can read, until the leader has put them aside (S29).
CREATE TABLE unreadable (
    number bigint PRIMARY KEY
);

CREATE TABLE job_labels (
    key    text NOT NULL,
    value  text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (key, value, number)
);
CREATE INDEX job_labels_number ON job_labels (number);

CREATE TABLE job_dependencies (
    number    bigint NOT NULL,
    needs     bigint NOT NULL,
    until     text NOT NULL CHECK (until IN ('done','ended')),
    satisfied boolean NOT NULL,
    PRIMARY KEY (number, needs)
);
CREATE INDEX job_dependencies_needs ON job_dependencies (needs, number);

-- What an attempt said of itself, the last that said anything; absent for most. It counts until the next one begins.
CREATE TABLE job_said (
    number  bigint PRIMARY KEY,
    attempt integer NOT NULL,
    percent double precision,
    text    text,
    at      bigint,
    result  text,
    result_is_text boolean NOT NULL DEFAULT false -- it was no JSON, and is a string
);

-- Only running jobs. No index on the expiry: there are few rows, and renewing must touch no index.
CREATE TABLE leases (
    number      bigint PRIMARY KEY,
    attempt     integer NOT NULL,
    lane        bigint NOT NULL,
    worker      uuid NOT NULL,
    worker_name text NOT NULL,
    started_at  bigint NOT NULL,
    ttl         bigint NOT NULL,
    expires_at  bigint NOT NULL,
    cancel      text,
    -- That of its worker.
    secret_hash bytea NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX leases_worker ON leases (worker);
CREATE INDEX leases_lane ON leases (lane);

-- Ended attempts.
CREATE TABLE attempts (
    number      bigint NOT NULL,
    attempt     integer NOT NULL,
    worker      text,
    started_at  bigint,
    finished_at bigint NOT NULL,
    outcome     text NOT NULL,
    exit_code   integer,
    signal      integer,
    error       text,
    PRIMARY KEY (number, attempt)
);

CREATE TABLE dead_letters (
    number      bigint PRIMARY KEY,
    reason      text NOT NULL,
    fingerprint text NOT NULL,
    error       text,
    died_at     bigint NOT NULL
);

-- The audit trail. One index only, seq (S26).
CREATE TABLE events (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      bigint NOT NULL,
    kind    text NOT NULL,
    number  bigint,
    attempt integer,
    worker  text,
    actor   text,
    state   text,
    data    text
);

CREATE TABLE idempotency (
    tenant      text NOT NULL,
    key         text NOT NULL,
    number      bigint NOT NULL,
    id          uuid NOT NULL,
    fingerprint bytea NOT NULL,
    expires_at  bigint,
    -- As what its job ended: that may be forgotten before the key.
    state       text,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_number ON idempotency (number);
CREATE INDEX idempotency_expires_at ON idempotency (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE names (
    tenant text NOT NULL,
    name   text NOT NULL,
    number bigint NOT NULL UNIQUE,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE workers (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    host         text NOT NULL,
    pid          bigint NOT NULL,
    state        text NOT NULL CHECK (state IN ('active','draining')),
    offer        text NOT NULL,
    slots        bigint NOT NULL,
    version      text NOT NULL,
    solo         boolean NOT NULL,
    started_at   bigint NOT NULL,
    heartbeat_at bigint NOT NULL,
    ttl          bigint NOT NULL,
    expires_at   bigint NOT NULL,
    -- Why it starts no jobs, or fewer than it has slots.
    trouble      text,
    -- The SHA-256 of what the worker shows with all that it does.
    secret_hash  bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE leader (
    id          integer PRIMARY KEY CHECK (id = 1),
    name        text NOT NULL,
    epoch       bigint NOT NULL,
    seen_at     bigint NOT NULL,
    released    boolean NOT NULL DEFAULT false,
    -- This server's clock and the boot clock of the leader's machine at one moment: their progress is compared (S1).
    marked_at   bigint NOT NULL,
    boot        text NOT NULL,
    marked_boot bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE output (
    number  bigint NOT NULL,
    attempt integer NOT NULL,
    seq     bigint NOT NULL,
    stream  smallint NOT NULL CHECK (stream IN (1, 2)),
    at      bigint NOT NULL,
    place   bigint NOT NULL,
    bytes   bytea NOT NULL,
    PRIMARY KEY (number, attempt, seq)
);

-- Coordinators.
CREATE TABLE nodes (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    host         text NOT NULL,
    pid          bigint NOT NULL,
    address      text,
    version      text NOT NULL,
    load         double precision NOT NULL,
    draining     boolean NOT NULL,
    peers        text NOT NULL,
    homes        text NOT NULL,
    started_at   bigint NOT NULL,
    heartbeat_at bigint NOT NULL,
    ttl          bigint NOT NULL,
    expires_at   bigint NOT NULL
) WITH (fillfactor = 50);

-- Who may call a coordinator. A secret is only known to whom it was given: here is its SHA-256.
CREATE TABLE tokens (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    hash       text NOT NULL CHECK (length(hash) = 64),
    scopes     integer NOT NULL,
    tenant     text,
    created_at bigint NOT NULL,
    created_by text NOT NULL,
    expires_at bigint,
    revoked_at bigint
);

-- What was set of the whole, such as for how long finished jobs are kept.
CREATE TABLE settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- Groups of jobs made together; what a run was asked to do is in run_specs and never rewritten.
-- What is counted are its tasks, not what runs when they have ended.
CREATE TABLE runs (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            uuid NOT NULL UNIQUE,
    name          text NOT NULL,
    tenant        text NOT NULL,
    created_at    bigint NOT NULL,
    fail_fast     boolean NOT NULL,
    on_complete   boolean NOT NULL,
    timeout       bigint,
    -- The limit that its jobs share.
    limit_key     text,
    schedule_id   uuid,
    occurrence_id uuid,
    scheduled_for bigint,
    replay_of     uuid,
    reason        text,
    state         text NOT NULL CHECK (state IN ('running','done','failed','cancelled')),
    open          integer NOT NULL CHECK (open >= 0),
    failed        integer NOT NULL CHECK (failed >= 0),
    cancelled     integer NOT NULL CHECK (cancelled >= 0),
    skipped       integer NOT NULL CHECK (skipped >= 0),
    stop          text,
    timed_out     boolean NOT NULL,
    cancels       integer NOT NULL,
    result        text,
    ends          integer NOT NULL,
    -- The run that it waits for.
    behind        bigint,
    started_at    bigint,
    finished_at   bigint,
    timeout_at    bigint,
    CHECK ((state = 'running') = (finished_at IS NULL)),
    CHECK (state = 'running' OR open = 0)
) WITH (fillfactor = 50);
CREATE INDEX runs_running ON runs (tenant, seq) WHERE state = 'running';
CREATE INDEX runs_timeout ON runs (timeout_at) WHERE timeout_at IS NOT NULL;
CREATE INDEX runs_behind ON runs (behind) WHERE behind IS NOT NULL;
-- Those of a schedule that have not ended (S22).
CREATE INDEX runs_schedule ON runs (schedule_id, seq) WHERE state = 'running' AND schedule_id IS NOT NULL;

CREATE TABLE run_specs (
    seq      bigint PRIMARY KEY,
    spec     text NOT NULL,
    captured text NOT NULL
);

-- The jobs of a run: `always` ones outlive its end, the `last` one runs when the others have ended.
CREATE TABLE run_tasks (
    run    bigint NOT NULL,
    number bigint NOT NULL,
    kind   text NOT NULL CHECK (kind IN ('task','always','last')),
    PRIMARY KEY (run, number)
);
CREATE UNIQUE INDEX run_tasks_number ON run_tasks (number);
-- Schedules: what changes of them. What they say is in their versions.
CREATE TABLE schedules (
    id               uuid PRIMARY KEY,
    tenant           text NOT NULL,
    name             text NOT NULL,
    version          integer NOT NULL,
    -- The version that takes over after the instant `then_from`.
    then_version     integer,
    then_from        bigint,
    paused           boolean NOT NULL,
    created_at       bigint NOT NULL,
    -- The ledger says of every instant up to here what became of it.
    recorded_until   bigint NOT NULL,
    -- Where the last row of the ledger begins, if it is a range that may grow.
    tail_from        bigint,
    next_due_at      bigint,
    last_due_at      bigint,
    last_skip_reason text,
    removed_at       bigint,
    CHECK ((then_version IS NULL) = (then_from IS NULL)),
    CHECK (removed_at IS NULL OR next_due_at IS NULL)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX schedules_name ON schedules (tenant, name) WHERE removed_at IS NULL;
-- By name also those that were removed.
CREATE INDEX schedules_named ON schedules (tenant, name, id);
CREATE INDEX schedules_due ON schedules (next_due_at) WHERE next_due_at IS NOT NULL;

CREATE TABLE schedule_versions (
    schedule   uuid NOT NULL,
    version    integer NOT NULL,
    definition text NOT NULL,
    PRIMARY KEY (schedule, version)
);

CREATE VIEW schedule_rows AS
SELECT s.id, s.tenant, s.name, s.version, v.definition, s.then_version, t.definition AS then_definition, s.then_from,
       s.paused, s.created_at, s.recorded_until, s.tail_from, s.next_due_at, s.last_due_at, s.last_skip_reason,
       s.removed_at
FROM schedules s
JOIN schedule_versions v ON v.schedule = s.id AND v.version = s.version
LEFT JOIN schedule_versions t ON t.schedule = s.id AND t.version = s.then_version;

-- The ledger: each due instant of a schedule is in exactly one row (S20). An id follows from its schedule and instant.
CREATE TABLE occurrences (
    schedule    uuid NOT NULL,
    due_at      bigint NOT NULL,
    until       bigint NOT NULL,
    count       bigint NOT NULL CHECK (count > 0),
    id          uuid NOT NULL,
    state       text NOT NULL CHECK (state IN ('fired','skipped')),
    reason      text,
    run_id      uuid,
    version     integer NOT NULL,
    recovered   boolean NOT NULL,
    backfilled  boolean NOT NULL,
    recorded_at bigint NOT NULL,
    PRIMARY KEY (schedule, due_at),
    CHECK (until >= due_at),
    CHECK ((state = 'fired') = (run_id IS NOT NULL)),
    CHECK ((state = 'skipped') = (reason IS NOT NULL)),
    CHECK (state = 'skipped' OR count = 1)
);
