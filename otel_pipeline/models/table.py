"""Inference libraries whose methods need no more than a name: one row each.

Of each row the outermost call counts, and none inside of what is `apart`. A class, or a method, that a version of the
library lacks is left out. Nothing is imported here: a class is patched when the application has imported its module.
"""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.engine.apart import apart
from otel_pipeline.engine.model_methods import ModelMethods
from otel_pipeline.models import names, rows
from otel_pipeline.models.loaders import note_files
from otel_pipeline.models.transformers import describe_embeddings, describe_generated, lazily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.model_methods import Describe
    from otel_pipeline.engine.model_objects import Identity
    from otel_pipeline.engine.patching import Patches
    from otel_pipeline.models.rows import CountRows


_OPERATIONS = {
    "embed": "encode",
    "encode": "encode",
    "generate": "generate",
    "passage_embed": "encode",
    "predict_log_proba": "predict_log_proba",
    "predict_proba": "predict_proba",
    "query_embed": "encode",
    "run": "run",
    "run_with_iobinding": "run",
    "run_with_ort_values": "run",
}
"""What spans call a method; the others predict."""


class Calls(NamedTuple):
    """Methods of one class that are model calls."""

    owner: str
    """module:class; the module in which it is made, since importing another one may load much."""
    methods: str
    """By their names, with a space between."""
    rows: CountRows
    describe: Describe | None = None
    around: Callable[..., Any] = ModelMethods.around


class Library(NamedTuple):
    """One library. Calling it patches it, as the registry wants it."""

    name: str
    calls: tuple[Calls, ...]
    of_library: Callable[[Any], Identity] | None = None
    inner: Callable[[Any], Iterable[Any]] | None = None
    otherwise: Callable[[Any], str] | None = None
    loads: tuple[tuple[str, str, str], ...] = ()
    """(module:class, or module:, method or function, parameter with the path)."""
    apart: tuple[tuple[str, str], ...] = ()
    """(module:class, methods): training, which predicts as well."""
    note: Callable[[Any, Any], None] | None = None
    """Told the model and what it was loaded from, where that is no file."""

    def __call__(self, patches: Patches, inferences: Inferences, guard: Guard) -> str | None:
        """Patch what is there, now or when its module is imported; returns what this version lacks."""
        methods = ModelMethods(inferences, guard, self.name, self.name, self.of_library, self.inner, self.otherwise)
        missing: list[str] = []

        def when(owner: str, act: Callable[[Any], None]) -> None:
            module, _, kind = owner.partition(":")

            def found(imported: Any) -> None:
                there = getattr(imported, kind, None) if kind else imported
                if there is None:
                    missing.append(owner)
                else:
                    act(there)

            patches.when_imported(module, found)

        for calls in self.calls:
            when(calls.owner, functools.partial(_patch, patches, methods, calls, missing))
        for owner, names_of in self.apart:
            when(owner, functools.partial(_set_apart, patches, methods, names_of))
        for owner, name, parameter in self.loads:
            when(owner, functools.partial(self._note, patches, methods, name, parameter))
        return f"without {', '.join(missing)}" if missing else None

    def _note(self, patches: Patches, methods: ModelMethods, name: str, parameter: str, owner: Any) -> None:
        told = {} if self.note is None else {"note": self.note}
        note_files(patches, methods.place, owner, name, parameter, **told)


def _patch(patches: Patches, methods: ModelMethods, calls: Calls, missing: list[str], kind: type) -> None:
    for name in calls.methods.split():
        holder = next((each for each in kind.__mro__ if isinstance(each.__dict__.get(name), FunctionType)), None)
        if holder is None:
            missing.append(f"{kind.__name__}.{name}")
            continue
        operation = _OPERATIONS.get(name, "predict")
        if inspect.isgeneratorfunction(holder.__dict__[name]):
            wrap = functools.partial(methods.streamed, operation, calls.rows)
        else:
            wrap = functools.partial(calls.around, methods, operation, calls.rows, describe=calls.describe)
        patches.replace(holder, name, wrap)


def _set_apart(patches: Patches, methods: ModelMethods, names_of: str, kind: type) -> None:
    for name in names_of.split():
        if isinstance(kind.__dict__.get(name), FunctionType):
            patches.replace(kind, name, functools.partial(apart, methods.inferences, methods.place))


