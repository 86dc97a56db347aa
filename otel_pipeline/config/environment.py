"""Which environment this process runs in, and why we think so. Never guesses production.

In order: the argument, `OTEL_PIPELINE_ENVIRONMENT`, `OTEL_RESOURCE_ATTRIBUTES`, the file, a CI service, pytest, and
then the signs of a person's machine. A container or cluster without a label stays unknown, also when somebody has
opened a terminal in it: a shell in a production container is no laptop. Development containers say what they are.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

CODES = {"local": 1, "development": 2, "test": 3, "staging": 4, "preproduction": 5, "production": 6}
"""The codes of the data-flow header; 0 is unknown, 255 any other name."""
OTHER_CODE = 255
VARIABLE = "OTEL_PIPELINE_ENVIRONMENT"

_CI = (
    "CI",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "JENKINS_URL",
    "BUILDKITE",
    "CIRCLECI",
    "TRAVIS",
    "TF_BUILD",
    "TEAMCITY_VERSION",
    "BITBUCKET_BUILD_NUMBER",
    "CODEBUILD_BUILD_ID",
    "DRONE",
)
_SCHEDULED = (
    "KUBERNETES_SERVICE_HOST",
    "ECS_CONTAINER_METADATA_URI_V4",
    "ECS_CONTAINER_METADATA_URI",
    "AWS_LAMBDA_FUNCTION_NAME",
    "K_SERVICE",
    "CONTAINER_APP_NAME",
    "WEBSITE_INSTANCE_ID",
    "DYNO",
)
_CLUSTER = (*_SCHEDULED, "container")
_EDITORS = {
    "PYCHARM_HOSTED": "PyCharm runs it",
    "VSCODE_PID": "VS Code runs it",
    "VSCODE_IPC_HOOK_CLI": "VS Code runs it",
    "REMOTE_CONTAINERS": "a development container of VS Code",
    "CODESPACES": "a development container of GitHub",
}
_OFF = ("", "0", "false", "no", "off")
_SYNONYMS = {
    "prod": "production",
    "prd": "production",
    "live": "production",
    "stage": "staging",
    "stg": "staging",
    "dev": "development",
    "devel": "development",
    "pre-prod": "preproduction",
    "preprod": "preproduction",
    "testing": "test",
    "ci": "test",
    "laptop": "local",
}


@dataclass(frozen=True)
class Environment:
    """The environment of this process."""

    name: str | None
    """`deployment.environment.name`; None when it is not known."""
    reason: str
    """Why, as a sentence for `status()`."""
    source: str = "default"
    """argument, environment, file, or detected."""
    person: str = ""
    """Why a person seems to sit at this process, whatever the environment is called; "" where nobody does."""

    @property
    def code(self) -> int:
        """What the data-flow header carries."""
        return 0 if self.name is None else CODES.get(self.name, OTHER_CODE)

    @property
    def is_local(self) -> bool:
        """A person's machine."""
        return self.name == "local"

    @property
    def is_test(self) -> bool:
        """A test run."""
        return self.name == "test"


@dataclass(frozen=True)
class Surroundings:
    """What is looked at; tests give their own."""

    environ: Mapping[str, str]
    modules: frozenset[str]
    interactive: bool
    exists: Callable[[str], bool]
    terminal: bool = False
    """Whether input comes from a terminal, wherever output goes."""


def surroundings(environ: Mapping[str, str] = os.environ) -> Surroundings:
    """Return the real surroundings of this process."""
    return Surroundings(environ, frozenset(sys.modules), _interactive(), os.path.exists, _types())


def _interactive() -> bool:
    """Tell whether a person sits at a terminal: stdin and stderr both are one, or Python runs interactively."""
    if hasattr(sys, "ps1"):
        return True
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except Exception:
        return False  # Closed, or None under pythonw.


def _types() -> bool:
    """Tell whether somebody can type to this process."""
    try:
        return sys.stdin.isatty()
    except Exception:
        return False


