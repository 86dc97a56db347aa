"""A span over a call of any colour: plain function, coroutine function, generator or asynchronous generator."""

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
        """The call has ended."""


def decorate(function: F, open_scope: Callable[[tuple[Any, ...], dict[str, Any]], Scope]) -> F:
    """The function with a scope around each call; it stays a function of the same kind and signature."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        scope = open_scope(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            scope.finish(error)
            raise
        scope.finish(None)
        return result

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        scope = open_scope(args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            scope.finish(error)
            raise
        scope.finish(None)
        return result

    @functools.wraps(function)
    def generate(*args: Any, **kwargs: Any) -> Any:
        scope = open_scope(args, kwargs)
        scope.suspend()
        return (yield from _drive(function(*args, **kwargs), scope))

    @functools.wraps(function)
    async def generate_async(*args: Any, **kwargs: Any) -> Any:
        scope = open_scope(args, kwargs)
        scope.suspend()
        generator: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        sent: Any = None
        thrown: BaseException | None = None
        ended: BaseException | None = None
        # The same as `_drive`: there is no `yield from` for asynchronous generators.
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

    kinds: tuple[tuple[Callable[[object], bool], Callable[..., Any]], ...] = (
        (inspect.isasyncgenfunction, generate_async),
        (inspect.isgeneratorfunction, generate),
        (inspect.iscoroutinefunction, call_async),
    )
    return next((made for is_kind, made in kinds if is_kind(function)), call)  # type: ignore[return-value]


def _drive(generator: Generator[Any, Any, Any], scope: Scope) -> Generator[Any, Any, Any]:
    """Run a generator with the scope current inside of it only."""
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
