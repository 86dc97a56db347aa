"""Replacements of rare methods, for both colours: the call is made as it is, whatever ours does."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.patching import Around


def plain(self, offsets=None, *, wait=True):
    """Of the client."""
    if offsets == "bad":
        raise KeyError(offsets)
    return self, offsets, wait


async def awaited(self, offsets=None, *, wait=True):
    """Of the client."""
    await asyncio.sleep(0)
    return plain(self, offsets, wait=wait)


def call(function, *args, **kwargs):
    result = function("client", *args, **kwargs)
    return asyncio.run(result) if inspect.isawaitable(result) else result


@pytest.fixture(params=[plain, awaited])
def original(request):
    return request.param


def test_before_and_after_are_told(original):
    """Client and arguments before; what was returned by it, and the error, after."""
    told = []

    def before(*given):
        told.append(given)
        return "begun"

    replaced = Around(Guard().place("commit"), before, lambda *given: told.append(given))(original)
    result = call(replaced, 5, wait=False)
    with pytest.raises(KeyError) as raised:
        call(replaced, "bad")

    assert result == ("client", 5, False)
    assert told == [
        ("client", (5,), {"wait": False}),
        ("client", "begun", None),
        ("client", ("bad",), {}),
        ("client", "begun", raised.value),
    ]


def test_the_method_looks_as_before(original):
    """Its name, its words, its signature, its colour."""
    replaced = Around(Guard().place("commit"), lambda *_: None, lambda *_: None)(original)

    assert (replaced.__name__, replaced.__doc__) == (original.__name__, original.__doc__)
    assert inspect.signature(replaced) == inspect.signature(original)
    assert inspect.iscoroutinefunction(replaced) == inspect.iscoroutinefunction(original)


@pytest.mark.parametrize("side", ["before", "after"])
def test_what_ours_raises_is_counted_once(original, side):
    """The application's call is made all the same, and its result and its error are its own; what has not begun is not ended."""
    guard, told = Guard(), []

    def fail(*_given):
        raise RuntimeError("of ours")

    sides = {"before": lambda *_: None, "after": lambda *given: told.append(given), side: fail}
    replaced = Around(guard.place("commit"), sides["before"], sides["after"])(original)
    with pytest.raises(KeyError):
        call(replaced, "bad")

    assert (call(replaced, 5), guard.errors, told) == (("client", 5, True), {"commit": 2}, [])
