-- Turtle's rule 9: a breakout that the S1 filter skipped is entered at the 55-day breakout, if it comes to that.
-- A sequence across events: each skipped signal, the next S2 breakout of its market in its direction, and what came of
-- that. Not kept: the breakout came, and was filtered for another reason than a limit or a position that is held.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
WITH signals AS
(
    SELECT environment, account, instance_name, trading_pair, run_id, event_type, outcome, ts_utc, raw_partition,
           raw_offset, toString(event_id) AS id,
           JSONExtractString(payload, 'context', 'signal', 'direction') AS direction
    FROM tradetape.events
    WHERE derived_seq = 0
      AND event_type IN ('signal_generated', 'signal_evaluated')
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
      AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
      AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
),
detected AS
(
    SELECT environment, account, instance_name, trading_pair, run_id, any(direction) AS seen_direction
    FROM signals
    WHERE event_type = 'signal_generated' AND direction != ''
    GROUP BY environment, account, instance_name, trading_pair, run_id
),
evaluated AS
(
    SELECT environment, account, instance_name, trading_pair, run_id AS s2_run_id, min(outcome) AS s2_outcome
    FROM signals
    WHERE event_type = 'signal_evaluated' AND outcome != 'filtered_s1' AND run_id != ''
    GROUP BY environment, account, instance_name, trading_pair, s2_run_id
),
breakouts AS
(
    SELECT environment, account, instance_name, trading_pair,
           arraySort(groupArray((ts_utc, raw_partition, raw_offset, direction, id, run_id))) AS later
    FROM signals
    WHERE event_type = 'signal_generated' AND outcome = 'breakout_55'
    GROUP BY environment, account, instance_name, trading_pair
),
skipped AS
(
    SELECT environment, account, instance_name, trading_pair, ts_utc, raw_partition, raw_offset, id,
           if(direction != '', direction, seen_direction) AS skipped_direction,
           arrayFirst(b -> b.1 > ts_utc AND (b.4 = '' OR skipped_direction = '' OR b.4 = skipped_direction), later)
               AS next,
           next.6 AS s2_run_id
    FROM signals
    LEFT JOIN detected USING (environment, account, instance_name, trading_pair, run_id)
    LEFT JOIN breakouts USING (environment, account, instance_name, trading_pair)
    WHERE event_type = 'signal_evaluated' AND outcome = 'filtered_s1'
)
SELECT ts_utc, instance_name, trading_pair, skipped_direction AS direction, if(next.5 = '', NULL, next.1) AS s2_ts_utc,
       s2_outcome,
       toBool(s2_outcome IN ('', 'approved', 'already_in_position') OR startsWith(s2_outcome, 'limit_')) AS kept,
       id AS event_id, next.5 AS s2_event_id
FROM skipped
LEFT JOIN evaluated USING (environment, account, instance_name, trading_pair, s2_run_id)
ORDER BY ts_utc, raw_partition, raw_offset
