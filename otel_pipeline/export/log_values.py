"""Values of the application's in log records, as OTLP can carry them: a bad one must not cost the others."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.failure import cut, stack_of, text_of

if TYPE_CHECKING:
    from types import TracebackType

MAX_LOG_TEXT_BYTES = 65_536
"""Of a record's message, and of an exception's stack: what the application has written itself, and wants to read."""
MAX_ITEMS = 128
"""Of a list."""
_SIGNED_64_BITS = 1 << 63
_PLAIN, _SEQUENCES = (str, bool, int, float), (list, tuple)


def attribute(value: object) -> Any:
    """Return a plain value, a list of plain values of one type, or a text. Never raises.

    Texts are cut to 4 kB, integers of more than 64 bits become texts, of a list the first 128 items are left.
    """
    try:
        if type(value) is str:
            return cut(value)
        if isinstance(value, _SEQUENCES):
            kinds = {type(item) for item in value}
            if len(kinds) == 1 and kinds <= set(_PLAIN):
                items = [_plain(item) for item in value[:MAX_ITEMS]]
                return items if len({type(item) for item in items}) == 1 else [text_of(item) for item in items]
        elif isinstance(value, _PLAIN):
            return _plain(value)
    except Exception:
        return text_of(value)  # A class of the application's that is a list by name.
    return text_of(value)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return cut(str.__str__(value))
    if isinstance(value, int) and not -_SIGNED_64_BITS <= value < _SIGNED_64_BITS:
        return text_of(value)
    return value


def message(value: object) -> str:
    """Return the body of a record."""
    return text_of(value, MAX_LOG_TEXT_BYTES)


def stack(kind: type[BaseException], error: BaseException | None, frames: TracebackType | None) -> str:
    """Return the stack of an exception that the application logs, as it would be printed; of a long one the end."""
    try:
        return cut("".join(traceback.format_exception(kind, error, frames)), MAX_LOG_TEXT_BYTES, keep_end=True)
    except Exception:
        return "" if error is None else stack_of(error, with_text=True, limit=MAX_LOG_TEXT_BYTES)


def time_ns(seconds: Any) -> int | None:
    """Return a time in ns since the epoch; None for one that cannot be."""
    try:
        found = int(seconds * 1e9)
    except Exception:
        return None
    return found if 0 < found < _SIGNED_64_BITS else None
