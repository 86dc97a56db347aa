"""Order and loss on a real broker, through the real client: what is found is what was injected, and nothing else.

The rules' numbers are those of the detector, `otel_pipeline/detectors/order.py`.
"""

from __future__ import annotations

import pytest

from otel_pipeline.testing.faults import Relay

pytestmark = [pytest.mark.real, pytest.mark.broker]
MESSAGES = 12_000
WAYS = ("iterator", "poll")


@pytest.mark.parametrize(
    "faults",
    [
        {"drop": 0.01},
        {"duplicate": 0.01},
        {"reorder": 0.01, "displacement": 1_000},
        {"drop": 0.01, "duplicate": 0.01, "reorder": 0.01, "displacement": 1_000},
    ],
    ids="+".join,
)
def test_what_was_injected_is_found(watched, faults):
    """Losses, copies and late messages, each alone and together, by both ways of reading.

    A loss before a producer's first or behind its last message leaves no gap. What the relay counts, what an
    independent reader recomputes from the numbers, and what the detectors find are the same.
    """
    source, destination = watched.topic(2), watched.topic(2)
    watched.send(source, MESSAGES, partitions=(0, 1))
    with Relay(watched.address, source, destination, seed=7, **faults) as relay:
        injected = relay.wait_until_relayed(MESSAGES)
    expected = {
        "before_broker": injected.drop - injected.lost_head - injected.lost_tail,
        "duplicate": injected.duplicate,
        "reordered": injected.reorder,
    }
    expected = {name: count for name, count in expected.items() if count}
    assert min(expected.values()) > 0.005 * MESSAGES

    for by in WAYS:
        consumer = watched.consumer(destination, group=f"{destination}-{by}", partitions=2)
        records = watched.read(consumer, by, injected.written)
        watched.read(consumer, by, lambda: not watched.found(destination, consumer.config["group_id"]).get("open"))

        assert len(records) == injected.written
        print(expected)
        assert watched.truth(records) == expected
        assert watched.found(destination, consumer.config["group_id"]) == expected
