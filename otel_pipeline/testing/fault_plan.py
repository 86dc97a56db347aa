"""What becomes of each message between two topics: decided by the seed, the partition and the offset alone.

No client and no clock: the same messages with the same seed and faults give the same result. `testing/faults.py` reads
and writes.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64, b2a_base64
from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, get_args

from otel_pipeline.engine.pipeline_header import EXTENDED, NAME, decode, encode, fields, stamp, tag_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Change = Literal["rename", "null", "retype", "remove"]
Headers = list[tuple[str, "bytes | None"]]
CHANGES: tuple[Change, ...] = get_args(Change)
MAX_DISPLACEMENT = 100_000
_SHARES = ("drop", "duplicate", "reorder", "delay_share", "change_share", "foreign_environment_share")
_PATH = re.compile(r"\.?([^.\[\]'$][^.\[\]']*)|\[(\d+)\]|\['([^']+)'\]")
_SCHEMA_ID_BYTES = 5
_HEADER_BYTES = 30
_ENVIRONMENT_AT = 3
_STANDARD = bytes.maketrans(b"-_", b"+/")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


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
    """Share that is written later than others of its partition."""
    displacement: int
    """How many messages of its partition a reordered one lets pass, at most."""
    delay: float
    """Seconds that a message is kept; those behind it in its partition wait too, so that the order stays."""
    delay_share: float
    """Share that is delayed; all when it is not given."""
    freeze: float
    """Seconds in which nothing is relayed."""
    freeze_at: int
    """Freezes before this message, counted from 1 over all partitions; at once when it is not given."""
    change_field: str
    """Path of a field of a JSON value: `amount`, `$.customer.name`, `items[0].price`, `['a.b']`."""
    change: Change
    """`null` unless given. `retype`: a string becomes an array of it, all else the text of its JSON."""
    change_to: str
    """The new name, with `rename`."""
    change_share: float
    """Share that is changed; all when it is not given."""
    foreign_environment: str
    """Environment that the data-flow header names instead of its own."""
    foreign_environment_share: float
    """Share that is changed; all when it is not given."""
    first: int
    """Offset in the source from which on these faults apply."""
    last: int | None
    """The last such offset; None: no end."""
    partition: int | None
    """The only partition they apply to; None: all."""


@dataclass(frozen=True)
class Injected:
    """What was done, exactly: a fault is counted when the broker has acknowledged what it did, a drop at once."""

    relayed: int = 0
    """Messages of the source that are settled: written and acknowledged, or dropped."""
    written: int = 0
    """Messages that the destination acknowledged."""
    drop: int = 0
    duplicate: int = 0
    reorder: int = 0
    delay: int = 0
    freeze: int = 0
    change_field: int = 0
    foreign_environment: int = 0
    lost_head: int = 0
    """Of `drop`: before the first message of the same producer that was written, so no number tells."""
    lost_tail: int = 0
    """Of `drop`: after the last message of the same producer that was written, so no number tells yet."""
    not_applicable: int = 0
    """Chosen, but there was nothing to change: no such field, no header, or it says so already."""
    by_partition: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """The same counts for each partition, without zeros."""


class Message(NamedTuple):
    """A message of the source, as it is written to the same partition of the destination."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


class Outgoing(NamedTuple):
    """A message that is to be written next, and the faults that are counted when it is."""

    message: Message
    faults: tuple[str, ...]
    delay_s: float
    settles: bool
    """The last copy of its message."""


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

    def chooses(self, seed: int, message: Message) -> bool:
        """Whether it applies to this message."""
        if self.partition not in {None, message.partition} or message.offset < self.first:
            return False
        if self.last is not None and message.offset > self.last:
            return False
        return self.share >= 1 or _chance(seed, self.salt, message) < self.share


