"""Several tables, not every patient in each
=========================================

You have several tables about the same patients, and few patients are in all of them. Joining the complete rows throws
most of the data away. Here each table is a modality of its own, and a patient may be in any of them.

The data are 569 breast tumours from scikit-learn, dealt out to three tables as if three laboratories had measured:
size, texture and shape of the cell nuclei. A fourth table has the diagnosis.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mvae

cancer = load_breast_cancer(as_frame=True)
patients = cancer.data.assign(patient_id=[f"P{number:03}" for number in range(len(cancer.data))])
measured = {
    "size": ["mean radius", "worst radius", "mean perimeter", "worst area"],
    "texture": ["mean texture", "worst texture", "mean smoothness", "worst smoothness"],
    "shape": ["mean concavity", "worst concavity", "mean symmetry", "worst symmetry"],
}
diagnosis = cancer.target.map({0: "malignant", 1: "benign"})

# %%
# Four files
# ----------
# Each laboratory has seen 60 % of the patients. The diagnosis of every third patient is to be predicted.

rng = np.random.default_rng(0)
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
seen = {name: rng.random(len(patients)) < 0.6 for name in measured}
for name, columns in measured.items():
    patients.loc[seen[name], ["patient_id", *columns]].to_csv(folder / f"{name}.csv", index=False)
asked = np.arange(len(patients)) % 3 == 0
known = pd.DataFrame({"patient_id": patients["patient_id"], "diagnosis": diagnosis.mask(asked)})
known.to_csv(folder / "patients.csv", index=False)
tables = sum(seen.values())
for number in range(4):
    print(f"measured by {number} laboratories: {(tables == number).sum():3} patients")

# %%
# Fit the files as they are
# -------------------------
# ``join`` names the other files, ``on`` the column that says who is who. Rows found in only some of them are kept.
# On the command line it is ``mvae fit patients.csv --join size.csv texture.csv shape.csv --on patient_id``. A weight of
# ten says that the diagnosis matters more than a single table of measurements.

others = [folder / f"{name}.csv" for name in measured]
options = {"steps": 1000, "weight": {"diagnosis": 10}, "progress": False}
mvae.fit(folder / "patients.csv", join=others, on="patient_id", out=folder / "run", **options)
filled = mvae.impute(folder / "run", folder / "patients.csv", join=others)
found = filled.frame.set_index("patient_id").loc[patients["patient_id"]]
print(found.iloc[:4, :4].round(2).to_string())

# %%
# Is the diagnosis right?
# -----------------------
# Beside it: a logistic regression of the joined table whose missing cells are filled with column means, and one that
# learns from the patients who are in all three tables, the only ones without a missing cell.

everything = [column for columns in measured.values() for column in columns]
joined = patients[everything].copy()
for name, columns in measured.items():
    joined.loc[~seen[name], columns] = np.nan
regression = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000))
complete = tables == 3
guesses = {
    "most frequent diagnosis": np.full(len(patients), "benign"),
    "logistic regression, complete rows": regression.fit(
        joined[complete & ~asked], diagnosis[complete & ~asked]
    ).predict(joined),
    "logistic regression, column means": regression.fit(joined[~asked], diagnosis[~asked]).predict(joined),
    "mvae": found["diagnosis"].to_numpy(),
}
accuracy = {
    name: {f"{number} tables": (guess == diagnosis)[asked & (tables == number)].mean() for number in range(4)}
    | {"all": (guess == diagnosis)[asked].mean()}
    for name, guess in guesses.items()
}
print("Share of the predicted diagnoses that are right, by how many laboratories measured the patient:")
print(pd.DataFrame(accuracy).T.map("{:.0%}".format).to_string())

# %%
# The regression that knows only the diagnosis of complete rows has thrown most patients away. With means in place of
# what is missing it uses all of them, and then answers this one question about as well as a joint model, or better. The
# joint model has no question built in: it has filled every measurement as well, and says how certain it is.
#
# Is it sure where it can be?
# ---------------------------
# ``filled.cells`` has the probability that a filled category is wrong in ``sd``. It falls with what is known.

cells = filled.cells[filled.cells["column"] == "diagnosis"]
doubt = pd.Series(cells["sd"].to_numpy(float), index=filled.frame["patient_id"].to_numpy()[cells["row"]])
doubt = doubt.loc[patients["patient_id"][asked]].to_numpy()
wrong = (found["diagnosis"].to_numpy() != diagnosis.to_numpy())[asked]
counts = tables[asked]
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
places = np.arange(4)
axes.bar(places - 0.2, [doubt[counts == n].mean() for n in places], 0.4, label="probability of an error, by the model")
axes.bar(places + 0.2, [wrong[counts == n].mean() for n in places], 0.4, label="share of errors")
axes.set(xticks=places, xlabel="tables with the patient", ylabel="diagnoses")
axes.legend()
plt.show()
