"""The engine's side of a client: found by id, gone with the client, also with one of C that takes no weak reference."""

from __future__ import annotations

import gc
import weakref

import pytest

from otel_pipeline.engine import client_objects
from otel_pipeline.engine.client_objects import ClientObjects, weakly
from otel_pipeline.engine.guard import Guard


class Client:
    """As most are."""


class Closed:
    """As a C type is: no attributes, no weak references; `held` is what its settings keep alive."""

    __slots__ = ("held",)

    def __init__(self, held=None):
        self.held = held


class Side:
    """What the engine knows."""


class Lifetime:
    """Something that only the client holds."""


@pytest.fixture
def gone():
    return []


@pytest.fixture
def objects(gone):
    return ClientObjects(Guard(), lambda _client: Side(), Side(), gone.append)


def test_each_client_has_its_own_side(objects):
    """Made at its first use, the same from then on; to look whether it is there makes none."""
    one, two = Client(), Client()
    before = objects.known(one)
    first = objects.of(one)

    assert (before, objects.of(one) is first, objects.known(one) is first) == (None, True, True)
    assert (objects.of(two) is first, len(objects)) == (False, 2)


def test_an_entry_goes_with_its_client(objects, gone):
    """Nothing of ours keeps the client alive."""
    client = Client()
    side, there = objects.of(client), weakref.ref(client)
    del client

    assert (there(), len(objects), gone) == (None, 0, [side])


def test_a_client_in_a_circle_goes_with_the_garbage(objects, gone):
    """As clients with threads and callbacks are."""
    client = Client()
    client.itself = client
    objects.of(client)
    del client
    gc.collect()

    assert (len(objects), len(gone)) == (0, 1)


@pytest.mark.parametrize("way", ["closed", "freed"])
def test_a_client_of_c_is_forgotten(objects, gone, way):
    """When it is closed, or with what its settings hold: nothing else tells."""
    lifetime = Lifetime()
    client = Closed(lifetime)
    side = objects.new(client, lifetime)
    del lifetime
    known = objects.of(client) is side
    if way == "closed":
        objects.forget(client)
    else:
        del client

    assert (known, len(objects), gone) == (True, 0, [side])


def test_a_reused_id_is_never_mistaken(objects):
    """A client of C that was neither closed nor made while we looked: the next one with its id is announced."""
    first = Closed()
    side, key = objects.of(first), id(first)
    del first
    others = []
    while True:
        others.append(Closed())
        if id(others[-1]) == key:
            break
        assert len(others) < 10_000, "the allocator gave the id to nobody"

    assert objects.new(others[-1]) is not side


def test_a_side_that_cannot_be_made_is_left_alone_and_counted_once():
    """The client works; it is not tried again at each of its messages."""
    guard, left_alone, client = Guard(), Side(), Client()
    objects = ClientObjects(guard, lambda _client: 1 / 0, left_alone)

    assert (objects.of(client) is left_alone, objects.of(client) is left_alone) == (True, True)
    assert guard.errors == {"client": 1}


@pytest.mark.parametrize(
    ("clients", "first_is_known"), [(2, True), (3, True), (4, False)], ids=["below", "at", "above"]
)
def test_the_table_is_bounded(objects, monkeypatch, clients, first_is_known):
    """The oldest goes first."""
    monkeypatch.setattr(client_objects, "MAX_CLIENTS", 3)
    made = [Closed() for _ in range(clients)]
    for client in made:
        objects.of(client)

    assert (objects.known(made[0]) is not None, len(objects)) == (first_is_known, min(clients, 3))


def test_reading_a_client_does_not_keep_it():
    """And gives what was agreed where there is nobody to read."""
    client, closed = Client(), Closed()
    client.name = "a"
    read = weakly(client, lambda there: there.name, "nobody")
    before, there = read(), weakref.ref(client)
    del client

    assert (before, there(), read(), weakly(closed, lambda there: there.held, "nobody")()) == (
        "a",
        None,
        "nobody",
        "nobody",
    )
