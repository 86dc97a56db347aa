"""Mistakes in environment variables that no single option finds: names of ours that nothing reads, closed values."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.config import environment, location, state_folder
from otel_pipeline.config.credentials import bad_headers
from otel_pipeline.config.kinds import meant
from otel_pipeline.installed import entry_points

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping

    from otel_pipeline.config.options import Table

PREFIX = "OTEL_PIPELINE_"
_WITHOUT_OPTION = frozenset((environment.VARIABLE, state_folder.VARIABLE, location.VARIABLE))
WRAPPED = "OTEL_PIPELINE_WRAPPED"
"""Set by us: the pid of the program that `opentelemetry-instrument` was asked for."""
_OURS = (WRAPPED, "OTEL_PIPELINE_TEST_", "OTEL_PIPELINE_REAL")
"""How the variables begin that no user sets: the last ones control this project's own test run."""


class Mistake(NamedTuple):
    """A variable that is not as it should be."""

    variable: str
    message: str
    remedy: str


class Closed(NamedTuple):
    """A variable that may only have certain values."""

    values: tuple[str, ...]
    is_list: bool = False
    group: str = ""
    """The entry points whose names are values as well."""
    any_case: bool = False


_EXPORTERS = ("otlp", "console", "none", "otlp_proto_http", "otlp_proto_grpc")
_PROTOCOL = Closed(("http/protobuf", "grpc"))
_COMPRESSION = Closed(("gzip", "deflate", "none"))
_SIGNALS = ("TRACES", "METRICS", "LOGS")
CLOSED: Mapping[str, Closed] = {
    "OTEL_SDK_DISABLED": Closed(("true", "false"), any_case=True),
    "OTEL_PROPAGATORS": Closed(("tracecontext", "baggage", "none"), is_list=True, group="opentelemetry_propagator"),
    "OTEL_TRACES_SAMPLER": Closed(
        (
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ),
        group="opentelemetry_traces_sampler",
        any_case=True,
    ),
    "OTEL_METRICS_EXEMPLAR_FILTER": Closed(("trace_based", "always_on", "always_off"), any_case=True),
    "OTEL_EXPORTER_OTLP_PROTOCOL": _PROTOCOL,
    "OTEL_EXPORTER_OTLP_COMPRESSION": _COMPRESSION,
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": Closed(("cumulative", "delta", "lowmemory"), any_case=True),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": Closed(
        ("explicit_bucket_histogram", "base2_exponential_bucket_histogram"), any_case=True
    ),
    **{f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL": _PROTOCOL for signal in _SIGNALS},
    **{f"OTEL_EXPORTER_OTLP_{signal}_COMPRESSION": _COMPRESSION for signal in _SIGNALS},
    **{
        f"OTEL_{signal}_EXPORTER": Closed(
            (*_EXPORTERS, "lines"), is_list=True, group=f"opentelemetry_{signal.lower()}_exporter"
        )
        for signal in _SIGNALS
    },
}
"""OpenTelemetry's variables with closed values, as its SDK for Python understands them. `lines` is ours."""


def mistakes(table: Table, environ: Mapping[str, str]) -> Iterator[Mistake]:
    """Yield all of them, in the order of the variables' names; headers last, which may hold secrets."""
    known = {*_WITHOUT_OPTION, *(row.option.variable.name for row in table.rows.values() if row.option.variable)}
    for name in sorted(environ):
        if name in CLOSED:
            for value in bad_values(name, environ):
                yield Mistake(name, f"is {environ[name].strip()!r}", _remedy(CLOSED[name], value))
        elif name.startswith(PREFIX) and name not in known and not name.startswith(_OURS):
            yield Mistake(name, "is no variable that is read", _instead(name, known, table))
    yield from _bad_headers(environ)


def _bad_headers(environ: Mapping[str, str]) -> Iterator[Mistake]:
    for name, places in bad_headers(environ):
        remedy = "several are separated by commas; encode other signs as in a URL: %2C for a comma, %20 for a space"
        yield Mistake(name, f"has no name=value as part {places}, which is left out", remedy)


def bad_values(name: str, environ: Mapping[str, str]) -> list[str]:
    """Find what a variable with closed values says that is none of them: one at most where it is no list."""
    closed, said = CLOSED[name], environ.get(name, "").strip()
    values = [value.strip() for value in said.split(",")] if closed.is_list else [said]
    return [value for value in values if value and not _is_one(closed, value)]


@contextmanager
def without_bad_values(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Take such values out of the variables while the `with` lasts, because OpenTelemetry raises on some of them.

    They have been reported; what else a list says holds. Where nothing is wrong, nothing is touched.
    """
    before = {name: environ[name] for name in CLOSED if name in environ}
    bad = {name: values for name in before if (values := bad_values(name, environ))}
    for name, values in bad.items():
        said = [value.strip() for value in before[name].split(",")]
        kept = [value for value in said if value not in values] if CLOSED[name].is_list else []
        if kept:
            environ[name] = ",".join(kept)
        else:
            del environ[name]
    try:
        yield
    finally:
        environ.update((name, before[name]) for name in bad)


def _is_one(closed: Closed, value: str) -> bool:
    if (value.lower() if closed.any_case else value) in closed.values:
        return True
    # Read only where it is needed: this opens the files of all installed distributions.
    return bool(closed.group and value in _offered(closed.group))


def _offered(group: str) -> set[str]:
    try:
        return {point.name for point in entry_points(group)}
    except Exception:
        return set()  # Some installed distribution's files are broken.


def _remedy(closed: Closed, value: str) -> str:
    likely = meant(value, closed.values)
    if value == "http/json":
        return "give http/protobuf: OpenTelemetry for Python does not export JSON"
    if closed.group:
        return f"give one of {', '.join(closed.values)}, or install what brings it{likely}"
    return f"give one of {', '.join(closed.values)}{likely}"


def _instead(name: str, known: Iterable[str], table: Table) -> str:
    """Say what to do instead. Compared is what the names have not in common, or each would be near to each."""
    said = name[len(PREFIX) :]
    for path in table.named:
        if said == path.upper() or said.startswith(f"{path.upper()}_"):
            return f"say it in the configuration file, below `{path}`"
    from difflib import get_close_matches  # Only where something is misspelt.

    own = {each[len(PREFIX) :]: each for each in known if each.startswith(PREFIX)}
    close = get_close_matches(said, own, n=1, cutoff=0.7)
    return f"did you mean {own[close[0]]}?" if close else "remove it; `otel-pipeline config` lists what there is"
