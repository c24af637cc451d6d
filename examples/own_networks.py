"""Your own networks
=================

You have PyTorch networks of your own. A modality is an encoder to ``(mean, log_variance)`` and a decoder to a
``torch.distributions.Distribution``; ``mvae.train`` does the rest, whatever is missing in a row.

Here a convolutional network reads handwritten digits. Their pixels are counts from 0 to 16, as the data set was made by
counting dark points in squares of 4 x 4: a binomial distribution says just that, and PyTorch has one.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.distributions import Binomial, Categorical, Independent

import mvae
from mvae.testing import check_decoder, check_encoder

D = 12  # dimensions of z


class ImageEncoder(nn.Module):
    """Counts ``[B, 8, 8]`` to a Gaussian expert."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 2 * D),
        )

    def forward(self, image):
        """Mean and log variance, each ``[B, D]``."""
        return self.layers(image.unsqueeze(1) / 16).chunk(2, -1)


class ImageDecoder(nn.Module):
    """z to 64 binomial counts."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(D, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, z):
        """A distribution whose event is one image."""
        logits = self.layers(z).unflatten(-1, (8, 8))
        return Independent(Binomial(16, logits=logits, validate_args=False), 2)


class LabelEncoder(nn.Embedding):
    """A table of experts, one a label."""

    def forward(self, label):
        """Mean and log variance, each ``[B, D]``."""
        return super().forward(label).chunk(2, -1)


class LabelDecoder(nn.Linear):
    """z to the probabilities of ten labels."""

    def forward(self, z):
        """A distribution over labels."""
        return Categorical(logits=super().forward(z), validate_args=False)


# %%
# Check the parts
# ---------------
# ``mvae.testing`` tries each network on a few rows, and says what is wrong with it. These are right, so that nothing is
# said.

digits = mvae.load_dataset("digits")
counts = {
    name: (part.values["image"][:, 0] * 16).round() for name, part in (("train", digits.train), ("test", digits.test))
}
check_encoder(ImageEncoder(), counts["train"][:4], D)
check_decoder(ImageDecoder(), D, counts["train"][:4])

# %%
# Train
# -----
# Half of the rows have no label, and a tenth no image.

rng = np.random.default_rng(0)
rows = mvae.Batch(
    {"image": counts["train"], "label": digits.train.values["label"]},
    {
        "image": torch.tensor(rng.random(len(digits.train)) < 0.9),
        "label": torch.tensor(rng.random(len(digits.train)) < 0.5),
    },
)
torch.manual_seed(0)
model = mvae.MVAE(
    {
        "image": mvae.Modality(ImageEncoder(), ImageDecoder(), latent_dim=D),
        "label": mvae.Modality(LabelEncoder(10, 2 * D), LabelDecoder(D, 10), latent_dim=D, weight=10.0),
    },
    latent_dim=D,
    reconstruct="present",
)
mvae.train(model, rows, epochs=40, batch_size=100, learning_rate=3e-3, annealing_epochs=10, progress=False)

# %%
# Use
# ---
# The model does all that others do: it classifies, scores and draws. With so many labels a logistic regression, which
# learns nothing but the label, is the better classifier; the joint model answers other questions too. The proposal
# q(z | image) has few effective samples here, so that log p(image) is a lower bound rather than an estimate.

test = mvae.Batch({"image": counts["test"], "label": digits.test.values["label"]})
accuracy = (mvae.classify(model, test, "label").argmax(1) == test.values["label"]).double().mean()
both = rows.presence(["image", "label"]).all(1)
regression = LogisticRegression(max_iter=500).fit(counts["train"][both].flatten(1), digits.train.values["label"][both])
print(f"test labels found, given the image: {accuracy:.1%}")
found = regression.score(counts["test"].flatten(1), test.values["label"])
print(f"by a logistic regression on complete rows: {found:.1%}")
score = mvae.log_likelihood(model, test[:200], ["image"], num_samples=200)
print(f"log p(image): {score.mean():.1f} nats ({score.effective_sample_size.mean():.0f} effective samples of 200)")

torch.manual_seed(0)
drawn = model.generate({"label": list(range(10))}, ["image"], num_samples=4, mean=True)["image"]
figure, axes = plt.subplots(4, 10, figsize=(8, 3.4), layout="constrained")
for place, image in zip(axes.flat, drawn.flatten(0, 1), strict=True):
    place.imshow(image, cmap="gray", vmin=0, vmax=16)
    place.set_axis_off()
figure.suptitle("images given the labels 0 to 9")
plt.show()
