-- Every decision on record, whoever took it: risk, filters, alerts, exits, and why (S4-01).
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: since String = '2000-01-01'
-- param: until String = '2100-01-01'
SELECT ts_utc, instance_name, trading_pair, event_type,
       multiIf(event_type = 'signal_evaluated',
               if(outcome != '', outcome, if(JSONExtractBool(payload, 'approved'), 'approved', 'declined')),
               event_type = 'signal_declined', 'declined',
               event_type IN ('entry_skipped', 'alert_skipped'), 'skipped',
               event_type = 'symbol_filtered', 'filtered',
               event_type = 'decision_logged', JSONExtractString(payload, 'decision_type'),
               JSONExtractString(payload, 'decision')) AS decision,
       coalesce(nullIf(JSONExtractString(payload, 'reasoning'), ''), nullIf(JSONExtractString(payload, 'reason'), ''),
                nullIf(arrayStringConcat(JSONExtract(payload, 'reasons', 'Array(String)'), '; '), ''),
                outcome_reason) AS reason,
       coalesce(nullIf(JSONExtractString(payload, 'service'), ''),
                nullIf(JSONExtractString(payload, 'policy_name'), ''),
                nullIf(JSONExtractString(payload, 'gate_failed'), ''), source) AS decided_by,
       correlation_id, event_id
FROM tradetape.events
WHERE derived_seq = 0
  AND event_type IN ('risk_decision', 'risk_evaluated', 'signal_evaluated', 'signal_declined', 'entry_skipped',
                     'symbol_filtered', 'alert_decided', 'alert_skipped', 'exit_decided', 'decision_logged')
  AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
  AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
       OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
  AND ts_utc >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
  AND ts_utc < parseDateTime64BestEffort({until:String}, 6, 'UTC')
ORDER BY ts_utc, raw_partition, raw_offset
