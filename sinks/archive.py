"""Old rows out of the store, into Parquet files that are verified first (S1-10, S4-02; decision 12).

The order is the guarantee. For each file:

  1. write it, whole and on disk
  2. read it back: its hash, and in ClickHouse the digest of its rows against the rows in the store
  3. the manifest beside it
  4. its entry in ``archive_ledger``: from here on its rows count as archived, wherever they are
then, once for a table:
  5. delete from the table the positions that the ledger has
  6. look that none is left, and tell so in ``archive_left``

A run that finds entries without step 6 does 5 and 6 for them first. A file without an entry is written again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from tradetape.schemas.crashpoints import reach
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import archive_files as files
from tradetape.sinks import retention, views
from tradetape.sinks.archive_files import Manifest, Part
from tradetape.sinks.store import QueryRefused, Store
from tradetape.sinks.tables import ALERTS, DATABASE, EVENTS, PORTFOLIOS, QUARANTINE, RISK, RISK_LATEST, TABLES, Table
from tradetape.sinks.views import LEDGER, POSITION, parquet, quoted

LEFT = f"{DATABASE}.archive_left"

FILE_ROWS = 200_000
"""Rows of a file: at about 1 kB each, what an engine may hold in memory."""

_PARQUET = {"output_format_parquet_compression_method": "zstd"}
_POLL_SECONDS = 0.1

# What still says how things are stays: the last figure of a position or portfolio, and rows that ClickHouse refused.
_STAYS: Mapping[str, str] = {
    EVENTS.name: "0",
    QUARANTINE.name: "derived_seq > 0",
    RISK.name: f"({POSITION}) IN (SELECT {POSITION} FROM {RISK_LATEST} FINAL)",
    ALERTS.name: "0",
    PORTFOLIOS.name: f"({POSITION}) IN (SELECT argMax(({POSITION}), (book_seq, ingest_ts_utc, {POSITION})) "
    f"FROM {PORTFOLIOS.full_name} GROUP BY environment, portfolio, quote_asset)",
}


class NotVerified(TradetapeError):
    """A file does not hold what the store holds: nothing leaves the store."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that may go: those of one table, day of ``ingest_ts_utc`` and instance."""

    table: str
    day: str
    instance_name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file of the archive."""

    path: str
    what: str


class _Content(NamedTuple):
    """Rows and a digest of all their values, in whatever order; the versions of the core that judged them."""

    rows: int
    digest: str
    core_versions: tuple[str, ...]


class Archive:
    """The archive of ``store`` in ``root``, which ClickHouse sees as ``seen_as``. One at a time may ``run``.

    Every method raises what Store raises.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        seen_as: str,
        *,
        file_rows: int = FILE_ROWS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._root = root
        self._seen_as = files.check_folder(seen_as)
        self._file_rows = file_rows
        self._sleep = sleep

    def plan(self, before: str) -> list[Group]:
        """What a run would take: whose class has expired when the day ``before`` (YYYY-MM-DD, UTC) begins."""
        return [group for table in TABLES.values() for group in self._groups(table, before)]

    def run(self, before: str, on_file: Callable[[Manifest], object] = lambda _: None) -> list[Manifest]:
        """Archive what ``plan`` tells; returns the files. The same call again, after a crash too, does the rest.

        Raises NotVerified, OSError.
        """
        self._check_moved()
        views.refresh(self._store, self._seen_as)
        self.finish()
        columns = views.columns(self._store)
        taken = {manifest.path for manifest in self.manifests()}
        done = []
        for table in TABLES.values():
            for group in self._groups(table, before):
                left = group.rows
                while left > 0:
                    manifest = self._export(
                        table, columns[table.name], group, before, taken, cut=left > self._file_rows
                    )
                    left -= manifest.rows
                    taken.add(manifest.path)
                    done.append(manifest)
                    on_file(manifest)
        self.finish()
        return done

    def finish(self) -> None:
        """Let the rows of every file in the ledger leave the store. Raises NotVerified where a file has changed."""
        pending = self.manifests(f"path NOT IN (SELECT path FROM {LEFT})")
        for manifest in pending:
            wrong = files.differences(self._root, manifest)
            if wrong:
                raise NotVerified(
                    f"{self._root / manifest.path}: {'; '.join(wrong)}",
                    hint="its rows are still in the store: put the file back, or see `tradetape archive --verify`",
                )
        for name, found in groupby(pending, key=lambda manifest: manifest.table):
            self._let_go(TABLES[name], list(found))

    def manifests(self, condition: str = "1") -> list[Manifest]:
        """Every file of the ledger that meets ``condition``, by table and path."""
        rows = self._store.query(
            "SELECT table_name, path, toString(day), instance_name, raw_partition, disposition, rows, runs, file_rows, "
            f"file_bytes, sha256, rows_digest, core_versions FROM {LEDGER} FINAL WHERE {condition} "
            "ORDER BY table_name, path, raw_partition, disposition"
        )
        found = []
        for _, lines in groupby(rows, key=lambda row: row[:2]):
            parts = list(lines)
            table, path, day, instance, *_ = parts[0]
            rows_of_file, size, sha256, digest, versions = parts[0][8:]
            found.append(
                Manifest(
                    table=table,
                    day=day,
                    instance_name=instance,
                    path=path,
                    rows=rows_of_file,
                    size=size,
                    sha256=sha256,
                    rows_digest=digest,
                    core_versions=tuple(versions),
                    parts=tuple(Part(row[4], row[5], row[6], tuple(map(_run, row[7]))) for row in parts),
                )
            )
        return found

    def verify(self) -> list[Problem]:
        """What is wrong: files that are changed or gone, rows that ClickHouse does not read out of them."""
        columns = views.columns(self._store)
        problems = []
        for manifest in self.manifests():
            wrong = files.differences(self._root, manifest)
            if not wrong:
                try:
                    content = self._read_back(manifest.path, columns[manifest.table])
                except NotVerified as error:
                    wrong = [str(error)]
                else:
                    if (content.rows, content.digest) != (manifest.rows, manifest.rows_digest):
                        wrong = [f"ClickHouse reads other rows from {self._seen_as}/{manifest.path}"]
            problems += [Problem(manifest.path, what) for what in wrong]
        return problems

    def strays(self) -> list[str]:
        """Files that are in no ledger: no query reads them."""
        return files.strays(self._root, (manifest.path for manifest in self.manifests()))

    def _check_moved(self) -> None:
        """The files of the ledger and new ones must lie in one folder. Raises NotVerified."""
        for manifest in self.manifests():
            if not (self._root / manifest.path).is_file():
                raise NotVerified(
                    f"{self._root} does not have {manifest.path}, which the ledger has",
                    hint=f"the archive lies in {views.archive_folder(self._store)!r}, as ClickHouse sees it; use that "
                    "folder, or move all of it to the new one first",
                )

    def _groups(self, table: Table, before: str) -> list[Group]:
        rows = self._store.query(
            f"SELECT toString(toDate(ingest_ts_utc)) AS day, instance_name, count() FROM {table.full_name} "
            f"WHERE {_may_go(table, before)} GROUP BY day, instance_name ORDER BY day, instance_name"
        )
        return [Group(table.name, str(day), str(instance), int(count)) for day, instance, count in rows]

    def _export(
        self, table: Table, columns: Mapping[str, str], group: Group, before: str, taken: set[str], *, cut: bool
    ) -> Manifest:
        """Steps 1 to 4 for the next file of ``group``; ``cut``: for its first rows only, as many as a file may have."""
        condition = (
            f"toDate(ingest_ts_utc) = '{group.day}' AND instance_name = {quoted(group.instance_name)} "
            f"AND {_may_go(table, before)} AND ({POSITION}) NOT IN ({views.leaving(table)})"
        )
        if cut:
            ((last,),) = self._store.query(
                f"SELECT max(({POSITION})) FROM (SELECT {POSITION} FROM {table.full_name} WHERE {condition} "
                f"ORDER BY {POSITION} LIMIT {self._file_rows})"
            )
            condition += f" AND ({POSITION}) <= ({', '.join(str(int(number)) for number in last)})"
        path = files.next_path(files.folder_of(table.name, group.day, group.instance_name), taken)
        reach("archive.before_file")
        select = f"SELECT {', '.join(columns)} FROM {table.full_name} WHERE {condition} ORDER BY {POSITION}"
        size, sha256 = files.write(self._root, path, self._store.raw(select, None, _PARQUET, "Parquet"))
        reach("archive.after_file")
        content = self._read_back(path, columns)
        if not content.rows:
            raise NotVerified(
                f"the rows of {group.day} and {group.instance_name!r} have left {table.full_name} meanwhile",
                hint="is another `tradetape archive` at work? Run it again when that has ended",
            )
        if files.sha256_of(self._root / path) != sha256 or content != self._content(
            table.full_name, columns, condition
        ):
            raise NotVerified(
                f"{self._root / path} does not hold the rows that {table.full_name} holds; nothing of them was deleted",
                hint="if rows came in meanwhile, run it again",
            )
        source = parquet(f"{self._seen_as}/{path}", columns)
        manifest = Manifest(
            table=table.name,
            day=group.day,
            instance_name=group.instance_name,
            path=path,
            rows=content.rows,
            size=size,
            sha256=sha256,
            rows_digest=content.digest,
            core_versions=content.core_versions,
            parts=tuple(
                Part(int(row[0]), str(row[1]), int(row[2]), tuple(map(_run, row[3])))
                for row in self._store.query(_parts(source, "disposition" in columns))
            ),
            columns=columns,
        )
        reach("archive.after_verify")
        files.write_manifest(self._root, manifest)
        reach("archive.before_ledger")
        self._store.insert_json(LEDGER, _entries(manifest))
        reach("archive.after_ledger")
        return manifest

    def _read_back(self, path: str, columns: Mapping[str, str]) -> _Content:
        """What ClickHouse reads out of a file. Raises NotVerified where it cannot."""
        try:
            return self._content(parquet(f"{self._seen_as}/{path}", columns), columns, "1")
        except QueryRefused as error:
            raise NotVerified(
                f"ClickHouse cannot read {self._seen_as}/{path}: {error.message[:300]}",
                hint=f"does it see {self._root} as {self._seen_as}? Give --seen-as",
            ) from error

    def _content(self, source: str, columns: Mapping[str, str], condition: str) -> _Content:
        ((rows, digest, versions),) = self._store.query(
            "SELECT count(), hex(sum(reinterpretAsUInt256(SHA256(formatRow('RowBinary', "
            f"{', '.join(columns)}))))), arraySort(groupUniqArray(core_version)) FROM {source} WHERE {condition} "
            "SETTINGS use_hive_partitioning = 0"
        )
        return _Content(int(rows), str(digest), tuple(map(str, versions)))

    def _let_go(self, table: Table, gone: Sequence[Manifest]) -> None:
        """Steps 5 and 6: delete what the ledger has, and tell so."""
        days = [manifest.day for manifest in gone]
        archived = f"({POSITION}) IN ({views.leaving(table)})"
        reach("archive.before_delete")
        self._store.command(
            f"ALTER TABLE {table.full_name} DELETE WHERE toDate(ingest_ts_utc) BETWEEN '{min(days)}' AND '{max(days)}' "
            f"AND {archived}",
            {"mutations_sync": 0},
        )
        while waiting := self._mutations(table):
            for reason in waiting:
                if reason:
                    raise TradetapeError(
                        f"ClickHouse cannot delete from {table.full_name}: {reason}",
                        hint="put that right; ClickHouse goes on by itself, then run `tradetape archive` again",
                    )
            self._sleep(_POLL_SECONDS)
        reach("archive.after_delete")
        (left,) = self._store.query(f"SELECT count() FROM {table.full_name} WHERE {archived}")
        if left[0]:
            raise NotVerified(f"{left[0]} archived rows are still in {table.full_name}", hint="run it again")
        self._store.insert_json(LEFT, [{"table_name": table.name, "path": manifest.path} for manifest in gone])
        reach("archive.after_left")

    def _mutations(self, table: Table) -> list[str]:
        """Why each unfinished change of ``table`` failed last; empty where it did not."""
        rows = self._store.query(
            "SELECT latest_fail_reason FROM system.mutations "
            "WHERE database = {database:String} AND table = {table:String} AND NOT is_done",
            {"database": DATABASE, "table": table.name},
        )
        return [str(row[0]) for row in rows]


