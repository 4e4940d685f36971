"""What may be shown and stored of a server's address: where it is and as whom, never a password.

Only parts that are known to be no secret are taken over. An address that does not read as one yields nothing: what is
in it may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

_PORTS = re.compile(r"[0-9,]*")
_REDIS_DATABASE = re.compile(r"/?[0-9]*")
_REDIS_SCHEMES = frozenset({"redis", "rediss", "unix"})
_REDIS_SHOWN = frozenset({"db", "rate_limit"})


class Address(NamedTuple):
    """``name`` is what a bot is called after it, ``shown`` the address; both empty where it cannot be read."""

    name: str = ""
    shown: str = ""


def postgres(parts: Mapping[str, object]) -> Address:
    """Of the parts of a libpq connection string (``psycopg.conninfo.conninfo_to_dict``)."""
    user, host, port, database = (str(parts.get(key) or "") for key in ("user", "host", "port", "dbname"))
    host = host or str(parts.get("hostaddr") or "")
    if not _PORTS.fullmatch(port) or "@" in host + database:  # a password that was not escaped is cut into these
        return Address()
    hosts, ports = host.split(","), port.split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    at = ",".join(_at(one, of_it) for one, of_it in zip(hosts, ports, strict=False))
    place = (f"{quote(user, safe='')}@" if user else "") + at
    shown = f"postgresql://{place}" + (f"/{quote(database, safe='')}" if database else "")
    return Address(database or host.rpartition("/")[2], shown)


def redis(location: str) -> Address:
    """Of ``redis://…``, ``rediss://…`` or ``unix://…``: the bot is called by host, or host-database where not 0."""
    try:
        parts = urlsplit(location)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return Address()
    query = [(key, value) for key, value in parse_qsl(parts.query) if key in _REDIS_SHOWN]
    is_socket = parts.scheme == "unix"
    is_path = "@" not in parts.path if is_socket else _REDIS_DATABASE.fullmatch(parts.path)
    if parts.scheme not in _REDIS_SCHEMES or not is_path:
        return Address()
    host = parts.path.rpartition("/")[2] if is_socket else parts.hostname or ""
    database = dict(query).get("db", "") or ("" if is_socket else parts.path.strip("/"))
    place = (parts.hostname or "") + port + parts.path
    user = f"{parts.username}@" if parts.username else ""
    shown = f"{parts.scheme}://{user}{place}" + (f"?{urlencode(query, safe=':')}" if query else "")
    return Address(f"{host}-{database}" if host and database.strip("0") else host, shown)


def _at(host: str, port: str) -> str:
    return (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "")
