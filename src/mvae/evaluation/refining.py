"""A posterior fitted to each row, from where the encoders put it.

The encoders are learned for all rows at once; a few steps of ascent on the row's own ELBO improve on their posterior
(semi-amortised inference, Kim et al. 2018), most so for patterns of missing elements that training never showed.
"""

from __future__ import annotations

import torch
from torch.backends import cudnn

from mvae.adam import Adam
from mvae.batch import Batch
from mvae.models import MultimodalVAE
from mvae.posteriors import Gaussian, Posterior, kl

__all__ = ["STEPS", "refined"]

STEPS, RATE, DRAWS, SEED = 100, 0.05, 2, 0


def refined(model: MultimodalVAE, batch: Batch, steps: int = STEPS) -> Posterior:
    r"""q(z | x) of each row after ascent on :math:`E_q[\log p(x \mid z)] - KL(q \,\|\, p(z))`, every lambda = 1.

    Rows do not influence one another: the noise is the same for all of them, and at each call.

    Args:
        model: any model without conditions, in evaluation.
        batch: B rows as the model reads them (`MultimodalVAE.checked`).
        steps: of Adam; 0 leaves the encoders' posterior.

    Returns:
        Gaussians of batch shape `[B]`, begun at the mean and variance of the encoders' posterior.
    """
    with torch.no_grad():
        start = model.q(batch)
    if not steps:
        return start
    generator = torch.Generator(model.device).manual_seed(SEED)
    # gradients are needed even if the caller turned them off; recurrent networks of cudnn have none in evaluation
    with torch.inference_mode(False), torch.enable_grad(), cudnn.flags(enabled=False):
        parts = ({name: part.clone() for name, part in parts.items()} for parts in (batch.values, batch.present))
        rows = Batch(next(parts), next(parts))
        mean, log_variance = (part.clone().requires_grad_() for part in (start.mean, start.log_variance))
        posterior, optimizer = Gaussian(mean, log_variance), Adam([mean, log_variance])
        everything = torch.ones(DRAWS, len(model.names), dtype=torch.bool)
        for step in range(steps):
            noise = torch.randn(DRAWS, 1, mean.shape[1], generator=generator, device=mean.device, dtype=mean.dtype)
            z = mean + posterior.stddev * noise
            elbo = -kl(posterior)
            for _, _, values in model.log_likelihoods(rows, z, everything):
                elbo = elbo + values.mean(0)
            mean.grad, log_variance.grad = torch.autograd.grad(-elbo.sum(), [mean, log_variance])
            optimizer.step(RATE * (1 - 0.9 * step / steps))
    return Gaussian(mean.detach(), log_variance.detach())
