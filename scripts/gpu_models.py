"""What is said of the duration of calls on a CUDA device, beside what synchronising says; and what it costs.

    python scripts/gpu_models.py

Three sizes of a network, and a replayed graph. Ends at once, and says why, where there is no device.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

SIZES = ((8192, 16, 4096, 40), (2048, 8, 512, 200), (256, 4, 1, 200))
WITHIN = 0.05
"""Of the synchronised truth, for calls that the device is busy with."""


def network(torch: Any, width: int, depth: int) -> Any:
    """Make a network of linear layers on the device."""
    layers = [layer for _ in range(depth) for layer in (torch.nn.Linear(width, width), torch.nn.ReLU())]
    made = type("Network", (torch.nn.Sequential,), {})(*layers)
    return made.to("cuda", torch.bfloat16).eval()


def measured(torch: Any, call: Any, times: int) -> tuple[float, float]:
    """Return the synchronised truth, and how long a call takes to be queued, us, medians."""
    truth, queued = [], []
    for _ in range(times):
        torch.cuda.synchronize()
        began = time.perf_counter_ns()
        call()
        queued.append((time.perf_counter_ns() - began) / 1000)
        torch.cuda.synchronize()
        truth.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(truth), statistics.median(queued)


def main() -> int:
    """Measure and print; return 1 where what is said is not near the truth."""
    try:
        import torch
    except ImportError:
        print("skipped: torch is not here: pip install torch")
        return 0
    if not torch.cuda.is_available():
        print("skipped: no CUDA device on this machine")
        return 0
    from bench import _Providers
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    import otel_pipeline
    from otel_pipeline.engine import inference

    bad = 0
    for width, depth, rows, times in SIZES:
        net, data = network(torch, width, depth), torch.randn(rows, width, device="cuda", dtype=torch.bfloat16)
        with torch.inference_mode():
            for _ in range(20):
                net(data)
            truth_us, bare_us = measured(torch, lambda net=net, data=data: net(data), times)
            kept, providers = InMemorySpanExporter(), _Providers(1.0, ours=True)
            providers.tracer_provider.add_span_processor(SimpleSpanProcessor(kept))
            pipe = otel_pipeline.instrument("gpu", environment="production", _providers=providers)
            net.eval()
            _, ours_us = measured(torch, lambda net=net, data=data: net(data), times)
            pending = getattr(inference._inferences, "pending", None)
            if pending is not None:
                pending()
            pipe.uninstrument()
        spans: Any = kept.get_finished_spans()
        said_us = statistics.median((span.end_time - span.start_time) / 1000 for span in spans)
        clocks = {span.attributes["otel_pipeline.inference.clock"] for span in spans}
        off = abs(said_us - truth_us) / truth_us
        bad += off > WITHIN and truth_us > 2 * bare_us
        print(
            f"{width}x{depth}, {rows} rows: truth {truth_us:.0f} us, span {said_us:.0f} us ({off:.1%} off, {clocks}), "
            f"queued in {bare_us:.0f} us, with us {ours_us - bare_us:+.1f} us"
        )
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