def _may_go(table: Table, before: str) -> str:
    return f"{retention.expired(before)} AND NOT ({_STAYS[table.name]})"


def _parts(source: str, has_disposition: bool) -> str:
    """By raw partition and disposition: rows, and the runs of offsets that follow each other at a derived_seq."""
    disposition = "disposition" if has_disposition else "''"
    return (
        "SELECT raw_partition, of, sum(n), arraySort(groupArray((derived_seq, first, last))) FROM ("
        "SELECT raw_partition, of, derived_seq, min(raw_offset) AS first, max(raw_offset) AS last, count() AS n FROM ("
        f"SELECT raw_partition, {disposition} AS of, derived_seq, raw_offset, raw_offset - row_number() OVER "
        f"(PARTITION BY raw_partition, {disposition}, derived_seq ORDER BY raw_offset) AS run FROM {source}) "
        "GROUP BY raw_partition, of, derived_seq, run) "
        "GROUP BY raw_partition, of ORDER BY raw_partition, of SETTINGS use_hive_partitioning = 0"
    )


def _run(values: Any) -> tuple[int, int, int]:
    derived_seq, first, last = values.values() if isinstance(values, dict) else values
    return int(derived_seq), int(first), int(last)


def _entries(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "table_name": manifest.table,
            "day": manifest.day,
            "instance_name": manifest.instance_name,
            "path": manifest.path,
            "raw_partition": part.raw_partition,
            "disposition": part.disposition,
            "rows": part.rows,
            "runs": [{"derived_seq": at, "first": first, "last": last} for at, first, last in part.runs],
            "file_rows": manifest.rows,
            "file_bytes": manifest.size,
            "sha256": manifest.sha256,
            "rows_digest": manifest.rows_digest,
            "core_versions": manifest.core_versions,
        }
        for part in manifest.parts
    ]
