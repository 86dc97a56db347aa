"""The alert rules, by promtool: valid, and each alert shown firing and shown silent."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict

import pytest
import yaml

from real import prometheus

pytestmark = pytest.mark.once

ALERTNAME = re.compile(r'alertname="(\w+)"')
LABELS = re.compile(r'(\w+)="(.*?)"')
ALERTS = {rule["alert"]: rule for rule in prometheus.rules() if "alert" in rule}


def cases():
    """Name of the case, what is asked, what is expected."""
    for case in yaml.safe_load(prometheus.RULE_TESTS.read_text("utf-8"))["tests"]:
        for check in case["promql_expr_test"]:
            yield case["name"], check["expr"], [sample["labels"] for sample in check["exp_samples"]]


@pytest.mark.real
@pytest.mark.parametrize(
    "arguments", [["check", "rules", prometheus.RULES], ["test", "rules", prometheus.RULE_TESTS]], ids=["check", "test"]
)
def test_promtool_agrees(real_promtool, arguments):
    """The rules are valid; the cases come out as written."""
    done = subprocess.run([real_promtool, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_in_one_case_and_is_silent_in_another():
    """Silent only counts where the alert was asked for by name."""
    firing, silent = defaultdict(set), defaultdict(set)
    for name, query, expected in cases():
        for labels in expected:
            firing[ALERTNAME.search(labels)[1]].add(name)
        if not expected:
            silent[ALERTNAME.search(query)[1]].add(name)

    assert (set(firing), set(silent)) == (set(ALERTS), set(ALERTS))
    assert [alert for alert in ALERTS if not silent[alert] - firing[alert]] == []


def test_every_alert_says_what_it_means():
    """A severity, a summary, a description; the text uses labels that the alert has where it is shown firing."""
    labels_of = defaultdict(set)
    for _name, _query, expected in cases():
        for labels in expected:
            found = dict(LABELS.findall(labels))
            labels_of[found["alertname"]] |= set(found)

    for alert, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert used - labels_of[alert] == set(), alert


@pytest.mark.skipif(sys.platform == "win32", reason="the real parts are for POSIX systems")
def test_without_apt_get_the_reason_is_said(monkeypatch, tmp_path):
    """promtool comes from a Debian package."""
    from real import parts

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        parts.PartMissingError, match=r"promtool needs `apt-get`: install apt \(Debian and Ubuntu; it is not"
    ):
        parts.PROMTOOL.fetch()
    with pytest.raises(parts.PartMissingError, match=r"promtool has not been fetched; .*real fetch promtool"):
        parts.PROMTOOL.required()
