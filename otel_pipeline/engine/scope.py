"""A scope around a call of any kind: plain function, coroutine function, generator or asynchronous generator."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

F = TypeVar("F", bound="Callable[..., Any]")


class Scope(Protocol):
    """What lasts as long as the call. None of it raises."""

    def resume(self) -> None:
        """Become current: the application's code of this call runs now."""

    def suspend(self) -> None:
        """Stop being current: a generator has yielded, and its caller's code runs."""

    def finish(self, error: BaseException | None) -> None:
        """End with the call; `error` is what it raised, or None."""


def decorate(function: F, open_scope: Callable[[tuple[Any, ...], dict[str, Any]], Scope]) -> F:
    """Put a scope around each call of the function; it stays a function of the same kind and signature."""
    if inspect.isasyncgenfunction(function):
        made: Any = _asynchronous_generator(function, open_scope)
    elif inspect.isgeneratorfunction(function):
        made = _generator(function, open_scope)
    elif inspect.iscoroutinefunction(function):
        made = _coroutine(function, open_scope)
    else:
        made = _plain(function, open_scope)
    return functools.wraps(function)(made)  # type: ignore[return-value]


def _plain(function: Any, open_scope: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        scope = open_scope(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            scope.finish(error)
            raise
        scope.finish(None)
        return result

    return call


def _coroutine(function: Any, open_scope: Any) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        scope = open_scope(args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            scope.finish(error)
            raise
        scope.finish(None)
        return result

    return call


def _generator(function: Any, open_scope: Any) -> Any:
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        scope = open_scope(args, kwargs)
        scope.suspend()
        generator = function(*args, **kwargs)
        sent: Any = None
        thrown: BaseException | None = None
        ended: BaseException | None = None
        try:
            while True:
                scope.resume()
                try:
                    item = generator.send(sent) if thrown is None else generator.throw(thrown)
                except StopIteration as stop:
                    return stop.value
                finally:
                    scope.suspend()
                sent, thrown = None, None
                try:
                    sent = yield item
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as raised:
                    thrown = raised
        except GeneratorExit:
            raise
        except BaseException as error:
            ended = error
            raise
        finally:
            scope.finish(ended)

    return generate


def _asynchronous_generator(function: Any, open_scope: Any) -> Any:
    # Written out once more: Python has no `yield from` for asynchronous generators.
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        scope = open_scope(args, kwargs)
        scope.suspend()
        generator: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        sent: Any = None
        thrown: BaseException | None = None
        ended: BaseException | None = None
        try:
            while True:
                scope.resume()
                try:
                    item = await (generator.asend(sent) if thrown is None else generator.athrow(thrown))
                except StopAsyncIteration:
                    return
                finally:
                    scope.suspend()
                sent, thrown = None, None
                try:
                    sent = yield item
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as raised:
                    thrown = raised
        except GeneratorExit:
            raise
        except BaseException as error:
            ended = error
            raise
        finally:
            scope.finish(ended)

    return generate
