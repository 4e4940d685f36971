"""Where the addresses come from: environment, else stack.json of a running stack, else one clear error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tradetape.infra import settings
from tradetape.infra.files import locked, read_json, try_lock, write_json
from tradetape.infra.stackfile import StackFile
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.topics import DEFAULT_PARTITIONS

PORTS = {"kafka": 1001, "kafka_controller": 1002, "registry": 1003, "clickhouse": 1004}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (settings.HOME, settings.CACHE, *settings.ADDRESSES.values()):
        monkeypatch.delenv(name, raising=False)
    yield


def record_running_stack(
    home: Path, partitions: int = 7, services: tuple[str, ...] = ("kafka", "registry", "clickhouse")
) -> None:
    """As if `up` had started a supervisor: this test process plays it."""
    StackFile(PORTS, partitions, services).write(home)
    me = psutil.Process()
    write_json(home / "run" / "supervisor.pid", {"pid": me.pid, "create_time": me.create_time()})


def test_the_addresses_of_a_running_stack(tmp_path: Path) -> None:
    record_running_stack(tmp_path)
    loaded = settings.load(tmp_path)
    assert loaded.bootstrap_servers == "127.0.0.1:1001"
    assert loaded.registry_url == "http://127.0.0.1:1003/apis/ccompat/v7"
    assert loaded.clickhouse_url == "http://127.0.0.1:1004"
    assert (loaded.partitions, loaded.database, loaded.home) == (7, "tradetape", tmp_path)


def test_the_environment_wins_address_by_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_running_stack(tmp_path)
    monkeypatch.setenv(settings.CLICKHOUSE_URL, "http://elsewhere:8123/")
    loaded = settings.load(tmp_path)
    assert loaded.clickhouse_url == "http://elsewhere:8123"
    assert loaded.bootstrap_servers == "127.0.0.1:1001"


def test_the_environment_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in settings.ADDRESSES.values():
        monkeypatch.setenv(variable, "x:1")
    loaded = settings.load(tmp_path / "never-created")
    assert (loaded.bootstrap_servers, loaded.partitions) == ("x:1", DEFAULT_PARTITIONS)
    assert not (tmp_path / "never-created").exists()


def test_without_a_stack_the_error_names_home_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(TradetapeError) as caught:
        settings.load(tmp_path)
    assert str(caught.value).startswith(f"no stack is running in {tmp_path}; start it with `tradetape up`, or set ")
    assert settings.BOOTSTRAP_SERVERS in caught.value.hint


def test_a_stopped_stack_is_not_a_running_one(tmp_path: Path) -> None:
    record_running_stack(tmp_path)
    (tmp_path / "run" / "supervisor.pid").unlink()
    with pytest.raises(TradetapeError, match="no stack is running"):
        settings.load(tmp_path)


def test_a_service_that_was_not_started_has_no_address(tmp_path: Path) -> None:
    record_running_stack(tmp_path, services=("kafka",))
    assert settings.load(tmp_path, require=["bootstrap_servers"]).clickhouse_url == ""
    with pytest.raises(TradetapeError, match=r"runs without what this needs; .* set TRADETAPE_REGISTRY_URL"):
        settings.load(tmp_path)


def test_only_what_is_required_must_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.BOOTSTRAP_SERVERS, "k:9092")
    loaded = settings.load(tmp_path, require=["bootstrap_servers"])
    assert (loaded.bootstrap_servers, loaded.registry_url) == ("k:9092", "")


def test_the_home_is_given_or_configured_or_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.resolve_home() == tmp_path / ".tradetape"
    monkeypatch.setenv(settings.HOME, "configured")
    assert settings.resolve_home() == tmp_path / "configured"
    assert settings.resolve_home(Path("given")) == tmp_path / "given"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"ports": {}}', '{"ports": {"kafka": "x"}, "partitions": 1, "services": []}']
)
def test_a_damaged_stack_file_says_which_one(tmp_path: Path, text: str) -> None:
    StackFile.path(tmp_path).write_text(text)
    with pytest.raises(TradetapeError, match=r"stack\.json is damaged"):
        settings.load(tmp_path)


def test_a_json_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    assert os.listdir(path.parent) == ["x.json"]  # noqa: PTH208 (names only)


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", timeout=1, what="x"):
        assert try_lock(tmp_path / "lock") is None
        with (
            pytest.raises(TradetapeError, match="the other one is still at work"),
            locked(tmp_path / "lock", timeout=0.2, what="the other one"),
        ):
            pytest.fail("two holders")
    free = try_lock(tmp_path / "lock")
    assert free is not None
    os.close(free)
