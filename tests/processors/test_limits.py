"""Limits: what is accepted as one, and when a figure breaks it (S4-06)."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import Partition, encode, open_findings
from tests.processors.events import created, ended, event

from tradetape.processors.control import holding, limits, patterns
from tradetape.processors.control.holding import BREACHED, KEPT, Held, InForce
from tradetape.processors.control.limits import Limit, LimitSet, LimitsRefused
from tradetape.processors.core import Output
from tradetape.processors.state import PartitionState, Progress

SECOND = 1_000_000

DAILY_LOSS = """
[[limit]]
name = "daily-loss"
figure = "daily_pnl_pct"
at_least = "-5"
warn_at = "-3"
clear_at = "-4"
confirm_events = 2
confirm_seconds = 1
action = "kill"
"""


def rules(toml: str) -> LimitSet:
    return limits.check(tomllib.loads(toml))


def figure(value: str | None, **fields: Any) -> dict[str, Any]:
    named = {"environment": "live", "account": "main", "instance_name": "bot1", "trading_pair": "BTC-USDT"}
    number = None if value is None else Decimal(value)
    return {**named, "quote_asset": "USDT", "event_id": "e1", "daily_pnl_pct": number, **fields}


class Watched:
    """One limit and the figures that come in, a second apart."""

    def __init__(self, toml: str = DAILY_LOSS) -> None:
        self.in_force = InForce()
        self.set(toml)
        self.state = PartitionState(0, {})
        self.now = 0

    def set(self, toml: str) -> None:
        self.in_force = InForce(limits.text(rules(toml)), self.in_force.sets + 1)

    def see(self, value: str | None, seconds: float = 1, **fields: Any) -> list[tuple[str, str]]:
        self.now += int(seconds * SECOND)
        shown = figure(value, **fields)
        found, breached = holding.observe(self.now, shown, self.in_force, self.state)
        self.breached = [limit.name for limit, _ in breached]
        return [(one.code, one.status) for one in found]


@pytest.mark.req("S4-06")
def test_a_breach_is_confirmed_told_once_and_ends_at_its_own_mark() -> None:
    watched = Watched()
    assert watched.see("-1") == []
    assert watched.see("-5.2") == []
    assert watched.see("-5.3") == [("limit_breached", "opened")]
    assert watched.breached == ["daily-loss"]
    assert watched.see("-6") == []
    assert watched.breached == []
    assert watched.see("-4.5") == watched.see("-4.5") == []
    assert watched.see("-3.5") == []
    assert watched.see("-3.5") == [("limit_breached", "resolved"), ("limit_warning", "opened")]
    assert watched.see("0") == []
    assert watched.see("0") == [("limit_warning", "resolved")]


@pytest.mark.req("S4-06")
def test_one_bad_tick_neither_latches_nor_flaps() -> None:
    watched = Watched()
    for _ in range(20):
        assert watched.see("-50") == []
        assert watched.see("-1") == []


@pytest.mark.req("S4-06")
def test_figures_about_one_mark_do_not_hide_that_they_are_past_the_other() -> None:
    watched = Watched(DAILY_LOSS.replace('clear_at = "-4"\n', ""))
    assert [watched.see(value) for value in ("-6", "-4", "-6")] == [[], [("limit_warning", "opened")], []]
    assert watched.see("-6") == [("limit_warning", "resolved"), ("limit_breached", "opened")]
    assert watched.breached == ["daily-loss"]
    assert watched.see("-1") == []
    assert watched.see("-4") == [("limit_breached", "resolved"), ("limit_warning", "opened")]
    for _ in range(5):
        assert watched.see("-1") == watched.see("-4") == []
    watched.see("-6")
    assert watched.see("-6") == [("limit_warning", "resolved"), ("limit_breached", "opened")]
    assert watched.breached == ["daily-loss"]


@pytest.mark.req("S4-06")
@pytest.mark.parametrize(
    "after",
    ["", DAILY_LOSS.replace('account = "*"', ""), DAILY_LOSS.replace("confirm_events = 2", "confirm_events = 9")],
    ids=["gone", "the same", "changed"],
)
def test_a_rule_that_is_gone_or_another_one_leaves_nothing_open(after: str) -> None:
    watched = Watched()
    watched.see("-6")
    watched.see("-6")
    watched.set(after)
    is_same = after == DAILY_LOSS
    assert watched.see("-6") == ([] if is_same else [("limit_breached", "resolved")])
    watched.set(DAILY_LOSS)
    assert watched.see("-6") == []
    assert watched.see("-6") == ([] if is_same else [("limit_breached", "opened")])


@pytest.mark.req("S4-06")
def test_confirmation_takes_time_as_well_as_figures() -> None:
    watched = Watched()
    assert watched.see("-6") == []
    assert watched.see("-6", seconds=0.2) == []
    assert watched.see("-6", seconds=0.2) == []
    assert watched.see("-6", seconds=0.7) == [("limit_breached", "opened")]


@pytest.mark.req("S4-06")
def test_a_figure_that_is_not_known_says_nothing() -> None:
    watched = Watched()
    watched.see("-6")
    assert watched.see(None) == []
    assert watched.see("-6") == [("limit_breached", "opened")]


@pytest.mark.req("S4-06", "P-02")
def test_figures_of_others_do_not_count() -> None:
    watched = Watched()
    watched.see("-6")
    assert watched.see("-6", instance_name="bot2") == []
    assert watched.see("-6", quote_asset="BTC") == []
    assert watched.see("-6", environment="paper") == []
    assert watched.see("-6", environment="paper") == []


@given(st.lists(st.tuples(st.integers(-10, 0), st.sampled_from(["bot1", "bot2"])), max_size=40))
@pytest.mark.req("S4-06", "P-02")
def test_limits_of_independent_instances_commute(seen: list[tuple[int, str]]) -> None:
    def told(instances: set[str]) -> list[tuple[str, str, str]]:
        watched, found = Watched(DAILY_LOSS.replace("confirm_seconds = 1", "confirm_seconds = 0")), []
        for value, instance in seen:
            if instance in instances:
                found += [(instance, *one) for one in watched.see(str(value), instance_name=instance)]
        return found

    both = told({"bot1", "bot2"})
    assert [one for one in both if one[0] == "bot1"] == told({"bot1"})
    assert [one for one in both if one[0] == "bot2"] == told({"bot2"})


@given(st.lists(st.integers(-10, 0), max_size=60))
@pytest.mark.req("S4-06")
def test_what_opens_resolves_before_it_opens_again(values: list[int]) -> None:
    watched, open_codes = Watched(), set()
    for value in values:
        for code, status in watched.see(str(value)):
            if status == "opened":
                assert code not in open_codes
                open_codes.add(code)
            else:
                open_codes.remove(code)
        assert len(open_codes) <= 1
    held = watched.state.get(Held, "live", "main", "bot1", watched.state.name("daily-loss", "USDT"))
    assert (held.level == BREACHED) == ("limit_breached" in open_codes)
    assert (held.level == KEPT) == (not open_codes)


REFUSED = {
    "a float": ("at_least = -5.0", "in quotes"),
    "both sides": ('at_least = "-5"\nat_most = "5"', "one of them"),
    "neither side": ("", "one of them"),
    "no number": ('at_least = "NaN"', "write a number"),
    "no decimal": ('at_least = "much"', "decimal"),
    "a late warning": ('at_least = "-5"\nwarn_at = "-6"', "before the breach"),
    "an end beyond": ('at_least = "-5"\nclear_at = "-6"', "safe side"),
    "no confirmation": ('at_least = "-5"\nconfirm_events = 0', "at least 1"),
    "an unknown key": ('at_least = "-5"\nat_best = "1"', "at_best"),
    "an unknown action": ('at_least = "-5"\naction = "panic"', "panic"),
    "a number that no figure is": ('below = "1e-500"', "more than 18 decimals"),
    "a mark that no figure is": ('at_least = "-5"\nwarn_at = "-4.0000000000000000001"', "more than 18 decimals"),
    "a pattern without end": (f'at_least = "-5"\ninstance = "{"*a" * 400}"', "800 characters"),
    "a pair without end": (f'at_least = "-5"\ntrading_pair = "{"*" * 601}"', "601 characters"),
    "a confirmation without end": (f'at_least = "-5"\nconfirm_events = {10**12}', "cannot be confirmed"),
}


@pytest.mark.req("S4-06")
@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_a_limit_is_refused_with_what_to_write(why: str) -> None:
    lines, told = REFUSED[why]
    with pytest.raises(LimitsRefused) as refused:
        rules(f'[[limit]]\nname = "one"\nfigure = "daily_pnl_pct"\n{lines}\n')
    assert told in str(refused.value) + (refused.value.hint or "")


@pytest.mark.req("S4-06")
def test_an_unknown_figure_and_a_name_used_twice_are_refused() -> None:
    with pytest.raises(LimitsRefused, match="no figure"):
        rules('[[limit]]\nname = "one"\nfigure = "luck"\nat_most = "1"\n')
    with pytest.raises(LimitsRefused, match="names 2 rules"):
        rules(DAILY_LOSS + DAILY_LOSS)


@pytest.mark.req("S4-06")
def test_rules_survive_their_canonical_text() -> None:
    given_rules = rules(DAILY_LOSS + '[portfolio.majors]\ninstance = "btc_*"\n')
    assert limits.parse(limits.text(given_rules)) == given_rules
    assert len(limits.digest(given_rules)) == 64
    with pytest.raises(LimitsRefused):
        limits.parse("[1]")
    with pytest.raises(LimitsRefused):
        limits.parse("{")


@pytest.mark.req("S4-06", "P-08")
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"limit":' + "[" * 100_000, '{"x":' * 5_000 + "1" + "}" * 5_000, "null", "", '{"limit":[null]}'],
    ids=["arrays", "arrays in a key", "objects", "null", "nothing", "no limit"],
)
def test_whatever_a_control_record_says_it_is_read_or_refused(text: str) -> None:
    with pytest.raises(LimitsRefused):
        limits.read(text)
    record = event("limits_set", {"limits": {}, "digest": "d", "set_by": "ann"}, instance_name="")
    record["payload"]["limits"] = text
    (output,) = Partition().take([encode(record)])
    (found,) = output.audited["findings"]
    assert (found["code"], found["status"]) == ("limits_refused", "opened")
    assert len(found["detail"]) < 1_000


@pytest.mark.req("S4-06", "P-06")
def test_numbers_of_a_control_record_are_exact_and_no_longer_than_a_figures() -> None:
    def read(number: str) -> str:
        return limits.text(limits.read(f'{{"limit":[{{"name":"a","figure":"equity","at_most":{number}}}]}}'))

    assert '"5.10"' in read("5.10")
    assert '"0.1"' in read('"0.1"')
    assert len(read("0E-999999999")) < 100
    assert len(read("1." + "0" * 100_000)) < 100


@pytest.mark.req("S4-06", "P-06")
def test_what_a_partition_keeps_of_limits_is_bounded() -> None:
    def document(count: int, length: int) -> dict[str, Any]:
        return {"portfolio": {f"{number:03}".ljust(length, "x"): {"instance": "*"} for number in range(count)}}

    assert len(limits.check(document(200, 200)).portfolio) == 200
    unprintable: dict[str, Any] = {"portfolio": {"a\x1fb": {}}}
    for wrong in (document(201, 3), document(1, 201), unprintable):
        with pytest.raises(LimitsRefused):
            limits.check(wrong)
    spaced = event("limits_set", {"limits": {}, "digest": "d", "set_by": "ann"}, instance_name="")
    spaced["payload"]["limits"] = "{" + " " * 1_000_000 + "}"
    partition = Partition()
    partition.take([encode(spaced)])
    assert partition.state.get(InForce) == InForce("{}", 1)


@pytest.mark.req("S4-06")
def test_a_pattern_is_a_name_or_one_of_file_names() -> None:
    for name in ("a", "a[1]", "*", "bot?", ""):
        assert patterns.matches(name, patterns.literal(name))
        assert patterns.matches(name, "*")
    assert not patterns.matches("a1", patterns.literal("a[1]"))
    assert patterns.matches("a1", "a[1]")
    assert not patterns.matches("a1", "a")


def found(outputs: list[Output]) -> list[tuple[str, str]]:
    """Code and status of what the limits found, in order."""
    every = [one for output in outputs for one in output.audited["findings"]]
    return [(one["code"], one["status"]) for one in every if one["code"] in ("limit_breached", "kill_switch")]


def setting(*given: dict[str, Any]) -> bytes:
    return encode(
        event("limits_set", {"limits": {"limit": list(given)}, "digest": "d", "set_by": "ann"}, instance_name="")
    )


FEW = {"name": "few", "figure": "open_orders", "at_most": "1", "action": "kill"}
KILLS = [("limit_breached", "opened"), ("kill_switch", "opened")]


@pytest.mark.req("S4-06")
def test_a_limit_that_was_away_while_it_was_broken_anew_kills_when_it_is_back() -> None:
    partition = Partition()
    first = [setting(FEW), encode(created("a")), encode(created("b"))]
    assert found(partition.take(first)) == KILLS
    away = [
        setting(),
        *(encode(ended(name, "order_cancelled")) for name in "ab"),
        *map(encode, (created("c"), created("d"))),
    ]
    assert found(partition.take(away)) == [("limit_breached", "resolved")]
    assert found(partition.take([setting(FEW), encode(created("e"))])) == KILLS


@pytest.mark.req("S4-06")
@pytest.mark.parametrize(
    "other", [{"figure": "orders_1h"}, {"at_most": "2"}, {}], ids=["another figure", "another number", "another action"]
)
def test_a_rule_does_not_inherit_how_another_of_its_name_stood(other: dict[str, Any]) -> None:
    partition = Partition()
    outputs = partition.take([setting(FEW | {"action": "alert"}), encode(created("a")), encode(created("b"))])
    assert found(outputs) == KILLS[:1]
    outputs += partition.take([setting(FEW | other), encode(created("c"))])
    assert found(outputs)[1:] == [("limit_breached", "resolved"), *KILLS]
    assert open_findings(outputs)["limit_breached"] == 1


@pytest.mark.req("P-02")
def test_an_instance_belongs_to_the_portfolio_of_all_and_to_those_that_match() -> None:
    given_rules = rules('[portfolio.majors]\ninstance = "btc_*"\n[portfolio.paper]\nenvironment = "paper"\n')
    assert given_rules.portfolios("live", "main", "btc_1") == ("all", "majors")
    assert given_rules.portfolios("paper", "main", "btc_1") == ("all", "paper")


def test_a_limit_names_the_side_it_is_broken_on() -> None:
    for side, broken, kept in (
        ("at_most", 6, 5),
        ("below", 5, 4),
        ("at_least", 4, 5),
        ("above", 5, 6),
    ):
        limit = Limit("one", "open_orders", **{side: Decimal(5)})  # type: ignore[arg-type]
        assert limit.is_past(Decimal(broken), limit.threshold), side
        assert not limit.is_past(Decimal(kept), limit.threshold), side


@pytest.mark.req("S4-06", "P-06")
def test_a_figure_within_its_limits_takes_no_room() -> None:
    watched = Watched()
    for value in ("-6", "-6", "-1", "-1"):
        watched.see(value)
    changed = dict(watched.state.changes())
    assert [key for key, value in changed.items() if value is not None] == [watched.state.key(Progress)]
