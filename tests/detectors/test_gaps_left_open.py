"""A gap whose consumer is gone: it is neither open for ever nor a loss for certain, and it is not forgotten."""

from __future__ import annotations

from otel_pipeline.detectors.order import BEFORE_BROKER, LEFT_OPEN, OPEN, REORDERED


def counted(found):
    counts = found.evidence().counts
    return {str(label.measure.name): counts[label] for label in (OPEN, LEFT_OPEN, BEFORE_BROKER) if counts[label]}


def test_the_consumer_closes(watching):
    """Whoever reads the partition next begins behind the gap."""
    found = watching()
    found.deliver(*found.numbered(1, 2, 5))
    open_before = counted(found)
    found.consumer.close()

    assert (open_before, counted(found)) == ({"open": 2}, {"left_open": 2})
    assert (found.evidence().open_places, found.evidence().missing_places) == ([], [])
    light = found.lights()["order"]
    assert (light.row, light.state) == ("gap left open", "amber")


def test_a_gap_before_a_seek_is_the_applications_wish(watching):
    """As it is while the consumer lives."""
    found = watching()
    found.deliver(*found.numbered(1, 2, 5)).sought()
    found.consumer.close()

    assert counted(found) == {}


def test_a_loss_keeps_its_place_when_the_consumer_closes(watching):
    """So that the light can say where it was."""
    found = watching()
    found.deliver(*found.numbered(1, 2, 5)).order.close()
    found.consumer.close()

    assert (counted(found), found.evidence().missing_places) == (
        {BEFORE_BROKER.measure.name: 2},
        [(0, (1, 2))],
    )


def away(found, seconds):
    """The partition is another member's."""
    found.at.pop(("orders", 0), None)
    for _ in range(seconds):
        found.now_s += 1
        found.flows.look()


def test_the_partition_goes_to_another_member(watching):
    """No fetch here will tell whether the rest comes: after `lost_after` it is left."""
    found = watching(lost_after_s=5.0)
    found.consumer.fetch_observer("orders", 0)
    found.deliver(*found.numbered(1, 2, 5))
    found.at["orders", 0] = 3
    found.flows.look()
    away(found, 5)
    before = counted(found)
    away(found, 1)

    assert (before, counted(found)) == ({"open": 2}, {"left_open": 2})


def test_the_partition_comes_back_in_time(watching):
    """Then it goes on, and counts from when it goes away again."""
    found = watching(lost_after_s=5.0)
    found.consumer.fetch_observer("orders", 0)
    observer = found.deliver(*found.numbered(1, 2, 5))
    for _ in range(2):
        found.at["orders", 0] = 3
        found.flows.look()
        away(found, 5)
    observer.assigned()
    found.deliver(*found.numbered(4, offset=3))

    assert counted(found) == {"open": 1}


def test_what_comes_after_it_was_left_is_late(watching):
    """And nothing is counted twice."""
    found = watching()
    observer = found.deliver(*found.numbered(1, 2, 5))
    observer.order.leave()
    found.deliver(*found.numbered(3, 6, offset=3))
    observer.order.close()

    assert counted(found) == {"left_open": 2}
    assert found.evidence().counts[REORDERED] == 1


def test_a_consumer_that_is_only_collected(watching):
    """As one that is closed."""
    found = watching()
    found.deliver(*found.numbered(1, 2, 5))
    found.consumer = None

    assert counted(found) == {"left_open": 2}
