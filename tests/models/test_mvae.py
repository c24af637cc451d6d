"""The objective of MVAE against a plain one written term by term; nothing absent is read; one call a network."""

import copy
import itertools
import math

import pytest
import torch

from mvae.batch import Batch
from mvae.likelihoods import Bernoulli, Categorical, Laplace, Normal, PixelCrossEntropy
from mvae.modality import Decoder, Modality
from mvae.models import MVAE
from mvae.networks.conv import ConvDecoder, ConvEncoder
from mvae.networks.mlp import EmbeddingEncoder, MLPDecoder, MLPEncoder
from mvae.subsets import draw_subsets

LATENT = 3
LAYERS = ((2, 3, 1, 1), (3, 3, 1, 1))


def dense(likelihood, weight=1.0, batch_norm=False):
    decoder = Decoder(MLPDecoder(LATENT, likelihood.num_parameters, (6,)), likelihood)
    return Modality(MLPEncoder(likelihood.shape, LATENT, (6,), batch_norm), decoder, LATENT, weight)


def label(weight):
    decoder = Decoder(MLPDecoder(LATENT, 4, (6,)), Categorical(4))
    return Modality(EmbeddingEncoder(4, LATENT, (6,)), decoder, LATENT, weight)


def image(weight):
    encoder = ConvEncoder((1, 4, 4), LATENT, LAYERS, 6, batch_norm=True)
    decoder = Decoder(ConvDecoder((1, 4, 4), LATENT, LAYERS, 6, batch_norm=True), Bernoulli((1, 4, 4)))
    return Modality(encoder, decoder, LATENT, weight)


def build(num_modalities, **options):
    """A float64 model over the first few of four kinds of data."""
    torch.manual_seed(0)
    modalities = {
        "vector": dense(Normal((3,), scale=None), 2.0),
        "label": label(5.0),
        "pixels": dense(PixelCrossEntropy((2, 2)), 0.5),
        "wave": dense(Laplace((2,), 0.3), 1.0),
    }
    return MVAE(dict(itertools.islice(modalities.items(), num_modalities)), LATENT, **options).double()


def build_with_batch_norm(**options):
    torch.manual_seed(0)
    modalities = {"image": image(1.0), "label": label(5.0), "vector": dense(Normal((3,)), 2.0, batch_norm=True)}
    return MVAE(modalities, LATENT, **options).double()


def random_values(rows, generator):
    return {
        "vector": torch.randn(rows, 3, generator=generator, dtype=torch.float64),
        "label": torch.randint(4, (rows,), generator=generator),
        "pixels": torch.rand(rows, 2, 2, generator=generator, dtype=torch.float64),
        "wave": torch.randn(rows, 2, generator=generator, dtype=torch.float64),
        "image": torch.rand(rows, 1, 4, 4, generator=generator, dtype=torch.float64).round(),
    }


def random_batch(model, rows=12, seed=0, complete=False):
    """Random presence; row 0 has nothing, row 1 everything, row 2 only the first modality."""
    generator = torch.Generator().manual_seed(seed)
    values = random_values(rows, generator)
    present = torch.rand(rows, len(model.names), generator=generator) < 0.6
    present[0], present[1], present[2] = False, True, torch.arange(len(model.names)) == 0
    if complete:
        present[:] = True
    table = {name: present[:, index] for index, name in enumerate(model.names)}
    return Batch({name: values[name] for name in model.names}, table)


def with_placeholders(batch, floating, integer):
    """The same batch with other numbers where values are absent."""
    values = {}
    for name, value in batch.values.items():
        values[name] = value.clone()
        values[name][~batch.present[name]] = floating if value.is_floating_point() else integer
    return Batch(values, batch.present)


