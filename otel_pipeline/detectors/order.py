"""What is counted of order and loss in a partition, from its offsets and from the numbers that producers gave.

Definitions: reordered as RFC 4737 has it (arrives with a number below one that has arrived, for the first time);
duplicate: a number that has arrived already; missing: a number that is given up. How: `partition_order.py`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from otel_pipeline.detectors.measures import Detector
from otel_pipeline.detectors.partition_order import PartitionOrder, Unordered, Unplaced
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.measures import FLOW, Attribute, Measure

if TYPE_CHECKING:
    from otel_pipeline.detectors.watched_partition import WatchedPartition

VIOLATIONS = Measure(
    "otel_pipeline.order.violations",
    "counter",
    "{message}",
    "Messages that came out of order, or again.",
    (*FLOW, Attribute("otel_pipeline.violation", "What is wrong with the order.")),
)
REORDERED = VIOLATIONS.label("reordered")
DUPLICATE = VIOLATIONS.label("duplicate")
REDELIVERED = VIOLATIONS.label("redelivered")
REWOUND = VIOLATIONS.label("rewound")
MISSING = Measure(
    "otel_pipeline.messages.missing",
    "counter",
    "{message}",
    "Messages that never came, by where they were lost.",
    (*FLOW, Attribute("otel_pipeline.cause", "Where messages were lost.")),
)
BEFORE_BROKER = MISSING.label("before_broker")
SKIPPED = MISSING.label("skipped")
OFFSET_RESET = MISSING.label("offset_reset")
EXPIRED = MISSING.label("expired")
CUT = MISSING.label("cut")
OPEN = Measure("open", None, "{message}", "Numbers that are missing and not given up yet.").label()
LEFT_OPEN = Measure(
    "left_open", None, "{message}", "Numbers that were open when nobody read their partition here any more."
).label()
FIRSTS = Measure(
    "firsts", None, "{message}", "Messages that there is nothing to compare with: the first of their producer."
).label()
TURNED_AWAY = Measure(
    "turned_away", None, "{message}", "Messages of producers that are not followed: there are too many."
).label()
NOT_FOLLOWED = Measure(
    "not_followed", None, "{message}", "Numbers that were jumped over while gaps of too many producers were followed."
).label()
EXCUSED = Measure("excused", None, "{message}", "Numbers that were jumped over together with offsets.").label()
SKIPPED_OFFSETS = Measure("skipped_offsets", None, "{message}", "Offsets that had no message.").label()
BY_DESTINATION = Measure(
    "by_destination", None, "{message}", "Messages whose numbers go over all partitions: they say nothing of losses."
).label()
UNPLACED = Measure(
    "unplaced", None, "{message}", "Messages of which no place is known: their order is not judged."
).label()
UNNUMBERED = Measure("unnumbered", None, "{message}", "Messages with a header in which there is no number.").label()


def _watch(at: WatchedPartition) -> PartitionOrder:
    if at.fields.headers_only:
        return Unplaced(-1, at.monotonic_s)
    if at.fields.deliveries is not None:
        return Unordered(-1, at.monotonic_s)
    original = at.settings.mirrors.get(at.destination, at.destination)
    of_partition, of_all = (pipeline_header.tag_of(original, partition) for partition in (at.partition, None))
    return PartitionOrder(of_partition, at.monotonic_s, of_all, at.room)


DETECTOR = Detector(
    "order",
    watch=_watch,
    counts={
        REORDERED: attrgetter("reordered"),
        DUPLICATE: attrgetter("duplicate"),
        REDELIVERED: attrgetter("redelivered"),
        REWOUND: attrgetter("rewound"),
        BEFORE_BROKER: attrgetter("missing_before_broker"),
        SKIPPED: attrgetter("missing_skipped"),
        OFFSET_RESET: attrgetter("missing_offset_reset"),
        EXPIRED: attrgetter("missing_expired"),
        CUT: attrgetter("log.cut"),
        OPEN: attrgetter("open"),
        LEFT_OPEN: attrgetter("left_open"),
        FIRSTS: attrgetter("firsts"),
        TURNED_AWAY: attrgetter("turned_away"),
        NOT_FOLLOWED: attrgetter("not_followed"),
        EXCUSED: attrgetter("excused"),
        SKIPPED_OFFSETS: attrgetter("skipped"),
        BY_DESTINATION: attrgetter("by_destination"),
        UNNUMBERED: attrgetter("unnumbered"),
        UNPLACED: attrgetter("unplaced"),
    },
)
