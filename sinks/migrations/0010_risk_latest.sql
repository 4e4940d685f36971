-- The last figure of each position (P-02): what `risk` tells as history. The higher offset wins, however often a row comes.
CREATE TABLE IF NOT EXISTS tradetape.risk_latest AS tradetape.risk
ENGINE = ReplacingMergeTree(raw_offset)
ORDER BY (environment, account, instance_name, connector_name, trading_pair)
