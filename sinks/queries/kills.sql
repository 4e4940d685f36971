-- Every kill: who has to stop and why, who took notice, what was sent all the same, when it was reset and by whom.
-- A bot's own activation is a kill too, but for those that name one that was ordered: they are read back from where the
-- bridge told it.
WITH told AS
(
    SELECT JSONExtractString(finding.detail, 'kill_id') AS kill_id, finding.code AS code, finding.status AS status,
           (environment, account, instance_name) AS instance, finding.subject AS subject,
           JSONExtractInt(finding.detail, 'seconds_after') AS seconds
    FROM tradetape.events
    ARRAY JOIN findings AS finding
    WHERE finding.code IN ('order_after_kill', 'signal_after_kill', 'kill_not_acknowledged', 'flat_after_kill')
),
obeyed AS
(
    SELECT kill_id,
           uniqExactIf((instance, subject), code = 'order_after_kill') AS orders_after,
           uniqExactIf(subject, code = 'signal_after_kill') AS signals_after,
           maxOrNullIf(seconds, code = 'flat_after_kill') AS seconds_to_flat
    FROM told
    GROUP BY kill_id
),
acknowledged AS
(
    SELECT JSONExtractString(payload, 'kill_id') AS kill_id,
           uniqExact(environment, account, instance_name) AS acknowledged
    FROM tradetape.events
    WHERE event_type = 'kill_acknowledged'
    GROUP BY kill_id
),
reset AS
(
    SELECT JSONExtractString(payload, 'kill_id') AS kill_id, min(ts_utc) AS reset_ts_utc,
           argMin(JSONExtractString(payload, 'operator'), ts_utc) AS reset_by,
           argMin(JSONExtractString(payload, 'reason'), ts_utc) AS reset_reason
    FROM tradetape.events
    WHERE event_type = 'kill_reset'
    GROUP BY kill_id
),
ordered AS
(
    SELECT if(event_type = 'kill_ordered', JSONExtractString(payload, 'kill_id'), toString(event_id)) AS kill_id,
           min(ts_utc) AS ordered_ts_utc, any(JSONExtractString(payload, 'trigger')) AS trigger,
           any(coalesce(nullIf(JSONExtractString(payload, 'rule'), ''), JSONExtractString(payload, 'reason'))) AS why,
           any(JSONExtractString(payload, 'value')) AS value, any(JSONExtractString(payload, 'threshold')) AS threshold,
           any(if(event_type = 'kill_ordered', JSONExtractString(payload, 'environment'), environment)) AS environment,
           any(if(event_type = 'kill_ordered', JSONExtractString(payload, 'account'), account)) AS account,
           any(if(event_type = 'kill_ordered', JSONExtractString(payload, 'instance'), instance_name)) AS instance
    FROM tradetape.events
    WHERE event_type = 'kill_ordered'
       OR event_type = 'kill_switch_activated' AND JSONExtractString(payload, 'kill_id') NOT IN
          (
              SELECT JSONExtractString(payload, 'kill_id')
              FROM tradetape.events
              WHERE event_type = 'kill_ordered' AND JSONExtractString(payload, 'kill_id') != ''
          )
    GROUP BY kill_id
)
SELECT kill_id, ordered_ts_utc, trigger, why, value, threshold, environment, account, instance,
       ifNull(acknowledged, 0) AS acknowledged, ifNull(orders_after, 0) AS orders_after,
       ifNull(signals_after, 0) AS signals_after, seconds_to_flat, reset_ts_utc, reset_by, reset_reason
FROM ordered
LEFT JOIN obeyed USING kill_id
LEFT JOIN acknowledged USING kill_id
LEFT JOIN reset USING kill_id
ORDER BY ordered_ts_utc DESC
SETTINGS join_use_nulls = 1
