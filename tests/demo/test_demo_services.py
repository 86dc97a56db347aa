from __future__ import annotations

import sys

import pytest

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.cli.main import main
from otel_pipeline.demo import command, services
from otel_pipeline.demo.services import CLIENTS, copy_scripts, environment, fresh_folder, scripts_folder, start, stop
from otel_pipeline.demo.topics import Broker, Witness

SERVICES = tuple(f"{name}{end}.py" for name in ("features", "ingest", "scorer") for end in CLIENTS.values())


def test_the_scripts_have_the_one_line_and_no_other_telemetry():
    """An import and a call, in each service; nothing in what they share."""
    found = {
        path.name: [line for line in path.read_text().splitlines() if "otel" in line.lower()]
        for path in scripts_folder().glob("*.py")
    }

    assert found == {
        **{f"clients_{name}.py": [] for name in ("kafka_python", "confluent", "aiokafka")},
        "digits.py": [],
        "settings.py": [],
        "train.py": [],
        **{name: ["import otel_pipeline", "otel_pipeline.instrument()"] for name in SERVICES},
    }


def test_under_the_wrapper_the_line_is_taken_out(tmp_path):
    """Nothing of the package is left in any script; everything else is as it was."""
    copy_scripts(tmp_path / "with", with_line=True)
    copy_scripts(tmp_path / "without", with_line=False)
    removed = {}
    for name in SERVICES:
        before = (tmp_path / "with" / name).read_text().splitlines()
        after = (tmp_path / "without" / name).read_text().splitlines()
        removed[name] = [line for line in before if line not in after]

    assert removed == {name: ["import otel_pipeline", "otel_pipeline.instrument()"] for name in SERVICES}


def test_the_configuration_is_the_same_file_for_all(tmp_path):
    """One copy, byte for byte what is shipped."""
    copy_scripts(tmp_path / "services", with_line=True)

    assert (tmp_path / "services" / "otel_pipeline.yaml").read_bytes() == (
        scripts_folder() / "otel_pipeline.yaml"
    ).read_bytes()


def test_contracts_lie_beside_the_configuration(tmp_path):
    """For each topic under the name that it has in this run, with a relay before its consumer or without."""
    copy_scripts(tmp_path / "services", with_line=True, prefix="run1.")

    assert sorted(path.name for path in (tmp_path / "services" / "contracts").iterdir()) == sorted(
        f"run1.digits.{name}{relayed}.json"
        for name in ("raw", "features", "predictions")
        for relayed in ("", ".relayed")
    )


def test_the_users_addresses_are_not_used():
    """The demo writes to no cluster and no endpoint that it was not told of."""
    environ = {
        "PATH": "/bin",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://company.example",
        "OTEL_SDK_DISABLED": "true",
        "OTEL_PIPELINE_CONFIG_FILE": "/etc/x.yaml",
        "KAFKA_BOOTSTRAP": "company.example:9092",
        "MESSAGES": "5",
    }
    kept = environment({"OTEL_SERVICE_NAME": "ingest"}, environ)
    kept.pop("PYTHONPATH", None)

    assert kept == {"PATH": "/bin", "PYTHONUNBUFFERED": "1", "OTEL_SERVICE_NAME": "ingest"}


def test_a_service_that_fails_is_shown_with_its_last_words(tmp_path):
    """The end of what it said, and where the rest is."""
    (tmp_path / "broken.py").write_text("print('hello')\nraise SystemExit('no broker')")
    service = start("broken", tmp_path, {}, wrapper=False)
    service.process.wait(20)

    with pytest.raises(CommandError, match="broken ended with code 1") as raised:
        command._check(service)
    assert raised.value.remedy == "hello\n  no broker"


def test_services_are_ended_by_their_process(tmp_path):
    """Also one that does not listen to SIGTERM."""
    (tmp_path / "deaf.py").write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready')\ntime.sleep(60)"
    )
    service = start("deaf", tmp_path, {}, wrapper=False)
    service.wait_for("ready", 20)
    stop([service], seconds=0.1)

    assert service.process.returncode == -9


def test_earlier_runs_go_but_for_the_newest(tmp_path):
    """Telemetry of a run stays until others have come; what is no run's is left alone."""
    for name in ("20260101-100000-1", "20260102-100000-1", "20260103-100000-1", "20260101-of-mine"):
        (tmp_path / name).mkdir()
    kept = fresh_folder(tmp_path, keep=True).name
    after_keep = len(list(tmp_path.iterdir()))
    (tmp_path / kept).rename(tmp_path / "20260104-100000-1")
    newest = fresh_folder(tmp_path, keep=False).name

    assert (after_keep, sorted(path.name for path in tmp_path.iterdir())) == (
        5,
        sorted(["20260101-of-mine", "20260103-100000-1", "20260104-100000-1", newest]),
    )


