"""Generate anything given anything
================================

One model of several modalities answers in every direction. Here a handwritten digit is three modalities: the upper half
of the image, the lower half, and the label. The model is trained once, and then given any of them, or none.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor

import mvae

digits = mvae.load_dataset("digits")


def in_three(rows):
    """A batch of upper half, lower half and label."""
    image = rows.values["image"]
    return mvae.Batch({"upper": image[:, :, :4], "lower": image[:, :, 4:], "label": rows.values["label"]})


train, test = in_three(digits.train), in_three(digits.test)

# %%
# Train once
# ----------
# ``random_subsets`` trains on random subsets of the modalities in each step, so that the model learns to work from any
# of them (Eq. 5 of the paper).

layers = {"encoder": {"kind": "mlp", "hidden": [128]}, "decoder": {"kind": "mlp", "hidden": [128]}}
half = {"shape": [1, 4, 8], "likelihood": {"kind": "pixel-cross-entropy"}, **layers}
label = {"shape": [], "likelihood": {"kind": "categorical", "num_classes": 10}, **layers, "weight": 10}
label["encoder"] = {"kind": "embedding", "hidden": [64]}
modalities = {"upper": half, "lower": half, "label": label}
config = {"model": {"latent_dim": 16, "random_subsets": 1, "reconstruct": "present", "modalities": modalities}}
model = mvae.fit(
    mvae.Dataset("halves", train, train[:0], test),
    config=config,
    epochs=80,
    annealing_epochs=20,
    learning_rate=3e-3,
    schedule="cosine",
    progress=False,
)

# %%
# Draw
# ----
# ``model.generate`` draws what is asked for, given what there is. Where the upper half is given, it is shown as it is.
# In the last row half and label contradict each other, and the half wins: its expert is the surer one.

torch.manual_seed(0)
five = test[test.values["label"] == 5][[0]].values["upper"][0]
questions = {
    "given nothing": None,
    "given the label 5": {"label": 5},
    "given the upper half of a 5": {"upper": five},
    "given that half and the label 5": {"upper": five, "label": 5},
    "given that half and the label 9": {"upper": five, "label": 9},
}
figure, axes = plt.subplots(len(questions), 1, figsize=(7, 6.4), layout="constrained")
for place, (title, given) in zip(axes, questions.items(), strict=True):
    drawn = model.generate(given, ["upper", "lower"], num_samples=12, mean=True)
    upper = five.expand_as(drawn["upper"]) if given and "upper" in given else drawn["upper"]
    images = torch.cat([upper, drawn["lower"]], dim=-2)[:, 0, 0].numpy()
    place.imshow(np.hstack([np.pad(image, 1, constant_values=1) for image in images]), cmap="gray")
    place.set_title(title, fontsize=10, loc="left")
    place.set_axis_off()
plt.show()

# %%
# Check
# -----
# Are the answers any good? First the label, given one half or both, beside a logistic regression trained for each
# question by itself; then the lower half given the upper one, beside the five nearest neighbours.

pixels = {
    name: (part.values["upper"].flatten(1), part.values["lower"].flatten(1))
    for name, part in (("train", train), ("test", test))
}
truth = test.values["label"]
accuracy = {}
for title, given, halves in (
    ("upper", ["upper"], [0]),
    ("lower", ["lower"], [1]),
    ("both", ["upper", "lower"], [0, 1]),
):
    learned, asked = (torch.cat([pixels[name][half] for half in halves], 1) for name in ("train", "test"))
    single = LogisticRegression(max_iter=300).fit(learned, train.values["label"])
    accuracy[title] = {
        "mvae, one model": (mvae.classify(model, test, "label", given=given).argmax(1) == truth).double().mean().item(),
        "logistic regression, three models": single.score(asked, truth),
    }
print("Share of the test labels found, given these halves:")
print(pd.DataFrame(accuracy).map("{:.1%}".format).to_string())

expected = model.generate(test.only(["upper"]), ["lower"], num_samples=50, mean=True)["lower"].mean(0).flatten(1)
(train_upper, train_lower), (test_upper, test_lower) = pixels["train"], pixels["test"]
neighbours = KNeighborsRegressor(5).fit(train_upper, train_lower).predict(test_upper)
errors = {
    "mean image": train_lower.mean(0) - test_lower,
    "5 nearest neighbours": torch.tensor(neighbours) - test_lower,
    "mvae": expected - test_lower,
}
print("\nRoot mean square error of the lower half given the upper one (white is 1):")
print(pd.Series({name: error.square().mean().sqrt().item() for name, error in errors.items()}).round(3).to_string())

# %%
# Methods made for one question, from complete rows, are ahead at it; the joint model answers all of them, after one
# training, and also those that nobody thought of. A lower half that is the mean over all that could follow is blurred,
# as it should be: the upper half does not decide it.
