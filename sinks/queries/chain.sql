-- All events of one chain, in order, also those whose chain was found later.
-- What tells the chain of an earlier event is of the same instance, so no other is searched.
-- param: correlation_id String
WITH
(
    SELECT groupUniqArray((instance_name, if(event_type = 'link_resolved', supersedes, toString(event_id))))
    FROM tradetape.events
    WHERE correlation_id = {correlation_id:String}
) AS members,
resolutions AS
(
    SELECT supersedes AS id, argMax(correlation_id, position) AS chain, argMax(link, position) AS link,
           argMax(linked_by, position) AS linked_by
    FROM
    (
        SELECT supersedes, correlation_id, link, linked_by, (raw_partition, raw_offset, derived_seq) AS position
        FROM tradetape.events
        WHERE event_type = 'link_resolved'
          AND (instance_name, supersedes) IN (SELECT member.1, member.2 FROM (SELECT arrayJoin(members) AS member))
    )
    GROUP BY supersedes
)
SELECT ts_utc, instance_name, event_type, event_id, causation_id, if(resolution.id = '', said.link, resolution.link) AS link,
       if(resolution.id = '', said.linked_by, resolution.linked_by) AS linked_by, order_id, side, price, quantity, outcome,
       arrayMap(f -> concat(f.code, ' ', f.status), findings) AS findings, payload, raw_partition, raw_offset
FROM
(
    SELECT *, order_id, side, price, quantity, toString(event_id) AS id
    FROM tradetape.events
    WHERE derived_seq = 0
      AND (instance_name, event_id) IN (SELECT member.1, toUUID(member.2) FROM (SELECT arrayJoin(members) AS member))
) AS said
LEFT JOIN resolutions AS resolution ON resolution.id = said.id
WHERE if(resolution.id = '', said.correlation_id, resolution.chain) = {correlation_id:String}
ORDER BY ts_utc, raw_partition, raw_offset
