"""A wrong keyword of a call, answered with the one that was probably meant."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from otel_pipeline.config.kinds import meant

F = TypeVar("F", bound=Callable[..., Any])


def names_near_misses(function: F) -> F:
    """Decorate a function, whose signature stays what it is: for type checkers, for editors and for `inspect`.

    An unknown keyword is a TypeError as in any call, with the near miss in its text (Python does so from 3.13 on).
    """
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    shown = [name for name in known if not name.startswith("_")]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known:
                wrong = f"{function.__name__}() got an unexpected keyword argument {name!r}"
                raise TypeError(wrong + meant(name, shown))
        return function(*args, **kwargs)

    return cast("F", call)
