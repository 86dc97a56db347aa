"""Which model an object is, as long as it is there."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import time
from unittest.mock import MagicMock

import pytest

import otel_pipeline
from otel_pipeline.engine import guard
from otel_pipeline.engine.model_objects import Identity, ModelObjects, models
from otel_pipeline.engine.prepared import Called
from tests.limits import below_at_above


class Model:
    def __eq__(self, _other):
        raise TypeError

    __hash__ = None


class Slots:
    __slots__ = ()


@pytest.fixture
def objects():
    """Nothing is known."""
    return ModelObjects()


def test_a_name_that_was_given_comes_first(objects):
    """Then what the library knows, then the file, then the class of the innermost."""
    inner, outer = Model(), Model()

    def identity(known=None):
        return objects.identity(outer, lambda _model: Identity(known, "2"), lambda _model: [inner])

    found = [identity()]
    found.append(identity("churn"))
    objects.name(inner, "of-inner", None)
    found.append(identity("churn"))
    objects.name(outer, "of-outer", "7")
    found.append(identity("churn"))

    assert found == [("Model", "2"), ("churn", "2"), ("of-inner", "2"), ("of-outer", "7")]


def test_a_generic_name_of_the_library_is_skipped(objects, tmp_path):
    """The file has a better one, and a version where the library has none."""
    model, file = Model(), tmp_path / "churn.onnx"
    file.write_bytes(b"x")
    objects.loaded(model, file)

    assert objects.identity(model, lambda _model: Identity("main_graph")) == ("churn", "2d711642")


def test_what_is_known_goes_with_the_object(objects):
    """The next one in its place is another."""
    known = objects.table()
    model = Model()
    objects.name(model, "churn", None)
    objects.keep(known, model, object(), Identity("churn"))
    before = len(known)
    del model
    gc.collect()

    assert (before, len(known), objects._named, objects._references) == (1, 0, {}, {})


def test_named_later_it_is_asked_anew(objects):
    """What was prepared before has another name."""
    known, other, model = objects.table(), objects.table(), Model()
    objects.keep(known, model, object(), Identity("Model"))
    objects.keep(other, model, object(), Identity("Model"))
    objects.name(model, "churn", None)

    assert (dict(known), dict(other)) == ({}, {})


@below_at_above("engine.model_objects.MAX_NAME_BYTES", 256, 255, 256, 256)
def test_how_long_a_name_is(size, outcome):
    """What is longer is cut."""
    model = Model()
    otel_pipeline.model(model, "n" * size, version="v" * size)
    name, version = models.identity(model)

    assert (len(name.encode()), len(version.encode())) == (outcome, outcome)


@below_at_above("engine.model_objects.MAX_OBJECTS", 10_000, True, True, False)
def test_how_many_are_kept(objects, size, outcome):
    """More are asked at each call; none is taken for another."""
    kept = [Model() for _ in range(size)]

    assert [objects.name(each, "m", None) for each in kept][-1] == outcome


def test_how_old_models_are(objects, tmp_path):
    """Those that have been called, and whose file says when it was written; the oldest of a name."""
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for age_s, file in zip((50, 80), files, strict=True):
        file.write_bytes(b"x")
        os.utime(file, (1_750_000_000 - age_s,) * 2)
    loaded = [Model(), Model(), Model()]
    for model, file in zip(loaded, (*files, files[0]), strict=True):
        objects.loaded(model, file)
    known, identity = objects.table(), Identity("churn", "1")
    for model in loaded[:2]:
        objects.keep(known, model, object(), identity)
    found = [list(objects.ages(lambda: 1_750_000_000))]
    del model, loaded
    gc.collect()
    found.append(list(objects.ages(time.time)))

    assert found == [[(identity, 80.0)], []]


@pytest.mark.parametrize(
    "model", [Model(), MagicMock(), Slots(), 7, None, [1], {"a": 1}], ids=lambda each: type(each).__name__
)
def test_the_same_object_comes_back(model):
    """Whatever it is; what cannot be named is said."""
    assert otel_pipeline.model(model, "churn", version="1") is model


@pytest.mark.parametrize("name", [None, "", 7, b"x"])
def test_a_name_that_is_none(name):
    """It is said, and nothing raises."""
    said = guard.Guard()
    guard.activate(said)
    model = Model()
    try:
        assert otel_pipeline.model(model, name) is model
    finally:
        guard.activate(None)
    assert list(said.problems) == ["model.name"]


def test_what_cannot_be_named_is_said():
    """It takes no weak reference."""
    said = guard.Guard()
    guard.activate(said)
    try:
        otel_pipeline.model(Slots(), "churn")
    finally:
        guard.activate(None)
    assert list(said.problems) == ["model.Slots"]


def test_a_failure_of_ours_is_counted(monkeypatch):
    """The application has its model."""
    counting, model = guard.Guard(), Model()
    guard.activate(counting)
    monkeypatch.setattr(models, "name", None)
    try:
        assert otel_pipeline.model(model, "churn") is model
    finally:
        guard.activate(None)
    assert counting.errors == {"model": 1}


class Plain:
    def __init__(self):
        self.weights = [1]


def test_nothing_hangs_on_the_object():
    """It is pickled and copied as it was."""
    model = Plain()
    before = pickle.dumps(model)
    otel_pipeline.model(model, "churn")

    assert (pickle.dumps(model), copy.deepcopy(model).__dict__, vars(model)) == (
        before,
        {"weights": [1]},
        {"weights": [1]},
    )


def test_what_tells_calls_apart():
    """A call of another version is another."""
    assert Called("m", "predict") != Called("m", "predict", "7")
