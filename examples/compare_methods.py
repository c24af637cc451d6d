"""Compare methods
===============

Which model suits your data? ``method`` trains others than the MVAE on the same rows, networks and weights. Here six of
them learn handwritten digits of which one in ten has both image and label; of the others half have an image only and
half a label only.
"""

import matplotlib.pyplot as plt
import pandas as pd

import mvae

test = mvae.load_dataset("digits").test
labels = test.values["label"]

# %%
# Train each and ask the same questions
# -------------------------------------
# The options for few labels of the ``digits`` recipe are switched off, so that the methods are compared as they were
# published, and the training is shorter than the recipe's.

results, drawn = {}, {}
for method in ("mvae", "mvae-q", "mmvae", "bivcca", "jmvae", "telbo"):
    model = mvae.fit(
        "digits",
        method=method,
        paired_fraction=0.1,
        config={"training": {"shares": None}},
        completion=0,
        epochs=25,
        progress=False,
    )
    joint = mvae.log_likelihood(model, test, ["image", "label"], num_samples=100)
    guesses = mvae.classify(model, test, "label", given=["image"])
    results[method] = {
        "learns from": "complete rows" if model.needs_complete_rows else "every row",
        "log p(image, label)": f"{joint.mean():.1f}",
        "label found": f"{(guesses.argmax(1) == labels).double().mean():.1%}",
    }
    drawn[method] = model.generate({"label": [3, 7]}, ["image"], num_samples=6, mean=True)["image"]
print(pd.DataFrame(results).T.to_string())

# %%
# The log-likelihood is in nats, the higher the better. JMVAE and TELBO learn from the few complete rows alone, which is
# why the others exist. No method is the best at everything: compare on your own rows, with validation rows in place of
# the test rows where you want to choose. The picture has images drawn given the label 3, and given 7.

figure, axes = plt.subplots(len(drawn), 12, figsize=(8, 4.4), layout="constrained")
for line, (method, images) in zip(axes, drawn.items(), strict=True):
    line[0].text(-2, 4, method, ha="right", va="center")
    for place, image in zip(line, images.transpose(0, 1).flatten(0, 1), strict=True):
        place.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        place.set_axis_off()
plt.show()
