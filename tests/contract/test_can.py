"""What a client cannot give is said, where users look for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_in_the_docs_is_current():
    """`make docs` would change nothing."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_clients.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
