"""Estimators for scikit-learn: missing cells filled, and classes predicted, by a multimodal VAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from mvae.config.options import placed
from mvae.config.table_spec import CategoryColumn, ColumnSpec, LeftOutColumn, NumberColumn, RecordColumn, TableSpec
from mvae.models import MultimodalVAE
from mvae.tables.draws import IMPUTE_DRAWS, category_shares
from mvae.tables.fill import impute_table
from mvae.tables.learn import described
from mvae.tables.read import Table, read_table
from mvae.tables.recipe import TABLE_STEPS
from mvae.training.prepare import prepare, with_table

__all__ = ["MVAEClassifier", "MVAEImputer"]

FEATURES, LABEL = "features", "label"


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """Parameters, reading of X and training, which both share."""

    def __init__(
        self,
        *,
        kinds: Mapping[str, Any] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        latent_dim: int | None = None,
        steps: int = TABLE_STEPS,
        learning_rate: float = 2e-3,
        num_samples: int = IMPUTE_DRAWS,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.kinds = kinds
        self.groups = groups
        self.latent_dim = latent_dim
        self.steps = steps
        self.learning_rate = learning_rate
        self.num_samples = num_samples
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def _frame(self, X: Any, reset: bool) -> pd.DataFrame:  # noqa: N803
        """X as columns with texts as names. An array has numbers, a data frame any values."""
        if isinstance(X, pd.DataFrame):
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            return X.set_axis([str(name) for name in X.columns], axis=1)
        smallest = 2 if reset else 1
        values = validate_data(
            self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=smallest
        )
        return pd.DataFrame(values, columns=[f"x{number}" for number in range(values.shape[1])])

    def _columns(self, frame: pd.DataFrame, numeric: bool) -> dict[str, ColumnSpec]:
        """The specs of columns. Numbers are never taken for identifiers."""
        kinds = self.kinds or {}
        for name in kinds:
            if name not in frame.columns:
                raise ValueError(f"kinds: no column '{name}'; there are {', '.join(frame.columns)}")
        known = {name: {"kind": kind} if isinstance(kind, str) else kind for name, kind in kinds.items()}
        found = dict(described(read_table(frame), {"columns": known}).columns)
        for name, column in found.items():
            is_number = numeric or pd.api.types.is_numeric_dtype(frame[name].dtype)
            if name not in known and is_number and isinstance(column, LeftOutColumn) and frame[name].nunique() > 1:
                found[name] = NumberColumn()
        return found

    def _fit(
        self,
        frame: pd.DataFrame,
        columns: Mapping[str, ColumnSpec],
        groups: Mapping[str, Sequence[str]] | None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.model_: MultimodalVAE | None = None
        if all(isinstance(column, LeftOutColumn) for column in columns.values()):
            return
        state = np.random.RandomState() if self.random_state is None else self.random_state
        seed = int(check_random_state(state).randint(np.iinfo(np.int32).max))
        options: dict[str, Any] = {"steps": self.steps, "learning_rate": self.learning_rate, "seed": seed}
        options |= {"latent_dim": self.latent_dim, "weight": weights}
        run = prepare(frame, config=with_table(None, columns, groups), options=placed(options))
        run.train_to_the_end(bool(self.verbose))
        assert run.spec.data.table is not None
        self.model_ = run.model.double()
        self.table_: TableSpec = run.spec.data.table
        self.n_iter_ = run.spec.training.epochs


class MVAEImputer(OneToOneFeatureMixin, TransformerMixin, _Estimator):  # type: ignore[misc]
    """Fills the missing cells of a mixed table with what a multimodal VAE expects there, given the rest of each row.

    It is trained on the table as it is, with any cells missing: NaN, None, NaT and empty texts.

    Args:
        kinds: column to its kind, e.g. `{"visits": "count"}`; the others are inferred (`mvae.inspect`). Columns of
            an array have the names x0, x1, ...
        groups: name to columns that form one modality; all columns form one where None, each its own where `{}`.
        latent_dim: D; by the number of columns where None.
        steps: optimiser steps, about.
        learning_rate: of Adam.
        num_samples: draws of z a row.
        random_state: of training and draws; where None, another at each fit, whatever NumPy's global seed.
        verbose: show a bar.

    Attributes:
        model_: the trained model.
        table_: the spec of the columns, with what they have learned.
        n_features_in_: number of columns.
        feature_names_in_: their names, where X had any.
        n_iter_: epochs of training.

    Example:
        >>> X = np.array([[1.0, 2.1], [2.0, np.nan], [3.0, 5.9], [np.nan, 8.1]] * 10)
        >>> MVAEImputer(steps=20, random_state=0).fit_transform(X).shape
        (40, 2)
    """

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Learn the joint distribution of the columns.

        Args:
            X: array of numbers `[R, C]`, or a data frame with columns of any kind.
            y: not used.

        Raises:
            ValueError: on values that are not of their column's kind, naming row and column.
        """
        frame = self._frame(X, reset=True)
        columns = self._columns(frame, numeric=not isinstance(X, pd.DataFrame))
        left = [name for name, column in columns.items() if isinstance(column, LeftOutColumn)]
        self.constants_ = {name: _only_value(frame[name]) for name in left}
        self._fit(frame, columns, self.groups)
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        """X with missing cells filled: an array for an array, a data frame for a data frame.

        Columns with one value in all rows are filled with it. Columns without a value in training stay as they are; so
        do pictures, and columns of texts that are left out, such as names.
        """
        check_is_fitted(self, "model_")
        frame = self._frame(X, reset=False)
        filled = frame.copy()
        if self.model_ is not None:
            table = Table(frame, "X", {FEATURES: tuple(frame.columns)})
            filled = impute_table(self.model_, self.table_, table, num_samples=self.num_samples, alike=True).frame
        for name, value in self.constants_.items():
            if value is not None and filled[name].isna().any():
                filled[name] = filled[name].where(filled[name].notna(), value)
        if isinstance(X, pd.DataFrame):
            return filled.set_axis(X.columns, axis=1)
        return filled.to_numpy(dtype=np.float64)


