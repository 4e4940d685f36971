-- `tradetape archive`: the only one who deletes, and only from the tables of the record.
CREATE ROLE IF NOT EXISTS tradetape_archivist;
GRANT ALTER DELETE ON tradetape.events TO tradetape_archivist;
GRANT ALTER DELETE ON tradetape.quarantine TO tradetape_archivist;
GRANT ALTER DELETE ON tradetape.risk TO tradetape_archivist;
GRANT ALTER DELETE ON tradetape.alerts TO tradetape_archivist;
GRANT ALTER DELETE ON tradetape.portfolios TO tradetape_archivist;
GRANT INSERT ON tradetape.archive_ledger TO tradetape_archivist;
GRANT INSERT ON tradetape.archive_left TO tradetape_archivist;
GRANT CREATE VIEW, DROP VIEW ON tradetape.* TO tradetape_archivist;
GRANT SELECT ON tradetape.* TO tradetape_archivist;
GRANT SELECT ON system.tables TO tradetape_archivist;
GRANT SELECT ON system.columns TO tradetape_archivist;
GRANT SELECT ON system.mutations TO tradetape_archivist;
GRANT READ ON FILE TO tradetape_archivist;
GRANT CREATE TEMPORARY TABLE ON *.* TO tradetape_archivist;