def test_a_run_that_goes_on_stays(tmp_path):
    """Demos may run side by side: the folder has a lock for as long as its process lives."""
    for name in ("20260102-100000-1", "20260103-100000-1", "20260104-100000-1"):
        (tmp_path / name).mkdir()
    fresh_folder(tmp_path, keep=True).rename(tmp_path / "20260101-100000-1")

    newest = fresh_folder(tmp_path, keep=False).name

    left = ["20260101-100000-1", "20260103-100000-1", "20260104-100000-1", newest]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def message(topic, image, trace_id, **content):
    return topic, {"image": image, **content}, [("traceparent", f"00-{trace_id}-{'1' * 16}-01".encode())]


@pytest.fixture
def witness():
    """A witness without a broker."""
    made = object.__new__(Witness)
    made._times_ms = {topic: {} for topic in ("digits.raw", "digits.features", "digits.predictions")}
    made.trace_ids = {"digits.raw": {}, "digits.features": {}, "digits.predictions": {}}
    made.predictions = {}
    return made


def test_the_witness_finds_what_is_missing_and_what_is_mixed_up(witness):
    """By the headers alone, whatever the telemetry says."""
    for note in (
        message("digits.raw", 1, "a" * 32),
        message("digits.features", 1, "a" * 32),
        message("digits.predictions", 1, "a" * 32, digit=3, label=3),
        message("digits.raw", 2, "b" * 32),
        message("digits.features", 2, "c" * 32),
        message("digits.predictions", 2, "b" * 32, digit=3, label=4),
        ("digits.raw", {"image": 3}, []),
    ):
        witness.note(*note)

    assert (witness.missing(4), witness.broken(), witness.predictions) == (
        {"digits.raw": 1, "digits.features": 2, "digits.predictions": 2},
        [2, 3],
        {1: (3, 3), 2: (3, 4)},
    )


@pytest.mark.parametrize(
    ("broker", "variables"),
    [
        (
            Broker("127.0.0.1:1", (2, 3), ""),
            {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "TOPIC_PREFIX": "", "KAFKA_API_VERSION": "2.3"},
        ),
        (Broker("kafka:9092", None, "run1."), {"KAFKA_BOOTSTRAP": "kafka:9092", "TOPIC_PREFIX": "run1."}),
    ],
)
def test_what_services_are_told_of_the_broker(broker, variables):
    """A real one is asked for its version."""
    assert broker.variables == variables


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--export", "127.0.0.1:4318"), "'127.0.0.1:4318' is no OTLP endpoint"),
        (("--export", "http://127.0.0.1:1"), "nobody answers at http://127.0.0.1:1"),
        (("--export", "http://127.0.0.1:x"), "'http://127.0.0.1:x' is no OTLP endpoint"),
        (("--bootstrap", "127.0.0.1:1"), "nobody answers at 127.0.0.1:1"),
        (("--bootstrap", "127.0.0.1:port"), "'127.0.0.1:port' is no broker"),
    ],
)
def test_addresses_that_lead_nowhere_are_said(words, said, capsys, tmp_path, monkeypatch):
    """Before anything is started."""
    monkeypatch.setenv("OTEL_PIPELINE_STATE_DIR", str(tmp_path))
    code = main(["demo", *words])

    assert (code, said in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("number", ["0", "1798", "many"])
def test_a_number_of_messages_that_cannot_be(number, capsys):
    """argparse says it."""
    with pytest.raises(SystemExit):
        main(["demo", "--messages", number])

    assert f"'{number}' is no number from 1 to 1797" in capsys.readouterr().err


def test_a_missing_library_is_said(monkeypatch, capsys):
    """With what to install."""
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "sklearn" else sys)

    assert (main(["demo"]), capsys.readouterr().err.splitlines()) == (
        2,
        ["otel-pipeline: the demo needs sklearn", "  pip install 'otel-pipeline[demo]'"],
    )


def test_the_one_line_is_what_is_advised():
    """What the screen shows and what the wrapper's copies lack is the same."""
    assert services.LINE == ("import otel_pipeline", "otel_pipeline.instrument()")


@pytest.mark.parametrize(
    ("scans", "apart_ms", "said"),
    [(49, 100, []), (50, 8, []), (50, 9, ["111 scans per second instead of up to 250"]), (1, 0, []), (0, 0, [])],
)
def test_a_machine_that_is_too_busy_is_said(witness, scans, apart_ms, said):
    """Where scans took more than twice as long as their pauses; a few say nothing."""
    witness._times_ms["digits.raw"] = {image: image * apart_ms for image in range(scans)}
    found = witness.too_busy(0.004)

    assert [line.split(", ")[1].split(":")[0] for line in found] == said
