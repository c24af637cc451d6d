"""Multiple imputation with Rubin's rules
======================================

You fill a table because you want to estimate something from it. A filled cell is a guess, and an analysis that takes it
for a measurement is too sure of itself. Multiple imputation fills the table many times, each time with another draw of
what the cells may have been, analyses each filled table, and pools the answers by Rubin's rules (Rubin 1987): the
standard error then contains what the missing cells leave open.

The table has 442 patients with diabetes, and the question is how much the disease progresses with each standard
deviation of the body mass index (BMI), other things being equal: a coefficient of a linear regression.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes

import mvae

table = load_diabetes(as_frame=True).frame[["age", "bmi", "bp", "s5", "target"]]
table = (table - table.mean()) / table.std()

# %%
# Hide cells
# ----------
# BMI and blood pressure are missing more often where the disease progressed little, as where people with few complaints
# are examined less. Patients with complete rows are then no fair sample of all.

rng = np.random.default_rng(0)
chance = 0.9 / (1 + np.exp(1 + 2.5 * table["target"]))
known = table.copy()
for column in ("bmi", "bp"):
    known[column] = table[column].mask(rng.random(len(table)) < chance)
print(f"{known.isna().any(axis=1).mean():.0%} of the patients lack one of the two")


def regression(frame):
    """The coefficient of BMI and its standard error, by least squares."""
    design = np.column_stack([np.ones(len(frame)), frame[["bmi", "age", "bp", "s5"]].to_numpy(float)])
    coefficients, *_ = np.linalg.lstsq(design, frame["target"].to_numpy(float), rcond=None)
    residuals = frame["target"].to_numpy(float) - design @ coefficients
    variance = residuals @ residuals / (len(frame) - design.shape[1]) * np.linalg.inv(design.T @ design)[1, 1]
    return coefficients[1], np.sqrt(variance)


# %%
# Fill the table twenty times
# ---------------------------
# ``draws`` asks for complete tables, each with another draw of all missing cells.

M = 20
with tempfile.TemporaryDirectory() as folder:
    mvae.fit(known, out=f"{folder}/run", steps=2000, progress=False)
    filled = mvae.impute(f"{folder}/run", known, draws=M)

# %%
# Pool
# ----
# The pooled estimate is the mean. Its variance is the mean of the variances (within) plus (1 + 1/M) times the variance
# of the estimates (between).

estimates, errors = np.array([regression(frame) for frame in filled.draws]).T
within, between = (errors**2).mean(), estimates.var(ddof=1)
total = within + (1 + 1 / M) * between
answers = {
    "all data, nothing hidden": regression(table),
    "complete rows only": regression(known.dropna()),
    "filled with column means": regression(known.fillna(known.mean())),
    "filled once by mvae": regression(filled.frame),
    f"filled {M} times by mvae, pooled": (estimates.mean(), np.sqrt(total)),
}
shown = pd.DataFrame(answers, index=["coefficient", "standard error"]).T
print(shown.round(3).to_string())
print(f"\nshare of the pooled variance that is due to missing cells: {(1 + 1 / M) * between / total:.0%}")

# %%
# Complete rows alone, and column means, make the effect too small. A table filled once with expected values makes it
# too large, because expected values lie closer to the regression line than patients do, and its standard error takes
# guesses for measurements. The pooled estimate errs less than the first two, and its standard error contains what the
# missing cells leave open. It is still a little too small, because all draws come from one trained model, whose own
# uncertainty is left out; train on several bootstrap samples of the rows to have that too.

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
places = np.arange(len(shown))
axes.errorbar(shown["coefficient"], places, xerr=1.96 * shown["standard error"], fmt="o", capsize=4)
axes.axvline(shown["coefficient"].iloc[0], color="grey", linestyle=":")
axes.set(yticks=places, yticklabels=shown.index, xlabel="coefficient of BMI, with its 95 % interval")
axes.invert_yaxis()
plt.show()
