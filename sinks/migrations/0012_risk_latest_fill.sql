-- What was in the history before that; a figure that comes twice stays one.
INSERT INTO tradetape.risk_latest SELECT * FROM tradetape.risk