_TABLE, _TEXTS = rows.table_at(0, "data", "X"), rows.texts_at(0, "sentences", "inputs", "documents", "texts", "query")
_XGBOOST, _LIGHTGBM, _CATBOOST = "xgboost.core:Booster", "lightgbm.basic:Booster", "catboost.core:CatBoost"
_SESSION = "onnxruntime.capi.onnxruntime_inference_collection:InferenceSession"
_EMBED, _LANGUAGE = "embed query_embed passage_embed", "spacy.language:Language"

# fmt: off
XGBOOST = Library(
    "xgboost", (Calls(_XGBOOST, "predict", rows.of_matrix), Calls(_XGBOOST, "inplace_predict", _TABLE)),
    otherwise=names.qualified, loads=((_XGBOOST, "load_model", "fname"),), apart=((_XGBOOST, "update boost eval_set"),),
)
LIGHTGBM = Library(
    "lightgbm", (Calls(_LIGHTGBM, "predict", _TABLE),), otherwise=names.qualified,
    loads=((_LIGHTGBM, "__init__", "model_file"),), apart=((_LIGHTGBM, "update eval refit"),),
)
CATBOOST = Library(
    "catboost", (Calls(_CATBOOST, "predict", _TABLE), Calls(f"{_CATBOOST}Regressor", "predict", _TABLE),
        Calls(f"{_CATBOOST}Classifier", "predict predict_proba predict_log_proba", _TABLE),
        Calls(f"{_CATBOOST}Ranker", "predict", _TABLE)), loads=((_CATBOOST, "load_model", "fname"),),
)
ONNXRUNTIME = Library(
    "onnxruntime",
    (Calls(_SESSION, "run run_with_ort_values", rows.of_feeds), Calls(_SESSION, "run_with_iobinding", rows.none)),
    names.version_of_onnx, otherwise=names.graph_of_onnx, loads=((_SESSION, "__init__", "path_or_bytes"),),
)
STATSMODELS = Library(
    "statsmodels", (Calls("statsmodels.base.model:Results", "predict", rows.table_at(0, "exog")),
        Calls("statsmodels.tsa.statespace.mlemodel:MLEResults", "predict forecast", rows.none)),
    inner=names.within("model"),
)
SENTENCE_TRANSFORMERS = Library(
    "sentence-transformers", (Calls("sentence_transformers:SentenceTransformer", "encode", _TEXTS, describe_embeddings),
        Calls("sentence_transformers:SparseEncoder", "encode", _TEXTS, describe_embeddings),
        Calls("sentence_transformers:CrossEncoder", "predict", _TEXTS)), names.of_sentences,
)
TRANSFORMERS = Library(
    "transformers", (Calls("transformers.pipelines.base:Pipeline", "__call__", _TEXTS, around=lazily),
        Calls("transformers.generation.utils:GenerationMixin", "generate", rows.prompts, describe_generated)),
    names.of_hub, names.within("model"), apart=(("transformers.trainer:Trainer", "train evaluate"),),
)
FASTEMBED = Library(
    "fastembed", (Calls("fastembed.text.text_embedding:TextEmbedding", _EMBED, _TEXTS),
        Calls("fastembed.sparse.sparse_text_embedding:SparseTextEmbedding", _EMBED, _TEXTS),
        Calls("fastembed.image.image_embedding:ImageEmbedding", "embed", rows.none),
        Calls("fastembed.rerank.cross_encoder:TextCrossEncoder", "rerank", rows.none)), names.by_model_name,
)
MLFLOW = Library(
    "mlflow", (Calls("mlflow.pyfunc:PyFuncModel", "predict", _TABLE),),
    loads=(("mlflow.pyfunc:", "load_model", "model_uri"),), note=names.note_registered,
)
KERAS = Library(
    "keras", (Calls("keras.src.models.model:Model", "predict predict_on_batch", rows.rows_at(0, "x")),), names.by_name,
)
SPACY = Library(
    "spacy", (Calls(_LANGUAGE, "__call__", rows.one), Calls(_LANGUAGE, "pipe", _TEXTS)),
    names.of_spacy, apart=((_LANGUAGE, "update initialize evaluate rehearse"),),
)
# fmt: on
