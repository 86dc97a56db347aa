"""A scope around a call of any kind: plain function, coroutine function, generator or asynchronous generator."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from otel_pipeline.engine.guard import Place

F = TypeVar("F", bound="Callable[..., Any]")


class Scope(Protocol):
    """What lasts as long as the call. What its methods raise is counted."""

    refusal: Exception | None
    """What is to be raised in place of the call."""

    def resume(self) -> None:
        """Become current: the application's code of this call runs now."""

    def suspend(self) -> None:
        """Stop being current: a generator has yielded, and its caller's code runs."""

    def finish(self, error: BaseException | None) -> None:
        """End with the call."""

    def abandon(self) -> None:
        """Leave it where one of the others has failed: nothing of it is current afterwards."""


class _Nothing:
    """Stands in for a scope that could not be opened."""

    refusal: Exception | None = None

    def resume(self) -> None:
        pass

    def suspend(self) -> None:
        pass

    def finish(self, error: BaseException | None) -> None:
        pass

    def abandon(self) -> None:
        pass


NOTHING = _Nothing()
OpenScope: TypeAlias = "Callable[[tuple[Any, ...], dict[str, Any]], Scope]"


def decorate(function: F, open_scope: OpenScope, place: Callable[[], Place]) -> F:
    """Return the function with a scope around each call; it stays a function of the same kind and signature.

    Args:
        function: the application's own.
        open_scope: called with the positional and the keyword arguments of each call.
        place: gives the place of the pipeline that is in force then; counts what fails.
    """
    if inspect.isasyncgenfunction(function):
        made: Any = _asynchronous_generator(function, open_scope, place)
    elif inspect.isgeneratorfunction(function):
        made = _generator(function, open_scope, place)
    elif inspect.iscoroutinefunction(function):
        made = _coroutine(function, open_scope, place)
    else:
        made = _plain(function, open_scope, place)
    return functools.wraps(function)(made)  # type: ignore[return-value]


def _failed(place: Callable[[], Place], undo: Callable[[], None] | None = None) -> None:
    try:
        there = place()
    except Exception:  # There is no stack left, or the interpreter ends.
        return
    there.failed(undo)


def finish(place: Callable[[], Place], scope: Scope, error: BaseException | None) -> None:
    """End the scope. All that this needs is one frame, which the application's own function had; so the next ones."""
    try:
        scope.finish(error)
    except Exception:
        _lose(place, scope)


def _resume(place: Callable[[], Place], scope: Scope) -> None:
    try:
        scope.resume()
    except Exception:
        _lose(place, scope)


def _suspend(place: Callable[[], Place], scope: Scope) -> None:
    try:
        scope.suspend()
    except Exception:
        _lose(place, scope)


def _lose(place: Callable[[], Place], scope: Scope) -> None:
    """Count the exception that is being handled, and leave the scope for good: nothing stays current."""
    try:
        _failed(place, scope.abandon)
    except RecursionError:
        return


def _plain(function: Any, open_scope: OpenScope, place: Callable[[], Place]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        scope: Scope = NOTHING
        refusal = None
        try:
            scope = open_scope(args, kwargs)
            refusal = scope.refusal
        except Exception:
            _failed(place)
        if refusal is not None:
            raise refusal
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            finish(place, scope, error)
            raise
        finish(place, scope, None)
        return result

    return call


def _coroutine(function: Any, open_scope: OpenScope, place: Callable[[], Place]) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        scope: Scope = NOTHING
        refusal = None
        try:
            scope = open_scope(args, kwargs)
            refusal = scope.refusal
        except Exception:
            _failed(place)
        if refusal is not None:
            raise refusal
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            finish(place, scope, error)
            raise
        finish(place, scope, None)
        return result

    return call


def _generator(function: Any, open_scope: OpenScope, place: Callable[[], Place]) -> Any:
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        scope: Scope = NOTHING
        refusal = sent = thrown = ended = None
        try:
            scope = open_scope(args, kwargs)
            refusal = scope.refusal
        except Exception:
            _failed(place)
        _suspend(place, scope)
        if refusal is not None:
            raise refusal
        generator = function(*args, **kwargs)
        try:
            while True:
                _resume(place, scope)
                try:
                    item = generator.send(sent) if thrown is None else generator.throw(thrown)
                except StopIteration as stop:
                    return stop.value
                finally:
                    _suspend(place, scope)
                sent, thrown = None, None
                try:
                    sent = yield item
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as raised:
                    thrown = raised
        except BaseException as error:
            ended = None if isinstance(error, GeneratorExit) else error
            raise
        finally:
            finish(place, scope, ended)

    return generate


def _asynchronous_generator(function: Any, open_scope: OpenScope, place: Callable[[], Place]) -> Any:
    # Written out once more: Python has no `yield from` for asynchronous generators.
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        scope: Scope = NOTHING
        refusal = sent = thrown = ended = None
        try:
            scope = open_scope(args, kwargs)
            refusal = scope.refusal
        except Exception:
            _failed(place)
        _suspend(place, scope)
        if refusal is not None:
            raise refusal
        generator = function(*args, **kwargs)
        try:
            while True:
                _resume(place, scope)
                try:
                    item = await (generator.asend(sent) if thrown is None else generator.athrow(thrown))
                except StopAsyncIteration:
                    return
                finally:
                    _suspend(place, scope)
                sent, thrown = None, None
                try:
                    sent = yield item
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as raised:
                    thrown = raised
        except BaseException as error:
            ended = None if isinstance(error, GeneratorExit) else error
            raise
        finally:
            finish(place, scope, ended)

    return generate
