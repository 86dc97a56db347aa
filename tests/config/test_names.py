"""Names are a closed list: what is misspelt is named with what was probably meant, wherever it stands."""

from __future__ import annotations

import inspect
import os

import pytest

import otel_pipeline
from otel_pipeline import registry
from otel_pipeline.config.config import ConfigError
from otel_pipeline.config.environment import Surroundings
from otel_pipeline.config.loading import load
from otel_pipeline.config.variables import CLOSED, without_bad_values
from otel_pipeline.distro import _instrument
from otel_pipeline.owners import own_settings
from otel_pipeline.registry import LibrarySettings


def read(tmp_path, text="", arguments=None, *, raises=False, **environ):
    path = tmp_path / "otel_pipeline.yaml"
    path.write_text(text)
    around = Surroundings(environ, frozenset(), False, lambda _path: False)
    return load(arguments or {}, own_settings(), environ=environ, directory=tmp_path, around=around, raises=raises)


def problems(config):
    return [str(problem).replace(f"{config.file}:", "line ") for problem in config.problems]


@pytest.mark.parametrize(
    "name", ["kafka-python", "kafka_python", "kafka", "Kafka-Python", "kafka-python-ng", "sklearn", "scikit_learn", "*"]
)
def test_a_library_answers_to_each_of_its_names(telemetry, name):
    """Its name, its package, its distributions, in any spelling."""
    skipped = telemetry.instrument(disable=[name]).status()

    meant = "scikit-learn" if "k" in name[:4] and name[0] == "s" else "kafka-python"
    states = {adapter.name: adapter.reason for adapter in skipped.adapters}
    assert states[meant] == "switched off by configuration"
    assert skipped.problems == ()


def test_only_the_named_libraries_under_another_name(telemetry):
    """`libraries` as `disable`."""
    adapters = telemetry.instrument(libraries=["kafka_python"]).status().adapters

    skipped = {adapter.name: adapter.reason for adapter in adapters if adapter.state == "skipped"}
    skipped.pop("in-memory-broker", None)  # Of the contract tests, where this worker has run some.

    others = [
        adapter.name for adapter in registry.ADAPTERS if adapter.kind == "model" and adapter.name != "scikit-learn"
    ]
    assert [skipped.pop(name) for name in others] == ["switched off by configuration"] * len(others)
    assert skipped == {
        "aiokafka": "switched off by configuration",
        "confluent-kafka": "switched off by configuration",
        "faststream": "switched off by configuration",
        "faust-streaming": "switched off by configuration",
        "scikit-learn": "switched off by configuration",
    }


WRONG_LIBRARIES = {
    "in an argument": (
        "",
        {"libraries": ["kafka-pyton", "aiokafka"]},
        {},
        ["argument of instrument(): libraries names 'kafka-pyton', which is no library; did you mean kafka-python?"],
        ("aiokafka",),
        (),
    ),
    "in the file, none is left: the default": (
        "libraries: [sklaern]",
        {},
        {},
        ["line 1: libraries names 'sklaern', which is no library; did you mean sklearn?"],
        "auto",
        (),
    ),
    "in a variable of ours, near to nothing": (
        "",
        {},
        {"OTEL_PIPELINE_LIBRARIES": "kafka, flask"},
        [
            (
                "OTEL_PIPELINE_LIBRARIES: libraries names 'flask', which is no library that is instrumented; remove it; "
                "there are " + ", ".join(adapter.name for adapter in registry.ADAPTERS)
            )
        ],
        ("kafka",),
        (),
    ),
    "in the variable of all instrumentations: others' names are right there, a slip is none": (
        "disable: [openai, confluent_kafka]",
        {},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "flask,aiokafak"},
        [
            (
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS: disable names 'aiokafak', which is no library; "
                "did you mean aiokafka?"
            )
        ],
        "auto",
        ("flask", "openai", "confluent_kafka"),
    ),
}


@pytest.mark.parametrize("case", WRONG_LIBRARIES)
def test_a_library_that_there_is_not(tmp_path, case):
    """Said with its place; the rest of the list holds."""
    text, arguments, environ, said, libraries, disable = WRONG_LIBRARIES[case]
    config = read(tmp_path, text, arguments, **environ)

    assert problems(config) == said
    assert config.of(LibrarySettings) == LibrarySettings(libraries, disable)


