"""Fill a table and check the filling
==================================

You have a table with missing cells. This example fills it, and finds out how good the filling is in the only way there
is: hide cells whose values are known, fill them, and compare. It does so beside scikit-learn's imputers.

The table has 569 breast tumours with thirty measurements each: ten properties of the cell nuclei, and of each property
the mean, its standard error and the worst value. It comes with scikit-learn.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import mvae

table = load_breast_cancer(as_frame=True).data
table = (table - table.mean()) / table.std()  # so that errors of different columns can be averaged
print(table.iloc[:3, [0, 10, 20]].round(2).to_string())

# %%
# Hide what is known
# ------------------
# In each row every one of the three groups (means, errors, worst values) is hidden with a probability of 30 %, as when
# a test was not made. A row always keeps one of them.

rng = np.random.default_rng(0)
hidden = rng.random((len(table), 3)) < 0.3
hidden[hidden.all(1)] = False
mask = hidden.repeat(10, axis=1)
known = table.mask(mask)
print(f"{mask.mean():.0%} of the cells are hidden")

# %%
# Fill it
# -------
# Each method sees only the table with missing cells. ``mvae.fit`` learns all columns jointly, ``mvae.impute`` fills.
# The default length of training is 10,000 steps; fewer keep this example short.

with tempfile.TemporaryDirectory() as folder:
    mvae.fit(known, out=f"{folder}/run", steps=2000, progress=False)
    filled = mvae.impute(f"{folder}/run", known)

answers = {
    "column mean": SimpleImputer().fit_transform(known),
    "5 nearest neighbours": KNNImputer(weights="distance").fit_transform(known),
    "chained ridge regressions": IterativeImputer(max_iter=5, tol=0.05).fit_transform(known),
    "mvae": filled.frame.to_numpy(),
}
values = table.to_numpy()
errors = {name: np.sqrt(((answer - values)[mask] ** 2).mean()) for name, answer in answers.items()}
print("Root mean square error of the hidden cells, in standard deviations:")
print(pd.Series(errors).round(3).to_string())

# %%
# Lower is better. Where whole groups are missing, one joint model is ahead of the others here. Where single cells are
# missing, chained ridge regressions are better on this table, because a column's near-copies stay in the row:
# radius, perimeter and area measure nearly the same. :doc:`Five tables </experiments/imputation>` have the numbers.
#
# How certain is it?
# ------------------
# Each filled cell has a standard deviation, and an interval that should hold the true value in 90 of 100 cases.

cells = filled.cells
truth = values[cells["row"], cells["column"].map(table.columns.get_loc)]
low, high, value = (cells[name].to_numpy(float) for name in ("low", "high", "value"))
print(cells.head(3).to_string())
print(f"\nThe intervals hold {((low <= truth) & (truth <= high)).mean():.0%} of the hidden values.")

# %%
# The picture shows the hidden cells of one column. Where the model is unsure, the bars are long.

chosen = np.flatnonzero(cells["column"] == "worst area")[:60]
chosen = chosen[np.argsort(truth[chosen])]
places = np.arange(len(chosen))
figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
axes.vlines(places, low[chosen], high[chosen], color="C0", alpha=0.4, linewidth=4, label="90 % interval")
axes.plot(places, value[chosen], "o", color="C0", markersize=4, label="filled")
axes.plot(places, truth[chosen], "x", color="black", markersize=5, label="hidden value")
axes.set(xlabel="tumours, sorted by the hidden value", ylabel="worst area, in standard deviations")
axes.legend()
plt.show()
