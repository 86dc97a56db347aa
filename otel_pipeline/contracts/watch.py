"""Watches the values of one destination on one side: learns their contract or has it from a file, then compares."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.evidence import ContractEvidence
from otel_pipeline.contracts.fields import FieldHealth, FieldsHealth
from otel_pipeline.contracts.judging import Judge
from otel_pipeline.contracts.measures import LEARNED
from otel_pipeline.contracts.sampling import Sampler
from otel_pipeline.contracts.schema_ids import framed
from otel_pipeline.contracts.text import NOTHING
from otel_pipeline.engine.forks import forks
from otel_pipeline.engine.guard import raise_theirs
from otel_pipeline.engine.pipeline_header import fields as fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.contracts.measures import Side, Source
    from otel_pipeline.engine.measures import Label
    from otel_pipeline.engine.messages import MessageFields


class ContractWatch:
    """What is known of the values of one destination, on one side. Used by several threads, never raises, never waits.

    Without a file it learns from the first messages and then freezes: what comes later never becomes the contract, but
    for what turns out to be as it has always been (`Healing`).
    Counts only grow; under several threads one may miss a message that another thread was looking at.

    Args:
        destination: its name.
        side: producer: before the serializer; consumer: after the deserializer.
        contract: from the file; None learns it.
        learn_messages: after how many a learned contract is known; 0 learns none.
        fields_on_request: paths, at most 32, of which null rate and range are kept. Empty keeps no value of any kind.
        clock_ns: a clock that only grows, ns.
        say: called with a sentence that a person should read once.

    Raises:
        ContractError: `fields_on_request` names what is no path, or too many.

    Example:
        watch = ContractWatch("orders", "consumer")
        watch.check({"id": 7}, size_bytes=9)
    """

    def __init__(
        self,
        destination: str,
        side: Side,
        *,
        contract: Contract | None = None,
        learn_messages: int = 1000,
        fields_on_request: Collection[str] = (),
        clock_ns: Callable[[], int] = perf_counter_ns,
        say: Callable[[str], object] = lambda _sentence: None,
    ) -> None:
        self.destination = destination
        self.side = side
        self.learn_messages = learn_messages
        self.failed = 0
        """Messages that could not be looked at: a fault here, or in the value's own methods."""
        self.sampler = Sampler(clock_ns)
        self._judge = Judge(destination, side, contract, learn_messages, self.sampler)
        self._fields = FieldsHealth(fields_on_request) if fields_on_request else None
        self._clock_ns = clock_ns
        self._say = say
        forks.add(self._renew)

    def check(self, value: Any, size_bytes: int, told: Callable[[Any], None] | None = None) -> None:
        """Take note of a message with this value that was sent or received.

        Args:
            value: what the application gave or got; bytes are taken for JSON where they look like it.
            size_bytes: of the serialized value; any constant where it is not known.
            told: as in `examine`.
        """
        sampler = self.sampler
        sampler.left = left = sampler.left - 1
        if left > 0 and sampler.low <= size_bytes <= sampler.high:
            return
        self.examine(value, size_bytes, told)

    def check_sent(self, value: Any, size_bytes: int, headers: Any) -> None:
        """Do as `check`, for a message with these headers: one of them may have the id of the value's schema."""
        sampler = self.sampler
        sampler.left = left = sampler.left - 1
        if left <= 0 or not sampler.low <= size_bytes <= sampler.high:
            self.examine(framed(value, headers), size_bytes)

    @staticmethod
    def reader(fields: MessageFields) -> Callable[[Any], Any]:
        """Make what reads the value of a message that was received, with its schema's id before it."""
        value_of, headers_of = fields.value, fields.headers
        return lambda message: framed(value_of(message), headers_of(message))

    def check_many(
        self,
        messages: Sequence[Any],
        value_of: Callable[[Any], Any],
        sizes: Sequence[int],
        told: Callable[[Any], None] | None = None,
        headers: Sequence[Any] = (),
    ) -> None:
        """Check a batch of messages, in one step where none of them is to be examined.

        Args:
            messages: those of the batch.
            value_of: reads a message's value.
            sizes: of each, in bytes.
            told: as in `examine`.
            headers: the data-flow header of each message, where they are known.
        """
        sampler = self.sampler
        if sampler.low > min(sizes) or max(sizes) > sampler.high:
            for at, (message, size_bytes) in enumerate(zip(messages, sizes, strict=True)):
                sampler.left = left = sampler.left - 1
                if left <= 0 or not sampler.low <= size_bytes <= sampler.high:
                    self.examine(value_of(message), size_bytes, told, _producer_of(headers, at))
            return
        at, end = 0, len(sizes)
        while sampler.left <= end - at:
            at += max(sampler.left, 1)
            sampler.left = 0
            self.examine(value_of(messages[at - 1]), sizes[at - 1], told, _producer_of(headers, at - 1))
        sampler.left -= end - at

    def unreadable(self) -> None:
        """Count a value whose deserializer raised."""
        self._judge.raised(self._clock_ns())

    @property
    def source(self) -> Source | None:
        """Where the contract comes from; None while it is not known."""
        return self._judge.agreement.source

    @property
    def contract(self) -> Contract | None:
        """The contract in force; None while it is not known."""
        return self._judge.agreement.contract

    @property
    def hash(self) -> str | None:
        """Hash of the contract in force; None while it is not known."""
        contract = self.contract
        return None if contract is None else contract.hash

    @property
    def learned(self) -> int:
        """Messages learned from."""
        return self._judge.agreement.learned

    @property
    def checked(self) -> int:
        """Messages compared with a known contract, or found unreadable."""
        return self._judge.found.checked

    @property
    def violations(self) -> Mapping[str, int]:
        """Differences by kind."""
        return self._judge.found.by_kind

    @property
    def differing_paths(self) -> list[str]:
        """The differences that are known, 20 at most, as `path kind`."""
        return [f"{path} {kind}" for path, kind in tuple(self._judge.found.known)]

    @property
    def schema_ids(self) -> Mapping[str, int]:
        """Values by the registry id, GUID or Avro fingerprint they begin with; at most 16 and `other`."""
        return self._judge.schemas.counts

    @property
    def field_health(self) -> Mapping[str, FieldHealth]:
        """What was seen of the fields that were asked for, by path."""
        return {} if self._fields is None else self._fields.by_path

    def counts(self) -> dict[Label, int]:
        """Return what was counted so far; the differences from the moment that there is a contract."""
        return self._judge.counts()

    def evidence(self) -> ContractEvidence:
        """Return what the verdict is made from, beside the counts. To be called by one thread at a time."""
        now_ns, judge = self._clock_ns(), self._judge
        if self.source == LEARNED:
            for settled in judge.healing.look(now_ns, judge.schemas.new_since_ns):
                self._say(f"{self.destination}: {settled}")
        kinds = judge.agreement.kinds
        return ContractEvidence(
            source=self.source,
            learned=self.learned,
            learn_messages=self.learn_messages,
            in_vain=self.sampler.resting,
            departures=judge.found.departures(now_ns),
            settled=judge.healing.settled(now_ns),
            new_schemas=judge.schemas.new(now_ns),
            schemas=list(self.schema_ids),
            stopped=judge.agreement.stopped,
            known_s=(now_ns - judge.known_ns) / 1e9,
            kinds_by=None if kinds is None else kinds.path,
            new_kinds=0 if kinds is None else len(kinds.new),
            fields={} if self._fields is None else self._fields.figures(),
        )

    def examine(
        self, value: Any, size_bytes: int, told: Callable[[Any], None] | None = None, producer: int = 0
    ) -> None:
        """Compare or learn a message that was taken: `check` calls this when the sampler says so.

        Args:
            value: as in `check`.
            size_bytes: as in `check`.
            told: called with the value as an object, where there is one. The time it takes counts as ours.
            producer: the id of who sent it; 0 where that is not known.
        """
        started_ns = self._clock_ns()
        try:
            self.sampler.take(size_bytes)
            if value is None:
                self._judge.deleted()
            else:
                value = self._judge.judge(value, size_bytes, producer, started_ns)
                if value is not NOTHING:
                    if self._fields is not None:
                        self._fields.look(value)
                    if told is not None:
                        told(value)
        except Exception:
            raise_theirs()
            self.failed += 1
            self._judge.in_vain()
        self.sampler.spent(self._clock_ns() - started_ns)

    def _renew(self) -> None:
        """Make new locks in a forked child."""
        self._judge.agreement.renew()


def _producer_of(headers: Sequence[Any], at: int) -> int:
    header = fields_of(headers[at]) if headers else None
    return 0 if header is None else header[6]