def resolve(argument: str | None, file_value: str | None, around: Surroundings) -> Environment:
    """Find the environment, in the order that the module's docstring gives."""
    return replace(_found(argument, file_value, around), person=_person(around))


def _found(argument: str | None, file_value: str | None, around: Surroundings) -> Environment:
    environ = around.environ
    if argument:
        return Environment(argument.strip(), "given as argument", "argument")
    if given := environ.get(VARIABLE, "").strip():
        return Environment(given, VARIABLE, "environment")
    if labelled := _from_resource(environ.get("OTEL_RESOURCE_ATTRIBUTES", "")):
        return Environment(labelled, "OTEL_RESOURCE_ATTRIBUTES", "environment")
    if file_value:
        return Environment(file_value.strip(), "the configuration file", "file")
    return _detect(around)


def sdk_disabled(environ: Mapping[str, str]) -> bool:
    """Tell whether OpenTelemetry is switched off as a whole."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _detect(around: Surroundings) -> Environment:  # noqa: PLR0911 - one return per sign
    environ = around.environ
    for name in _CI:
        if environ.get(name, "").lower() not in _OFF:
            return Environment("test", f"a CI service: {name} is set", "detected")
    if "PYTEST_CURRENT_TEST" in environ or "PYTEST_VERSION" in environ or "_pytest" in around.modules:
        return Environment("test", "pytest runs it", "detected")
    for name, reason in _EDITORS.items():
        if environ.get(name, "").lower() not in _OFF:
            return Environment("local", reason, "detected")
    contained = _contained(around)
    if contained is not None:
        return Environment(None, f"{contained}, and no label: set {VARIABLE} or the file's `environment`", "detected")
    if "ipykernel" in around.modules:
        return Environment("local", "a Jupyter kernel", "detected")
    if around.interactive:
        return Environment("local", "an interactive terminal", "detected")
    return Environment(None, f"no sign of where it runs: set {VARIABLE} or the file's `environment`", "detected")


def _person(around: Surroundings) -> str:
    """Say what tells of a person at this process. A terminal tells of nobody where a scheduler has started it."""
    for name, reason in _EDITORS.items():
        if around.environ.get(name, "").lower() not in _OFF:
            return reason
    if "ipykernel" in around.modules:
        return "a notebook kernel"
    if (around.interactive or around.terminal) and not any(around.environ.get(name) for name in _SCHEDULED):
        return "a terminal"
    return ""


def _contained(around: Surroundings) -> str | None:
    for name in _CLUSTER:
        if around.environ.get(name):
            return f"a container or cluster ({name} is set)"
    for path in ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"):
        if around.exists(path):
            return f"a container ({path} is there)"
    return None


def _from_resource(text: str) -> str | None:
    """Return the label in `OTEL_RESOURCE_ATTRIBUTES`, under its current name or the former one."""
    pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    values = {name.strip(): unquote(value.strip()) for name, value in pairs.items()}
    return values.get("deployment.environment.name") or values.get("deployment.environment") or None


def near_miss(name: str, own: Collection[str] = ()) -> str | None:
    """Find the known name that was probably meant; None for a known one, and for one that is simply the user's own.

    Args:
        name: what is said.
        own: names that the configuration declares, below `environments:`.
    """
    lower = name.lower()
    if name in CODES or name in own:
        return None
    for known in (lower, _SYNONYMS.get(lower, ""), re.sub(r"[-_. ]", "", lower)):
        if known in CODES:
            return known
    if not lower.isalpha():
        return None  # production-eu, staging2: made on purpose out of a known one.
    from difflib import get_close_matches  # Only where something is misspelt.

    close = get_close_matches(lower, CODES, n=1, cutoff=0.85)
    return close[0] if close else None


def near_miss_of_key(name: str, keys: Collection[str], mine: str | None) -> str | None:
    """Find what a key below `environments:` was probably meant to be.

    A word such as `prod` is one's own there, unless this process runs in `production`, of which nothing else is said.
    """
    known = near_miss(name)
    if known is not None and name.lower() in _SYNONYMS and (known != mine or known in keys):
        return None
    return known
