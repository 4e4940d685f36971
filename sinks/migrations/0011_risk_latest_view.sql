-- Each figure that lands in the history goes to the latest ones too.
CREATE MATERIALIZED VIEW IF NOT EXISTS tradetape.risk_latest_view TO tradetape.risk_latest AS SELECT * FROM tradetape.risk
