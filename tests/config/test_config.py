"""Every source in its order, every mistake with line and remedy, one file for every environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_pipeline.config.config import ConfigError
from otel_pipeline.config.environment import Surroundings
from otel_pipeline.config.kinds import KINDS
from otel_pipeline.config.loading import load
from otel_pipeline.engine.settings import EngineSettings
from otel_pipeline.export.settings import ExportSettings
from otel_pipeline.owners import own_settings
from otel_pipeline.registry import LibrarySettings
from tests.limits import below_at_above

FILE = """\
version: 1
service_name: ${SERVICE:-scorer}
sample_rate: 0.5
process: {parent: ambient, parent_max_age: 1h}
disable: [sklearn]
environments:
  staging: {sample_rate: 0.2, process: {max_hops: 5}}
  production: {sample_rate: 0.1, receive_spans: false}
"""


@pytest.fixture
def write(tmp_path):
    def written(text, name="otel_pipeline.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def read(path, arguments=None, **environ):
    around = Surroundings(environ, frozenset(), False, lambda _path: False)
    return load(arguments or {}, own_settings(), environ=environ, directory=path.parent, around=around, raises=False)


def problems(config):
    return [str(problem).replace(f"{config.file}:", "line ") for problem in config.problems]


def test_one_file_gives_each_environment_its_values(write):
    """The same bytes; mappings merge, the rest replaces, each value knows its line."""
    path = write(FILE)
    found = {}
    for name in ("local", "staging", "production"):
        config = read(path, OTEL_PIPELINE_ENVIRONMENT=name)
        engine = config.of(EngineSettings)
        rate = config.of(ExportSettings).sample_rate
        found[name] = (rate, engine.process_parent, engine.max_hops, engine.receive_spans)

    assert found == {
        "local": (0.5, "ambient", 32, True),
        "staging": (0.2, "ambient", 5, True),
        "production": (0.1, "ambient", 32, False),
    }
    assert str(read(path, OTEL_PIPELINE_ENVIRONMENT="staging").sources["sample_rate"]) == f"file: {path}:7"


def test_precedence(write):
    """Argument, variable, file, the environment's default, default."""
    path = write("service_name: from-file\n")
    both = {"OTEL_SERVICE_NAME": "from-variable", "OTEL_PIPELINE_ENVIRONMENT": "local"}
    found = [
        read(path, {"service_name": "from-argument"}, **both),
        read(path, **both),
        read(path),
    ]

    assert [config.of(ExportSettings).service_name for config in found] == [
        "from-argument",
        "from-variable",
        "from-file",
    ]
    assert found[0].overridden == (
        "service_name: instrument() says 'from-argument', OTEL_SERVICE_NAME says 'from-variable'; the argument is used",
    )
    keys = [(config.of(EngineSettings).message_key, config.source(EngineSettings, "message_key")) for config in found]
    assert [(key, source.kind) for key, source in keys[1:]] == [
        (True, "environment default"),
        (False, "default"),
    ]


def test_opentelemetrys_own_variables(write):
    """Never renamed: name, version, endpoint, interval, sampler, the safety switches."""
    config = read(
        write(FILE),
        OTEL_RESOURCE_ATTRIBUTES="service.name=labelled,service.version=7",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318",
        OTEL_METRIC_EXPORT_INTERVAL="5000",
        OTEL_TRACES_SAMPLER="always_off",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="kafka, requests",
    )

    assert config.of(ExportSettings) == ExportSettings("labelled", "7", None, "http://collector:4318", 5.0)
    assert config.of(LibrarySettings).disable == ("kafka", "requests", "sklearn")


@below_at_above("config.kinds.MIN_SIZE_BYTES", 1_000_000, None, 1_000_000, 1_000_001)
def test_a_size_is_at_least_one_megabyte(size, outcome):
    """Or there is none."""
    kind = KINDS["size"]
    if outcome is None:
        with pytest.raises(ValueError, match="give a size of at least 1MB, such as 256MB, or off"):
            kind.parse(str(size))
    else:
        assert kind.parse(size) == outcome
    assert [kind.parse(text) for text in ("1.5MB", "2GB", "off", False, "4000kB")] == [
        1_500_000, 2_000_000_000, 0, 0, 4_000_000,
    ]  # fmt: skip
    assert [kind.written(each) for each in (0, 64_000_000, 2_000_000_000, 1_500_000, 1_000_001)] == [
        "off", "64MB", "2GB", "1500kB", "1000001B",
    ]  # fmt: skip
    for wrong in (True, "256", "MB", "-5MB", "1e9MB", "256 megabytes", None, [1]):
        with pytest.raises(ValueError, match="give a size"):
            kind.parse(wrong)