def faults_of(options: FaultOptions, known: tuple[Fault, ...] = ()) -> tuple[Fault, ...]:
    """The faults that the options name, checked; `freeze` is not among them, because it is not of one message.

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
    _check_company(given)


def _check_count(name: str, count: Any, lowest: int) -> None:
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < lowest):
        raise FaultsError(f"{count!r} does not fit: give a whole number, {lowest} or more", name)


def _check_company(given: Mapping[str, Any]) -> None:
    """What is given together."""
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
    """`$.a.b[0]` as ("a", "b", 0)."""
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


def _chance(seed: int, salt: str, message: Message) -> float:
    """Evenly from 0 to 1, the same for the same message in every run."""
    text = f"{seed}/{salt}/{message.partition}/{message.offset}"
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big") / (1 << 48)


class _Held(NamedTuple):
    due: int
    """Position in the partition."""
    outgoing: tuple[Outgoing, ...]


class _Partition:
    """One partition: where it is, what is held back, and what each producer has had written (0: has no number)."""

    __slots__ = ("dropped", "held", "newest", "position")

    def __init__(self) -> None:
        self.position = 0
        self.held: list[_Held] = []
        self.newest: dict[int, int] = {}
        """The highest offset written, by producer."""
        self.dropped: dict[int, list[int]] = {}
        """Offsets above it that were dropped, by producer."""


class Plan:
    """Turns messages of the source into those of the destination. Used by one thread."""

    def __init__(self, seed: int, source: str, destination: str) -> None:
        self._seed = seed
        self._source = source
        self._destination = destination
        self._partitions: dict[int, _Partition] = {}
        self.counts: Counter[tuple[str, int]] = Counter()
        """By fault and partition, of what is settled here: drops, and what did not apply."""

    @property
    def held(self) -> int:
        """Messages that wait for others to pass them."""
        return sum(len(state.held) for state in self._partitions.values())

    def take(self, message: Message, faults: tuple[Fault, ...]) -> list[Outgoing]:
        """What is to be written, in this order, now that this message has come."""
        state = self._partitions.setdefault(message.partition, _Partition())
        state.position += 1
        producer = self._producer(message)
        chosen = [fault for fault in faults if fault.chooses(self._seed, message)]
        kinds = {fault.kind for fault in chosen}
        out: list[Outgoing] = []
        if "drop" in kinds:
            self._drop(state, message, producer)
        else:
            copies = self._copies(message, chosen)
            displaced = next((fault for fault in chosen if fault.kind == "reorder"), None)
            # Below the base line nothing is out of order: the first message of a producer is never held.
            if displaced is not None and producer in state.newest:
                passing = 1 + int(_chance(self._seed, f"{displaced.salt}/by", message) * displaced.displacement)
                state.held.append(_Held(state.position + passing, copies))
            else:
                out += self._written(state, producer, copies)
        return out + self._due(state)

    def release(self) -> list[Outgoing]:
        """All that is held, in the source's order: nothing comes any more that could pass it."""
        out: list[Outgoing] = []
        for state in self._partitions.values():
            for held in sorted(state.held, key=lambda each: each.outgoing[0].message.offset):
                out += self._written(state, self._producer(held.outgoing[0].message), held.outgoing)
            state.held = []
        return out

    def _due(self, state: _Partition) -> list[Outgoing]:
        if not state.held or min(state.held)[0] > state.position:
            return []
        out: list[Outgoing] = []
        waiting: list[_Held] = []
        for held in state.held:
            message = held.outgoing[0].message
            producer = self._producer(message)
            if held.due <= state.position and state.newest[producer] > message.offset:
                out += self._written(state, producer, held.outgoing)
            else:
                waiting.append(held)
        state.held = waiting
        return out

    def _drop(self, state: _Partition, message: Message, producer: int) -> None:
        self.counts["drop", message.partition] += 1
        self.counts["relayed", message.partition] += 1
        if producer in state.newest:
            self.counts["lost_tail", message.partition] += 1
            state.dropped.setdefault(producer, []).append(message.offset)
        else:
            self.counts["lost_head", message.partition] += 1

    def _written(self, state: _Partition, producer: int, copies: tuple[Outgoing, ...]) -> tuple[Outgoing, ...]:
        message = copies[0].message
        if state.newest.get(producer, -1) > message.offset:
            return (copies[0]._replace(faults=(*copies[0].faults, "reorder")), *copies[1:])
        state.newest[producer] = message.offset
        tail = state.dropped.get(producer)
        if tail:
            left = [offset for offset in tail if offset > message.offset]
            self.counts["lost_tail", message.partition] -= len(tail) - len(left)
            state.dropped[producer] = left
        return copies

    def _copies(self, message: Message, chosen: list[Fault]) -> tuple[Outgoing, ...]:
        """The message as it is to be written, once or twice; the changes are counted with the first copy."""
        done: list[str] = []
        changed = message._replace(headers=self._restamped(message))
        for fault in chosen:
            if fault.kind not in {"change_field", "foreign_environment"}:
                continue
            result = _with_field(changed, fault) if fault.kind == "change_field" else _with_environment(changed, fault)
            if result is None:
                self.counts["not_applicable", message.partition] += 1
            else:
                changed = result
                done.append(fault.kind)
        delay_s = max((fault.delay_s for fault in chosen), default=0.0)
        if all(fault.kind != "duplicate" for fault in chosen):
            return (Outgoing(changed, tuple(done), delay_s, settles=True),)
        return (
            Outgoing(changed, tuple(done), delay_s, settles=False),
            Outgoing(changed, ("duplicate",), 0.0, settles=True),
        )

    def _restamped(self, message: Message) -> Headers:
        """Numbers that were given for the source are given for the destination; others stay unjudged (rule 5)."""
        mine = tag_of(self._source, message.partition)
        tag = tag_of(self._destination, message.partition)
        found: Headers = []
        for key, header in message.headers:
            read = fields(header) if key == NAME and header is not None else None
            numbered = read is not None and read[9] and read[10] and read[11] == mine
            found.append((key, stamp(header, read[10], tag)) if numbered and read and header else (key, header))
        return found

    def _producer(self, message: Message) -> int:
        """Whose numbers these are; 0 without a number. The tag is the source's, or after `_restamped` the other's."""
        tags = {tag_of(self._source, message.partition), tag_of(self._destination, message.partition)}
        for key, header in message.headers:
            read = fields(header) if key == NAME else None
            if read is not None and read[10] and read[11] in tags:
                return read[9]
        return 0