def _only_value(values: pd.Series[Any]) -> Any:
    found = values.dropna().unique()
    return found[0] if len(found) == 1 else None


class MVAEClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """Predicts classes from rows with any cells missing, learned from rows of which some may have no class.

    The features are one modality, or one a group, the class is another; p(y | x) is the decoder of y averaged over
    importance-weighted draws from q(z | x).

    Args:
        unlabelled: the value of y that means no class, e.g. -1; None and NaN always do.
        label_weight: lambda of the class (paper, Eq. 2).
        kinds, groups, latent_dim, steps, learning_rate, num_samples, random_state, verbose: as for `MVAEImputer`.

    Attributes:
        classes_: the classes.
        model_: the trained model.
        table_: the spec of the columns, with what they have learned.

    Example:
        >>> X = np.array([[0.0, 0.1], [0.2, np.nan], [3.0, 2.9], [2.8, 3.1]] * 10)
        >>> MVAEClassifier(steps=200, random_state=0).fit(X, [0, 0, 1, 1] * 10).predict([[np.nan, 3.0]])
        array([1])
    """

    def __init__(
        self,
        *,
        unlabelled: Any = None,
        label_weight: float = 10.0,
        kinds: Mapping[str, Any] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        latent_dim: int | None = None,
        steps: int = TABLE_STEPS,
        learning_rate: float = 2e-3,
        num_samples: int = IMPUTE_DRAWS,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            kinds=kinds,
            groups=groups,
            latent_dim=latent_dim,
            steps=steps,
            learning_rate=learning_rate,
            num_samples=num_samples,
            random_state=random_state,
            verbose=verbose,
        )
        self.unlabelled = unlabelled
        self.label_weight = label_weight

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Learn the joint distribution of features and class.

        Args:
            X: array of numbers `[R, C]`, or a data frame with columns of any kind.
            y: classes `[R]`; None, NaN or `unlabelled` for none.

        Raises:
            ValueError: on values that are not of their column's kind, or a y that is no classes.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        frame = self._frame(X, reset=True)
        labels = column_or_1d(y.astype(object).to_numpy() if isinstance(y, pd.Series) else y, warn=True)
        if len(labels) != len(frame):
            raise ValueError(f"y: expected {len(frame)} classes, one a row of X, got {len(labels)}")
        known = ~pd.isna(labels)
        if self.unlabelled is not None:
            known &= labels != self.unlabelled
        classes = np.array(labels[known].tolist())
        check_classification_targets(classes)
        self.classes_, codes = np.unique(classes, return_inverse=True)
        if not len(self.classes_):
            raise ValueError("y: expected some rows with a class, got none")
        columns = self._columns(frame, numeric=not isinstance(X, pd.DataFrame))
        self.model_ = None
        some = any(not isinstance(column, LeftOutColumn) for column in columns.values())
        if len(self.classes_) > 1 and some:
            name = LABEL if LABEL not in frame.columns else f"{LABEL} of y"
            texts = np.full(len(frame), None, dtype=object)
            texts[known] = [str(code) for code in codes]
            members = [name for name, column in columns.items() if isinstance(column, RecordColumn)]
            columns[name] = CategoryColumn(values=[str(code) for code in range(len(self.classes_))])
            group = FEATURES if FEATURES not in frame.columns else f"all {FEATURES}"
            groups = self.groups if self.groups is not None else {group: members} if members else {}
            self._fit(frame.assign(**{name: texts}), columns, groups, {name: self.label_weight})
            self.label_ = name
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """p(class | row), `[R, C]`."""
        check_is_fitted(self, "model_")
        frame = self._frame(X, reset=False)
        if self.model_ is None:  # one class, or no feature to learn from
            return np.full((len(frame), len(self.classes_)), 1 / len(self.classes_))
        table = Table(frame.assign(**{self.label_: None}), "X", {FEATURES: tuple(frame.columns)})
        return category_shares(self.model_, self.table_, table, self.label_, self.num_samples)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The likeliest class of each row."""
        shares = self.predict_proba(X)
        return self.classes_[shares.argmax(1)]
