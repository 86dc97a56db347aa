"""What stands on spans of an operation that failed, and texts of the application's that can be carried.

An exception's text is the application's: it may raise, be 50 MB long, hold half of a character, or quote what nobody is
to read. Whatever it is, the span ends, and the type is told.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Status, StatusCode

from otel_pipeline import semconv
from otel_pipeline.engine.guard import raise_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span

    from otel_pipeline.engine.totals import AttributeValue

MAX_TEXT_BYTES = 4_096
"""Of a text that we write, in UTF-8."""
MAX_CAUSES = 8
"""How many exceptions of a chain are shown."""
_FRAMES = 50
_OTHER = "_OTHER"
"""As the semantic conventions have it."""
_CUT = "…"
_CUT_BYTES = len(_CUT.encode())


def cut(text: str, limit: int = MAX_TEXT_BYTES, *, keep_end: bool = False) -> str:
    """Return a text that fits and that can be encoded: `…` stands for what is left out, U+FFFD for half of a character.

    Args:
        text: any.
        limit: bytes in UTF-8.
        keep_end: whether it is the beginning that is left out.
    """
    if len(text) <= limit and text.isascii():
        return text
    part = text[-limit - 1 :] if keep_end else text[: limit + 1]
    try:
        raw = part.encode()
    except UnicodeEncodeError:
        raw = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in part).encode()
        part = raw.decode()
    if len(raw) <= limit:
        return part
    room = limit - _CUT_BYTES
    if keep_end:
        return _CUT + raw[-room:].decode("utf-8", "ignore")
    return raw[:room].decode("utf-8", "ignore") + _CUT


def text_of(value: object, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the text of any object of the application's; its type in angle brackets where it has none."""
    try:
        return cut(value if type(value) is str else str(value), limit)
    except Exception:
        raise_theirs()
        return f"<{type(value).__name__}>"


def error_type(error: BaseException) -> str:
    """Return the low-cardinality name of an error: its class, qualified unless built in (semconv `error.type`)."""
    return type_name(type(error))


def type_name(kind: type[BaseException]) -> str:
    """Return the name of a class of exceptions, qualified unless it is built in; `_OTHER` without one. Never raises."""
    try:
        return cut(kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}")
    except Exception:
        raise_theirs()
        return _OTHER


def describe(span: Span, error: BaseException, *, with_text: bool, with_event: bool = True) -> None:
    """Say on a recorded span with what it has failed. Never raises.

    Args:
        span: that ends after this, whatever happens here.
        error: the application's, or its client's.
        with_text: whether the exception's text may be told (`capture.exception_text`).
        with_event: whether the exception is an event with its stack as well.
    """
    try:
        name, text = error_type(error), text_of(error) if with_text else None
        span.set_attribute(semconv.ERROR_TYPE, name)
        span.set_status(Status(StatusCode.ERROR, text))
        if with_event:
            attributes: dict[str, AttributeValue] = {semconv.EXCEPTION_TYPE: name}
            if text is not None:
                attributes[semconv.EXCEPTION_MESSAGE] = text
            attributes[semconv.EXCEPTION_STACKTRACE] = stack_of(error, with_text=with_text)
            span.add_event("exception", attributes)
    except Exception:
        raise_theirs()
        return  # A span of somebody else's that raises: it ends without more.


def stack_of(error: BaseException, *, with_text: bool, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the traceback of an exception and of its causes, as Python prints it; of a long one the end."""
    return cut("".join(reversed(list(_blocks(error, with_text=with_text)))), limit, keep_end=True)


def _blocks(error: BaseException, *, with_text: bool) -> Iterator[str]:
    """Give it from the end to the beginning."""
    shown: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in shown and len(shown) < MAX_CAUSES:
        shown.add(id(current))
        said = f": {text_of(current)}" if with_text else ""
        frames = "".join(traceback.format_tb(current.__traceback__, -_FRAMES))
        yield f"Traceback (most recent call last):\n{frames}{error_type(current)}{said}\n"
        if current.__cause__ is not None:
            current, between = current.__cause__, "The above exception was the direct cause of the following exception:"
        else:
            current = None if current.__suppress_context__ else current.__context__
            between = "During handling of the above exception, another exception occurred:"
        if current is not None:
            yield f"\n{between}\n\n"


def end_anyway(span: Any) -> None:
    """End a span that something of ours, or of a span processor, has failed to end. Never raises."""
    try:
        if span is not None and span.is_recording():
            span.end()
    except Exception:
        raise_theirs()
        return
