"""What the detectors know of one flow, as plain numbers: what the verdict is made from, and nothing else.

Counts only grow; the verdict compares them with those of earlier. None means that there is no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class FlowKey(NamedTuple):
    """One flow of messages: where the lights are judged."""

    cluster: str | None
    destination: str
    group: str | None
    """None where this process only sends."""


@dataclass(slots=True)
class ObjectiveEvidence:
    """One freshness objective: how many cases met it."""

    name: str
    threshold_s: float
    objective: float
    subject: str = "messages"
    """messages, or decisions of a model."""
    met: int = 0
    missed: int = 0
    unknown: int = 0


@dataclass(slots=True)
class Freshness:
    """How old the data is."""

    objectives: list[ObjectiveEvidence] = field(default_factory=list)
    age_p99_s: float | None = None
    """Of the data age since the start, where any was measured."""
    staleness_s: float | None = None
    """now - newest processed origin."""
    quiet_s: float | None = None
    """Since the last message came; None before the first."""
    expect_every_s: float | None = None


@dataclass(slots=True)
class Order:
    """Whether messages came in order, each once."""

    violations: dict[str, int] = field(default_factory=dict)
    """reordered, duplicate, redelivered, rewound, event_time_regression, concurrent_key."""
    missing: dict[str, int] = field(default_factory=dict)
    """By cause: before_broker, skipped, offset_reset, expired, unknown."""
    open_gaps: int = 0
    """Messages that have not come yet and are not given up."""
    by_destination: int = 0
    """Messages whose producers number over all partitions: a gap in their numbers says nothing of losses."""
    unnumbered: int = 0
    """Messages with a header in which there is no number."""
    queued: int = 0
    """Messages to the destination that this process has given to clients and of which nothing is known yet."""
    share_group: bool = False
    commits_ahead: int = 0
    """Offsets committed before their processing ended."""
    at_risk: int = 0
    """Of these the ones that are still in hand: lost when the process dies now."""
    refused_sends: dict[str, int] = field(default_factory=dict)
    """Sends of this process to the destination that failed, by error type: a reason for before_broker."""


@dataclass(slots=True)
class Pace:
    """Whether the consumer keeps up. `lag` and ages are those of the partition that is furthest behind."""

    assigned: int = 0
    lag: int | None = None
    """Records behind, over all partitions; None without a fetch."""
    caught_up_age_s: float | None = None
    time_lag_s: tuple[float, float] | None = None
    utilization: float | None = None
    in_rate: float | None = None
    """Messages written a second."""
    out_rate: float | None = None
    """Messages read a second."""
    growing: bool = False
    """Whether the lag has been growing for a minute."""
    rewound: bool = False
    """Whether a position has moved back within the last minute."""
    drain_time_s: float | None = None
    status: str = "unknown"
    """ok, lagging, stalled, stopped, rewound, unknown."""
    position_still_s: float | None = None
    """How long the position has not moved while there was lag; None without lag."""
    unpolled_s: float | None = None
    """Since the application last called poll or asked for a message; None before the first."""
    processing_median_s: float | None = None


@dataclass(slots=True)
class ContractEvidence:
    """Whether values have the shape that was agreed on."""

    source: str | None = None
    """file, learned, or None while it is not known."""
    learned: int = 0
    learn_messages: int = 1000
    checked: int = 0
    """Messages compared with a known contract."""
    violations: dict[str, int] = field(default_factory=dict)
    """By kind: field_added, field_missing, type_changed, became_null, int_to_float, unreadable."""
    broken_of_last_100: int = 0
    """Of the last 100 messages checked, those with a difference that breaks."""
    differing_paths: list[str] = field(default_factory=list)
    fields: dict[str, float] = field(default_factory=dict)
    """Null rate, minimum and maximum of the fields that were asked for, as `path null_rate`."""
    sides_differ: bool = False
    """This process sends and receives the destination with different contracts."""


@dataclass(slots=True)
class Environments:
    """Where the messages began."""

    own: str | None = None
    foreign: dict[tuple[str, str], int] = field(default_factory=dict)
    """By (origin environment, policy)."""
    unlabelled: int = 0


@dataclass(slots=True)
class Coverage:
    """How many messages brought a header that could be judged."""

    ok: int = 0
    missing: int = 0
    unreadable: int = 0
    relayed: int = 0


@dataclass(slots=True)
class Evidence:
    """All that is known of one flow."""

    key: FlowKey
    messages: int = 0
    """Delivered to the application."""
    only_sent: bool = False
    """This process sends to the destination and does not read it: nothing but the contract can be told."""
    coverage: Coverage = field(default_factory=Coverage)
    freshness: Freshness = field(default_factory=Freshness)
    order: Order = field(default_factory=Order)
    pace: Pace = field(default_factory=Pace)
    contract: ContractEvidence = field(default_factory=ContractEvidence)
    environments: Environments = field(default_factory=Environments)
