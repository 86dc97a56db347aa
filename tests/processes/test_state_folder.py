"""A process that has been left neither a home nor a name is instrumented all the same."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="users of POSIX")

# As of a number that no user has, `docker run --user 4242` for example.
NOBODY = """
import os, pwd

def nobody(number):
    raise KeyError(number)

pwd.getpwuid = nobody
for name in ("HOME", "OTEL_PIPELINE_STATE_DIR", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
    os.environ.pop(name, None)
"""
WORK = """
import otel_pipeline
pipe = otel_pipeline.instrument("app"{arguments})
with otel_pipeline.inference("model"):
    pass
pipe._monitoring.beat()
print(pipe.status().active, pipe.status().problems, sorted(os.listdir(os.environ["TMPDIR"])))
"""


@pytest.mark.parametrize("environment", ["production", "local"])
def test_without_home_and_name(programs, tmp_path, environment):
    """What has to be written lies among temporary files, for its user alone; what need not, is not made."""
    (tmp_path / "temporary").mkdir()
    ran = programs.run(
        NOBODY + WORK.format(arguments=', endpoint="http://127.0.0.1:1"' if environment == "production" else ""),
        TMPDIR=tmp_path / "temporary",
        OTEL_PIPELINE_ENVIRONMENT=environment,
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )

    assert (ran.code, ran.out) == (0, f"True () ['otel-pipeline-{os.geteuid()}-health']\n"), ran.err


def test_a_configured_path_begins_at_a_home_that_is_not_there(programs, tmp_path):
    """A tilde that stands for nothing is a name like any other."""
    ran = programs.run(
        NOBODY + WORK.format(arguments=', config_file="~/otel_pipeline.yaml"'),
        TMPDIR=tmp_path,
        OTEL_PIPELINE_ENVIRONMENT="production",
        OTEL_PIPELINE_CONTRACTS_DIRECTORY="~/contracts",
        OTEL_PIPELINE_HEALTH_STATE_FILE="off",
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )

    assert (ran.code, ran.out.split(" (")[0], ran.out.count("is no file")) == (0, "True", 1), ran.err
