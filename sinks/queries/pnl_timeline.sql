-- P&L of a position after every event that changed a figure there, as it was shown, in the order of the record.
-- param: instance_name String
-- param: trading_pair String = ''
SELECT ts_utc, ingest_ts_utc, event_type, event_id, environment, account, instance_name, connector_name, trading_pair,
       net_base, avg_cost, mark_price, realised_quote, realised_fifo_quote, unrealised_quote, fees,
       raw_partition, raw_offset
FROM tradetape.risk
WHERE instance_name = {instance_name:String}
  AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String})
ORDER BY environment, account, connector_name, trading_pair, raw_partition, raw_offset
