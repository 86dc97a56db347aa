"""Markers of transactions in what a broker answers: by the bytes of Kafka's record batches."""

from __future__ import annotations

from struct import pack

import pytest

from otel_pipeline.brokers.kafka import control_records

CONTROL, TRANSACTIONAL = 0x20, 0x10


def batch(base, attributes=0, *, magic=2, body=b"x" * 40, length=None):
    """A batch as KIP-98 has it: base offset, length, epoch, magic, crc, attributes, last offset delta, what follows."""
    after = pack(">ibIhi", 0, magic, 0xCAFE, attributes, 0) + body
    return pack(">qi", base, len(after) if length is None else length) + after


MARKER = batch(7, CONTROL | TRANSACTIONAL)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (None, []),
        (b"", []),
        (batch(0), []),
        (MARKER, [7]),
        (memoryview(batch(0, TRANSACTIONAL) + MARKER + batch(8) + batch(12, CONTROL)), [7, 12]),
        (batch(0) + MARKER[:40], [7]),
        (batch(0) + MARKER[:22], []),
        (batch(0) + MARKER[:23], [7]),
        (batch(0, CONTROL, magic=1) + MARKER, []),
        (MARKER + batch(0, length=0) + MARKER, [7]),
        (MARKER + batch(0, length=-9) + MARKER, [7]),
        (MARKER + batch(0, length=2**31 - 1) + MARKER, [7]),
    ],
)
def test_where_markers_are(records, found):
    """Of whole batches, and of one that is cut off; older formats have none; what is no batch ends the look."""
    assert control_records.offsets(records) == found


def test_batches_that_the_client_has_made():
    """kafka-python's own, with the bit set that only brokers set."""
    from kafka.record.default_records import DefaultRecordBatchBuilder

    made = []
    for attributes in (0, CONTROL):
        builder = DefaultRecordBatchBuilder(2, 0, True, 5, 0, 0, 1 << 16)
        builder.append(0, 0, None, b"x", [])
        raw = bytearray(builder.build())
        raw[22] |= attributes
        made.append(bytes(raw))

    assert control_records.offsets(b"".join(made)) == [0]
