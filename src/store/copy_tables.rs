//! What a queue consists of, whichever database it lies in.
//!
//! Left out is what belongs to processes (workers, nodes, leases: there are none when a queue is copied) and what follows
//! from the rest (counters of jobs by state, turns of lanes).

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Real,
    /// Text.
    Text,
    /// An id.
    Uuid,
    /// Bytes.
    Bytes,
}

use Column::{Bool, Bytes, Int, Real, Text, Uuid};

/// A table as every backend knows it, though it may keep it in another form.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [(&'static str, Column)],
}

const fn table(name: &'static str, columns: &'static [(&'static str, Column)]) -> Table {
    Table { name, columns }
}

/// All of it, in an order in which it can be loaded.
pub const TABLES: &[Table] = &[
    // The highest numbers that were ever given.
    table("counters", &[("name", Text), ("value", Int)]),
    table(
        "queues",
        &[
            ("name", Text),
            ("paused", Bool),
            ("shared", Bool),
            ("max_running", Int),
            ("max_queued", Int),
            ("per_minute", Int),
            ("max_payload", Int),
        ],
    ),
    table(
        "tenants",
        &[("name", Text), ("max_running", Int), ("max_queued", Int), ("per_minute", Int), ("max_payload", Int)],
    ),
    table("limits", &[("tenant", Text), ("key", Text), ("max_running", Int)]),
    table(
        "tokens",
        &[
            ("id", Uuid),
            ("name", Text),
            ("hash", Text),
            ("scopes", Int),
            ("tenant", Text),
            ("created_at", Int),
            ("created_by", Text),
            ("expires_at", Int),
            ("revoked_at", Int),
        ],
    ),
    table("settings", &[("name", Text), ("value", Text)]),
    table("tallies", &[("name", Text), ("value", Int)]),
    table("submissions", &[("scope", Text), ("name", Text), ("at", Int), ("count", Int)]),
    table(
        "lanes",
        &[("id", Int), ("queue", Text), ("tenant", Text), ("limit_key", Text), ("needs", Text), ("served", Int)],
    ),
    // How many jobs of a queue were forgotten.
    table("pruned", &[("queue", Text), ("count", Int)]),
    table(
        "jobs",
        &[
            ("number", Int),
            ("id", Uuid),
            ("lane", Int),
            ("state", Text),
            ("priority", Int),
            ("created_at", Int),
            ("attempt", Int),
            ("generation", Int),
            ("failures", Int),
            ("losses", Int),
            ("interruptions", Int),
            ("streak", Int),
            ("unstarted", Int),
            ("unstarted_alone", Int),
            ("waiting", Int),
            ("due_at", Int),
            ("deadline_at", Int),
            ("finished_at", Int),
            ("cancel_requested_at", Int),
            ("reason", Text),
            ("last_seq", Int),
            ("schedule", Uuid),
        ],
    ),
    table("job_specs", &[("number", Int), ("name", Text), ("spec", Text), ("captured", Text), ("origin", Text)]),
    table("job_labels", &[("key", Text), ("value", Text), ("number", Int)]),
    table("job_dependencies", &[("number", Int), ("needs", Int), ("until", Text), ("satisfied", Bool)]),
    table(
        "job_said",
        &[
            ("number", Int),
            ("attempt", Int),
            ("percent", Real),
            ("text", Text),
            ("at", Int),
            ("result", Text),
            ("result_is_text", Bool),
        ],
    ),
    table(
        "attempts",
        &[
            ("number", Int),
            ("attempt", Int),
            ("worker", Text),
            ("started_at", Int),
            ("finished_at", Int),
            ("outcome", Text),
            ("exit_code", Int),
            ("signal", Int),
            ("error", Text),
        ],
    ),
    table(
        "dead_letters",
        &[("number", Int), ("reason", Text), ("fingerprint", Text), ("error", Text), ("died_at", Int)],
    ),
    table(
        "events",
        &[
            ("seq", Int),
            ("at", Int),
            ("kind", Text),
            ("number", Int),
            ("attempt", Int),
            ("worker", Text),
            ("actor", Text),
            ("state", Text),
            ("data", Text),
        ],
    ),
    table(
        "idempotency",
        &[
            ("tenant", Text),
            ("key", Text),
            ("number", Int),
            ("id", Uuid),
            ("fingerprint", Bytes),
            ("expires_at", Int),
            ("state", Text),
        ],
    ),
    table("names", &[("tenant", Text), ("name", Text), ("number", Int)]),
    table(
        "runs",
        &[
            ("seq", Int),
            ("id", Uuid),
            ("name", Text),
            ("tenant", Text),
            ("created_at", Int),
            ("fail_fast", Bool),
            ("on_complete", Bool),
            ("timeout", Int),
            ("limit_key", Text),
            ("schedule_id", Uuid),
            ("occurrence_id", Uuid),
            ("scheduled_for", Int),
            ("replay_of", Uuid),
            ("reason", Text),
            ("state", Text),
            ("open", Int),
            ("failed", Int),
            ("cancelled", Int),
            ("skipped", Int),
            ("stop", Text),
            ("timed_out", Bool),
            ("cancels", Int),
            ("result", Text),
            ("ends", Int),
            ("behind", Int),
            ("started_at", Int),
            ("finished_at", Int),
            ("timeout_at", Int),
        ],
    ),
    table("run_specs", &[("seq", Int), ("spec", Text), ("captured", Text)]),
    table("run_tasks", &[("run", Int), ("number", Int), ("kind", Text)]),
    table(
        "schedules",
        &[
            ("id", Uuid),
            ("tenant", Text),
            ("name", Text),
            ("version", Int),
            ("then_version", Int),
            ("then_from", Int),
            ("paused", Bool),
            ("created_at", Int),
            ("recorded_until", Int),
            ("tail_from", Int),
            ("next_due_at", Int),
            ("last_due_at", Int),
            ("last_skip_reason", Text),
            ("removed_at", Int),
        ],
    ),
    table("schedule_versions", &[("schedule", Uuid), ("version", Int), ("definition", Text)]),
    table(
        "occurrences",
        &[
            ("schedule", Uuid),
            ("due_at", Int),
            ("until", Int),
            ("count", Int),
            ("id", Uuid),
            ("state", Text),
            ("reason", Text),
            ("run_id", Uuid),
            ("version", Int),
            ("recovered", Bool),
            ("backfilled", Bool),
            ("recorded_at", Int),
        ],
    ),
    table(
        "output",
        &[
            ("number", Int),
            ("attempt", Int),
            ("seq", Int),
            ("stream", Int),
            ("at", Int),
            ("place", Int),
            ("bytes", Bytes),
        ],
    ),
    // So that epochs go on rising; who led does not lead the copy.
    table("leader", &[("id", Int), ("name", Text), ("epoch", Int), ("seen_at", Int)]),
];
