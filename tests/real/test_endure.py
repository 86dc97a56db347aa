"""The hour of faults in short: every fault of the Collector, and a broker that is stopped and killed, in half a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.once]
SCRIPT = Path(__file__).parents[2] / "scripts" / "endure.py"


@pytest.mark.usefixtures("real_broker")
def test_the_accounts_are_exact_at_every_change_and_nothing_is_lost(tmp_path):
    """Of what is made and what arrives, the sets are compared; what the Collector has rejected is missing, and no more."""
    pytest.importorskip("confluent_kafka")
    command = [sys.executable, str(SCRIPT), "--minutes", "0.5", "--rate", "1000", "--messages", "200"]
    ran = subprocess.run(
        [*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )

    assert ran.returncode == 0, ran.stderr + ran.stdout
    found = json.loads(ran.stdout)
    assert found["checks"] > 20
    assert found["distinct"] > 5_000
