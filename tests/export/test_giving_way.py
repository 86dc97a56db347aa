"""Whoever sets a provider after ours gets it, whatever becomes of what follows it here."""

from __future__ import annotations

from types import SimpleNamespace

from otel_pipeline.export.giving_way import give_way


def test_what_fails_here_is_not_the_applications():
    """It has set a provider, and that is set; a third one is not."""
    failed, module = [], SimpleNamespace()
    give_way(module, "_PROVIDER", lambda: 1 // 0, lambda: failed.append("told"))
    done = [module._PROVIDER_SET_ONCE.do_once(lambda: None) for _ in range(2)]

    assert (done, failed) == ([True, False], ["told"])
