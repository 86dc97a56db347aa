"""uWSGI forks its workers without the interpreter's hooks, unless told otherwise; it has a hook of its own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from types import ModuleType

    from otel_pipeline.engine.patching import Patches

_DECORATORS = "uwsgidecorators"


def follow(patches: Patches) -> None:
    """Notice workers right after their fork, where this process is uWSGI's; beside the application's own hook."""
    try:
        server: Any = importlib.import_module("uwsgi")  # There is such a module only inside of it.
    except ImportError:
        return
    theirs = getattr(server, "post_fork_hook", None)
    if not isinstance(theirs, _Noticed):
        server.post_fork_hook = _Noticed(theirs)
    # uWSGI's own decorators replace the hook, and call what is in this list.
    patches.when_imported(_DECORATORS, _join)


def _noticed() -> None:
    forks.notice()


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
        forks.notice()
        return None if self._theirs is None else self._theirs()
