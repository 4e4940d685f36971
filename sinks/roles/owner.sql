-- Who applies migrations (`tradetape migrate`): makes and extends tables, changes no row.
CREATE ROLE IF NOT EXISTS tradetape_owner;
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW ON tradetape.* TO tradetape_owner;
GRANT ALTER ADD COLUMN, ALTER MODIFY COLUMN, ALTER COMMENT COLUMN, ALTER ADD INDEX ON tradetape.* TO tradetape_owner;
GRANT SELECT, INSERT ON tradetape.* TO tradetape_owner;
GRANT SELECT ON system.tables TO tradetape_owner;
GRANT SELECT ON system.columns TO tradetape_owner;
-- For the views over archived files.
GRANT READ ON FILE TO tradetape_owner;
GRANT CREATE TEMPORARY TABLE ON *.* TO tradetape_owner;
