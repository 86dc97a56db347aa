"""The contracts of all destinations that this process sends to or receives from, and their metrics."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.contracts.contract import DIFFERENCES
from otel_pipeline.contracts.paths import ContractError
from otel_pipeline.contracts.settings import ContractSettings, DestinationContract
from otel_pipeline.contracts.watch import ContractWatch
from otel_pipeline.verdict.evidence import ContractEvidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.contracts.watch import Side
    from otel_pipeline.engine.totals import Attributes, AttributeValue, Counter, CounterCell, Totals
    from otel_pipeline.settings import Settings

MAX_DESTINATIONS = 100


class Contracts:
    """One watch for each destination and side. Safe in any thread.

    Args:
        load: the contract that a file has of a destination, None without a file; may raise `ContractError`.
        problem: told once what is wrong with a file.
    """

    def __init__(
        self,
        totals: Totals,
        configured: Settings,
        *,
        load: Callable[[str], Contract | None] = lambda _destination: None,
        problem: Callable[[str, str], None] = lambda _key, _message: None,
    ) -> None:
        self._configured = configured
        self._settings = configured.of(ContractSettings)
        self._load = load
        self._problem = problem
        self._lock = RLock()
        self._watches: dict[tuple[str, Side], ContractWatch | None] = {}
        self._cells: dict[tuple[ContractWatch, str, str], CounterCell] = {}
        self._checked = totals.counter(
            semconv.OTEL_PIPELINE_CONTRACT_CHECKED, "{message}", "Messages whose value was compared with the contract."
        )
        self._violations = totals.counter(
            semconv.OTEL_PIPELINE_CONTRACT_VIOLATIONS, "{message}", "Differences from the contract."
        )
        self._checked.refresh = self._violations.refresh = self.refresh
        totals.gauge(semconv.OTEL_PIPELINE_CONTRACT_INFO, "{info}", "1 for the contract that a side has.", self._info)

    def renew(self) -> None:
        """A forked child must not wait for a thread that only its parent has."""
        self._lock = RLock()

    def of(self, destination: str, side: Side) -> ContractWatch | None:
        """The watch of a destination, made when it is first asked for; None where nothing is to be watched."""
        key = (destination, side)
        with self._lock:
            if key not in self._watches:
                if len(self._watches) >= 2 * MAX_DESTINATIONS:
                    return None
                self._watches[key] = self._made(destination, side)
            return self._watches[key]

    def unreadable(self, destination: str, side: Side) -> None:
        """A value of this destination could not be serialized, or not be read again."""
        watch = self.of(destination, side)
        if watch is not None:
            watch.unreadable()

    def evidence(self, destination: str, side: Side) -> ContractEvidence:
        """What is known of one side, and whether this process's other side has another contract."""
        watch = self._watches.get((destination, side))
        if watch is None:
            return ContractEvidence(learn_messages=self._settings.learn_messages)
        found = watch.evidence()
        other = self._watches.get((destination, "producer" if side == "consumer" else "consumer"))
        found.sides_differ = other is not None and None not in {other.hash, watch.hash} and other.hash != watch.hash
        return found

    def sent_to(self) -> list[str]:
        """The destinations whose values are watched when they are sent."""
        with self._lock:
            return [name for (name, side), watch in self._watches.items() if side == "producer" and watch is not None]

    def refresh(self) -> None:
        """Bring the metrics' sums up to date."""
        for watch in self._known():
            self._cell(watch, self._checked, "checked", {}).value = watch.checked
            if watch.source is not None:
                for kind in DIFFERENCES:
                    named: Attributes = {
                        semconv.OTEL_PIPELINE_KIND: kind,
                        semconv.OTEL_PIPELINE_SOURCE: watch.source,
                    }
                    self._cell(watch, self._violations, kind, named).value = watch.violations.get(kind, 0)

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
        try:
            return ContractWatch(
                destination,
                side,
                contract=contract,
                learn_messages=self._settings.learn_messages,
                fields_on_request=settings.fields,
            )
        except ContractError as error:
            self._problem(f"contract.fields.{destination}", f"fields of {destination} are not looked at: {error}")
            return ContractWatch(destination, side, contract=contract, learn_messages=self._settings.learn_messages)

    def _known(self) -> list[ContractWatch]:
        with self._lock:
            return [watch for watch in self._watches.values() if watch is not None]

    def _cell(self, watch: ContractWatch, counter: Counter, name: str, more: Attributes) -> CounterCell:
        cell = self._cells.get((watch, counter.name, name))
        if cell is None:
            cell = self._cells[watch, counter.name, name] = counter.cell({**_labels(watch), **more}, owner=watch)
        return cell

    def _info(self) -> Iterator[tuple[Attributes, float]]:
        for watch in self._known():
            if watch.hash is not None and watch.source is not None:
                yield (
                    {
                        **_labels(watch),
                        semconv.OTEL_PIPELINE_HASH: watch.hash,
                        semconv.OTEL_PIPELINE_SOURCE: watch.source,
                    },
                    1.0,
                )


def _labels(watch: ContractWatch) -> dict[str, AttributeValue]:
    return {semconv.MESSAGING_DESTINATION_NAME: watch.destination, semconv.OTEL_PIPELINE_SIDE: watch.side}