MISTAKES = {
    "unknown key": ("sample_rat: 1", ["line 1: sample_rat is no option; remove it; did you mean sample_rate?"]),
    "twice": ("strict: true\nstrict: false", ["line 2: 'strict' is there twice, first in line 1; keep one of them"]),
    "wrong type": ("receive_spans: off", ["line 1: receive_spans is 'off'; give true or false"]),
    "out of range": ("sample_rate: 7", ["line 1: sample_rate is 7; give a number from 0 to 1"]),
    "a choice": (
        "process: {parent: mesage}",
        ["line 1: process.parent is 'mesage'; give one of message, ambient, link; did you mean message?"],
    ),
    "a duration": (
        "\nprocess:\n  parent_max_age: 15",
        ["line 3: process.parent_max_age is 15; give a duration such as 500ms, 15s, 15m, 2h or 28d"],
    ),
    "a value for a group": ("process: 5", ["line 1: process is no mapping; indent its options below it"]),
    "a mapping for a value": ("service_name: {a: 1}", ["line 1: service_name is a mapping; give a text"]),
    "not set": (
        "service_name: ${NOBODY_SET_THIS}",
        [
            "line 1: ${NOBODY_SET_THIS} is not set; set NOBODY_SET_THIS, or write ${NOBODY_SET_THIS:-a default}",
        ],
    ),
    "environment in environments": (
        "environments:\n  local: {environment: x}",
        ["line 2: environment cannot differ by environment; say it at the top of the file"],
    ),
    "misspelt environment": (
        "environment: prodution",
        [
            (
                "the configuration file: environment is 'prodution'; did you mean 'production'? If the name is your own, "
                "put it below `environments:` in the file"
            )
        ],
    ),
    "a bad value for another environment": (
        "environments:\n  production:\n    sample_rate: many",
        ["line 3: environments.production.sample_rate is 'many'; give a number from 0 to 1"],
    ),
    "an endpoint": (
        "endpoint: collector",
        ["line 1: endpoint is 'collector'; give an address such as http://127.0.0.1:4318"],
    ),
    "a later version": ("version: 2", ["line 1: version is 2; give 1, the only version there is"]),
    "a list": ("- a", ["line 1: is not a mapping at the top; write `name: value` lines"]),
    "no YAML": ("a: [", None),
    "binary": (b"\x00\xff\xfe\x01", None),
    "aliases without end": ("a: &a [1]\n" + "".join(f"b{at}: [*a,*a]\n" for at in range(9_000)), None),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_each_mistake_is_named_with_line_and_remedy(write, case):
    """And the default is used."""
    text, expected = MISTAKES[case]
    config = read(write(text))

    assert problems(config) == expected if expected is not None else len(config.problems) >= 1
    assert config.of(EngineSettings) == EngineSettings()


def test_yaml_1_2_scalars_and_filled_in_values(write):
    """`off` and `1:30` are text; a filled-in number is one; an empty variable counts as unset; `$$` is a `$`."""
    text = "service_name: off\nservice_version: 1:30\nsample_rate: ${RATE:-0.5}\nendpoint: http://x/$${y}"
    config = read(write(text), RATE="")

    assert config.of(ExportSettings) == ExportSettings("off", "1:30", 0.5, "http://x/${y}")


def test_strict_raises_everything_at_once(write):
    """In `test` by default."""
    path = write("sample_rate: 7\nreceive_spans: 3\n")
    with pytest.raises(ConfigError) as raised:
        load({"environment": "test"}, own_settings(), environ={}, directory=path.parent)

    assert [problem.option for problem in raised.value.problems] == ["sample_rate", "receive_spans"]
    config = load({"environment": "test", "strict": False}, own_settings(), environ={}, directory=path.parent)
    assert config.of(ExportSettings) == ExportSettings(spool_bytes=64_000_000)


def test_the_file_is_found_upwards_or_named(write, tmp_path):
    """Beside the program or above it in its repository; the argument and the variable name another one."""
    path, other = write("service_name: found"), write("service_name: other", "other.yaml")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / ".git").mkdir()

    found = [
        load(arguments, (ExportSettings,), environ=environ, directory=start, raises=False)
        for arguments, environ, start in (
            ({}, {}, below),
            ({"config_file": str(other)}, {}, below),
            ({}, {"OTEL_PIPELINE_CONFIG_FILE": str(other)}, path.parent),
        )
    ]

    assert [config.of(ExportSettings).service_name for config in found] == ["found", "other", "other"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="POSIX permissions do not bind this user")
def test_an_unreadable_file(write):
    """Said, and the defaults are used."""
    path = write("service_name: x")
    path.chmod(0)

    assert "cannot be read" in problems(read(path))[0]


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_is_none(tmp_path, name):
    """A missing one, a folder."""
    config = load({"config_file": str(tmp_path / name)}, own_settings(), environ={}, raises=False)

    assert [problem.remedy for problem in config.problems] == ["give the path of an otel_pipeline.yaml"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.text("abceinorstv_{}[]:,-&*$\n '\"#!|>%@0", max_size=200).map(str.encode)))
def test_loading_never_raises(tmp_path, raw):
    """Whatever the file's bytes."""
    path = tmp_path / "otel_pipeline.yaml"
    path.write_bytes(raw)

    assert load({}, own_settings(), environ={}, directory=tmp_path, raises=False).of(EngineSettings).max_hops >= 1
