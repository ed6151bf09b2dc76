INSERT INTO leader (id, name, epoch, seen_at, released, marked_at, boot, marked_boot)
SELECT u.id, u.name, u.epoch, u.seen_at, true, u.seen_at, '', 0
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) AS u(id, name, epoch, seen_at)
