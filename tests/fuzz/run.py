"""Fuzz one target after the other with atheris (`make fuzz`), and say what was run, reached and found.

python -m tests.fuzz.run [TARGET ...] [--seconds 3600]

What was new goes to `.fuzz/TARGET`, and each input that failed to `.fuzz/findings`. An input that has found a fault
goes into its folder of `tests/fuzz/corpus`, small, with a test of what was wrong; `test_corpus.py` replays them all.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
WORK = Path(__file__).parents[2] / ".fuzz"
LONGEST_INPUT = 4096
SLOWEST_S = 10
MOST_MIB = 2048
_DONE = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/\S+")


def all_targets() -> list[str]:
    """Return the names of the targets, which are those of the corpus's folders."""
    return sorted(path.name for path in CORPUS.iterdir() if path.is_dir())


def one(target: str, seconds: int) -> None:
    """Fuzz a target in this process, which ends with it."""
    import atheris
    from hypothesis import settings

    settings.register_profile("fuzz", deadline=None, database=None)
    settings.load_profile("fuzz")
    with atheris.instrument_imports(include=["otel_pipeline"]):
        from tests.fuzz.targets import BUILT, TARGETS
    run = TARGETS[target] if target in TARGETS else BUILT[target].hypothesis.fuzz_one_input
    for folder in (WORK / target, WORK / "findings"):
        folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        str(WORK / target),
        str(CORPUS / target),
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={MOST_MIB}",
        f"-artifact_prefix={WORK / 'findings' / target}-",
    ]
    atheris.Setup(arguments, run)
    atheris.Fuzz()


def main() -> int:
    """Fuzz the targets; return 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(all_targets()))
    parser.add_argument("--seconds", type=int, default=3600, help="of all targets together")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    targets = options.targets or all_targets()
    if options.here:
        one(targets[0], options.seconds)
        return 0
    found = 0
    print(
        "| target | executions | edges | features | inputs kept | |", "|---|--:|--:|--:|--:|---|", sep="\n", flush=True
    )
    for target in targets:
        command = [sys.executable, "-m", "tests.fuzz.run", target, "--here"]
        ran = subprocess.run(
            [*command, "--seconds", str(max(options.seconds // len(targets), 1))],
            capture_output=True,
            check=False,
        )
        said = (ran.stdout + ran.stderr).decode(errors="replace")
        WORK.mkdir(exist_ok=True)
        (WORK / f"{target}.log").write_text(said)
        done = _DONE.search(said)
        numbers = done.groups() if done else ("?",) * 4
        outcome = "" if ran.returncode == 0 else f"FOUND: .fuzz/{target}.log"
        found += ran.returncode != 0
        print("|", " | ".join((target, *(f"{int(n):,}" if n != "?" else n for n in numbers), outcome)), "|", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
