"""Which model an object is: named by the application, by its library, by the file it was loaded from, or by its class.

Asked once per object. Nothing hangs on a model and nothing here keeps one alive: what is known goes by the object's id
and with the object. One that takes no weak reference cannot be told apart from the next one at its place in memory; it
is asked at each call, and cannot be named.
"""

from __future__ import annotations

import functools
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from otel_pipeline.engine.failure import cut
from otel_pipeline.engine.guard import say_in_force, step_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from otel_pipeline.engine.model_files import ModelFile
    from otel_pipeline.engine.prepared import Prepared

M = TypeVar("M")
MAX_OBJECTS = 10_000
"""Models of which something is kept; more are asked at each call."""
MAX_NAME_BYTES = 256


class Identity(NamedTuple):
    """Name and version of a model."""

    name: str | None
    version: str | None = None


UNKNOWN = Identity(None)


class Known(dict[int, "Prepared"]):
    """What has been prepared for one method, by the id of the model."""

    __slots__ = ("__weakref__",)


class ModelObjects:
    """What is known of model objects, for the whole process. Safe in any thread."""

    def __init__(self) -> None:
        self._named: dict[int, Identity] = {}
        self._found: dict[int, Identity] = {}
        """By the registry that it was loaded from."""
        self._files: dict[int, ModelFile] = {}
        self._called: dict[int, Identity] = {}
        """What metrics call those that were loaded from a file."""
        self._references: dict[int, weakref.ref[Any]] = {}
        self._tables: list[weakref.ref[Known]] = []

    def table(self) -> Known:
        """Make a table for one method; whatever is forgotten of a model is forgotten there, too."""
        made = Known()
        self._tables = [*(each for each in self._tables if each() is not None), weakref.ref(made)]
        return made

    def name(self, model: Any, name: str, version: str | None) -> bool:
        """Name a model; return whether it can be."""
        if not self._remember(model):
            return False
        self.forget_calls(id(model))
        self._named[id(model)] = Identity(name, version)
        return True

    def loaded(self, model: Any, path: Any) -> None:
        """Note which file a model was loaded from. Raises OSError where there is none."""
        from otel_pipeline.engine import model_files

        found = model_files.read(path)
        if found is not None and self._remember(model):
            self.forget_calls(id(model))
            self._files[id(model)] = found

    def found(self, model: Any, identity: Identity) -> None:
        """Note what the registry calls a model that it was loaded from."""
        if self._remember(model):
            self.forget_calls(id(model))
            self._found[id(model)] = identity

    def keep(self, table: Known, model: Any, prepared: Prepared, identity: Identity) -> None:
        """Keep what is prepared for the calls of a model."""
        key = id(model)
        if self._remember(model):
            table[key] = prepared
            if key in self._files:
                self._called[key] = identity

    def identity(
        self,
        model: Any,
        of_library: Callable[[Any], Identity] | None = None,
        inner: Callable[[Any], Iterable[Any]] | None = None,
        otherwise: Callable[[Any], str] | None = None,
    ) -> Identity:
        """Return name and version of a model.

        Args:
            model: the object that is called.
            of_library: what its library knows.
            inner: the models that it consists of, or stands for.
            otherwise: names it where nothing else does; without it the class of the last one.
        """
        every = [model, *(inner(model) if inner is not None else ())]
        given = next((found for each in every if (found := self._named.get(id(each)))), UNKNOWN)
        if given.name is not None and given.version is not None:
            return given
        library = next((found for each in every if (found := self._found.get(id(each)))), None)
        library = library or (of_library(model) if of_library is not None else UNKNOWN)
        file = next((read for each in every if (read := self._files.get(id(each)))), None)
        name = given.name or _speaking(library.name) or (file.name if file is not None else None)
        version = given.version or library.version or (file.version if file is not None else None)
        if name is None and otherwise is not None:
            name = _speaking(otherwise(model))
        return Identity(name or type(every[-1]).__name__, version)

    def ages(self, now_s: Callable[[], float] = time.time) -> Iterator[tuple[Identity, float]]:
        """Yield how long ago the files were written that the models which have been called came from, s."""
        now = now_s()
        oldest: dict[Identity, float] = {}
        for key, identity in list(self._called.items()):
            file = self._files.get(key)
            if file is not None and file.written_s is not None:
                oldest[identity] = max(oldest.get(identity, 0.0), now - file.written_s)
        yield from oldest.items()

    def forget_calls(self, key: int) -> None:
        """Ask anew at the next call of a model: it has been named, loaded or trained."""
        self._called.pop(key, None)
        for table in self._tables:
            known = table()
            if known is not None:
                known.pop(key, None)

    def _remember(self, model: Any) -> bool:
        """Follow the object's life; return whether that is possible."""
        key = id(model)
        if key in self._references:
            return True
        if len(self._references) >= MAX_OBJECTS:
            return False
        try:
            self._references[key] = weakref.ref(model, functools.partial(self._forget, key))
        except TypeError:
            return False
        return True

    def _forget(self, key: int, gone: weakref.ref[Any]) -> None:
        try:
            if self._references.get(key) is not gone:
                return
            del self._references[key]
            self._named.pop(key, None)
            self._found.pop(key, None)
            self._files.pop(key, None)
            self.forget_calls(key)
        except Exception:
            step_aside("inference")


def _speaking(name: str | None) -> str | None:
    from otel_pipeline.engine import model_files

    return None if not name or model_files.is_generic(name) else name


models = ModelObjects()


def model(model: M, name: str, *, version: str | None = None) -> M:
    """Name a model, for its spans and metrics; returns the same object.

        booster = otel_pipeline.model(xgboost.Booster(model_file=path), "churn", version="7")

    What its library knows, such as a registered name in MLflow or the commit of a Hugging Face model, or else the file
    that it was loaded from, names it otherwise. A copy of it is another object, and has no name.

    Args:
        model: of any library that is instrumented.
        name: of low cardinality: the first 100 stand on metrics.
        version: of low cardinality: the first 5 of each name stand on metrics; without one what the library or the
            file says.

    Works before and after `instrument()`, and without it. Never raises; safe in any thread.
    """
    try:
        if not isinstance(name, str) or not name:
            say_in_force("model.name", f"model() was given a {type(name).__name__} as name; a text is wanted")
        elif not models.name(
            model, cut(name, MAX_NAME_BYTES), None if version is None else cut(str(version), MAX_NAME_BYTES)
        ):
            kind = type(model).__qualname__
            say_in_force(
                f"model.{kind}",
                f"model() cannot name a {kind}: it takes no weak reference, or there are too many; "
                "use otel_pipeline.inference(name)",
            )
    except Exception:
        step_aside("model")
    return model
