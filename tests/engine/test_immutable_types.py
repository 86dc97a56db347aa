"""Methods of classes that are written in C: replaced for everybody, and put back as the very same objects."""

from __future__ import annotations

import sys

import pytest

from otel_pipeline.engine import immutable_types
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.immutable_types import ImmutableTypeError, can_be_changed, changeable
from otel_pipeline.engine.patching import Patches

cimpl = pytest.importorskip("confluent_kafka.cimpl")
KafkaError = cimpl.KafkaError
BEFORE = KafkaError(1)
NAME = "OFFSET_OUT_OF_RANGE"


class OwnError(KafkaError):
    """A subclass that was defined before, and that calls the method it inherits."""

    def name(self):
        return f"ours: {super().name()}"


def loud(original):
    return lambda self: f"{original(self)}!"


def is_immutable(kind):
    try:
        kind.of_this_test = 1
    except TypeError:
        return True
    del kind.of_this_test
    return False


def test_a_method_is_replaced_for_everybody_and_put_back():
    """For what was made before, for subclasses and `super()`; then the same object, and Python refuses again."""
    own, patches = KafkaError.__dict__["name"], Patches(Guard())
    for _ in range(100):  # The interpreter has made a short cut to the method by now.
        BEFORE.name()
    patches.replace(KafkaError, "name", loud)
    during = (BEFORE.name(), OwnError(1).name(), KafkaError(1).name(), is_immutable(KafkaError))

    assert (patches.restore(), during) == ([], (f"{NAME}!", f"ours: {NAME}!", f"{NAME}!", True))
    assert (KafkaError.__dict__["name"] is own, BEFORE.name(), is_immutable(KafkaError)) == (True, NAME, True)


def test_how_objects_are_made_is_replaced_too():
    """`__init__` is called by a slot of the class, for subclasses by theirs."""
    own, made, patches = KafkaError.__dict__["__init__"], [], Patches(Guard())

    def noted(original):
        def init(self, *args, **kwargs):
            made.append(type(self).__name__)
            original(self, *args, **kwargs)

        return init

    patches.replace(KafkaError, "__init__", noted)
    KafkaError(1), OwnError(1)
    patches.restore()
    KafkaError(1), OwnError(1)

    assert (made, KafkaError.__dict__["__init__"] is own) == (["KafkaError", "OwnError"], True)


def test_an_inherited_method_is_removed_again():
    """As of a class that can be changed."""
    patches = Patches(Guard())
    patches.replace(KafkaError, "__dir__", lambda _original: lambda _self: ["replaced"])
    during = dir(BEFORE), "replaced" in dir([])

    assert (patches.restore(), during, "__dir__" in KafkaError.__dict__) == ([], (["replaced"], False), False)


@pytest.mark.parametrize("fields", [[], [21, 21]], ids=["in no place", "in two"])
def test_flags_that_are_not_in_just_one_place_are_not_touched(monkeypatch, fields):
    """Nothing is changed, and the caller is told."""
    monkeypatch.setattr(immutable_types, "_FIELDS", fields)
    with pytest.raises(ImmutableTypeError, match="KafkaError cannot be changed in place by this Python"):
        Patches(Guard()).replace(KafkaError, "name", loud)

    assert (can_be_changed(KafkaError), can_be_changed(OwnError), BEFORE.name()) == (False, True, NAME)


def test_pythons_own_classes_are_not_touched():
    """Since 3.12 their attributes are not where those of an extension's classes are."""
    own = str.__dict__["upper"]
    if can_be_changed(str):
        patches = Patches(Guard())
        patches.replace(str, "upper", loud)
        during = "a".upper()
        patches.restore()
        assert during == "A!"
    else:
        with pytest.raises(ImmutableTypeError):
            Patches(Guard()).replace(str, "upper", loud)
    assert (str.__dict__["upper"] is own, "a".upper()) == (True, "A")


def test_what_can_be_changed_anyway_is_left_alone():
    """Classes of Python, and what is no class."""
    for owner in (OwnError, sys.modules[__name__], BEFORE):
        with changeable(owner):
            pass
    assert [is_immutable(kind) for kind in (OwnError, KafkaError)] == [False, True]
