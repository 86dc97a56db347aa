"""What was patched is restored; what others wrapped meanwhile stays and is named."""

from __future__ import annotations

import importlib
import sys

import pytest

from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.patching import DriftedError, Patches


class Base:
    def inherited(self):
        return "base"


class Client(Base):
    def send(self, topic, value=None):
        return topic, value


def loud(original):
    return lambda self, *arguments: (original(self, *arguments), "loud")


def test_own_and_inherited_methods_are_put_back():
    """An inherited method is patched on the class alone, and removed from it again."""
    patches, own = Patches(Guard()), Client.__dict__["send"]
    patches.replace(Client, "send", loud)
    patches.replace(Client, "send", loud)
    patches.replace(Client, "inherited", loud)
    during = (Client().send("t"), Client().inherited(), Base().inherited())

    assert (patches.restore(), during) == ([], ((("t", None), "loud"), ("base", "loud"), "base"))
    assert (Client.__dict__["send"] is own, "inherited" in Client.__dict__) == (True, False)


def test_what_others_have_wrapped_stays():
    """Taking ours out would take theirs out as well."""
    patches, own = Patches(Guard()), Client.__dict__["send"]
    patches.replace(Client, "send", loud)
    theirs = loud(Client.send)
    Client.send = theirs
    try:
        assert (patches.restore(), Client.__dict__["send"] is theirs) == (["Client.send"], True)
    finally:
        Client.send = own


@pytest.mark.parametrize(
    ("expected", "more", "fits"),
    [
        (("self", "topic", "value"), (), True),
        (("self", "topic"), ("value",), True),
        (("self", "topic"), (), False),
        (("self", "value", "topic"), (), False),
    ],
)
def test_a_signature_that_has_changed_is_not_patched(expected, more, fits):
    """The message names both signatures."""
    if fits:
        Patches.check_signature(Client.send, expected, more)
        return
    with pytest.raises(DriftedError, match=r"Client.send takes \(self, topic, value\), known is"):
        Patches.check_signature(Client.send, expected, more)


def test_an_import_hook_never_breaks_the_import(tmp_path, monkeypatch):
    """What it raises is counted; after restoring it does nothing."""
    guard, seen = Guard(), []
    patches, gone = Patches(guard), Patches(guard)
    name = "a_module_of_this_test"
    patches.when_imported(name, lambda module: seen.append(module.__name__))
    patches.when_imported(name, lambda _module: 1 / 0)
    gone.when_imported(name, lambda _module: seen.append("gone"))
    gone.restore()
    (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)

    assert (seen, guard.errors) == ([name], {f"import.{name}": 1})
