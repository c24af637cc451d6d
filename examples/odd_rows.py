"""Find odd rows
=============

You have a table in which some rows may be wrong: a slip of the pen, two samples mixed up. ``mvae.score`` gives each
row's log-likelihood, the least likely rows first. Here errors are put into a table, so that it is known which rows to
find.

The errors are hard to see: in one row in twenty, three cells are exchanged with another row's cells of the same
columns. Each value is plausible by itself; it only does not go with the rest of its row.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler

import mvae

table = load_breast_cancer(as_frame=True).data
rng = np.random.default_rng(0)
wrong = np.zeros(len(table), dtype=bool)
wrong[rng.choice(len(table), len(table) // 20, replace=False)] = True
for row in np.flatnonzero(wrong):
    columns = rng.choice(table.columns, 3, replace=False)
    table.loc[row, columns] = table.loc[rng.integers(len(table)), columns].to_numpy()
table = table.mask(rng.random(table.shape) < 0.1)  # and a tenth of all cells is missing
print(f"{wrong.sum()} of {len(table)} rows have cells of another row")

# %%
# Score each row
# --------------
# Nothing is said about which rows are wrong. A missing cell is no obstacle: a row is scored on what it has.

with tempfile.TemporaryDirectory() as folder:
    mvae.fit(table, out=f"{folder}/run", steps=2000, progress=False)
    found = mvae.score(f"{folder}/run", table)
print(found.head(5).round(2).to_string())

# %%
# How well does that find them?
# -----------------------------
# Beside it stand two of scikit-learn's detectors, which need complete rows: missing cells are filled with column means.

filled = StandardScaler().fit_transform(SimpleImputer().fit_transform(table))
oddness = {
    "isolation forest": -IsolationForest(random_state=0).fit(filled).score_samples(filled),
    "local outlier factor": -LocalOutlierFactor().fit(filled).negative_outlier_factor_,
    "mvae": -found.sort_values("row")["nats_per_cell"].to_numpy(),
}
results = {
    name: {
        "wrong rows among the first 28": int(wrong[np.argsort(-odd, kind="stable")[: wrong.sum()]].sum()),
        "area under the ROC curve": round(roc_auc_score(wrong, odd), 2),
    }
    for name, odd in oddness.items()
}
print(pd.DataFrame(results).T.to_string())

# %%
# A row may also be odd and right: a rare tumour is no error. The score says where to look first.

figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
order = np.arange(1, len(table) + 1)
for name, odd in oddness.items():
    axes.plot(order, wrong[np.argsort(-odd, kind="stable")].cumsum(), label=name)
axes.plot(order, order * wrong.mean(), color="grey", linestyle=":", label="looking at random")
axes.set(xlabel="rows looked at, the oddest first", ylabel="wrong rows found")
axes.legend()
plt.show()
