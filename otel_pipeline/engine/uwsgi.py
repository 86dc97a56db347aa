"""uWSGI forks its workers without the interpreter's hooks, unless told otherwise; it has a hook of its own.

Its master releases the interpreter before it forks, so that any thread may be in the middle of anything at that moment:
ours do not run there. What was recorded there, while the application was imported, is one worker's to hand over,
since the master runs nothing at its end. Its workers end in whichever thread a signal is handled: ours are sent none.
"""

from __future__ import annotations

import importlib
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.forks import Held, forks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from otel_pipeline.engine.patching import Patches

_DECORATORS = "uwsgidecorators"
_FORKS_AS_PYTHON_DOES = "py-call-uwsgi-fork-hooks"
"""An option of uWSGI's: then no thread runs at the moment of the fork, whatever threads there are."""


def follow(patches: Patches, problem: Callable[[str, str], None]) -> None:
    """Notice workers right after their fork, where this process is uWSGI's; beside the application's own hook.

    To be called before there is any thread. `problem` is told where they do not run as they should.
    """
    try:
        server: Any = importlib.import_module("uwsgi")  # There is such a module only inside of it.
    except ImportError:
        return
    theirs = getattr(server, "post_fork_hook", None)
    if not isinstance(theirs, _Noticed):
        server.post_fork_hook = _Noticed(theirs)
    # uWSGI's own decorators replace the hook, and call what is in this list.
    patches.when_imported(_DECORATORS, _join)
    if not getattr(server, "has_threads", True):
        problem(
            "uwsgi",
            "uWSGI runs without threads: telemetry leaves only while requests are handled, so late; "
            "start it with --enable-threads",
        )
    master = _Master(server)
    forks.starting = _no_signals
    os.register_at_fork(after_in_child=_mask.set)
    if master.waits():
        forks.hold(Held(master.waits, master.takes_over))


@contextmanager
def _no_signals() -> Iterator[None]:
    """Let threads that are started meanwhile take no signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Master:
    """The process that imported the application, before it forks or becomes a worker itself."""

    def __init__(self, server: Any) -> None:
        self._server = server
        # Whoever reads the byte takes over: a worker that comes in place of one that died finds none.
        self._read, written = os.pipe()
        os.set_blocking(self._read, False)
        os.write(written, b"1")
        os.close(written)

    def waits(self) -> bool:
        """Tell whether this process, neither a worker nor a mule nor any other child of the master, is to be forked."""
        server = self._server
        if getattr(server, "opt", {}).get(_FORKS_AS_PYTHON_DOES):
            return False
        return not server.worker_id() and not server.mule_id() and server.masterpid() in {0, os.getpid()}

    def takes_over(self) -> bool:
        """Tell whether this is a worker, and the first to ask."""
        if not self._server.worker_id():
            return False
        try:
            return bool(os.read(self._read, 1))
        except OSError:
            return False


def followed() -> None:
    """Take note that all hooks of the SDK's are there."""
    if forks.starting is _no_signals:
        os.register_at_fork(after_in_child=_mask.restore)


class _Mask:
    """Keeps signals from threads that hooks of the SDK's start, where uWSGI is told to run them: ours stand around."""

    def __init__(self) -> None:
        self._before: set[Any] | None = None

    def set(self) -> None:
        """Block all signals."""
        if self._before is None:
            self._before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def restore(self) -> None:
        """Take those that were taken before."""
        before, self._before = self._before, None
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


_mask = _Mask()


def _noticed() -> None:
    try:
        with _no_signals():  # Half a worker is none.
            forks.notice()
    except KeyboardInterrupt:
        # uWSGI tells a worker to end by SIGINT, and would print this and go on: its own handler is not there yet.
        raise SystemExit from None


def _join(decorators: ModuleType) -> None:
    chain: list[Any] = decorators.postfork_chain
    if _noticed not in chain:
        chain.insert(0, _noticed)


class _Noticed:
    """The hook: ours first, then theirs."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    def __call__(self) -> Any:
        """Make this worker's parts anew."""
        _noticed()
        return None if self._theirs is None else self._theirs()
