-- The market, the sizing and the account when a position was entered, newest first.
-- Where the execution does not say them, they are those of the order that led to it.
-- param: instance_name String = ''
-- param: trading_pair String = ''
-- param: n UInt32 = 1
SELECT instance_name, trading_pair, order_id, minIf(ts_utc, filled) AS entered_ts_utc,
       argMinIf(fill_price, position, filled) AS price,
       sumIf(toDecimal256(ifNull(fill_quantity, 0), 18), filled) AS quantity,
       argMinIf(market, position, market != '') AS market, argMinIf(sizing, position, sizing != '') AS sizing,
       argMinIf(account_state, position, account_state != '') AS account
FROM
(
    SELECT environment, account AS exchange_account, instance_name, trading_pair, order_id, ts_utc, price AS fill_price,
           quantity AS fill_quantity, event_type = 'order_filled' AS filled,
           (NOT filled, raw_partition, raw_offset) AS position, JSONExtractRaw(payload, 'context', 'market') AS market,
           JSONExtractRaw(payload, 'context', 'sizing') AS sizing,
           JSONExtractRaw(payload, 'context', 'account') AS account_state
    FROM tradetape.events
    WHERE derived_seq = 0
      AND event_type IN ('order_created', 'order_filled')
      AND JSONExtractString(payload, 'purpose') = 'entry'
      AND ({instance_name:String} = '' OR instance_name = {instance_name:String})
      AND ({trading_pair:String} = '' OR trading_pair = {trading_pair:String}
           OR startsWith(trading_pair, concat({trading_pair:String}, '-')))
)
GROUP BY environment, exchange_account, instance_name, trading_pair, order_id
HAVING countIf(filled) > 0
ORDER BY entered_ts_utc DESC, order_id
LIMIT {n:UInt32}
