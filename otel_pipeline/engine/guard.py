"""A failure of ours is counted, said once, and never reaches the application; a place that keeps failing stops."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import threading
import traceback
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from otel_pipeline.engine.forks import Step, forks

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")
_LOGGER = logging.getLogger("otel_pipeline")

OFF_AFTER = 100
"""Failures within `OFF_WITHIN_S` after which a place switches itself off."""
OFF_WITHIN_S = 60.0


class Guard:
    """Counts what went wrong inside the instrumentation.

    Safe to use from any thread: a count may miss one of two failures at the same instant, nothing else.
    """

    __slots__ = ("__weakref__", "_places", "_said", "errors", "problems")

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        """How often each place has failed; read when metrics are."""
        self.problems: dict[str, str] = {}
        self._said: set[str] = set()
        self._places: dict[str, Place] = {}
        forks.add(self.begin_at_zero, Step.ZERO)

    def begin_at_zero(self) -> None:
        """Count no failure of a parent's, in a forked child. What was said is said, and what is off stays off."""
        self.errors.clear()

    def place(self, name: str, *takes: Place) -> Place:
        """Give the place of this name, one for all who ask.

        Args:
            name: as `otel_pipeline.sdk.errors` has it.
            takes: places that are switched off with this one, since they are useless without it.
        """
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = Place(self, name)
        found.takes = tuple(dict.fromkeys((*found.takes, *takes)))
        return found

    def failed(self, place: str) -> None:
        """Count the exception that is being handled, and say the first one of a place."""
        self.count(place)
        self.say(place)

    def count(self, place: str) -> None:
        """Count something that went wrong and needs no words, such as a header that cannot be read."""
        # No call: where the stack is at its end there is none left.
        errors = self.errors
        if place in errors:
            errors[place] += 1
        else:
            errors[place] = 1

    def say(self, place: str) -> None:
        """Say with what a place has failed, the first time that there is room to say it."""
        key = f"failed.{place}"
        try:
            if key in self._said:
                return
            # Now: what it says can come back here, where the logs themselves have failed.
            self._said.add(key)
            error, _, frames = sys.exc_info()
            # Type and frames only: an exception's text may quote the application's data.
            _LOGGER.warning(
                "otel_pipeline: %s failed with %s; the application is not affected\n%s",
                place,
                error.__name__ if error else "nothing",
                "".join(traceback.format_tb(frames)),
            )
        except Exception:
            # The application's logging can raise as well, for example on a closed stream.
            self._said.discard(key)

    def problem(self, key: str, message: str) -> None:
        """Say something once per key; it stays readable in `status()`."""
        if key in self._said:
            return
        self._said.add(key)
        self.problems[key] = message
        try:
            _LOGGER.warning("otel_pipeline: %s", message)
        except Exception:
            self.count("logging")


class Place:
    """One place where something of ours can fail. Code that works there first asks whether it is `off`.

    Where something fails again and again, the application pays for each try and gets nothing.
    """

    __slots__ = ("_guard", "_recent", "_since_s", "name", "off", "takes")

    def __init__(self, guard: Guard, name: str) -> None:
        self._guard = guard
        self._recent = 0
        self._since_s = monotonic()
        self.name = name
        self.off = False
        self.takes: tuple[Place, ...] = ()

    def failed(self, undo: Callable[..., object] | None = None, *arguments: Any, only_theirs: bool = False) -> None:
        """Count the exception that is being handled, which does not reach the application.

        To be called at once in `except`, of what stands in for a client's method too. It needs one frame of the stack,
        which the client's own call has as well; it counts also where there is not a second one.

        Args:
            undo: called first, with `arguments`: it leaves what was begun and will not be finished.
            arguments: see there.
            only_theirs: it is called only where an exception of the application is raised on.

        Raises:
            BaseException: the one that is being handled, if it is not ours: Ctrl-C, `SystemExit`, or what a signal
                handler of the application has raised while ours was running.
        """
        try:
            kind, _, frames = sys.exc_info()
            ours = kind is None or (issubclass(kind, Exception) and not raised_by_signal_handler(frames))
        except Exception:
            ours = True
        undone = True
        if undo is not None and not (ours and only_theirs):
            try:
                undo(*arguments)
            except Exception:
                undone = False
        errors, name = self._guard.errors, self.name
        if not ours and undone:
            raise  # noqa: PLE0704 - the one that is being handled
        if name in errors:
            errors[name] += 1
        else:
            errors[name] = 1
        if not ours:
            raise  # noqa: PLE0704 - as above
        self._recent += 1
        try:
            self._guard.say(name)
            self._judge()
        except Exception:
            return

    def told(self, tell: Callable[..., object], *arguments: Any) -> None:
        """Tell something of ours of an exception that is on its way to the application, where it is raised on."""
        try:
            tell(*arguments)
        except Exception:
            with suppress(Exception):
                self.failed()

    def _judge(self) -> None:
        now_s = monotonic()
        if now_s - self._since_s > OFF_WITHIN_S:
            self._recent, self._since_s = 1, now_s
        if self._recent >= OFF_AFTER and not self.off:
            self.off = True
            for place in self.takes:
                place.off = True
            self._guard.problem(
                f"off.{self.name}",
                f"{self.name} failed {self._recent} times within a minute and is switched off until the next start; "
                "the first traceback is in the log",
            )