@pytest.fixture
def no_noise(monkeypatch):
    """z at the posterior's mean."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)


@pytest.fixture
def drawn(monkeypatch):
    """The subset tables that the loss drew."""
    tables = []

    def recorded(*args, **options):
        tables.append(draw_subsets(*args, **options))
        return tables[-1]

    monkeypatch.setattr("mvae.models.mvae.draw_subsets", recorded)
    return tables


def reconstructed_in(model, given, has):
    """What a term given some of the modalities that a row has reconstructs."""
    always = {"given": set(), "present": has}
    return given | (always[model.reconstruct] if isinstance(model.reconstruct, str) else set(model.reconstruct) & has)


def term_by_term(model, batch, subsets, beta):
    """The objective as the paper writes it, one row and one subset at a time, with z at the posterior's mean.

    Gives the loss, the terms [S, B] (0 where a subset cut down to the row is empty or a repetition), and the ELBO.
    """
    terms, elbo = torch.zeros(len(subsets), len(batch), dtype=torch.float64), []
    for row in range(len(batch)):
        has = {name for name in model.names if name in batch.present and batch.present[name][row]}
        value = {name: batch.values[name][row : row + 1] for name in has}
        seen = []
        for index, subset in enumerate(subsets):
            given = {name for name, member in zip(model.names, subset, strict=True) if member} & has
            if not given or given in seen:
                continue
            seen.append(given)
            precision, weighted = 1.0, 0.0  # the prior's
            for name in sorted(given):
                mean, log_variance = model.modalities[name].encoder(value[name])
                precision = precision + 1 / log_variance.exp()
                weighted = weighted + mean / log_variance.exp()
            z, variance = weighted / precision, 1 / precision
            kl = 0.5 * (variance + z**2 - 1 - variance.log()).sum()
            reconstructed = reconstructed_in(model, given, has)
            scores = {name: model.modalities[name].decoder(z).log_prob(value[name])[0] for name in reconstructed}
            terms[index, row] = sum(model.modalities[name].weight * score for name, score in scores.items()) - beta * kl
            if len(seen) == 1:  # the joint is first
                elbo.append(sum(scores.values()) - kl)
        if not seen:
            elbo.append(torch.zeros((), dtype=torch.float64))
    return -terms.sum(0).mean(), terms, torch.stack(elbo)


def gradients(model):
    return {
        name: None if parameter.grad is None else parameter.grad.clone() for name, parameter in model.named_parameters()
    }


@pytest.mark.parametrize("reconstruct", ["given", "present", ["vector"], []])
@pytest.mark.parametrize(("num_modalities", "k"), [(1, 0), (2, 0), (3, 0), (3, 2), (4, 2), (4, 100)])
@pytest.mark.parametrize("complete", [False, True])
def test_loss_terms_and_elbo_are_those_of_the_formula(no_noise, drawn, num_modalities, k, reconstruct, complete):
    model = build(num_modalities, random_subsets=k, reconstruct=reconstruct)
    for seed, beta in [(0, 1.0), (1, 0.3), (2, 0.0)]:
        batch = random_batch(model, 8, seed, complete)
        objective = model.loss(batch, beta)
        loss, terms, elbo = term_by_term(model, batch, drawn[-1], beta)
        torch.testing.assert_close(objective.loss, loss, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(objective.terms, terms, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(objective.elbo, elbo, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reconstruct", ["given", "present", ["wave", "label"]])
@pytest.mark.parametrize("complete", [False, True])
def test_gradients_are_those_of_the_formula(no_noise, drawn, reconstruct, complete):
    model = build(4, random_subsets=2, reconstruct=reconstruct)
    batch = random_batch(model, complete=complete)
    model.loss(batch, 0.7).loss.backward()
    got = gradients(model)
    model.zero_grad()
    term_by_term(model, batch, drawn[-1], 0.7)[0].backward()
    for name, expected in gradients(model).items():
        torch.testing.assert_close(got[name], expected, rtol=1e-9, atol=1e-11, msg=lambda text, name=name: name + text)


def test_reconstructing_nothing_more_is_given_and_everything_is_present(no_noise):
    batch = random_batch(build(3))
    for name, names in [("given", []), ("present", ["pixels", "label", "vector"])]:
        assert torch.equal(build(3, reconstruct=names).loss(batch).terms, build(3, reconstruct=name).loss(batch).terms)


def test_a_complete_batch_and_one_whose_presence_is_written_out_agree(no_noise):
    model = build(3)
    batch = random_batch(model, complete=True)
    assert torch.equal(model.loss(batch).terms, model.loss(Batch(batch.values)).terms)


def test_kl_and_log_likelihood_are_the_parts_of_the_terms():
    model = build(3, random_subsets=1, reconstruct="present")
    objective = model.loss(random_batch(model), beta=0.4)
    weighted = sum(model.modalities[name].weight * values for name, values in objective.log_likelihood.items())
    counted = objective.terms != 0
    torch.testing.assert_close(objective.terms[counted], (weighted - 0.4 * objective.kl)[counted])
    torch.testing.assert_close(objective.loss, -objective.terms.sum(0).mean())


def test_log_likelihood_is_0_where_a_modality_is_absent():
    model = build(3, reconstruct="present")
    batch = random_batch(model)
    for name, values in model.loss(batch).log_likelihood.items():
        assert torch.equal(values[:, ~batch.present[name]], torch.zeros_like(values[:, ~batch.present[name]]))


def test_a_term_of_one_modality_is_the_vae_s_expected_elbo():
    # Linear decoder, so that the expectation over z has a closed form; the same row many times gives the average.
    torch.manual_seed(0)
    decoder = Decoder(torch.nn.Linear(LATENT, 2), Normal((2,), 0.5))
    model = MVAE({"x": Modality(MLPEncoder((2,), LATENT, (4,)), decoder, LATENT)}, LATENT)
    x = torch.tensor([[0.3, -1.2]])
    with torch.no_grad():
        mean, log_variance = model.modalities["x"].encoder(x)
        variance = 1 / (1 + (-log_variance).exp())
        mean = mean * variance * (-log_variance).exp()
        kl = 0.5 * (variance + mean**2 - 1 - variance.log()).sum()
        spread = (decoder.network.weight**2 @ variance[0]).sum() / (2 * 0.5**2)
        expected = decoder(mean).log_prob(x)[0] - spread - kl
        terms = model.loss(Batch({"x": x.expand(40_000, -1)})).terms[0]
    assert terms.mean().item() == pytest.approx(expected.item(), abs=5 * terms.std().item() / 200)


@pytest.mark.parametrize("reconstruct", ["given", "present", ["label"]])
@pytest.mark.parametrize(
    ("floating", "integer"), [(math.nan, -1), (math.inf, 10**9), (-math.inf, -(10**9)), (1e300, 3)]
)
def test_what_stands_where_a_value_is_absent_is_never_read(reconstruct, floating, integer):
    def step(batch):
        model = build_with_batch_norm(random_subsets=2, reconstruct=reconstruct)
        torch.manual_seed(1)
        objective = model.loss(batch)
        objective.loss.backward()
        return objective, gradients(model), dict(model.named_buffers())

    plain = random_batch(build_with_batch_norm())
    expected, got = step(with_placeholders(plain, 0.0, 0)), step(with_placeholders(plain, floating, integer))

    assert got[0].loss.isfinite()
    for one, other in zip(got[0][:2], expected[0][:2], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(got[1:], expected[1:], strict=True):
        assert all(torch.equal(one[name], value) for name, value in other.items())


def test_batch_norm_statistics_are_those_of_the_present_rows():
    model = build_with_batch_norm()
    batch = random_batch(model)
    encoders = {name: copy.deepcopy(modality.encoder) for name, modality in model.modalities.items()}
    model.loss(batch)
    for name, encoder in encoders.items():
        encoder(batch.values[name][batch.present[name]])
        for after, expected in zip(model.modalities[name].encoder.buffers(), encoder.buffers(), strict=True):
            assert torch.equal(after, expected)


@pytest.mark.parametrize("k", [0, 2])
def test_a_row_with_nothing_adds_nothing(no_noise, k):
    model = build(4, random_subsets=k)
    batch = random_batch(model)
    torch.manual_seed(1)
    whole = model.loss(batch)
    torch.manual_seed(1)
    without = model.loss(batch[1:])
    assert torch.equal(whole.terms[:, 0], torch.zeros(len(whole.terms), dtype=torch.float64))
    torch.testing.assert_close(whole.loss * len(batch), without.loss * (len(batch) - 1))


def test_a_row_of_one_modality_trains_one_term():
    model = build(4, random_subsets=3)
    assert int((model.loss(random_batch(model)).terms[:, 2] != 0).sum()) == 1


def test_a_batch_of_which_nothing_is_present_has_no_terms():
    model = build(2)
    batch = random_batch(model)[[0, 0]]
    objective = model.loss(batch)
    zeros = torch.zeros(2, dtype=torch.float64)
    assert objective.loss.item() == 0
    assert torch.equal(objective.terms, zeros.expand(3, 2))
    torch.testing.assert_close(objective.elbo.double(), zeros)


def test_a_batch_that_lacks_a_modality_equals_one_in_which_it_is_absent(no_noise):
    model = build(3, reconstruct="present")
    batch = random_batch(model)
    nowhere = {**batch.present, "label": torch.zeros(len(batch), dtype=torch.bool)}
    without = model.loss(batch.only(["vector", "pixels"]))
    assert torch.equal(without.terms, model.loss(Batch(batch.values, nowhere)).terms)
    assert torch.equal(without.terms[2], torch.zeros(len(batch), dtype=torch.float64))  # label alone


def test_the_order_of_modalities_in_the_batch_does_not_matter(no_noise):
    model = build(4, random_subsets=2)
    batch = random_batch(model)
    turned = Batch({name: batch.values[name] for name in reversed(model.names)}, batch.present)
    torch.manual_seed(1)
    expected = model.loss(batch)
    torch.manual_seed(1)
    assert torch.equal(model.loss(turned).terms, expected.terms)


def test_the_order_of_modalities_in_the_model_does_not_matter(no_noise):
    model = build(3)
    turned = MVAE({name: model.modalities[name] for name in reversed(model.names)}, LATENT)
    batch = random_batch(model)
    torch.testing.assert_close(turned.loss(batch).loss, model.loss(batch).loss)


def test_the_order_of_rows_does_not_matter(no_noise):
    model = build(3)
    batch = random_batch(model)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.loss(batch[order]).terms, model.loss(batch).terms[:, order])


def record_calls(modules):
    """What each module is called with, by name."""
    calls = {name: [] for name in modules}
    for name, module in modules.items():
        module.register_forward_pre_hook(lambda module, inputs, name=name: calls[name].append(inputs[0].detach()))
    return calls


@pytest.mark.parametrize("k", [0, 1, 3, 100])
@pytest.mark.parametrize("complete", [False, True])
def test_each_encoder_runs_once_on_the_rows_that_have_its_modality(k, complete):
    model = build(4, random_subsets=k)
    batch = random_batch(model, complete=complete)
    calls = record_calls({name: modality.encoder for name, modality in model.modalities.items()})
    model.loss(batch)
    for name, inputs in calls.items():
        assert len(inputs) == 1
        assert torch.equal(inputs[0], batch.values[name][batch.present[name]])


def sorted_rows(z):
    z = z.reshape(-1, LATENT)
    return z[z[:, 0].argsort()]


@pytest.mark.parametrize("reconstruct", ["given", "present", ["label"]])
@pytest.mark.parametrize("k", [0, 2, 100])
@pytest.mark.parametrize("complete", [False, True])
def test_each_decoder_runs_once_on_the_terms_that_reconstruct_its_modality(no_noise, drawn, k, reconstruct, complete):
    model = build(4, random_subsets=k, reconstruct=reconstruct)
    batch = random_batch(model, complete=complete)
    calls = record_calls({name: modality.decoder for name, modality in model.modalities.items()})
    model.loss(batch)
    calls = {name: list(inputs) for name, inputs in calls.items()}  # the posteriors below try the decoders too
    expected = {name: [] for name in model.names}
    for row in range(len(batch)):
        has = frozenset(name for name in model.names if batch.present[name][row])
        cuts = [has & {n for n, member in zip(model.names, subset, strict=True) if member} for subset in drawn[-1]]
        for given in set(cuts) - {frozenset()}:
            z = model.posterior(batch[row : row + 1], given).mean
            for name in reconstructed_in(model, given, has):
                expected[name].append(z)
    for name, inputs in calls.items():
        assert len(inputs) == 1
        torch.testing.assert_close(sorted_rows(inputs[0]), sorted_rows(torch.cat(expected[name])))


def test_networks_of_a_modality_that_is_nowhere_are_not_called():
    model = build(3)
    batch = random_batch(model).only(["vector", "label"])
    calls = record_calls({"encoder": model.modalities["pixels"].encoder, "decoder": model.modalities["pixels"].decoder})
    model.loss(batch).loss.backward()
    assert calls == {"encoder": [], "decoder": []}
    assert all(parameter.grad is None for parameter in model.modalities["pixels"].parameters())


def test_a_divergence_below_the_free_nats_costs_nothing(no_noise):
    batch = random_batch(build(3))
    plain = build(3).loss(batch, beta=0.5)
    limit = plain.kl.median().item()
    free = build(3, free_nats=limit).loss(batch, beta=0.5)
    assert torch.equal(free.kl, plain.kl)
    assert torch.equal(free.elbo, plain.elbo)
    counted = plain.terms != 0
    torch.testing.assert_close(
        (free.terms - plain.terms)[counted], 0.5 * (plain.kl - plain.kl.clamp_min(limit))[counted]
    )
    assert (free.terms < plain.terms - 1e-6).any()
    with pytest.raises(ValueError, match="free_nats: expected a number of at least 0, got -1"):
        build(2, free_nats=-1)


def test_beta_weighs_the_divergence_alone(no_noise):
    model = build(3)
    batch = random_batch(model)
    free, full = model.loss(batch, beta=0.0), model.loss(batch, beta=1.0)
    counted = full.terms != 0
    torch.testing.assert_close((free.terms - full.terms)[counted], full.kl[counted])
    torch.testing.assert_close(free.elbo, full.elbo)


def test_training_lowers_the_loss():
    model = build(4, random_subsets=2)
    batch = random_batch(model)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = model.loss(batch).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.parametrize("complete", [False, True])
def test_mixed_precision_trains_on_nearly_the_same_loss(no_noise, complete):
    model = build(4).float()
    batch = random_batch(model, complete=complete)
    batch = Batch({n: v.float() if v.is_floating_point() else v for n, v in batch.values.items()}, batch.present)
    expected = model.loss(batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(batch).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random_subsets": -1}, "random_subsets: expected a number of at least 0, got -1"),
        ({"reconstruct": "all"}, "reconstruct: expected 'given', 'present' .*got 'all'"),
        ({"reconstruct": ["vector", "text"]}, "unknown modality 'text'; this model has vector, label"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(2, **options)
