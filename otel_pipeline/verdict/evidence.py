"""What is known of one flow, as plain values: what the verdict is made from, and nothing else.

Counts only grow; the verdict compares them with earlier ones. None means that there is no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from otel_pipeline.contracts.evidence import ContractEvidence
from otel_pipeline.detectors.flow_pace import Pace
from otel_pipeline.detectors.partition import MESSAGES
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.sends import ProducerKey, Sends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.detectors.objectives import ObjectiveEvidence
    from otel_pipeline.detectors.producer_window import Between
    from otel_pipeline.detectors.sender_delay import Delay
    from otel_pipeline.detectors.watched_flow import FlowKey

    AnyKey = FlowKey | ProducerKey


@dataclass(slots=True)
class Freshness:
    """How old the data is."""

    objectives: list[ObjectiveEvidence] = field(default_factory=list)
    age_p99_s: float | None = None
    """99th percentile of the data age since the start; None where no age was measured."""
    staleness_s: float | None = None
    """now - newest processed origin."""
    quiet_s: float | None = None
    """Since the last message came; None before the first."""
    expect_every_s: float | None = None
    replaying: int = 0
    """Messages that are still to be read again, or are from before the consumer first began."""
    delay: Delay | None = None
    """What senders add to the ages of a partition's messages at least; None where nothing is proven."""
    clock_step_s: float | None = None
    """By how much this machine's clock was set, while it is not known to be right; None else."""
    clock_right_s: float = inf
    """For how long it has been right again; infinite where it was never set."""


@dataclass(slots=True)
class Evidence:
    """All that is known of one flow, or of what is sent to one destination."""

    key: AnyKey
    counts: Sums = field(default_factory=Sums)
    """What its detectors and its contract have counted since it began."""
    sends: Sends = field(default_factory=Sends)
    """What became of what was sent, of a producer."""
    values_checked: bool = False
    """Whether the values that a producer sends are compared with a contract."""
    environment: str | None = None
    """The environment of this process."""
    freshness: Freshness = field(default_factory=Freshness)
    pace: Pace = field(default_factory=Pace)
    contract: ContractEvidence = field(default_factory=ContractEvidence)
    ordered: bool = False
    """Whether the configuration demands the order of this destination."""
    open_places: Sequence[tuple[int, Between]] = ()
    """Partitions and offsets between which messages have not come yet."""
    missing_places: Sequence[tuple[int, Between]] = ()
    """The same of the latest ones that are given up."""
    at_risk: int = 0
    """Offsets that are committed and still in hand: lost if the process dies now."""
    refused_sends: dict[str, int] = field(default_factory=dict)
    """Sends of this process to the destination that failed, by error type: a reason for what is missing."""
    queued: int = 0
    """Messages to the destination that this process has given to clients and whose outcome is not known yet."""

    @property
    def of_producer(self) -> bool:
        """Whether it is known of what this process sends, and not of what it reads."""
        return isinstance(self.key, ProducerKey)

    @property
    def messages(self) -> int:
        """Messages delivered to the application."""
        return self.counts[MESSAGES]
