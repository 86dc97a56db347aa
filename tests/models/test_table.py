"""Every row of the table, on classes that are shaped as it says: in each run, whatever is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from otel_pipeline import registry
from otel_pipeline.engine import inference
from otel_pipeline.engine.model_objects import models
from otel_pipeline.engine.patching import Patches
from otel_pipeline.models import names, rows, table
from otel_pipeline.models.table import Library
from otel_pipeline.models.transformers import Answer

LIBRARIES = {name: found for name, found in vars(table).items() if isinstance(found, Library)}
METHODS = [
    (name, calls.owner, method)
    for name, library in LIBRARIES.items()
    for calls in library.calls
    for method in calls.methods.split()
]


class Data:
    """What every library's rows can be read of."""

    shape = (3, 4)

    def num_row(self):
        return 3


@pytest.fixture
def made(monkeypatch):
    """The classes of a library, in modules of their own; methods call what they are given."""

    def make(library):
        found = {}
        owners = [*(calls.owner for calls in library.calls), *(owner for owner, *_ in (*library.loads, *library.apart))]
        for owner in owners:
            module, _, kind = owner.partition(":")
            if module not in found:
                found[module] = ModuleType(module)
                monkeypatch.setitem(sys.modules, module, found[module])
            if kind and not hasattr(found[module], kind):
                setattr(
                    found[module], kind, type(kind, (), {"meta": {"lang": "en"}, "model_name": "m", "name": "model"})
                )
                found[module].__dict__[kind].get_modelmeta = lambda _self: SimpleNamespace(
                    version=0, graph_name="graph"
                )

        def act(self, data=None, inside=None, *_args, **_kwargs):
            return inside() if inside is not None else data

        for calls in library.calls:
            for method in calls.methods.split():
                setattr(found[calls.owner.partition(":")[0]].__dict__[calls.owner.partition(":")[2]], method, act)
        for owner, methods in library.apart:
            for method in methods.split():
                setattr(found[owner.partition(":")[0]].__dict__[owner.partition(":")[2]], method, act)
        return found

    return make


@pytest.fixture
def patched(telemetry, made):
    """A library of the table, patched; gives its pipeline, its modules, and what puts it back."""
    pipe = telemetry.instrument(libraries=[])

    def patch(name):
        found, patches = made(LIBRARIES[name]), Patches(pipe._guard)
        before = {
            kind: dict(vars(kind))
            for module in found.values()
            for kind in vars(module).values()
            if isinstance(kind, type)
        }
        said = LIBRARIES[name](patches, inference._inferences, pipe._guard)
        return SimpleNamespace(pipe=pipe, found=found, patches=patches, before=before, said=said)

    return patch


def model_of(library, owner):
    module, _, kind = owner.partition(":")
    return getattr(library.found[module], kind)()


@pytest.mark.parametrize(("name", "owner", "method"), METHODS, ids=lambda each: each.rpartition(":")[2])
def test_the_outermost_call_counts(telemetry, patched, name, owner, method):
    """One span, whatever it calls; its failure is the application's; nothing is left of it afterwards."""
    library = patched(name)
    model = model_of(library, owner)
    call = getattr(model, method)
    data = {"x": Data()} if name == "ONNXRUNTIME" else Data()
    results = [call(None, lambda: call(data)) if name != "ONNXRUNTIME" else call(data)]
    with pytest.raises(ZeroDivisionError):
        call(None, lambda: 1 / 0)
    library.patches.restore()

    spans = telemetry.spans()
    assert results == [data]
    assert [(span.attributes["otel_pipeline.model.library"], span.status) for span in spans] == [
        (LIBRARIES[name].name, "UNSET"),
        (LIBRARIES[name].name, "ERROR"),
    ]
    assert (library.said, library.pipe.status().errors) == (None, {})
    assert library.before == {kind: dict(vars(kind)) for kind in library.before}


