-- The sink: it inserts, and reads what it must know not to insert twice. It can change no row and no table.
CREATE ROLE IF NOT EXISTS tradetape_writer;
GRANT INSERT ON tradetape.events TO tradetape_writer;
GRANT INSERT ON tradetape.quarantine TO tradetape_writer;
GRANT INSERT ON tradetape.risk TO tradetape_writer;
GRANT INSERT ON tradetape.risk_latest TO tradetape_writer;
GRANT INSERT ON tradetape.alerts TO tradetape_writer;
GRANT INSERT ON tradetape.portfolios TO tradetape_writer;
GRANT INSERT ON tradetape.ingest_ledger TO tradetape_writer;
GRANT SELECT ON tradetape.* TO tradetape_writer;
GRANT SELECT ON system.tables TO tradetape_writer;
GRANT SELECT ON system.columns TO tradetape_writer;
GRANT SELECT ON system.processes TO tradetape_writer;
-- A hole is judged again from the partition's first record on, and that may be archived.
GRANT READ ON FILE TO tradetape_writer;
GRANT CREATE TEMPORARY TABLE ON *.* TO tradetape_writer;
