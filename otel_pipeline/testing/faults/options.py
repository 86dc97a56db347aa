"""The faults' options: their words, their check, and which messages they choose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

Change = Literal["rename", "null", "retype", "remove"]
CHANGES: tuple[Change, ...] = get_args(Change)
MAX_DISPLACEMENT = 100_000
_MAX_ENVIRONMENT_BYTES = 16
_SHARES = ("drop", "duplicate", "reorder", "delay_share", "change_share", "foreign_environment_share")
_PATH = re.compile(r"\.?([^.\[\]'$][^.\[\]']*)|\[(\d+)\]|\['([^']+)'\]")


class FaultsError(ValueError):
    """An option is wrong, or the relay cannot do its work; the message says what to do."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(f"{option}: {message}" if option else message)
        self.message = message
        self.option = option
        """Name of the option that is wrong, if it is one."""


class FaultOptions(TypedDict, total=False):
    """The faults, in the same words for `Relay`, `Relay.add`, the fixture and the command line."""

    drop: float
    """Share of messages that are not written, 0 to 1."""
    duplicate: float
    """Share that is written twice in a row."""
    reorder: float
    """Share that is written later than messages behind it in its partition."""
    displacement: int
    """How many messages of its partition a reordered one lets pass, at most."""
    delay: float
    """Seconds that a message is kept; those behind it in its partition wait too, so that the order stays."""
    delay_share: float
    """Share that is delayed; all when it is not given."""
    freeze: float
    """Seconds in which nothing is relayed."""
    freeze_at: int
    """The message before which the freeze begins, counted from 1 over all partitions; at once when it is not given."""
    change_field: str
    """Path of a field of a JSON value: `amount`, `$.customer.name`, `items[0].price`, `['a.b']`."""
    change: Change
    """`null` unless given. With `retype` a string becomes an array of it, and all else the text of its JSON."""
    change_to: str
    """The new name, with `rename`."""
    change_share: float
    """Share that is changed; all when it is not given."""
    foreign_environment: str
    """Environment that the data-flow header names instead of its own."""
    foreign_environment_share: float
    """Share that is changed; all when it is not given."""
    first: int
    """Offset in the source from which these faults apply."""
    last: int | None
    """The last such offset; None for no end."""
    partition: int | None
    """The only partition that they apply to; None for all."""


@dataclass(frozen=True)
class Fault:
    """One fault of one `add`."""

    kind: str
    share: float
    salt: str
    first: int
    last: int | None
    partition: int | None
    displacement: int = 0
    delay_s: float = 0.0
    path: tuple[str | int, ...] = ()
    change: Change = "null"
    text: str = ""
    """The new name of a field, or the foreign environment."""

    def chooses(self, seed: int, partition: int, offset: int) -> bool:
        """Tell whether it applies to this message."""
        if self.partition not in {None, partition} or offset < self.first:
            return False
        if self.last is not None and offset > self.last:
            return False
        return self.share >= 1 or chance(seed, self.salt, partition, offset) < self.share


def faults_of(options: FaultOptions, known: tuple[Fault, ...] = ()) -> tuple[Fault, ...]:
    """Return the faults that the options name, checked; without `freeze`, which is not a fault of one message.

    Args:
        options: as the user gave them.
        known: the active faults, so that a second one of a kind chooses other messages than the first.
    """
    check(options)
    reach: dict[str, Any] = {name: options.get(name) for name in ("last", "partition")}
    reach["first"] = options.get("first", 0)
    made: list[Fault] = []

    def make(kind: str, share: float, **more: Any) -> None:
        if share > 0:
            nth = sum(fault.kind == kind for fault in known)
            made.append(Fault(kind, share, f"{kind}/{nth}", **reach, **more))

    make("drop", options.get("drop", 0.0))
    make("duplicate", options.get("duplicate", 0.0))
    make("reorder", options.get("reorder", 0.0), displacement=options.get("displacement", 10))
    if options.get("delay"):
        make("delay", options.get("delay_share", 1.0), delay_s=options["delay"])
    if options.get("change_field"):
        change = options.get("change", "null")
        more = {"path": _path(options["change_field"], change), "change": change, "text": options.get("change_to", "")}
        make("change_field", options.get("change_share", 1.0), **more)
    if options.get("foreign_environment"):
        name = options["foreign_environment"]
        make("foreign_environment", options.get("foreign_environment_share", 1.0), text=name)
    return tuple(made)


