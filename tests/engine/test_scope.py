"""A scope around calls of every colour: current while the function's own code runs, and finished once."""

from __future__ import annotations

import asyncio

import pytest

from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.scope import decorate


class Recorded:
    """What a scope was told."""

    refusal = None

    def __init__(self):
        self.told = []

    def resume(self):
        self.told.append("resume")

    def suspend(self):
        self.told.append("suspend")

    def finish(self, error):
        self.told.append(f"finish {type(error).__name__}" if error else "finish")


@pytest.fixture
def scope():
    return Recorded()


def decorated(scope, function):
    return decorate(function, lambda _args, _kwargs: scope, lambda: Guard().place("scope"))


def echo(first):
    """Yields what it is sent, and the name of what is thrown into it."""
    sent = first
    while sent != "end":
        try:
            sent = yield sent
        except ValueError:
            sent = "thrown"
    return "returned"


async def echo_async(first):
    sent = first
    while sent != "end":
        try:
            sent = yield sent
        except ValueError:
            sent = "thrown"


RUN = ["suspend", "resume", "suspend"]


def test_a_generator_is_sent_to_thrown_into_and_ends(scope):
    """It gets what its caller gives, and returns what it returns."""
    generator = decorated(scope, echo)("a")
    got = [next(generator), generator.send("b"), generator.throw(ValueError())]
    with pytest.raises(StopIteration) as stop:
        generator.send("end")

    assert (got, stop.value.value) == (["a", "b", "thrown"], "returned")
    assert scope.told == [*RUN, *["resume", "suspend"] * 3, "finish"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_generator_that_raises(scope, error):
    """The caller sees it, and the scope."""
    generator = decorated(scope, echo)("a")
    next(generator)
    with pytest.raises(error):
        generator.throw(error())

    assert scope.told == [*RUN, "resume", "suspend", f"finish {error.__name__}"]


def test_a_generator_that_is_closed(scope):
    """That is no error; the function's own `finally` runs at once."""
    done = []

    def guarded():
        try:
            yield 1
        finally:
            done.append(True)

    generator = decorated(scope, guarded)()
    next(generator)
    generator.close()

    assert (done, scope.told) == ([True], [*RUN, "finish"])


def run_async(coroutine):
    return asyncio.run(coroutine)


def test_an_asynchronous_generator_is_sent_to_thrown_into_and_ends(scope):
    """As a plain one."""

    async def use():
        generator = decorated(scope, echo_async)("a")
        got = [await anext(generator), await generator.asend("b"), await generator.athrow(ValueError())]
        with pytest.raises(StopAsyncIteration):
            await generator.asend("end")
        return got

    assert asyncio.run(use()) == ["a", "b", "thrown"]
    assert scope.told == [*RUN, *["resume", "suspend"] * 3, "finish"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_asynchronous_generator_that_raises(scope, error):
    """The caller sees it, and the scope."""

    async def use():
        generator = decorated(scope, echo_async)("a")
        await anext(generator)
        try:
            await generator.athrow(error())
        except BaseException as raised:
            return type(raised)

    assert asyncio.run(use()) is error
    assert scope.told == [*RUN, "resume", "suspend", f"finish {error.__name__}"]


def test_an_asynchronous_generator_that_is_closed(scope):
    """That is no error; the function's own `finally` has run when the caller goes on."""
    done = []

    async def guarded():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            done.append(True)

    async def use():
        generator = decorated(scope, guarded)()
        await anext(generator)
        await generator.aclose()
        return list(done)

    assert asyncio.run(use()) == [True]
    assert scope.told == [*RUN, "finish"]


@pytest.mark.parametrize(("fails", "told"), [(False, "finish"), (True, "finish KeyError")])
def test_functions_and_coroutines(scope, fails, told):
    """Finished with what they raise, which their caller sees too."""

    def plain():
        if fails:
            raise KeyError
        return 7

    async def coroutine():
        return plain()

    for call in (decorated(scope, plain), lambda: asyncio.run(decorated(scope, coroutine)())):
        if fails:
            with pytest.raises(KeyError):
                call()
        else:
            assert call() == 7

    assert scope.told == [told, told]


@pytest.mark.parametrize("function", [echo, echo_async, test_a_generator_that_is_closed])
def test_the_kind_of_function_stays(scope, function):
    """Frameworks look at it."""
    made = decorated(scope, function)

    assert (made.__wrapped__, made.__code__.co_flags & 0x2A0) == (function, function.__code__.co_flags & 0x2A0)
