"""scikit-learn: the outermost call of fitted estimators, never what they call inside, never training."""

from __future__ import annotations

import inspect
import pickle

import pytest

sklearn = pytest.importorskip("sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

import otel_pipeline  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
ROWS, LABELS = load_digits(return_X_y=True)
TRAINED = (ROWS[:200], LABELS[:200])


def calls(telemetry):
    """Name, operation and rows of each call."""
    return [
        (
            span.name,
            span.attributes["otel_pipeline.inference.operation"],
            span.attributes.get("otel_pipeline.inference.rows"),
        )
        for span in telemetry.spans()
    ]


def test_only_the_outermost_call_counts(telemetry):
    """A pipeline with a forest, two threads and many trees is one call, named for its last step."""
    telemetry.instrument()
    model = make_pipeline(StandardScaler(), RandomForestClassifier(10, n_jobs=2)).fit(*TRAINED)
    model.predict(ROWS[:3])
    model.predict_proba(X=ROWS[:2].tolist())

    assert calls(telemetry) == [
        ("predict RandomForestClassifier", "predict", 3),
        ("predict RandomForestClassifier", "predict_proba", 2),
    ]


def test_training_is_no_inference(telemetry):
    """Fitting, searching and cross-validating give no span, whatever they call."""
    telemetry.instrument()
    search = GridSearchCV(LogisticRegression(max_iter=20), {"C": [0.1, 1]}, cv=2).fit(*TRAINED)
    cross_val_score(LogisticRegression(max_iter=20), *TRAINED, cv=2)
    StandardScaler().fit_transform(ROWS)
    before = calls(telemetry)
    search.predict(ROWS[:2])

    assert (before, calls(telemetry)) == ([], [("predict LogisticRegression", "predict", 2)])


def test_methods_of_mixins_and_of_classes_to_come(telemetry):
    """Inherited methods, conditional ones, and estimators that the application defines later."""
    telemetry.instrument()

    class Constant(ClassifierMixin, BaseEstimator):
        def fit(self, _rows, _labels):
            return self

        def predict(self, rows):
            return [1] * len(rows)

    class Half(TransformerMixin, BaseEstimator):
        def fit(self, _rows, _labels=None):
            return self

        def transform(self, rows):
            return rows / 2

    LogisticRegression(max_iter=20).fit(*TRAINED).decision_function(ROWS[:4])
    SVC().fit(*TRAINED).predict(ROWS[:5])
    Constant().fit(None, None).predict([1, 2])
    Half().fit(ROWS).transform(ROWS[:6])

    assert calls(telemetry) == [
        ("predict LogisticRegression", "decision_function", 4),
        ("predict SVC", "predict", 5),
        ("predict Constant", "predict", 2),
        ("predict Half", "transform", 6),
    ]


def test_classes_to_come_are_what_they_were_afterwards(telemetry):
    """scikit-learn wraps `transform` when a class is made: not on top of ours, or ours could not be taken out."""
    pipe = telemetry.instrument()

    class Late(TransformerMixin, BaseEstimator):
        def fit(self, _rows, _labels=None):
            return self

        def transform(self, rows):
            return rows

    class Later(BaseEstimator, TransformerMixin):
        transform = Late.transform
        fit = Late.fit

    during = [each.transform for each in (Late, Later)]
    Late().fit(ROWS).transform(ROWS[:2])
    pipe.uninstrument()
    kept = [each.transform.__wrapped__ for each in (Late, Later)]

    assert pipe.status().problems == ()
    assert [one is other for one, other in zip(during, (Late.transform, Later.transform), strict=True)] == [
        False,
        False,
    ]
    assert all(method.__module__ == __name__ for method in kept)
    assert calls(telemetry) == [("predict Late", "transform", 2)]


def test_a_named_call_is_one_call(telemetry):
    """Inside `inference("churn")` the library's call is not another one."""
    telemetry.instrument()
    model = LogisticRegression(max_iter=20).fit(*TRAINED)
    with otel_pipeline.inference("churn") as call:
        model.predict(ROWS[:2])
        call.rows = 2

    assert calls(telemetry) == [("predict churn", "predict", 2)]


def test_errors_are_on_the_span_and_raised_on(telemetry):
    """An estimator that was not fitted."""
    telemetry.instrument()
    with pytest.raises(NotFittedError):
        LogisticRegression().predict(ROWS)

    (span,) = telemetry.spans()
    assert (span.status, span.attributes["error.type"]) == ("ERROR", "sklearn.exceptions.NotFittedError")


def test_estimators_are_what_they_were(telemetry):
    """Signatures, conditional methods, cloning and pickling; and all of it is put back."""

    def described():
        return (
            inspect.signature(LogisticRegression.predict),
            inspect.signature(RandomForestClassifier.fit),
            hasattr(SVC(), "predict_proba"),
            hasattr(SVC(probability=True), "predict_proba"),
            LogisticRegression().get_params(),
        )

    before, method = described(), LogisticRegression.__dict__.get("predict_proba")
    pipe = telemetry.instrument()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=20)).fit(*TRAINED)
    copied = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert (described(), list(copied.predict(ROWS[:5])), type(clone(model))) == (
        before,
        list(model.predict(ROWS[:5])),
        type(model),
    )
    pipe.uninstrument()

    assert LogisticRegression.__dict__.get("predict_proba") is method