WRONG_VARIABLES = {
    ("OTEL_PIPELINE_STRCT", "true"): "is no variable that is read; did you mean OTEL_PIPELINE_STRICT?",
    ("OTEL_PIPELINE_ENVIROMENT", "x"): "is no variable that is read; did you mean OTEL_PIPELINE_ENVIRONMENT?",
    (
        "OTEL_PIPELINE_KUBERNETES",
        "x",
    ): "is no variable that is read; remove it; `otel-pipeline config` lists what there is",
    ("OTEL_PIPELINE_DESTINATIONS_ORDERS_TRUST", "none"): (
        "is no variable that is read; say it in the configuration file, below `destinations`"
    ),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http"): "is 'http'; give one of http/protobuf, grpc",
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"): (
        "is 'http/json'; give http/protobuf: OpenTelemetry for Python does not export JSON"
    ),
    ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "gprc"): "is 'gprc'; give one of http/protobuf, grpc; did you mean grpc?",
    ("OTEL_TRACES_EXPORTER", "console,otpl"): (
        "is 'console,otpl'; give one of otlp, console, none, otlp_proto_http, otlp_proto_grpc, lines, or install what "
        "brings it; did you mean otlp?"
    ),
    ("OTEL_PROPAGATORS", "tracecontxt,b3"): (
        "is 'tracecontxt,b3'; give one of tracecontext, baggage, none, or install what brings it; "
        "did you mean tracecontext?"
    ),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"): ("is 'zip'; give one of gzip, deflate, none; did you mean gzip?"),
    ("OTEL_SDK_DISABLED", "1"): "is '1'; give one of true, false",
    ("OTEL_EXPORTER_OTLP_HEADERS", "tenant=a,Bearer secret, ,=secret,k=secret;p"): (
        "has no name=value as part 2, 4, 5, which is left out; several are separated by commas; encode other signs as in "
        "a URL: %2C for a comma, %20 for a space"
    ),
    ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "schlüssel=secret"): (
        "has no name=value as part 1, which is left out; several are separated by commas; encode other signs as in a "
        "URL: %2C for a comma, %20 for a space"
    ),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "tracebased"): (
        "is 'tracebased'; give one of trace_based, always_on, always_off; did you mean trace_based?"
    ),
}


@pytest.mark.parametrize(("name", "value"), WRONG_VARIABLES)
def test_a_variable_that_is_wrong(tmp_path, name, value):
    """Those of ours that nothing reads, and OpenTelemetry's that may have certain values only."""
    config = read(tmp_path, **{name: value})

    assert problems(config) == [f"{name} {WRONG_VARIABLES[name, value]}"]


RIGHT = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    "OTEL_TRACES_EXPORTER": " otlp , console",
    "OTEL_METRICS_EXPORTER": "prometheus",  # Installed by the tests' extra.
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer a.b=,tenant = x,api-key=%2C,",
    "OTEL_PROPAGATORS": "tracecontext,baggage,b3",
    "OTEL_TRACES_SAMPLER": "PARENTBASED_ALWAYS_ON",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "DELTA",
    "OTEL_SDK_DISABLED": "False",
    "OTEL_PIPELINE_STATE_DIR": "/somewhere",
    "OTEL_PIPELINE_RECEIVE_SPANS": "false",
    "OTEL_PIPELINE_TEST_BOOTSTRAP": "localhost:1",
}


def test_what_is_right_is_not_said(tmp_path):
    """Entry points of installed packages are values as well; an empty variable says nothing."""
    assert problems(read(tmp_path, **RIGHT, **dict.fromkeys(CLOSED.keys() - RIGHT.keys(), ""))) == []


