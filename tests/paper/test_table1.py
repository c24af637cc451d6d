"""Table 1: the paper's counts, written here a second time, and the count over subsets against enumeration."""

import itertools
import json

import pytest
from torch import nn

from paper import table1
from paper.runner import Setup, page, run
from paper.table1 import count_subset_networks

PAPER = {
    ("mnist", "vae"): 730_240,
    ("mnist", "cvae"): 735_360,
    ("mnist", "bivcca"): 1_063_680,
    ("mnist", "jmvae"): 2_061_184,
    ("mnist", "mvae-q"): 1_063_680,
    ("mnist", "mvae"): 1_063_680,
    ("fashion-mnist", "vae"): 3_409_536,
    ("fashion-mnist", "cvae"): 3_414_656,
    ("fashion-mnist", "bivcca"): 3_742_976,
    ("fashion-mnist", "jmvae"): 7_682_432,
    ("fashion-mnist", "mvae-q"): 3_742_976,
    ("fashion-mnist", "mvae"): 3_742_976,
    ("multimnist", "vae"): 1_316_936,
    ("multimnist", "bivcca"): 1_841_936,
    ("multimnist", "jmvae"): 4_075_064,
    ("multimnist", "mvae-q"): 1_841_936,
    ("multimnist", "mvae"): 1_841_936,
    ("celeba", "vae"): 4_070_472,
    ("celeba", "cvae"): 4_079_688,
    ("celeba", "bivcca"): 4_447_504,
    ("celeba", "jmvae"): 9_052_504,
    ("celeba", "mvae-q"): 4_447_504,
    ("celeba", "mvae"): 4_447_504,
    ("celeba19", "jmvae"): 3_625_900_000_000,
    ("celeba19", "mvae"): 10_857_048,
}
NOT_EXACT = {("multimnist", "jmvae"): 4_008_728, ("celeba19", "jmvae"): 3_625_947_537_120}


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table1")
    return list(run(Setup("table1", folder=folder))), json.loads((folder / "table1.json").read_text()), folder


@pytest.mark.parametrize(("entry", "count"), PAPER.items())
def test_counts_are_the_papers(counted, entry, count):
    (cell,) = (cell for cell in counted[1]["cells"] if (cell["dataset"], cell["model"]) == entry)
    assert cell["paper"] == count
    assert cell["parameters"] == NOT_EXACT.get(entry, count)


def test_nothing_else_is_in_the_table(counted):
    assert {(cell["dataset"], cell["model"]) for cell in counted[1]["cells"]} == set(PAPER)
    assert counted[1]["others"] == {"embedding": 10_663_512, "subsets": 2**19 - 19 - 1}
    assert [line.partition(":")[0] for line in counted[0]] == list(table1.TITLES.values())


def test_the_page_says_exact_where_it_is(counted):
    lines = [
        line.strip("| ").split(" | ") for line in page("table1", counted[1]).splitlines() if line.startswith("| ")
    ][2:]
    verdicts = {(title, model): verdict for title, model, _, _, verdict in lines}
    titles = {entry: table1.TITLES[entry[0]] for entry in PAPER}
    exact = [verdict for (title, _), verdict in verdicts.items() if title != "CelebA19"]
    assert len(verdicts) == len(set(titles)) == 25
    assert exact.count("exact") == 22
    assert verdicts["MultiMNIST", "JMVAE"] == "-66,336 [1]"
    assert verdicts["CelebA19", "MVAE19"].startswith("exact [")
    assert verdicts["CelebA19", "JMVAE19"].startswith("exact [")
    assert "| 3,625,947,537,120 | 3.6259e+12 |" in page("table1", counted[1])
    for note in range(1, 4):
        assert f"\n{note}. " in page("table1", counted[1])


def test_counting_again_is_refused_or_keeps_what_is_there(counted):
    _, content, folder = counted
    with pytest.raises(ValueError, match="already there"):
        next(run(Setup("table1", folder=folder)))
    list(run(Setup("table1", folder=folder, resume=True)))
    assert json.loads((folder / "table1.json").read_text())["cells"] == content["cells"]


@pytest.mark.parametrize("attributes", [1, 2, 4])
def test_networks_of_all_subsets_against_enumeration(monkeypatch, attributes):
    monkeypatch.setattr(table1, "ATTRIBUTES", attributes)
    latent_dim, hidden, width = 3, 7, 4

    def features(name):
        """A small network for the image or an attribute, and how many features it gives."""
        if name == "image":
            return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten()), 2 * 3 * 3
        return nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width)), width

    total = 0
    names = ["image", *range(attributes)]
    for size in range(2, len(names) + 1):
        for subset in itertools.combinations(names, size):
            parts = [features(name) for name in subset]
            layers = nn.Linear(sum(number for _, number in parts), hidden), nn.Linear(hidden, 2 * latent_dim)
            network = nn.ModuleList([*(part for part, _ in parts), *layers])
            total += sum(parameter.numel() for parameter in network.parameters())

    def size_of(name):
        return sum(parameter.numel() for parameter in features(name)[0].parameters())

    assert total == count_subset_networks(size_of("image"), 18, size_of(0), width, hidden, latent_dim)


def test_jmvae19_from_the_shapes_of_its_layers():
    # details.md, section 6: convolutions 690,560 to 6400; each attribute 18-512 BN 512-512 BN; all to 512; 512 to 200
    attribute = 18 * 512 + 512 + 2 * 512 + 512 * 512 + 512 + 2 * 512
    assert attribute == 274_432
    assert count_subset_networks(690_560, 6400, attribute, 512, 512, 100) == 3_625_947_537_120
