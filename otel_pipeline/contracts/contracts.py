"""The contracts of all destinations that this process sends to or receives from, and their metrics."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from threading import RLock
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from otel_pipeline import semconv
from otel_pipeline.contracts.comparing import apart
from otel_pipeline.contracts.evidence import ContractEvidence
from otel_pipeline.contracts.fields import FieldsHealth
from otel_pipeline.contracts.measures import CHECKED, INFO, VIOLATIONS
from otel_pipeline.contracts.paths import ContractError
from otel_pipeline.contracts.settings import ContractSettings, DestinationContract
from otel_pipeline.contracts.watch import ContractWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.contracts.measures import Side
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.measures import Label
    from otel_pipeline.engine.totals import Attributes, AttributeValue, CounterCell, Totals
    from otel_pipeline.settings import Settings

MAX_DESTINATIONS = 100
_LOGGER = logging.getLogger("otel_pipeline")


class Contracts:
    """One watch for each destination and side. Safe in any thread.

    Args:
        load: returns the contract from a destination's file, None without a file; may raise `ContractError`.
        problem: called once with what is wrong with a file.
        clock_ns: a clock that only grows, ns: by it, looking at values is kept cheap.
    """

    def __init__(
        self,
        totals: Totals,
        configured: Settings,
        *,
        load: Callable[[str], Contract | None] = lambda _destination: None,
        problem: Callable[[str, str], None] = lambda _key, _message: None,
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._configured = configured
        self._settings = configured.of(ContractSettings)
        self._load = load
        self._problem = problem
        self._clock_ns = clock_ns
        self._lock = RLock()
        self._watches: dict[tuple[str, Side], ContractWatch | None] = {}
        self._series: dict[tuple[ContractWatch, Label], CounterCell] = {}
        self._counters = {measure: measure.counter(totals) for measure in (CHECKED, VIOLATIONS)}
        for counter in self._counters.values():
            counter.refresh = self.refresh
        INFO.gauge(totals, self._info)

    def attach(self, engine: Engine) -> None:
        """Watch what is sent through this engine."""
        engine.check_sent = self.check_sent
        engine.forget_sent = self._forget_sent
        engine.unreadable = self.unreadable

    def begin_anew(self) -> None:
        """Know no value, in a forked child, and wait for no thread that only its parent has."""
        self._lock = RLock()
        self._watches.clear()
        self._series.clear()

    def of(self, destination: str, side: Side) -> ContractWatch | None:
        """Return the watch of a destination, made when it is first asked for; None where nothing is to be watched."""
        key = (destination, side)
        with self._lock:
            if key not in self._watches:
                if len(self._watches) >= 2 * MAX_DESTINATIONS:
                    return None
                self._watches[key] = self._made(destination, side)
            return self._watches[key]

    def unreadable(self, destination: str, side: Side) -> None:
        """Count a value of this destination that could not be serialized or deserialized."""
        watch = self.of(destination, side)
        if watch is not None:
            watch.unreadable()

    def fields(self, destination: str, paths: Sequence[str], option: str) -> FieldsHealth | None:
        """Make what looks at these fields; None where that is impossible, which is reported under `option`."""
        try:
            return FieldsHealth(paths)
        except ContractError as error:
            self._problem(f"contract.{option}.{destination}", f"{option} of {destination} is not looked at: {error}")
            return None

    def counts(self, destination: str, side: Side) -> dict[Label, int]:
        """Return what was counted on one side."""
        watch = self._watches.get((destination, side))
        return {} if watch is None else watch.counts()

    def evidence(self, destination: str, side: Side) -> ContractEvidence:
        """Return what else is known of one side, and whether this process's other side has another contract."""
        watch = self._watches.get((destination, side))
        if watch is None:
            return ContractEvidence(wanted=False, learn_messages=self._settings.learn_messages)
        found = watch.evidence()
        other = self._watches.get((destination, "producer" if side == "consumer" else "consumer"))
        if other is not None and watch.contract is not None and other.contract is not None:
            found.sides_differ = apart(watch.contract, other.contract)
        return found

    def sent_to(self) -> list[str]:
        """List the destinations whose values are watched when they are sent."""
        with self._lock:
            return [name for (name, side), watch in self._watches.items() if side == "producer" and watch is not None]

    def refresh(self) -> None:
        """Bring the metrics' sums up to date."""
        for watch in self._known():
            for label, count in watch.counts().items():
                if label.measure.instrument is None:
                    continue
                cell = self._series.get((watch, label))
                if cell is None:
                    named = {semconv.MESSAGING_DESTINATION_NAME: watch.destination, **label.attributes}
                    cell = self._series[watch, label] = self._counters[label.measure].cell(named, owner=watch)
                cell.value = count

    def check_sent(self, destination: str) -> Callable[[Any, int, Any], None] | None:
        """Return what looks at values that are sent to a destination; None where nothing is to be watched."""
        watch = self.of(destination, "producer")
        return None if watch is None else watch.check_sent

    def _forget_sent(self, destination: str) -> None:
        with self._lock:
            watch = self._watches.pop((destination, "producer"), None)
            self._series = {key: cell for key, cell in self._series.items() if key[0] is not watch}

    def _made(self, destination: str, side: Side) -> ContractWatch | None:
        settings = self._configured.destination(DestinationContract, destination)
        wanted = settings.contract
        if wanted == "ignore":
            return None
        contract = None
        try:
            contract = self._load(destination)
        except ContractError as error:
            self._problem(f"contract.{destination}", str(error))
        if contract is None and wanted == "file":
            self._problem(
                f"contract.{destination}",
                f"{destination} has no contract file, which destinations: asks for; "
                f"`otel-pipeline contract record {destination}` writes it",
            )
            return None
        watch = partial(
            ContractWatch,
            destination,
            side,
            contract=contract,
            learn_messages=self._settings.learn_messages,
            clock_ns=self._clock_ns,
            say=_say,
        )
        try:
            return watch(fields_on_request=settings.fields)
        except ContractError as error:
            self._problem(f"contract.fields.{destination}", f"fields of {destination} are not looked at: {error}")
            return watch()

    def _known(self) -> list[ContractWatch]:
        with self._lock:
            return [watch for watch in self._watches.values() if watch is not None]

    def _info(self) -> Iterator[tuple[Attributes, float]]:
        for watch in self._known():
            if watch.hash is not None and watch.source is not None:
                named: dict[str, AttributeValue] = {semconv.MESSAGING_DESTINATION_NAME: watch.destination}
                yield {**named, **INFO.label(watch.side, watch.hash, watch.source).attributes}, 1.0


def _say(sentence: str) -> None:
    """Log what a person may read, and need not act on."""
    with suppress(Exception):  # Of a filter of the application's.
        _LOGGER.info("otel_pipeline: %s", sentence)
