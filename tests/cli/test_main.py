from __future__ import annotations

import subprocess
import sys

import pytest

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


def test_without_a_command_the_usage_is_said(capsys):
    """Exit code 2, as argparse has it."""
    with pytest.raises(SystemExit) as exit_:
        main([])

    assert (exit_.value.code, "COMMAND" in capsys.readouterr().err) == (2, True)


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
