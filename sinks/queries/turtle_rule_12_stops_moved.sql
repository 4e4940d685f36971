-- Turtle's rule 12: when a unit is added, the stops of all open units move to two N from it.
-- One row an added unit, with the first change of stops that follows it in its run and market. Kept: it was executed,
-- for as many units as are open, to the stop that the unit says.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
WITH found AS
(
    SELECT environment, account, instance_name, trading_pair, run_id, event_type, outcome, ts_utc, raw_partition,
           raw_offset, toString(event_id) AS id, order_id, JSONExtractString(payload, 'purpose') AS purpose,
           JSONExtractString(payload, 'old_stop') AS old_stop, JSONExtractString(payload, 'new_stop') AS new_stop,
           JSONExtractString(payload, 'context', 'pyramid', 'stop_after') AS stop_after,
           JSONExtractString(payload, 'context', 'pyramid', 'units_after') AS units_after,
           JSONExtractString(payload, 'context', 'position', 'units') AS units_held,
           arrayMap(f -> f.detail, arrayFilter(f -> f.code = 'arithmetic_mismatch'
               AND JSONExtractString(f.detail, 'figure') IN ('pyramid.stop_after', 'pyramid.stop_moved_by'), findings))
               AS mismatches
    FROM tradetape.events
    WHERE derived_seq = 0
      AND event_type IN ('order_filled', 'stop_modified')
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
),
added AS
(
    SELECT * FROM found WHERE event_type = 'order_filled' AND purpose = 'pyramid'
),
moved AS
(
    SELECT environment, account, instance_name, trading_pair, run_id, ts_utc AS moved_ts_utc, outcome AS moved_outcome,
           old_stop AS moved_from, new_stop AS moved_to, if(units_held != '', units_held, units_after) AS moved_units,
           id AS moved_id
    FROM found
    WHERE event_type = 'stop_modified'
)
SELECT ts_utc, instance_name, trading_pair, order_id, if(units_after != '', units_after, units_held) AS open_units,
       stop_after, if(moved_id = '', NULL, moved_ts_utc) AS stops_ts_utc, moved_outcome AS stops_outcome,
       moved_from AS stop_from, moved_to AS stop_to, moved_units AS stop_units,
       toBool(moved_id != '' AND moved_outcome != 'failed' AND moved_units IN ('', open_units)
              AND stop_after IN ('', moved_to) AND empty(mismatches)) AS kept,
       mismatches, id AS event_id, moved_id AS stop_event_id
FROM added
ASOF LEFT JOIN moved
    ON added.environment = moved.environment AND added.account = moved.account
   AND added.instance_name = moved.instance_name AND added.trading_pair = moved.trading_pair
   AND added.run_id = moved.run_id AND added.ts_utc <= moved.moved_ts_utc
ORDER BY ts_utc, raw_partition, raw_offset
