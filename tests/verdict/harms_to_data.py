"""What makes data late, or wrong, or keeps it from being delivered, as long or as much as is asked for."""

from __future__ import annotations

from otel_pipeline.contracts.contract import Contract, Field
from tests.verdict.harms_to_pace import BEFORE_S, QUICK, beginning, handler_hangs, reading
from tests.verdict.sending import Sending
from tests.verdict.simulation import Simulation

GOOD = b'{"id": 1, "amount": 1.5}'
FIELDS = {"$": Field(("object",), True), "id": Field(("int",), True), "amount": Field(("float",), True)}
ORDERS = Contract("orders", FIELDS)
CHANGED = (b'{"id": 1, "amount": null}', b'{"id": 1, "amount": "1.5"}', b'{"id": 1}', b'{"id": 1, "total": 1.5}')
"""What `change_field` makes of a value: null, another type, removed, renamed."""


# Fresh


def waits(seconds):
    return handler_hangs(seconds, threshold_s=4.0)


def some_are_late(share):
    """Of ten messages a second."""
    found = reading(beginning(10.0, threshold_s=4.0))
    found.spawn(found.producer(10 * share, age_s=20.0, producer=8, evenly=True))
    return found.run(300)


def all_are_delayed(age_s):
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5, age_s=age_s, evenly=True))
    found.spawn(found.iterator(lambda _message: QUICK))
    found.run(1)
    found.harms()
    return found.run(60)


def nothing_comes(seconds, expect_every_s=30.0):
    found = reading(beginning(threshold_s=4.0, expect_every_s=expect_every_s, until_s=BEFORE_S))
    found.run(seconds)
    found.write(1)
    return found.run(10)


def is_frozen(seconds):
    """Nothing is relayed, then all of it at once."""
    found = reading(beginning(threshold_s=4.0, until_s=BEFORE_S))
    found.run(seconds)
    for count in range(int(seconds * 5)):
        found.write(1, age_s=seconds - count / 5)
    found.spawn(found.producer(5, evenly=True))
    return found.run(60)


# What faults do to order, contract and environment


def are_lost(count):
    found = reading(beginning())
    found.lose(int(count))
    return found.run(200)


def come_twice(count, **configured):
    found = reading(beginning(**configured))
    for _ in range(int(count)):
        found.write(1, again=-1)
    return found.run(60)


def come_twice_though_ordered(count):
    return come_twice(count, ordered=True)


def come_late(count, **configured):
    """Each behind one that was sent after it."""
    found = reading(beginning(**configured))
    for _ in range(int(count)):
        found.write(1, again=1)
        found.write(1)
        found.lose(1)
    return found.run(60)


def come_late_though_ordered(count):
    return come_late(count, ordered=True)


def values_change(count, value, **configured):
    found = Simulation(**configured)
    found.spawn(found.producer(20, evenly=True, value=GOOD))
    reading(found)
    found.write(int(count), value=value)
    return found.run(30)


def from_elsewhere(count, **configured):
    found = reading(beginning(**configured))
    found.write(int(count), environment="local")
    return found.run(60)


def from_elsewhere_rejected(count):
    return from_elsewhere(count, foreign={"*": "reject"})


# Delivered


def sends_fail(share):
    return Sending().run(BEFORE_S).run(20, fails=share)


def nothing_is_answered(seconds):
    return Sending().run(BEFORE_S).run(seconds, answered=False).run(40)


def learned(value):
    return lambda count: values_change(count, value)


def from_file(value):
    return lambda count: values_change(count, value, contract="file", load=lambda _destination: ORDERS)
