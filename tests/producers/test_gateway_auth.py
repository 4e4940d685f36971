"""Tokens: who may post, from a file and from the environment."""

from __future__ import annotations

import hmac
import stat
from pathlib import Path

import pytest

from tradetape.producers.gateway.auth import TOKENS, Client, Clients
from tradetape.schemas.errors import TradetapeError

A, B = "a-token-of-sixteen-or-more", "b-token-of-sixteen-or-more"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_token_names_its_client(tmp_path: Path) -> None:
    path = write(
        tmp_path / "tokens.toml",
        f"""
        [plain]
        token = "{A}"
        [desk-7]
        token = ["{B}", "{B}-old"]
        source_id = "desk"
        instances = ["bot1", "desk7-*"]
        legacy = true
        events_per_second = 5
        bytes_per_second = 1000.5
        """,
    )
    clients = TOKENS.load(path, {})
    desk = Client("desk-7", "desk", ("bot1", "desk7-*"), True, 5.0, 1000.5)
    assert clients.authenticate(f"Bearer {A}") == Client("plain", "http:plain")
    assert clients.authenticate(f"bearer  {B}") == clients.authenticate(f"Bearer {B}-old") == desk
    assert (desk.origin.source_id, desk.origin.legacy) == ("desk", True)
    assert len(clients) == 2


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Basic {A}", A, f"Bearer {A[:-1]}", f"Bearer {A}x", "Bearer \xff\ud800", f"{A} Bearer"],
)
def test_anything_else_is_nobody(header: str) -> None:
    assert Clients([(A, Client("a", "a"))]).authenticate(header) is None


def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = Clients([(A, Client("a", "a")), (B, Client("b", "b"))])
    compared: list[bytes] = []

    def watched(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return known == given

    monkeypatch.setattr(hmac, "compare_digest", watched)
    for token in (A, B, "none of them"):
        compared.clear()
        clients.authenticate(f"Bearer {token}")
        assert len(compared) == 2


@pytest.mark.parametrize(
    ("patterns", "instance", "may"),
    [
        ((), "anyone", True),
        ((), "", True),
        (("bot1",), "bot1", True),
        (("bot1",), "BOT1", False),
        (("bot1",), "bot10", False),
        (("bot1",), "", False),
        (("desk-*",), "desk-9", True),
        (("desk-*",), "xdesk-9", False),
    ],
)
def test_a_client_writes_for_its_bots_only(patterns: tuple[str, ...], instance: str, may: bool) -> None:
    assert Client("c", "s", patterns).may_write(instance) is may


def test_the_environment_names_clients_too(tmp_path: Path) -> None:
    clients = TOKENS.load(tmp_path / "none", {TOKENS.variable: f"a={A}, b={B}"})
    found = clients.authenticate(f"Bearer {B}")
    assert found is not None
    assert (found.name, found.source_id) == ("b", "http:b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = [", "is not TOML"),
        ("token = 'abcdefghijklmnopqrst'", "is no table"),
        ("[c]", "16 or more"),
        ("[c]\ntoken = 'short'", "16 or more"),
        ("[c]\ntoken = 'with space in the middle'", "16 or more"),
        (f"[c]\ntoken = '{A}'\ninstance = ['b']", "unknown key instance"),
        (f"[c]\ntoken = '{A}'\ninstances = 'b'", "instances"),
        (f"[c]\ntoken = '{A}'\nlegacy = 1", "legacy"),
        (f"[c]\ntoken = '{A}'\nsource_id = ''", "source_id"),
        (f"[c]\ntoken = '{A}'\nevents_per_second = 0", "events_per_second"),
        (f"[c]\ntoken = '{A}'\nbytes_per_second = inf", "bytes_per_second"),
        (f"['c d']\ntoken = '{A}'", "a name is"),
        (f"[c]\ntoken = '{A}'\n[d]\ntoken = '{A}'", "same token"),
        ("", "no client may post"),
    ],
)
def test_a_tokens_file_that_is_wrong_is_told_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TradetapeError, match=said) as raised:
        TOKENS.load(write(tmp_path / "tokens.toml", text), {})
    assert raised.value.hint
    assert A not in str(raised.value)


@pytest.mark.parametrize("text", ["no-equals-sign-in-it", "c=short", f"={A}"])
def test_a_wrong_variable_is_told_without_the_token(tmp_path: Path, text: str) -> None:
    with pytest.raises(TradetapeError, match=f"{TOKENS.variable}: part 2") as raised:
        TOKENS.load(tmp_path / "none", {TOKENS.variable: f"a={B},{text}"})
    assert text not in str(raised.value)


def test_the_first_start_makes_a_token_for_the_owners_eyes(tmp_path: Path) -> None:
    path = tmp_path / "gateway" / "tokens.toml"
    assert TOKENS.generate(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().split('token = "')[1].split('"')[0]
    found = TOKENS.load(path, {}).authenticate(f"Bearer {token}")
    assert found == Client("default", "http:default")
    assert not TOKENS.generate(path, {})
    assert token in path.read_text()
    other = tmp_path / "other.toml"
    TOKENS.generate(other, {})
    assert token not in other.read_text()


def test_no_token_is_made_where_the_environment_names_clients(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    assert not TOKENS.generate(path, {TOKENS.variable: f"a={A}"})
    assert not path.exists()


def test_a_place_that_takes_no_file_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(TradetapeError, match="--tokens"):
        TOKENS.generate(blocked / "tokens.toml", {})
