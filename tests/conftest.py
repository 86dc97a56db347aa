"""Everything that our own tests record must pass the checker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# `python -m pytest` has the project root on the path, plain `pytest` has not.
sys.path.insert(0, str(Path(__file__).parents[1]))

# Before anything of OpenTelemetry is imported: the shell's own settings must not change what is tested.
for _name in [name for name in os.environ if name.startswith("OTEL_") and not name.startswith("OTEL_PIPELINE_")]:
    del os.environ[_name]

import pytest  # noqa: E402 - see above
from hypothesis import settings  # noqa: E402
from opentelemetry.context import Context, attach  # noqa: E402

from otel_pipeline.engine.batch import leave_last_batch  # noqa: E402

# No deadlines: a machine that is busy is no failure. CI says how to try a failing example again.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

pytest_plugins = ["otel_pipeline.testing.plugin", "real.fixtures"]


LANE = os.environ.get("LANE", "")
assert LANE in {"", "native", "compatible", "sdk"}, "LANE is native, compatible or sdk"

LONGEST = ("tests/demo/test_demo_faults.py::test_the_demo_with_faults", "tests/real")


def pytest_collection_modifyitems(config, items):
    """What takes longest begins first, or one worker would be busy with it when the others have nothing left."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    if "situation" not in config.option.markexpr:
        left_out = [
            item for item in items if item.get_closest_marker("situation") and not item.get_closest_marker("real")
        ]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)

    if os.environ.get("FAILED_ONLY"):
        keep_what_failed(config, items)


def keep_what_failed(config, items):
    """Keep what failed the last time; `--last-failed` knows no groups, whose names xdist writes into those of tests."""
    failed = config.cache.get("cache/lastfailed", {})

    def has_failed(item):
        groups = [mark.args[0] if mark.args else mark.kwargs["name"] for mark in item.iter_markers("xdist_group")]
        return bool({item.nodeid, *(f"{item.nodeid}@{group}" for group in groups)} & failed.keys())

    config.hook.pytest_deselected(items=[item for item in items if not has_failed(item)])
    items[:] = filter(has_failed, items)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session):
    """xdist 3.8 writes a test's group into `_nodeid`, which pytest 9.2 no longer reads: groups would be torn apart."""
    for item in session.items:
        grouped, known = vars(item).get("_nodeid"), getattr(item, "_id", None)
        if grouped is not None and known is not None:
            item._id = known.parse(grouped)


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch):
    """No test writes into the user's state folder."""
    monkeypatch.setenv("OTEL_PIPELINE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(autouse=True)
def nothing_in_hand():
    """What a test sends or decides rests on nothing that the test before has left: neither its batch nor its context."""
    leave_last_batch()
    attach(Context())


@pytest.fixture
def telemetry(telemetry, request):
    """The plugin's own, and what was recorded is judged when the test ends; `no_check` marks tests of bad telemetry.

    With LANE=native, compatible or sdk every test's spans take that lane, and not only those of production.
    """
    if LANE:
        telemetry.production_lane = LANE
        telemetry.as_in_production()
    yield telemetry
    if request.node.get_closest_marker("no_check") is None:
        telemetry.check()
