from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from kafka import KafkaConsumer

from otel_pipeline.brokers.embedded import API_VERSION
from otel_pipeline.cli.main import main
from otel_pipeline.version import VERSION


def test_the_version(capsys):
    """The package's."""
    with pytest.raises(SystemExit):
        main(["--version"])

    assert capsys.readouterr().out == f"otel-pipeline {VERSION}\n"


def test_help_names_the_commands(capsys):
    """With a line each."""
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out

    assert [name for name in ("demo", "show") if f"\n    {name}" in out] == ["demo", "show"]


def test_without_a_command_the_help_is_printed(capsys):
    """The same as with --help."""
    code = main([])
    alone = capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--help"])

    assert (code, alone) == (0, capsys.readouterr())


def test_an_option_without_a_command_is_told_what_is_missing(capsys):
    """Exit code 2, as argparse has it."""
    with pytest.raises(SystemExit) as exit_:
        main(["--unknown"])

    assert (exit_.value.code, "COMMAND" in capsys.readouterr().err) == (2, True)


def test_the_package_is_the_command_as_well():
    """Where its script is not on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_pipeline", "--version"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, f"otel-pipeline {VERSION}\n")


def test_a_fault_of_ours_is_owned_up_to(monkeypatch, capsys):
    """In two lines, without a traceback."""

    def fail(_arguments):
        raise KeyError("\x1b[31m" + "x" * 1000)

    monkeypatch.setattr("otel_pipeline.cli.show.run", fail)
    code = main(["show"])
    out, err = capsys.readouterr()

    assert (code, out, len(err.splitlines()), "\x1b" in err, len(err) < 600) == (2, "", 2, False, True)
    assert err.startswith("otel-pipeline: KeyError at test_main.py:")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_broker_serves_until_it_is_interrupted():
    """Its address alone on stdout; Ctrl-C is its end, and no failure."""
    pytest.importorskip("confluent_kafka")
    command = [sys.executable, "-m", "otel_pipeline", "broker", "orders:3", "decisions"]
    # Where the tests run in the background, children would inherit that Ctrl-C is ignored.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no thread here
    ) as process:
        address = process.stdout.readline().strip()
        consumer = KafkaConsumer(bootstrap_servers=address, api_version=API_VERSION)
        partitions = [len(consumer.partitions_for_topic(topic)) for topic in ("orders", "decisions")]
        consumer.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert (process.returncode, partitions, out) == (0, [3, 4], "")
    assert f'KafkaProducer(bootstrap_servers="{address}", api_version=(2, 3))' in err


@pytest.mark.parametrize("word", [":3", "orders:", "orders:0", "orders:x", "orders:\u00b2"])
def test_topics_of_the_broker_are_checked(word, capsys):
    """Before it starts."""
    with pytest.raises(SystemExit):
        main(["broker", word])

    assert "is no TOPIC or TOPIC:PARTITIONS" in capsys.readouterr().err


def test_help_imports_no_telemetry():
    """So that it is there at once."""
    program = (
        "import sys\n"
        "from otel_pipeline.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in"
        " {'opentelemetry', 'kafka', 'sklearn', 'yaml', 'wrapt'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
