"""What libraries know of a model: the name that it was registered or published by, and its version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import model_files
from otel_pipeline.engine.model_objects import UNKNOWN, Identity, models

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMMIT_DIGITS = 12
_ID_DIGITS = 8
_NO_VERSION = (0, 2**63 - 1)
"""What ONNX has where nobody has given one."""
_REGISTRY = "models:/"


def qualified(model: Any) -> str:
    """Name a model by library and class: `Booster` alone is a class of several."""
    kind = type(model)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def version_of_onnx(session: Any) -> Identity:
    """Read the version in a model's metadata, which is asked for once: it is copied each time."""
    version = session.get_modelmeta().version
    return UNKNOWN if version in _NO_VERSION else Identity(None, str(version))


def graph_of_onnx(session: Any) -> str:
    """Read the name that whoever exported the graph has given."""
    return str(session.get_modelmeta().graph_name)


def of_hub(model: Any) -> Identity:
    """Read where a model of Hugging Face came from, and its commit."""
    config = getattr(getattr(model, "model", model), "config", None)
    name, commit = getattr(config, "_name_or_path", None), getattr(config, "_commit_hash", None)
    version = commit[:_COMMIT_DIGITS] if isinstance(commit, str) and commit else None
    return Identity(_published(name), version)


def of_sentences(model: Any) -> Identity:
    """Read the same of the transformer within a model for sentences."""
    first = next(iter(getattr(model, "_modules", {}).values()), None)
    inner = getattr(first, "auto_model", None) or getattr(first, "model", None) or getattr(model, "model", None)
    return UNKNOWN if inner is None else of_hub(inner)


def _published(name: Any) -> str | None:
    """Return the name on the hub, or of a folder on this machine."""
    if not isinstance(name, str) or not name:
        return None
    path = Path(name)
    return model_files.name_of(path.absolute()) if path.is_absolute() or path.exists() else name


def by_model_name(model: Any) -> Identity:
    """Read `model_name`, as fastembed has it."""
    return Identity(str(model.model_name))


def by_name(model: Any) -> Identity:
    """Read `name`, as keras has it; `sequential_3` is none."""
    return Identity(str(model.name))


def of_spacy(language: Any) -> Identity:
    """Read language, name and version of a pipeline's package."""
    meta = language.meta
    name, version = meta.get("name"), meta.get("version")
    return Identity(
        f"{meta['lang']}_{name}" if name and name != "pipeline" else None, None if version == "0.0.0" else version
    )


def note_registered(model: Any, uri: Any) -> None:
    """Note what MLflow calls a model that it has loaded: by `models:/churn/7`, `models:/churn@live`, or a path.

    Where the registry gives no version, it is the beginning of the id that MLflow has given the saved model.
    """
    text = str(uri)
    version = str(getattr(getattr(model, "metadata", None), "model_uuid", None) or "")[:_ID_DIGITS] or None
    if text.startswith(_REGISTRY):
        name, _, said = text.removeprefix(_REGISTRY).strip("/").partition("@" if "@" in text else "/")
        models.found(model, Identity(name, said or version))
    else:
        models.found(model, Identity(model_files.name_of(Path("/") / text.rpartition(":")[2].lstrip("/")), version))


def within(*attributes: str) -> Any:
    """Make a function that yields what a model stands for: the objects of these attributes."""

    def inner(model: Any) -> Iterable[Any]:
        return [found for name in attributes if (found := getattr(model, name, None)) is not None]

    return inner