ENVIRONMENTS = {
    "a slip as a key": (
        "environments: {prodution: {sample_rate: 0.1}}",
        "local",
        [
            "line 1: environments.prodution is no environment that is known; did you mean 'production'?",
        ],
    ),
    "a word for another one is one's own": ("environments: {prod: {sample_rate: 0.1}}", "prod", []),
    "and so it is in a process elsewhere": ("environments: {prod: {sample_rate: 0.1}}", "local", []),
    "but where that very environment runs, it would hold for nobody": (
        "environments: {prod: {sample_rate: 0.1}}",
        "production",
        ["line 1: environments.prod is no environment that is known; did you mean 'production'?"],
    ),
    "in a mapping by environment": (
        "environments: {stage: }\ndestinations: {orders: {foreign: {stage: flag, dev: flag}}}",
        "stage",
        ["line 2: destinations.orders.foreign.dev is no environment that is known; did you mean 'development'?"],
    ),
    "made out of a known one": ("environments: {production-eu: {sample_rate: 0.1}}", "staging2", []),
    "not declared": (
        "",
        "prod",
        [
            (
                "OTEL_PIPELINE_ENVIRONMENT: environment is 'prod'; did you mean 'production'? If the name is your own, put "
                "it below `environments:` in the file"
            )
        ],
    ),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_environments(tmp_path, case):
    """A slip is named; a name of one's own is not."""
    text, name, said = ENVIRONMENTS[case]

    assert problems(read(tmp_path, text, OTEL_PIPELINE_ENVIRONMENT=name)) == said


@pytest.mark.parametrize("text", ["${NAME", "a${NAME:-b", "${}", "${env:NAME}", "$${ok} ${"])
def test_a_brace_that_is_not_closed(tmp_path, text):
    """It stays what it is, and is said."""
    config = read(tmp_path, f"service_name: '{text}'")

    assert problems(config) == [
        "line 1: has a ${ that no } closes, or no name in it; write ${NAME} or ${NAME:-a default}, $$ for a $"
    ]
    assert config.values["service_name"] == text.replace("$$", "$")


def test_strict_raises_all_of_them(tmp_path):
    """At once, wherever they stand."""
    with pytest.raises(ConfigError) as raised:
        read(
            tmp_path,
            "libraries: [sklaern]\nservice_name: ${X\nenvironments: {prodution: }",
            {"strict": True, "disable": ["kafkaa"], "hooks": {"sned": print}},
            raises=True,
            OTEL_PIPELINE_STRCT="1",
            OTEL_EXPORTER_OTLP_PROTOCOL="http",
        )

    named = [problem.option or problem.message[:10] for problem in raised.value.problems]
    assert sorted(named) == [
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_PIPELINE_STRCT",
        "disable",
        "environments.prodution",
        "has a ${ t",
        "hooks",
        "libraries",
    ]


def test_an_unknown_keyword_names_the_near_miss(telemetry):
    """A TypeError as from any call, in every Python; the signature is what it was."""
    with pytest.raises(TypeError) as raised:
        otel_pipeline.instrument("scorer", enviroment="local")
    assert str(raised.value) == (
        "instrument() got an unexpected keyword argument 'enviroment'; did you mean environment?"
    )
    with pytest.raises(TypeError) as raised:
        otel_pipeline.instrument(kubernetes=True)
    assert str(raised.value) == "instrument() got an unexpected keyword argument 'kubernetes'"

    signature = inspect.signature(otel_pipeline.instrument)
    assert list(signature.parameters)[:3] == ["service_name", "service_version", "environment"]
    assert signature.parameters["service_version"].kind is inspect.Parameter.KEYWORD_ONLY


def test_an_unknown_option_of_the_standard_file(telemetry, caplog):
    """`OTEL_CONFIG_FILE` hands our options over unchecked."""
    telemetry.instrument()
    caplog.clear()

    _instrument({"libaries": ["kafka"]})

    assert [record.getMessage().partition("; known")[0] for record in caplog.records] == [
        "otel_pipeline: unknown option 'libaries'"
    ]
    assert caplog.records[0].getMessage().endswith("; did you mean libraries?")


def test_bad_values_are_out_of_opentelemetrys_sight(monkeypatch):
    """While the providers are made; what else a list says holds, and afterwards all is as it was."""
    given = {
        "OTEL_PROPAGATORS": "tracecontxt, baggage",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
        "OTEL_SDK_DISABLED": "",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with without_bad_values():
        inside = {name: os.environ.get(name) for name in given}

    assert inside == {"OTEL_PROPAGATORS": "baggage", "OTEL_EXPORTER_OTLP_COMPRESSION": None, "OTEL_SDK_DISABLED": ""}
    assert {name: os.environ[name] for name in given} == given
