"""Messages of a share group: no order is judged, and what is delivered again is counted by the broker's own count."""

from __future__ import annotations

from operator import itemgetter

import pytest

from otel_pipeline.detectors.order import VIOLATIONS
from otel_pipeline.detectors.partition_order import Unordered
from otel_pipeline.detectors.shared import SHARED
from otel_pipeline.engine.clients import Consumer
from tests.detectors.conftest import FIELDS


@pytest.fixture
def sharing(watching):
    """A consumer of a share group, whose messages have their count at the end."""
    found = watching()
    found.consumer = Consumer(
        found.engine,
        FIELDS._replace(deliveries=itemgetter(8)),
        attributes={"messaging.system.name": "kafka"},
        group="g",
        operation="poll",
    )
    return found


def told(found, messages, *, at_once):
    if at_once:
        observer = found.consumer.partition("orders", 0).observer
        observer.batch(messages, [message[5][-1][1] for message in messages], found.now_ms)
    else:
        found.deliver(*messages)
    return found.evidence().counts


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("counts", "again"), [((1, 1, 1), 0), ((1, 2, 1), 1), ((2, 3, 9), 3), ((0, None, 1), 0)])
def test_delivered_again(sharing, counts, again, at_once):
    """From the second time on; whatever the offsets are, nothing else is said of them."""
    offsets, numbers = (7, 3, 9), (5, 1, 1)
    messages = [
        (*sharing.message(offset, header=sharing.header(number)), count)
        for offset, number, count in zip(offsets, numbers, counts, strict=True)
    ]
    found = told(sharing, messages, at_once=at_once)
    violations = {kind: count for kind, count in found.of(VIOLATIONS).items() if count}

    assert (found[SHARED], violations) == (3, {("redelivered",): again} if again else {})
    assert sharing.guard.errors == {}


@pytest.mark.parametrize("header", [True, False])
def test_its_newest_offset_says_nothing(sharing, header):
    """What is below it, others have: no backlog can be told from it."""
    sharing.deliver((*sharing.message(5, header=sharing.header(1) if header else None), 1))

    assert [flow.processed_offsets() for flow in sharing.flows.every()] == [{}]


def test_a_batch_at_once():
    """Nothing is compared in it, and it has not to be told one by one."""
    order = Unordered(-1, lambda: 0.0)
    order.one(3, 1, 1, 7)
    order.one_of_destination(2, 1, 1, 7)
    order.without_header(9)

    assert order.batch(5, 9, 1, 3, 7) is True
    assert (order.highest, order.firsts, order.skipped, order.redelivered, order.numbers()) == (-2, 0, 0, 0, {})
