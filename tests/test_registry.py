"""Adapters of other distributions: used like ours, and a broken one is said and harms nothing."""

from __future__ import annotations

import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from otel_pipeline import registry
from otel_pipeline.distro import PipelineDistro
from otel_pipeline.registry import ADAPTERS, ENTRY_POINTS, Adapter

BAD = {
    "nothing": ("no_such_module:ADAPTER", "loading it failed with ModuleNotFoundError"),
    "raises": ("of_others:raising", "loading it failed with AttributeError"),
    "no_row": ("of_others:number", "it is a int, and not an otel_pipeline.registry.Adapter"),
    "ours": ("of_others:ours", "there is an adapter kafka-python already"),
    "no_range": ("of_others:no_range", "loading it failed with InvalidSpecifier"),
    "exits": ("exits_when_imported:ADAPTER", "loading it failed with SystemExit"),
}


class Client:
    """Of somebody else's library."""

    def publish(self, body):
        return body


def row(**changes):
    return Adapter(
        **{
            "name": "theirs",
            "module": "their_adapter",
            "package": "their_client",
            "distributions": ("their-client",),
            "versions": ">=1",
            "kind": "broker",
            **changes,
        }
    )


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that installs a distribution with these entry points, and modules of that name."""

    def install(points, **modules):
        folder = tmp_path / "theirs-1.0.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (folder / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{lines}")
        monkeypatch.syspath_prepend(str(tmp_path))
        for name, attributes in modules.items():
            module = types.ModuleType(name)
            vars(module).update(attributes)
            monkeypatch.setitem(sys.modules, name, module)

    return install


@pytest.fixture
def their_client(installed):
    """Their client library, and their adapter for it."""

    def instrument(patches, engine):
        def make(original):
            def publish(self, body):
                engine.guard.problem("theirs", "seen")
                return original(self, body)

            return publish

        patches.replace(Client, "publish", make)

    installed(
        {"theirs": "of_others:ADAPTER"},
        of_others={"ADAPTER": row()},
        their_adapter={"instrument": instrument},
        their_client={"__version__": "1.5", "Client": Client},
    )


def test_an_adapter_of_others_is_used_like_ours(telemetry, their_client):
    """Patched, told by status, and restored."""
    before = Client.publish
    pipe = telemetry.instrument()
    (status,) = [each for each in pipe.status().adapters if each.name == "theirs"]
    said = Client().publish(b"a")
    problems = pipe.status().problems
    pipe.uninstrument()

    assert (status.state, status.version, said, problems) == ("instrumented", "1.5", b"a", ("seen",))
    assert Client.publish is before


@pytest.mark.parametrize("switched", [{"disable": ["theirs"]}, {"libraries": ["sklearn"]}])
def test_configuration_names_it_like_ours(telemetry, their_client, switched):
    """`disable` and `libraries`."""
    pipe = telemetry.instrument(**switched)
    (status,) = [each for each in pipe.status().adapters if each.name == "theirs"]

    assert (status.state, status.reason) == ("skipped", "switched off by configuration")


@pytest.mark.parametrize("bad", BAD)
def test_a_broken_entry_point_is_said_and_skipped(telemetry, installed, tmp_path, bad):
    """Whatever is wrong with it; ours work."""
    (tmp_path / "exits_when_imported.py").write_text("raise SystemExit(1)")
    value, reason = BAD[bad]
    installed(
        {bad: value},
        of_others={"number": 5, "ours": row(name="kafka-python"), "no_range": row(versions="soon")},
    )
    pipe = telemetry.instrument()

    assert pipe.status().problems == (f"otel_pipeline_adapter {bad} ({value}) is not used: {reason}",)
    assert {each.name for each in pipe.status().adapters} >= {adapter.name for adapter in ADAPTERS}
    assert (pipe.active, pipe.status().errors) == (True, {})


def test_entry_points_that_cannot_be_read_are_said(telemetry, monkeypatch):
    """Some distribution's files are broken."""
    monkeypatch.setattr(registry.installed, "entry_points", lambda _group: 1 / 0)
    problems = {}

    assert registry.adapters(problems.__setitem__) == ADAPTERS
    assert problems == {ENTRY_POINTS: "otel_pipeline_adapter cannot be read: ZeroDivisionError"}


