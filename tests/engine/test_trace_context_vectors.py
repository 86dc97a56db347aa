"""The cases of the W3C trace-context test suite, re-expressed on message headers with values of our own.

41 cases there. Not applicable to messages: the two about the size of the harness's HTTP request lists (many headers of one
kind are covered by the fuzz in test_propagation.py). Where the suite allows two outcomes, ours is said.
"""

from __future__ import annotations

import pytest
from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import get_current_span, set_span_in_context

from otel_pipeline.engine.propagation import Propagation
from otel_pipeline.engine.trace_context import LightSpan

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7
GOOD = b"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
PROPAGATION = Propagation(get_global_textmap(), lambda _reason: None)


def read(*headers):
    """Trace id, span id, flags and tracestate of what was read; None for a new trace."""
    context = get_current_span(PROPAGATION.read(list(headers), Context())).get_span_context()
    if not context.is_valid:
        return None
    return context.trace_id, context.span_id, int(context.trace_flags), dict(context.trace_state)


def parent(value, name="traceparent"):
    return read((name, value))


def state(*values):
    """The tracestate that comes with a good parent."""
    found = read(("traceparent", GOOD), *[("tracestate", value) for value in values])
    assert found is not None
    return found[3]


FOUND = (TRACE, SPAN, 1, {})
REST = GOOD[2:]

PARENTS = {
    "a good one": (GOOD, FOUND),
    "not sampled": (GOOD[:-2] + b"00", (TRACE, SPAN, 0, {})),
    "all flags": (GOOD[:-2] + b"ff", (TRACE, SPAN, 255, {})),
    "white space around it": (b" \t" + GOOD + b"\t ", FOUND),
    "empty": (b"", None),
    "version 00 with more behind it": (GOOD + b"-more", None),
    "version 00 with a dash behind it": (GOOD + b"-", None),
    "version cc": (b"cc" + REST, FOUND),
    "version cc with more behind a dash": (b"cc" + REST + b"-what-the-future-brings", FOUND),
    "version cc with more behind a dot": (b"cc" + REST + b".what-the-future-brings", None),
    "version ff": (b"ff" + REST, None),
    "a version that is no number": (b"0x" + REST, None),
    "a version in capitals": (b"CC" + REST, None),
    "a version of one digit": (b"0" + REST, None),
    "a version of three digits": (b"000" + REST, None),
    "a trace id of zeros": (b"00-" + b"0" * 32 + GOOD[35:], None),
    "a trace id with a dot": (GOOD[:3] + b"." + GOOD[4:], None),
    "a trace id in capitals": (GOOD[:3] + GOOD[3:35].upper() + GOOD[35:], None),
    "a trace id one digit too long": (GOOD[:3] + b"0" + GOOD[3:], None),
    "a trace id one digit too short": (GOOD[:3] + GOOD[4:], None),
    "a parent id of zeros": (GOOD[:36] + b"0" * 16 + GOOD[52:], None),
    "a parent id with a dot": (GOOD[:36] + b"." + GOOD[37:], None),
    "a parent id in capitals": (GOOD[:36] + GOOD[36:52].upper() + GOOD[52:], None),
    "a parent id one digit too long": (GOOD[:36] + b"0" + GOOD[36:], None),
    "a parent id one digit too short": (GOOD[:36] + GOOD[37:], None),
    "flags with a dot": (GOOD[:-2] + b".0", None),
    "flags in capitals": (GOOD[:-2] + b"FF", None),
    "flags of one digit": (GOOD[:-1], None),
    "flags of three digits": (GOOD + b"0", None),
    "other separators": (GOOD.replace(b"-", b"_"), None),
    "not ASCII": ("00-é".encode() + GOOD[5:], None),
}


@pytest.mark.parametrize("case", PARENTS)
def test_traceparent(case):
    """Valid ones are continued, all others start a new trace."""
    value, expected = PARENTS[case]

    assert parent(value) == expected


@pytest.mark.parametrize("name", ["TraceParent", "TRACEPARENT", "tRaCePaReNt"])
def test_traceparent_names_in_any_case(name):
    """Names are compared without case."""
    assert parent(GOOD, name) == FOUND


@pytest.mark.parametrize("name", ["trace-parent", "trace.parent", "traceparents"])
def test_other_names_are_no_traceparent(name):
    """A name that is not quite right is another header."""
    assert parent(GOOD, name) is None


