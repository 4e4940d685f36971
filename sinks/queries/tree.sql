-- One chain as a tree: what caused what, down to the last event.
-- An event without a cause on record hangs below the first event of the chain. native_event_id names a cause too.
-- param: correlation_id String
WITH
(
    SELECT groupUniqArray((instance_name, if(event_type = 'link_resolved', supersedes, toString(event_id))))
    FROM tradetape.events
    WHERE correlation_id = {correlation_id:String}
) AS members,
resolutions AS
(
    SELECT supersedes AS id, argMax(correlation_id, position) AS chain, argMax(link, position) AS link
    FROM
    (
        SELECT supersedes, correlation_id, link, (raw_partition, raw_offset, derived_seq) AS position
        FROM tradetape.events
        WHERE event_type = 'link_resolved'
          AND (instance_name, supersedes) IN (SELECT member.1, member.2 FROM (SELECT arrayJoin(members) AS member))
    )
    GROUP BY supersedes
),
chain AS
(
    SELECT ts_utc, instance_name, event_type, trading_pair, outcome, order_id, side, price, quantity, causation_id,
           native_event_id, said.id AS event_id, if(resolution.id = '', said.link, resolution.link) AS link,
           row_number() OVER (ORDER BY ts_utc, raw_partition, raw_offset) AS rank
    FROM
    (
        SELECT *, order_id, side, price, quantity, toString(event_id) AS id
        FROM tradetape.events
        WHERE derived_seq = 0
          AND (instance_name, event_id) IN (SELECT member.1, toUUID(member.2) FROM (SELECT arrayJoin(members) AS member))
    ) AS said
    LEFT JOIN resolutions AS resolution ON resolution.id = said.id
    WHERE if(resolution.id = '', said.correlation_id, resolution.chain) = {correlation_id:String}
),
hung AS
(
    SELECT *, if(cause_rank NOT IN (0, rank), cause_rank, if(root_rank = rank, 0, root_rank)) AS parent
    FROM
    (
        SELECT *, if(tie.2 = '', 0, minIf(rank, tie.1 = 'names') OVER (PARTITION BY tie.2)) AS cause_rank
        FROM
        (
            SELECT *, minIf(rank, event_id = {correlation_id:String}) OVER () AS root_rank,
                   arrayJoin([('names', event_id), ('names', native_event_id), ('has cause', causation_id)]) AS tie
            FROM chain
        )
    )
    WHERE tie.1 = 'has cause'
),
(SELECT arrayPushFront(groupArray(parent), 0) FROM (SELECT parent FROM hung ORDER BY rank)) AS parents
SELECT length(path) - 1 AS depth, concat(repeat('  ', depth), event_type) AS event, ts_utc, instance_name, trading_pair,
       outcome, order_id, side, price, quantity, link, event_id, causation_id
FROM
(
    SELECT *,
           arrayFold((way, step) -> arrayPushFront(way, parents[way[1] + 1]), range(64), [rank]) AS way_up,
           arrayFilter(step -> step > 0, way_up) AS path
    FROM hung
)
ORDER BY path
