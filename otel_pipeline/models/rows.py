"""How many rows a model is given, without touching its data: absent rather than wrong.

What has two dimensions or more has rows. Of one dimension it may be a row as well as a column: its rows are not known,
where the library takes both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

CountRows: TypeAlias = "Callable[[tuple[Any, ...], dict[str, Any]], int | None]"


def none(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> int | None:
    """Know nothing."""
    return None


def rows_at(position: int, *names: str) -> CountRows:
    """Count those of an argument whose first dimension is the rows, whatever its shape."""

    def rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        data = _argument(args, kwargs, position, names)
        shape = getattr(data, "shape", None)
        if isinstance(shape, tuple) and shape:
            return _whole(shape[0])
        return len(data) if isinstance(data, (list, tuple)) else None

    return rows


def table_at(position: int, *names: str) -> CountRows:
    """Count those of an argument that may also be a single row."""

    def rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        return _of_table(_argument(args, kwargs, position, names))

    return rows


def texts_at(position: int, *names: str) -> CountRows:
    """Count texts: one, or a list of them."""

    def rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        data = _argument(args, kwargs, position, names)
        if isinstance(data, (str, bytes)):
            return 1
        if isinstance(data, (list, tuple)):
            return None if data and isinstance(data[0], dict) else len(data)  # One conversation, or several.
        shape = getattr(data, "shape", None)
        return _whole(shape[0]) if isinstance(shape, tuple) and shape else None

    return rows


prompts = rows_at(0, "inputs", "input_ids")
"""Counts the prompts of a generation."""


def one(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> int | None:
    """Count one: the method takes one thing at a time."""
    return 1


def of_matrix(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Count those of xgboost's DMatrix."""
    data = args[0] if args else kwargs.get("data")
    return None if data is None else int(data.num_row())


def of_feeds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Count those of onnxruntime's feeds: of tensors with two dimensions or more, if they agree on the first."""
    feeds = args[1] if len(args) > 1 else kwargs.get("input_feed", kwargs.get("input_dict_ort_values"))
    return _agreed(feeds.values()) if isinstance(feeds, dict) else None


def of_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Count those of all tensors that are given, if they agree on the first dimension."""
    if len(args) == 1 and not kwargs:
        shape = getattr(args[0], "shape", None)
        if isinstance(shape, tuple):
            return _whole(shape[0]) if len(shape) > 1 else None
    return _agreed((*args, *kwargs.values()))


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, names: tuple[str, ...]) -> Any:
    if len(args) > position:
        return args[position]
    return next((kwargs[name] for name in names if name in kwargs), None)


def _of_table(data: Any) -> int | None:
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple):
        return _whole(shape[0]) if len(shape) > 1 else None
    if isinstance(data, (list, tuple)) and data:
        first = data[0]
        nested = isinstance(first, (list, tuple, dict)) or bool(getattr(first, "shape", ()))
        return len(data) if nested else None
    return None


def _agreed(values: Any) -> int | None:
    found: set[int | None] = set()
    for value in values:
        shape = getattr(value, "shape", None)
        shape = shape() if callable(shape) else shape
        if isinstance(shape, (tuple, list)) and len(shape) > 1:
            found.add(_whole(shape[0]))
    return found.pop() if len(found) == 1 else None


def _whole(number: Any) -> int | None:
    """Return the number where it is one: a symbolic or lazy dimension is not known."""
    return number if type(number) is int else None
