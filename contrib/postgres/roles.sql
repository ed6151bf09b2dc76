-- Roles for a queue in PostgreSQL, by what they may do:
--
--   owner   makes the tables and brings them up to date (orx db migrate); may do everything
--   worker  enqueues, runs, cancels, keeps the clock; everything but migrate
--   reader  looks: list, status, tail, events, audit, db check
--
-- Run it as a superuser, or as who may make roles and schemas, in the queue's database. It may be run again:
--
--   psql -d jobs -f contrib/postgres/roles.sql
--   psql -d jobs -v schema=ci -v owner=ci_owner -v worker=ci_worker -v reader=ci_reader -f contrib/postgres/roles.sql
--
-- Then give each a password (\password orx_worker), or make your own logins members of them: GRANT orx_worker TO build3.
-- Only the owner itself makes tables, so orx db migrate runs as the owner and not as a member of it.

\set ON_ERROR_STOP on
\if :{?schema} \else \set schema orx \endif
\if :{?owner} \else \set owner orx_owner \endif
\if :{?worker} \else \set worker orx_worker \endif
\if :{?reader} \else \set reader orx_reader \endif

SELECT format('CREATE ROLE %I LOGIN', r) FROM unnest(ARRAY[:'owner', :'worker', :'reader']) AS r
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = r) \gexec

BEGIN;
CREATE SCHEMA IF NOT EXISTS :"schema" AUTHORIZATION :"owner";
GRANT USAGE ON SCHEMA :"schema" TO :"worker", :"reader";

-- What is there.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA :"schema" TO :"worker";
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA :"schema" TO :"worker";
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA :"schema" TO :"worker", :"reader";
GRANT SELECT ON ALL TABLES IN SCHEMA :"schema" TO :"reader";
-- Where the trail of events ends.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA :"schema" TO :"reader";

-- What the owner will make.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"worker";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO :"worker";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
    GRANT EXECUTE ON FUNCTIONS TO :"worker", :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
    GRANT SELECT ON TABLES TO :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
    GRANT SELECT ON SEQUENCES TO :"reader";
COMMIT;