@pytest.mark.parametrize("name", [name for name, library in LIBRARIES.items() if library.apart])
def test_training_is_no_inference(telemetry, patched, name):
    """What it predicts is not counted."""
    library, row = patched(name), LIBRARIES[name]
    model = model_of(library, row.calls[0].owner)
    predict = getattr(model, row.calls[0].methods.split()[0])
    for owner, methods in row.apart:
        for method in methods.split():
            getattr(model_of(library, owner), method)(None, lambda: predict(Data()))

    assert telemetry.spans() == []


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_a_version_lacks_is_said(patched, made, telemetry, name, monkeypatch):
    """And what it has is patched."""
    row = LIBRARIES[name]
    module, _, _ = row.calls[0].owner.partition(":")
    broken = Library(row.name, (row.calls[0]._replace(owner=f"{module}:Gone"), *row.calls))
    monkeypatch.setitem(LIBRARIES, "BROKEN", broken)
    telemetry_pipe = telemetry.instrument(libraries=[])
    made(row)
    said = broken(Patches(telemetry_pipe._guard), inference._inferences, telemetry_pipe._guard)

    assert said == f"without {module}:Gone"


def test_each_row_is_in_the_registry():
    """And the registry's rows of models have a function."""
    adapters = {adapter.name: adapter.load() for adapter in registry.ADAPTERS if adapter.kind == "model"}

    assert {name: found for name, found in adapters.items() if isinstance(found, Library)} == {
        library.name: library for library in LIBRARIES.values()
    }


def test_a_row_is_short():
    """A library costs six lines at most."""
    text = Path(table.__file__).read_text("utf-8").partition("# fmt: off\n")[2].partition("# fmt: on")[0]
    lengths = [len(row.splitlines()) for row in text.split(" = Library(")[1:]]

    assert (len(lengths), max(lengths) - 1) == (len(LIBRARIES), 6)


TABLE, TEXTS, ROWS = rows.table_at(0, "data"), rows.texts_at(0, "texts"), rows.rows_at(0, "x")


def shaped(*shape):
    return SimpleNamespace(shape=shape)


@pytest.mark.parametrize(
    ("count", "data", "expected"),
    [
        (TABLE, shaped(5, 4), 5),
        (TABLE, shaped(4), None),
        (TABLE, shaped(), None),
        (TABLE, [[1, 2], [3, 4]], 2),
        (TABLE, [1.0, 2.0], None),
        (TABLE, [], None),
        (TABLE, {"a": [1]}, None),
        (TABLE, "text", None),
        (TABLE, shaped("batch", 4), None),
        (TABLE, SimpleNamespace(shape=lambda: (1, 2)), None),
        (ROWS, shaped(5), 5),
        (ROWS, [1, 2], 2),
        (TEXTS, "one", 1),
        (TEXTS, ["a", "b"], 2),
        (TEXTS, [{"role": "user", "content": "x"}], None),
        (TEXTS, iter("ab"), None),
        (TEXTS, shaped(3), 3),
    ],
)
def test_rows_are_absent_rather_than_wrong(count, data, expected):
    """By position and by name."""
    name = "x" if count is ROWS else "data" if count is TABLE else "texts"

    assert [count((data,), {}), count((), {name: data}), count((), {})] == [expected, expected, None]


@pytest.mark.parametrize(
    ("feeds", "expected"),
    [
        ({"a": shaped(2, 4), "b": shaped(2, 9)}, 2),
        ({"a": shaped(2, 4), "b": shaped(3, 4)}, None),
        ({"a": shaped(7)}, None),
        ({}, None),
        ({"a": SimpleNamespace(shape=lambda: [2, 4])}, 2),
        (None, None),
    ],
)
def test_rows_of_feeds(feeds, expected):
    """They agree, or are not known."""
    assert [rows.of_feeds((None, feeds), {}), rows.of_feeds((None,), {"input_feed": feeds})] == [expected, expected]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("models:/churn/7", ("churn", "7")),
        ("models:/churn@live", ("churn", "live")),
        ("models:/churn", ("churn", "0123abcd")),
        ("runs:/0123456789abcdef/fraud", ("fraud", "0123abcd")),
        ("/srv/fraud/model", ("fraud", "0123abcd")),
        (None, ("None", "0123abcd")),
    ],
)
def test_what_mlflow_calls_a_model(uri, expected):
    """By the registry, the run, or the path."""
    model = type("PyFuncModel", (), {"metadata": SimpleNamespace(model_uuid="0123abcd4567")})()
    names.note_registered(model, uri)

    assert models.identity(model) == expected


def test_an_answer_is_the_pipelines_own():
    """Its length, its attributes, its items once."""

    class Own:
        batch = 8

        def __len__(self):
            return 2

    answer = Answer(Own(), iter([1, 2]))

    assert (len(answer), answer.batch, next(answer), list(answer)) == (2, 8, 1, [2])
