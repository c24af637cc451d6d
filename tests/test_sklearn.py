"""The estimators: scikit-learn's own checks, its tools around them, and that they fill and predict well."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from mvae.sklearn import MVAEClassifier, MVAEImputer


@parametrize_with_checks([MVAEImputer(steps=20, random_state=0), MVAEClassifier(steps=20, random_state=0)])
def test_scikit_learn_has_nothing_to_say_against_them(estimator, check):
    if check.func.__name__ == "check_classifiers_train":  # asks for an accuracy
        estimator = clone(estimator).set_params(steps=150)
    check(estimator)


@pytest.fixture(scope="module")
def holed():
    """Two columns that say nearly the same, and a class that they tell."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 1))
    whole = np.hstack([x, -2 * x + 0.1 * rng.normal(size=(300, 1)), rng.normal(size=(300, 1))])
    hidden = rng.random(whole.shape) < 0.2
    return whole, np.where(hidden, np.nan, whole), (x[:, 0] > 0).astype(int)


def test_holes_are_filled_better_than_by_the_mean(holed):
    whole, known, _ = holed
    holes = np.isnan(known)
    filled = MVAEImputer(steps=1000, random_state=0).fit_transform(known)  # after 600 its error is 0.24 of theirs
    assert np.array_equal(filled[~holes], known[~holes])
    places = holes[:, 1] & ~holes[:, 0]
    by_mean = SimpleImputer().fit_transform(known)
    ours, theirs = (np.mean((part[places, 1] - whole[places, 1]) ** 2) for part in (filled, by_mean))
    assert ours < 0.2 * theirs


def test_mixed_frames_come_back_as_frames_with_their_types():
    frame = pd.DataFrame(
        {
            "size": [1.0, None, 3.0, 4.0] * 10,
            "kind": ["a", "b", None, "b"] * 10,
            "same": [5.0, 5.0, None, 5.0] * 10,
            "name": [f"n{number:03}" for number in range(40)],
        },
        index=range(100, 140),
    )
    filled = MVAEImputer(steps=40, random_state=0).set_output(transform="pandas").fit_transform(frame)
    assert filled.notna().all(axis=None)
    assert filled.index.equals(frame.index)
    assert filled["kind"].isin(["a", "b"]).all()
    assert (filled["same"] == 5).all()
    assert filled["name"].tolist() == frame["name"].tolist()
    again = MVAEImputer(steps=40, random_state=0, kinds={"size": "positive"}, groups={}).fit(frame)
    assert sorted(again.model_.names) == ["kind", "size"]


def test_one_seed_gives_one_answer_and_rows_do_not_depend_on_each_other(holed):
    _, known, _ = holed
    first, second = (MVAEImputer(steps=60, random_state=1).fit(known) for _ in range(2))
    filled = first.transform(known)
    assert np.array_equal(filled, second.transform(known))
    assert np.allclose(filled[7:9], first.transform(known[7:9]), rtol=1e-9)


def test_pipelines_columns_and_searches_take_them(holed):
    _, known, classes = holed
    frame = pd.DataFrame(known, columns=["a", "b", "c"])
    pipeline = make_pipeline(MVAEImputer(steps=200, random_state=0), LogisticRegression())
    assert pipeline.fit(known, classes).score(known, classes) > 0.85
    columns = ColumnTransformer([("fill", MVAEImputer(steps=30, random_state=0), ["a", "b"])], remainder="drop")
    columns.set_output(transform="pandas")
    assert columns.fit_transform(frame).columns.tolist() == ["fill__a", "fill__b"]
    search = GridSearchCV(clone(pipeline), {"mvaeimputer__steps": [20, 60]}, cv=2)
    assert search.fit(known, classes).best_params_["mvaeimputer__steps"] in (20, 60)


def test_classes_are_predicted_from_what_a_row_has():
    X, y = load_iris(return_X_y=True, as_frame=True)  # noqa: N806
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[y]
    known = X.mask(np.random.default_rng(0).random(X.shape) < 0.2)
    train, test, classes, truth = train_test_split(known, names, random_state=0, stratify=names)
    model = MVAEClassifier(steps=1500, random_state=0).fit(train, classes)  # after 1,000 it is right about 79 %
    assert model.score(test, truth) > 0.85
    shares = model.predict_proba(test)
    assert np.allclose(shares.sum(1), 1)
    nothing = pd.DataFrame(np.full((1, 4), np.nan), columns=X.columns)
    assert np.allclose(model.predict_proba(nothing), 1 / 3, atol=0.15)  # as often as in training


def test_the_weight_of_the_class_is_lambda(holed):
    _, known, classes = holed
    model = MVAEClassifier(steps=20, label_weight=3.0, random_state=0).fit(known, classes)
    assert {name: part.weight for name, part in model.model_.modalities.items()} == {"features": 1.0, "label": 3.0}


def test_rows_without_a_class_teach_the_rest(holed):
    _, known, classes = holed
    some = classes.astype(float)
    some[20:] = np.nan
    model = MVAEClassifier(steps=200, random_state=0).fit(known, some)
    assert model.classes_.tolist() == [0.0, 1.0]
    coded = np.where(np.isnan(some), -1, some).astype(int)
    assert MVAEClassifier(steps=30, unlabelled=-1, random_state=0).fit(known, coded).classes_.tolist() == [0, 1]
    assert model.score(known, classes.astype(float)) > 0.8


def test_bad_input_is_named(holed):
    _, known, classes = holed
    with pytest.raises(ValueError, match="expected 300 classes"):
        MVAEClassifier().fit(known, classes[:5])
    with pytest.raises(ValueError, match="expected some rows with a class"):
        MVAEClassifier().fit(known, np.full(300, np.nan))
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.5] * 5, "b": ["x", "y", "z"] * 5})
    imputer = MVAEImputer(steps=20, random_state=0).fit(frame)
    with pytest.raises(ValueError, match="row 2, column 'a': expected a finite number, got 'tall'"):
        imputer.transform(frame.astype(object).replace({"a": {2.0: "tall"}}))
    with pytest.raises(ValueError, match="row 1, column 'b': 'w' is none of the categories"):
        imputer.transform(frame.replace({"b": {"x": "w"}}))