@pytest.mark.parametrize("failure", [RuntimeError("of theirs"), SystemExit(1)])
def test_an_adapter_that_fails_half_way_is_taken_back(telemetry, installed, failure):
    """Half of a client patched would tell half of the truth."""
    before = Client.publish

    def instrument(patches, _engine):
        patches.replace(Client, "publish", lambda _original: lambda _self, body: body + b"!")
        raise failure

    installed(
        {"theirs": "of_others:ADAPTER"},
        of_others={"ADAPTER": row()},
        their_adapter={"instrument": instrument},
        their_client={"__version__": "1.5"},
    )
    pipe = telemetry.instrument()
    (status,) = [each for each in pipe.status().adapters if each.name == "theirs"]

    assert (status.state, Client.publish is before) == ("failed", True)
    assert pipe.status().errors == {"instrument.theirs": 1}


def test_a_kind_that_is_none(telemetry, installed):
    """Nothing is called for it."""
    installed(
        {"theirs": "of_others:ADAPTER"}, of_others={"ADAPTER": row(kind="queue")}, their_client={"__version__": "1.5"}
    )
    (status,) = [each for each in telemetry.instrument().status().adapters if each.name == "theirs"]

    assert (status.state, status.reason) == ("skipped", "its kind is 'queue', which is none")


@pytest.mark.parametrize(
    ("libraries", "state", "reason"),
    [
        ("auto", "skipped", "it lacks b; name it in `libraries` to use it all the same"),
        (["theirs"], "instrumented", "but for b"),
        (["*"], "skipped", "it lacks b; name it in `libraries` to use it all the same"),
    ],
)
def test_what_lacks_something_is_used_only_by_name(telemetry, installed, libraries, state, reason):
    """And says what it lacks in any case."""
    installed(
        {"theirs": "of_others:ADAPTER"},
        of_others={"ADAPTER": row(missing="b")},
        their_adapter={"instrument": lambda _patches, _engine: None},
        their_client={"__version__": "1.5"},
    )
    (status,) = [each for each in telemetry.instrument(libraries=libraries).status().adapters if each.name == "theirs"]

    assert (status.state, status.reason) == (state, reason)


def test_under_the_wrapper_nobody_is_replaced_by_what_lacks_something(installed):
    """The official instrumentation stays where ours is not used."""
    installed(
        {"whole": "of_others:WHOLE", "begun": "of_others:BEGUN"},
        of_others={
            "WHOLE": row(name="whole", replaces=("contrib.whole:Instrumentor",)),
            "BEGUN": row(name="begun", replaces=("contrib.begun:Instrumentor",), missing="much"),
        },
    )
    replaced = PipelineDistro._replaced.func(PipelineDistro())  # Not the one that is kept for the process.

    assert "contrib.whole:Instrumentor" in replaced
    assert "contrib.begun:Instrumentor" not in replaced


NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda found: ".".join(map(str, found)))
BOUNDS = st.tuples(st.sampled_from([">=", "<=", "<", ">", "!=", "=="]), NUMBERS).map("".join)


@given(
    NUMBERS | st.sampled_from(["1.0rc1", "2.post1", "1!2", "1.0.dev3+local"]), st.lists(BOUNDS, min_size=1, max_size=3)
)
def test_a_range_of_versions(version, bounds):
    """As packaging has it, which is not imported for the plain ones."""
    expected = SpecifierSet(",".join(bounds)).contains(Version(version), prereleases=True)

    assert registry.is_within(version, ", ".join(bounds)) is expected


@pytest.mark.parametrize(
    ("version", "versions", "expected"),
    [
        ("1.2", "", True),
        ("1.2", "~=1.1", True),
        ("2.0", "==1.*", False),
        ("no version", ">=1", False),
        ("1", ">=1", True),
    ],
)
def test_ranges_of_other_kinds(version, versions, expected):
    assert registry.is_within(version, versions) is expected