NOBODY = Guard()
"""Where something of ours fails while nothing is instrumented: it is said, and counted for nobody."""
_in_force = NOBODY


def activate(guard: Guard | None) -> None:
    """Set who counts what fails behind what the application calls by name."""
    global _in_force  # noqa: PLW0603 - one pipeline per process
    _in_force = guard or NOBODY


def place_in_force(name: str) -> Place:
    """Give the place of this name of the pipeline in force."""
    return _in_force.place(name)


def say_in_force(key: str, message: str) -> None:
    """Say something once per key, by the pipeline in force."""
    _in_force.problem(key, message)


def step_aside(name: str, undo: Callable[..., object] | None = None, *arguments: Any) -> None:
    """Count the exception that is being handled, at a place of the pipeline in force; arguments as `Place.failed`.

    Raises what is not ours, as that does.
    """
    try:
        place = _in_force.place(name)
    except Exception:
        return  # There is no stack left, or the interpreter ends.
    try:
        place.failed(undo, *arguments)
    except RecursionError:
        return  # Python 3.12 and later take more of the stack for this call.


def guarded(name: str, otherwise: U) -> Callable[[Callable[P, T]], Callable[P, T | U]]:
    """Decorate what the application calls by name: what fails in it is counted, and `otherwise` is returned."""

    def make(function: Callable[P, T]) -> Callable[P, T | U]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T | U:
            try:
                if not _in_force.place(name).off:
                    return function(*args, **kwargs)
            except Exception:
                step_aside(name)
            return otherwise

        return call

    return make


def raise_theirs() -> None:
    """Raise on the exception that is being handled, if a signal handler of the application has raised it.

    For an `except Exception` that counts nothing, because what is ours to read is tried another way, or is none.
    """
    frames = sys.exc_info()[2]
    # Most often it comes out of the very function that handles it: no handler has run.
    if frames is not None and frames.tb_next is not None and raised_by_signal_handler(frames):
        raise  # noqa: PLE0704 - the one that is being handled


_SIGNALS = tuple(sorted(signal.valid_signals()))


def raised_by_signal_handler(frames: TracebackType | None) -> bool:
    """Tell whether an exception comes out of a function that the application has set for a signal.

    Such a function runs between any two steps of the main thread: ours as well. A time limit is made in this way.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return False
    codes = None
    while frames is not None:
        codes = codes or {_code(signal.getsignal(number)) for number in _SIGNALS}
        if frames.tb_frame.f_code in codes:
            return True
        frames = frames.tb_next
    return False


def _code(handler: Any) -> CodeType | None:
    """Find the code of a function, a method, a `partial`, or an object that can be called."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not callable(handler):  # SIG_DFL, SIG_IGN, or what was not set from Python.
        return None
    function = handler if hasattr(handler, "__code__") else type(handler).__call__
    found: CodeType | None = getattr(function, "__code__", None)
    return found