def check(options: FaultOptions) -> None:
    """Raise FaultsError for the first option that is wrong."""
    given: Mapping[str, Any] = options
    for name in given:
        if name not in FaultOptions.__annotations__:
            raise FaultsError(f"no such fault; there are {', '.join(FaultOptions.__annotations__)}", name)
    for name in _SHARES:
        share = given.get(name, 0.0)
        if not _is_number(share) or not 0 <= share <= 1:
            raise FaultsError(f"{share!r} is no share: give a number from 0 to 1, for example 0.01", name)
    for name in ("delay", "freeze"):
        seconds = given.get(name, 0.0)
        if not _is_number(seconds) or not 0 <= seconds < float("inf"):
            raise FaultsError(f"{seconds!r} is no time: give seconds, 0 or more, for example 2.5", name)
    for name, lowest in (("displacement", 1), ("freeze_at", 1), ("first", 0), ("last", 0), ("partition", 0)):
        _check_count(name, given.get(name), lowest)
    if given.get("displacement", 1) > MAX_DISPLACEMENT:
        raise FaultsError(f"{given['displacement']} messages are too many: {MAX_DISPLACEMENT} at most", "displacement")
    _check_texts(given)
    _check_company(given)


def _check_count(name: str, count: Any, lowest: int) -> None:
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < lowest):
        raise FaultsError(f"{count!r} does not fit: give a whole number, {lowest} or more", name)


def _check_texts(given: Mapping[str, Any]) -> None:
    for name in ("change_field", "change_to", "foreign_environment"):
        if not isinstance(given.get(name, ""), str):
            raise FaultsError(f"{given[name]!r} is no text: give a str", name)
    if len(given.get("foreign_environment", "").encode()) > _MAX_ENVIRONMENT_BYTES:
        raise FaultsError(f"the header has room for {_MAX_ENVIRONMENT_BYTES} bytes", "foreign_environment")


def _check_company(given: Mapping[str, Any]) -> None:
    """Check that options which need each other are given together."""
    for name, other in (
        ("displacement", "reorder"),
        ("delay_share", "delay"),
        ("freeze_at", "freeze"),
        ("change", "change_field"),
        ("change_to", "change_field"),
        ("change_share", "change_field"),
        ("foreign_environment_share", "foreign_environment"),
    ):
        if name in given and not given.get(other):
            raise FaultsError(f"goes together with {other}, which is not given", name)
    change = given.get("change", "null")
    if change not in CHANGES:
        raise FaultsError(f"{change!r} is no change: give one of {', '.join(CHANGES)}", "change")
    if (change == "rename") != bool(given.get("change_to")):
        raise FaultsError("the new name of the field, given when change is rename and only then", "change_to")
    if given.get("last") is not None and given["last"] < given.get("first", 0):
        raise FaultsError(f"offset {given['last']} is before first, {given.get('first', 0)}", "last")
    if given.get("change_field"):
        _path(given["change_field"], change)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _path(text: str, change: Change) -> tuple[str | int, ...]:
    """Read `$.a.b[0]` as ("a", "b", 0)."""
    rest = text.removeprefix("$")
    found: list[str | int] = []
    while rest:
        part = _PATH.match(rest)
        if part is None:
            break
        name, index, quoted = part.groups()
        found.append(int(index) if index else name or quoted)
        rest = rest[part.end() :]
    if rest or not found:
        raise FaultsError(
            f"{text!r} is no path of a field: write it as customer.name, items[0].price or ['a.b']", "change_field"
        )
    if change == "rename" and isinstance(found[-1], int):
        raise FaultsError(f"{text!r} ends in an index, which has no name: rename needs a field", "change_field")
    return tuple(found)


def chance(seed: int, salt: str, partition: int, offset: int) -> float:
    """Draw a number from 0 to 1, evenly spread, and the same for the same message in every run."""
    text = f"{seed}/{salt}/{partition}/{offset}"
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big") / (1 << 48)