def test_no_header_at_all():
    """Nothing to continue."""
    assert read(("other", b"1")) is None


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (GOOD, GOOD, FOUND),
        (b"00-%032x-%016x-01" % (1, 2), GOOD, FOUND),
        (GOOD, b"00-%032x-%016x-00" % (1, 2), (1, 2, 0, {})),
        (GOOD, b"not valid", FOUND),
        (b"not valid", b"neither", None),
    ],
)
def test_two_traceparents(first, second, found):
    """On a message the last valid one, unlike on a request, where the suite wants a new trace: others append."""
    assert read(("traceparent", first), ("TraceParent", second)) == found


LONG = "a" * 256
STATES = {
    "one member": ([b"foo=1"], {"foo": "1"}),
    "two members in their order": ([b"foo=1,bar=2"], {"foo": "1", "bar": "2"}),
    "two headers together": ([b"foo=1", b"bar=2"], {"foo": "1", "bar": "2"}),
    "one of three headers empty": ([b"foo=1", b"", b"bar=2"], {"foo": "1", "bar": "2"}),
    "empty": ([b""], {}),
    "empty members between": ([b"foo=1,,,bar=2,"], {"foo": "1", "bar": "2"}),
    "white space between members": ([b"foo=1 \t , \t bar=2"], {"foo": "1", "bar": "2"}),
    "the same key twice: the first is kept": ([b"foo=1,foo=2"], {"foo": "1"}),
    "all letters of a key": ([b"a-_*/0z=1"], {"a-_*/0z": "1"}),
    "a key of a tenant": ([b"0tenant@vendor=1"], {"0tenant@vendor": "1"}),
    "the longest key": ([f"{LONG}=1".encode()], {LONG: "1"}),
    "the longest tenant and vendor": ([f"{'t' * 241}@{'v' * 14}=1".encode()], {f"{'t' * 241}@{'v' * 14}": "1"}),
    "the longest value": ([f"foo={LONG}".encode()], {"foo": LONG}),
    "32 members": ([",".join(f"k{at}=1" for at in range(32)).encode()], {f"k{at}": "1" for at in range(32)}),
    "33 members": ([",".join(f"k{at}=1" for at in range(33)).encode()], {}),
    "a key in capitals": ([b"foo=1,Bar=2"], {}),
    "a key with a space": ([b"foo =1"], {}),
    "a key that begins with a digit": ([b"0foo=1"], {}),
    "a key too long": ([f"{LONG}a=1".encode()], {}),
    "a tenant without a vendor": ([b"tenant@=1"], {}),
    "a vendor without a tenant": ([b"@vendor=1"], {}),
    "two at signs": ([b"a@b@c=1"], {}),
    "a tenant too long": ([f"{'t' * 242}@v=1".encode()], {}),
    "a vendor too long": ([f"t@{'v' * 15}=1".encode()], {}),
    "no value": ([b"foo="], {}),
    "no equals sign": ([b"foo"], {}),
    "two equals signs": ([b"foo=1=2"], {}),
    "a value with a control character": ([b"foo=\x01"], {}),
    "a value too long": ([f"foo={LONG}a".encode()], {}),
    "not ASCII": (["foo=é".encode()], {}),
}


@pytest.mark.parametrize("case", STATES)
def test_tracestate(case):
    """A list with one bad member is discarded whole; the trace goes on."""
    values, expected = STATES[case]

    assert state(*values) == expected


def test_tracestate_without_a_parent_is_discarded():
    """It belongs to a parent, and a bad one takes it along."""
    assert (read(("tracestate", b"foo=1")), read(("traceparent", b"bad"), ("tracestate", b"foo=1"))) == (None, None)


@pytest.mark.parametrize("name", ["TraceState", "TRACESTATE"])
def test_tracestate_names_in_any_case(name):
    """Names are compared without case."""
    assert read(("traceparent", GOOD), (name, b"foo=1")) == (TRACE, SPAN, 1, {"foo": "1"})


def test_what_goes_on_has_the_same_trace_a_new_parent_and_the_tracestate():
    """The next hop's headers replace the ones that came."""
    came = [("traceparent", GOOD), ("TraceState", b"foo=1, bar=2"), ("tenant", b"7")]
    remote, context, carried, *_ = PROPAGATION.incoming(came, Context())
    child = LightSpan(remote.trace_id, 0xABC, remote.flags, False, remote.read_state)

    assert carried == GOOD
    assert PROPAGATION.write(came, set_span_in_context(child, context)) == [
        ("tenant", b"7"),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-0000000000000abc-01"),
        ("tracestate", b"foo=1,bar=2"),
    ]
