"""torch: roots that were put into eval(), whatever makes them; never training, tracing, compiling, nor what is within."""

from __future__ import annotations

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="torch is not here: pip install torch")

from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased  # noqa: E402

import otel_pipeline  # noqa: E402
from otel_pipeline.engine import inference  # noqa: E402
from otel_pipeline.models import torch as adapter  # noqa: E402
from otel_pipeline.models.torch import MAX_CLASSES  # noqa: E402
from tests.models.test_cuda import Device  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("ignore")]
DATA = torch.ones(3, 8)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    def forward(self, data):
        return self.layers(data)


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Net()

    def forward(self, data):
        return self.inner(data)


@pytest.fixture
def pipe(telemetry):
    """torch is patched."""
    return telemetry.instrument()


def calls(telemetry):
    names = ("inference.rows", "inference.device", "model.library")
    return [
        (span.name, *(span.attributes.get(f"otel_pipeline.{name}") for name in names)) for span in telemetry.spans()
    ]


ONE = ("predict Net", 3, "cpu", "torch")


def test_a_root_counts_once(telemetry, pipe):
    """Not the modules within, one of which is a root elsewhere."""
    Net().eval()
    outer = Outer().eval()
    with torch.inference_mode():
        outer(DATA)
        Net().eval()(data=DATA)

    assert calls(telemetry) == [("predict Outer", 3, "cpu", "torch"), ONE]


def test_no_submodule_is_touched(telemetry, pipe):
    """The class of the root alone has another `__call__`; afterwards it has none again."""
    before = {
        kind: vars(kind).get("__call__")
        for kind in (torch.nn.Linear, torch.nn.ReLU, torch.nn.Sequential, torch.nn.Module)
    }
    Net().eval()
    during = {kind: vars(kind).get("__call__") for kind in before}
    own = vars(Net).get("__call__")
    pipe.uninstrument()

    assert (during, own is None, vars(Net).get("__call__")) == (before, False, None)


@pytest.mark.parametrize("how", ["training", "with gradients", "never put into eval()"])
def test_what_is_no_inference(telemetry, pipe, how):
    """Training mode; gradients; a class that is no root."""

    class Fresh(Net):
        pass

    net = Fresh()
    if how == "training":
        net.eval().train()
        with torch.no_grad():
            net(DATA)
    elif how == "with gradients":
        net.eval()(DATA)
    else:
        net.train(False)
        with torch.no_grad():
            net(DATA)

    assert calls(telemetry) == []


def test_a_failure_is_the_applications(telemetry, pipe):
    """Recorded and raised on."""
    with torch.no_grad(), pytest.raises(RuntimeError, match="shape"):
        Net().eval()(torch.ones(3, 7))

    assert [span.status for span in telemetry.spans()] == ["ERROR"]


def test_copies_and_files(telemetry, pipe, tmp_path):
    """Pickled, saved and copied as without us; a whole module that is loaded is called by its file."""
    net = Net().eval()
    buffer = io.BytesIO()
    torch.save(net, buffer)
    torch.save(net, tmp_path / "lead.pt")
    loaded = torch.load(tmp_path / "lead.pt", weights_only=False)
    with torch.no_grad():
        for each in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), loaded):  # noqa: S301 - our own
            each(DATA)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)

    assert [name for name, *_ in calls(telemetry)] == ["predict Net", "predict Net", "predict lead"]
    assert pipe.status().errors == {}


def test_tracing_is_no_call_and_what_is_loaded_is(telemetry, pipe, tmp_path):
    """A traced module that came from a file is called by it."""
    with torch.no_grad():
        traced = torch.jit.trace(Net().eval(), DATA)
        before = calls(telemetry)
        traced.save(str(tmp_path / "lead.ts"))
        loaded = torch.jit.load(str(tmp_path / "lead.ts"))
        loaded.eval()
        loaded(DATA)

    assert (before, [name for name, *_ in calls(telemetry)]) == ([], ["predict lead"])


def test_a_scripted_module(telemetry, pipe):
    """Put into eval() it is a root."""
    scripted = torch.jit.script(Net()).eval()
    with torch.no_grad():
        scripted(DATA)

    assert len(calls(telemetry)) == 1


def test_the_compiler_sees_no_more_than_before(telemetry, pipe):
    """One graph without a break; a compiled module's call counts, under the name of what was compiled."""
    net = Net().eval()
    with torch.no_grad():
        found = torch._dynamo.explain(net)(DATA)
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        before = len(calls(telemetry))
        compiled(DATA)
        compiled(DATA)

    assert (found.graph_count, found.graph_break_count) == (1, 0)
    assert calls(telemetry)[before:] == [ONE, ONE]


def test_exporting_is_no_call(telemetry, pipe):
    """Nor does it fail."""
    with torch.no_grad():
        exported = torch.export.export(Net().eval(), (DATA,))
        exported.module()(DATA)

    assert calls(telemetry) == []


def test_classes_without_end(telemetry, pipe):
    """Somebody makes a class for each module: they are not kept, and there is an end to it."""
    kept = [type(f"Net{at}", (Net,), {}) for at in range(MAX_CLASSES + 1)]
    for kind in kept:
        kind().eval()

    marked = ["__call__" in vars(kind) for kind in kept]
    assert (MAX_CLASSES, marked.count(False) >= 1, marked[0]) == (1_000, True, True)


class Same(torch.nn.Module):
    def forward(self, data):
        return data


class OnDevice:
    """What is said of a tensor that is on a device, without one."""

    is_cuda, device, shape = True, "cuda:0", (3, 4)

    def get_device(self):
        return 0


@pytest.fixture
def device(monkeypatch):
    """A simulated one; each look at the host's clock is what the test says."""
    made = Device()
    monkeypatch.setattr(adapter, "_Cuda", lambda _torch: made)
    return made


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_ON), ParentBased(ALWAYS_OFF)], ids=["recorded", "not recorded"])
def test_on_a_device(telemetry, device, sampler):
    """Recorded calls are timed by the device, of the others every sixteenth; the two are series of their own."""
    telemetry.sample(sampler)
    pipe = telemetry.instrument()
    inference._inferences.monotonic_ns = lambda: device.now_ns
    net = Same().eval()
    with otel_pipeline.extract(otel_pipeline.inject(), destination="orders"), torch.no_grad():
        for _ in range(32):
            net(OnDevice())
            device.now_ns += 1_000_000
    inference._inferences.pending()

    recorded = [span for span in telemetry.spans() if span.name == "predict Same"]
    found = {
        point.attributes["otel_pipeline.inference.clock"]: point.count
        for point in telemetry.metric("otel_pipeline.inference.duration").points
    }
    decided = sum(point.count for point in telemetry.metric("otel_pipeline.decision.age").points)
    assert found == ({"device": 32} if recorded else {"device": 2, "host": 30})
    assert (decided, len(recorded) in {0, 32}, pipe.status().errors) == (32, True, {})
    assert {
        (span.attributes["otel_pipeline.inference.clock"], span.attributes["otel_pipeline.inference.device"])
        for span in recorded
    } <= {("device", "cuda:0")}
