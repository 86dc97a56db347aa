"""Which environment, and why: every source in its order, and never a guess at production."""

from __future__ import annotations

import pytest

from otel_pipeline.config.environment import Environment, Surroundings, near_miss, resolve, sdk_disabled


def around(environ=None, modules=(), *, interactive=False, paths=()):
    return Surroundings(environ or {}, frozenset(modules), interactive, lambda path: path in paths)


LABEL = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=x, deployment.environment.name=from%20label"}
CASES = {
    "argument first": (("given", "file", around({"OTEL_PIPELINE_ENVIRONMENT": "v", "CI": "1"})), "given", "argument"),
    "then the variable": ((None, "file", around({"OTEL_PIPELINE_ENVIRONMENT": "v", **LABEL})), "v", "environment"),
    "then the label": ((None, "file", around(LABEL)), "from label", "environment"),
    "the label's old name": (
        (None, None, around({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=old"})),
        "old",
        "environment",
    ),
    "then the file": ((None, "file", around({"CI": "true"})), "file", "file"),
    "then a CI service": ((None, None, around({"GITHUB_ACTIONS": "true"}, interactive=True)), "test", "detected"),
    "CI that is switched off": ((None, None, around({"CI": "false"}, interactive=True)), "local", "detected"),
    "then pytest": ((None, None, around(modules=["_pytest"], interactive=True)), "test", "detected"),
    "an interactive terminal": ((None, None, around(interactive=True)), "local", "detected"),
    "a Jupyter kernel": ((None, None, around(modules=["ipykernel"])), "local", "detected"),
    "PyCharm": ((None, None, around({"PYCHARM_HOSTED": "1"})), "local", "detected"),
    "VS Code": ((None, None, around({"VSCODE_PID": "7"})), "local", "detected"),
    "a development container": (
        (None, None, around({"REMOTE_CONTAINERS": "true"}, paths=["/.dockerenv"])),
        "local",
        "detected",
    ),
    "a container": ((None, None, around(paths=["/.dockerenv"])), None, "detected"),
    "a shell in a container": ((None, None, around(interactive=True, paths=["/.dockerenv"])), None, "detected"),
    "a cluster": ((None, None, around({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ["ipykernel"])), None, "detected"),
    "no sign at all": ((None, None, around()), None, "detected"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_sources(case):
    """Name and source; where there is none, the reason says what to set."""
    arguments, name, source = CASES[case]
    found = resolve(*arguments)

    assert (found.name, found.source) == (name, source)
    assert found.reason if name else "OTEL_PIPELINE_ENVIRONMENT" in found.reason


@pytest.mark.parametrize(
    ("name", "code"), [(None, 0), ("local", 1), ("test", 3), ("production", 6), ("kundentest", 255)]
)
def test_codes(name, code):
    """What the header carries."""
    assert Environment(name, "").code == code


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("production", None),
        ("kundentest", None),
        ("prodution", "production"),
        ("Production", "production"),
        ("prod", "production"),
        ("stagin", "staging"),
        ("dev", "development"),
        ("pre-prod", "preproduction"),
    ],
)
def test_near_misses(name, meant):
    """A slip is noticed, a name of one's own is not."""
    assert near_miss(name) == meant


@pytest.mark.parametrize(
    ("said", "disabled"), [("true", True), (" TRUE ", True), ("false", False), ("1", False), ("", False), (None, False)]
)
def test_the_safety_switch(said, disabled):
    """`true` alone, in any case, as OpenTelemetry has it."""
    assert sdk_disabled({} if said is None else {"OTEL_SDK_DISABLED": said}) is disabled
