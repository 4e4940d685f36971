-- Who asks questions: queries, reports, replay, `tradetape sql`.
CREATE ROLE IF NOT EXISTS tradetape_reader;
GRANT SELECT ON tradetape.* TO tradetape_reader;
GRANT SELECT ON system.tables TO tradetape_reader;
GRANT SELECT ON system.columns TO tradetape_reader;
-- The views named …_all read archived files below user_files.
GRANT READ ON FILE TO tradetape_reader;
GRANT CREATE TEMPORARY TABLE ON *.* TO tradetape_reader;
