"""transformers: pipelines that answer later, and what a generation has read and written."""

from __future__ import annotations

import functools
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from otel_pipeline.models import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.engine.model_methods import Describe, ModelMethods
    from otel_pipeline.engine.totals import AttributeValue
    from otel_pipeline.models.rows import CountRows

_BATCHED = 2
_DATASETS = {"Dataset", "IterableDataset"}


def lazily(
    methods: ModelMethods, operation: str, count_rows: CountRows, method: Any, describe: Describe | None = None
) -> Any:
    """Return the method of a pipeline, whose call returns before it works where it is given a generator or a dataset.

    Then the model call is what is done for the items of its answer, from the first one to its end.
    """
    at_once = methods.around(operation, count_rows, method, describe)
    streamed = methods.streamed(operation, rows.none, _items)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_lazy(args[0] if args else kwargs.get("inputs")):
            return at_once(self, *args, **kwargs)
        result = method(self, *args, **kwargs)
        return Answer(result, streamed(self, result)) if hasattr(result, "__next__") else result

    return call


def _is_lazy(inputs: Any) -> bool:
    return isinstance(inputs, GeneratorType) or any(kind.__name__ in _DATASETS for kind in type(inputs).__mro__)


def _items(_pipeline: Any, answer: Any) -> Iterator[Any]:
    yield from answer


class Answer:
    """An iterator of a pipeline, inside of a model call. All but its items is the pipeline's own."""

    def __init__(self, answer: Any, items: Iterator[Any]) -> None:
        self._answer = answer
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return self._items

    def __next__(self) -> Any:
        return next(self._items)

    def __len__(self) -> int:
        return len(self._answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)


def describe_generated(
    name: str, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> dict[str, AttributeValue]:
    """Return what generation spans have, tokens included: as the shapes of prompt and answer say it, padding too."""
    told: dict[str, AttributeValue] = {"gen_ai.operation.name": "text_completion", "gen_ai.request.model": name}
    prompt = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
    asked, answered = _shape(prompt), _shape(getattr(result, "sequences", result))
    if asked is not None:
        told["gen_ai.usage.input_tokens"] = asked[0] * asked[1]
    if asked is not None and answered is not None:
        # What a decoder alone returns begins with its prompt.
        prompt_tokens = 0 if getattr(getattr(model, "config", None), "is_encoder_decoder", False) else asked[1]
        told["gen_ai.usage.output_tokens"] = answered[0] * (answered[1] - prompt_tokens)
    return told


def describe_embeddings(
    name: str, _model: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any], _result: Any
) -> dict[str, AttributeValue]:
    """Return what spans of embeddings have."""
    return {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": name}


def _shape(tensor: Any) -> tuple[int, int] | None:
    shape = getattr(tensor, "shape", None)
    return (int(shape[0]), int(shape[1])) if shape is not None and len(shape) == _BATCHED else None
