"""What is never shown: passwords in addresses, and what headers say."""

from __future__ import annotations

import pytest
from opentelemetry.util.re import parse_env_headers

from otel_pipeline.config.credentials import bad_headers, without_credentials
from otel_pipeline.config.loading import load
from otel_pipeline.export.settings import ExportSettings


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:secret@host:4318/v1/traces", "http://host:4318/v1/traces"),
        ("https://secret@host", "https://host"),
        ("http://user:s/e:c@r@et@host:1", "http://host:1"),
        ("user:secret@host:4317", "host:4317"),
        ("http://host:4318", "http://host:4318"),
        ("http://", "http://"),
        ("", ""),
        (None, None),
        (7, 7),
    ],
)
def test_an_address_without_its_password(address, shown):
    assert without_credentials(address) == shown


@pytest.mark.parametrize(
    "part",
    [
        "a=b",
        " a = b ",
        "a=",
        "a=b=c",
        "a=%20",
        "a=b c",
        "a",
        "=b",
        "a b=c",
        "a=b;c",
        'a="b"',
        "a=\x7f",
        "\u00e9=b",
        "a=\u00e9",
    ],
)
def test_a_header_is_bad_where_opentelemetry_leaves_it_out(part):
    """Its own rule, without its line in the log, which quotes it."""
    is_read = bool(parse_env_headers(part, liberal=True))

    assert list(bad_headers({"OTEL_EXPORTER_OTLP_HEADERS": part})) == (
        [] if is_read else [("OTEL_EXPORTER_OTLP_HEADERS", "1")]
    )


def test_no_mistake_quotes_a_password(tmp_path):
    """Neither of an argument, nor of a variable or a file, nor where two of them differ."""
    file = tmp_path / "otel_pipeline.yaml"
    file.write_text("endpoint: user:secret@host\nenvironments: {staging: {endpoint: 'ftp://user:secret@host'}}\n")
    bad = load(
        {"endpoint": "htp://user:secret@host", "config_file": file},
        (ExportSettings,),
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "user:secret@host"},
        raises=False,
    )
    differing = load(
        {"endpoint": "http://user:secret@a:1"},
        (ExportSettings,),
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:secret@b:1"},
        directory=tmp_path,
        raises=False,
    )
    said = [str(each) for each in (*bad.problems, *differing.problems)] + list(differing.overridden)

    assert (len(bad.problems), len(differing.overridden)) == (4, 1), said
    assert "secret" not in "\n".join(said)