def _with_field(message: Message, fault: Fault) -> Message | None:
    """The message with the field changed; None when there is no such field, or it is so already."""
    value = message.value
    if not value:
        return None
    # A schema registry's serializer puts a zero and the schema's id before the JSON.
    prefix = value[:_SCHEMA_ID_BYTES] if value[0] == 0 else b""
    try:
        root = json.loads(value[len(prefix) :])
        parent = root
        for step in fault.path[:-1]:
            parent = parent[step]
        if not _change(parent, fault.path[-1], fault):
            return None
    except (ValueError, TypeError, LookupError):
        return None
    text = json.dumps(root, ensure_ascii=False, separators=(",", ":"))
    return message._replace(value=prefix + text.encode("utf-8", "surrogatepass"))


def _change(parent: Any, name: str | int, fault: Fault) -> bool:
    old = parent[name]
    if fault.change == "null":
        parent[name] = None
        return old is not None
    if fault.change == "retype":
        parent[name] = [old] if isinstance(old, str) else json.dumps(old, ensure_ascii=False)
    elif fault.change == "remove":
        del parent[name]
    elif fault.text in parent:
        return False
    else:
        renamed = {fault.text if key == name else key: value for key, value in parent.items()}
        parent.clear()
        parent.update(renamed)
    return True


def _with_environment(message: Message, fault: Fault) -> Message | None:
    """The message with another environment in its header; None when it has no header, or that environment already."""
    headers: Headers = []
    done = False
    for key, header in message.headers:
        known = decode(header) if key == NAME and header is not None else None
        if known is None or header is None or known.environment == fault.text:
            headers.append((key, header))
        else:
            headers.append((key, _renamed(header, fault.text)))
            done = True
    return message._replace(headers=headers) if done else None


def _renamed(header: bytes, environment: str) -> bytes:
    """The header with another environment; all else stays, extensions too."""
    raw = _raw(header)
    named = _raw(
        encode(
            flags=0,
            hops=0,
            environment=environment,
            origin_ms=0,
            newest_ms=0,
            path=0,
            producer_id=0,
            sequence=0,
            tag=0,
        )
    )
    # What follows the first 30 bytes of `named` is the extension with the name, whose type is its first byte.
    others, at = b"", _HEADER_BYTES
    while at < len(raw):
        end = at + 2 + raw[at + 1]
        if raw[at] != _TYPE_ENVIRONMENT:
            others += raw[at:end]
        at = end
    extension = others + named[_HEADER_BYTES:]
    flags = raw[1] | EXTENDED if extension else raw[1] & ~EXTENDED
    head = bytes((raw[0], flags, raw[2], named[_ENVIRONMENT_AT]))
    return b2a_base64(head + raw[4:_HEADER_BYTES] + extension, newline=False).translate(_URL_SAFE, b"=")


def _raw(header: bytes) -> bytes:
    return a2b_base64(header.translate(_STANDARD) + b"=" * (-len(header) % 4))


_TYPE_ENVIRONMENT = 2


def injected_of(counts: Mapping[tuple[str, int], int], freezes: int) -> Injected:
    """The counts as they are shown."""
    by_partition: dict[int, dict[str, int]] = {}
    for (name, partition), count in sorted(counts.items(), key=lambda each: (each[0][1], each[0][0])):
        if count:
            by_partition.setdefault(partition, {})[name] = count
    totals: Counter[str] = Counter()
    for found in by_partition.values():
        totals.update(found)
    return replace(Injected(**totals, freeze=freezes), by_partition=by_partition)
