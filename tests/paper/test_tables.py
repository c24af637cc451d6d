"""Pages and differences of Tables 2 and 3, from hand-made contents and from cells that were trained and scored."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mvae.files import read_json
from paper.__main__ import main
from paper.compared import folder_of
from paper.runner import Setup, page, read, run
from paper.tables import main_entries

# Table 2 and Table 3 of the paper as printed, model by model: BinaryMNIST, MNIST, FashionMNIST, MultiMNIST, CelebA.
DATASETS = ["binary-mnist", "mnist", "fashion-mnist", "multimnist", "celeba"]
PAPER = {
    ("table2", "marginal"): {
        "vae": [-86.313, -91.126, -232.758, -152.835, -6237.120],
        "bivcca": [-87.354, -92.089, -233.634, -202.490, -7263.536],
        "jmvae": [-86.305, -90.697, -232.630, -152.787, -6237.967],
        "mvae-q": [-91.665, -96.028, -236.081, -166.580, -6290.085],
        "mvae": [-86.026, -90.619, -232.535, -152.761, -6236.923],
        "mvae19": [None, None, None, None, -6236.109],
    },
    ("table2", "joint"): {
        "jmvae": [-86.371, -90.769, -232.948, -153.101, -6242.187],
        "mvae-q": [-92.259, -96.641, -236.827, -173.615, -6294.861],
        "mvae": [-86.255, -90.859, -233.007, -153.469, -6242.034],
        "mvae19": [None, None, None, None, -6239.944],
    },
    ("table2", "conditional"): {
        "cvae": [-83.448, -87.773, -229.667, None, -6228.771],
        "jmvae": [-83.985, -88.696, -230.396, -145.977, -6231.468],
        "mvae-q": [-90.024, -94.347, -234.514, -163.302, -6311.487],
        "mvae": [-83.970, -88.569, -230.695, -147.027, -6234.955],
        "mvae19": [None, None, None, None, -6233.340],
    },
    ("table3", "marginal"): {
        "vae": [22.264, 26.904, 25.795, 54.554, 56.291],
        "bivcca": [55.846, 93.885, 33.930, 185.709, 429.045],
        "jmvae": [39.427, 37.479, 53.697, 84.186, 331.865],
        "mvae-q": [34.300, 37.463, 34.285, 69.099, 100.072],
        "mvae": [22.181, 25.640, 20.309, 26.917, 73.923],
        "mvae19": [None, None, None, None, 71.640],
    },
    ("table3", "joint"): {
        "jmvae": [41.003, 40.126, 56.640, 91.850, 334.887],
        "mvae-q": [34.615, 38.190, 34.908, 64.556, 101.238],
        "mvae": [23.343, 27.570, 20.587, 27.989, 76.938],
        "mvae19": [None, None, None, None, 72.030],
    },
    ("table3", "conditional"): {
        "cvae": [21.203, 22.486, 12.748, None, 56.852],
        "jmvae": [23.877, 26.695, 26.658, 37.726, 81.190],
        "mvae-q": [34.719, 38.090, 34.978, 44.269, 101.223],
        "mvae": [19.478, 25.899, 18.443, 16.822, 73.885],
        "mvae19": [None, None, None, None, 71.824],
    },
}


@pytest.mark.parametrize(("table", "quantity"), PAPER)
def test_the_papers_numbers(table, quantity):
    printed = read("paper.yaml")[table][quantity]
    found = {model: [printed[dataset].get(model) for dataset in DATASETS] for model in PAPER[table, quantity]}
    assert found == PAPER[table, quantity]
    assert {model for column in printed.values() for model in column} == set(PAPER[table, quantity])


# Pages


def sections(text):
    """Heading to the cells of the table under it, row by row; of a second table, heading with a 2."""
    found = {}
    for part in text.split("\n## ")[1:]:
        tables = [block.splitlines() for block in part.split("\n\n") if block.startswith("|")]
        for number, lines in enumerate(tables, 1):
            rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
            assert len({len(row) for row in rows}) == 1
            found[part.splitlines()[0] + (f" {number}" if number > 1 else "")] = [rows[0], *rows[2:]]
    return found


def estimate(value, quantity, proposal=("image",), second=None):
    return {"quantity": quantity, "proposal": list(proposal), "second": second, "samples": 20} | {
        "nats": value,
        "error": 0.25,
        "monte_carlo_error": 0.01,
        "effective_sample_size": 3.0,
        "variance": -value,
        "variance_error": 0.5,
    }


def cell(dataset, model, *estimates, seed=0):
    made = {"commit": "abc", "command": "mvae reproduce table2", "machine": "a machine", "seconds": 1.0}
    return {"dataset": dataset, "model": model, "seed": seed, "epochs": 3, "rows": 1234} | {
        "trained": made,
        "scored": made,
        "estimates": list(estimates),
    }


def content(*cells, differences=()):
    return {
        "settings": {"preset": "smoke", "samples": 1000, "prior_samples": 5000},
        "provenance": {"command": "mvae reproduce table2", "machine": "a machine", "commit": "abc"},
        "cells": list(cells),
        "differences": list(differences),
    }


BOTH = ("image", "label")
MADE = content(
    cell("mnist", "vae", estimate(-1.5, "marginal")),
    cell("mnist", "cvae", estimate(-2.5, "conditional", BOTH)),
    cell(
        "fashion-mnist",
        "mvae",
        estimate(-3.5, "marginal"),
        estimate(-4.5, "joint"),
        estimate(-5.5, "conditional", second="q(z | label)"),
        estimate(-6.5, "marginal", BOTH),
        estimate(-7.5, "joint", BOTH),
        estimate(-8.5, "conditional", second="prior"),
        estimate(-9.5, "conditional", second="importance"),
        estimate(-10.5, "conditional", BOTH, "prior"),
        estimate(-11.5, "conditional", BOTH, "importance"),
        estimate(-12.5, "conditional", ("label",), "prior"),
        estimate(-13.5, "conditional", ("label",), "importance"),
    ),
    differences=[
        {
            "dataset": "fashion-mnist",
            "quantity": "marginal",
            "model": "vae",
            "minus": "mvae",
            "nats": 1.25,
            "error": 0.5,
        }
    ],
)


def test_table2_has_the_papers_numbers_beside_the_measured():
    found = sections(page("table2", MADE))
    head = ["", "MNIST", "paper", "FashionMNIST", "paper"]
    assert found["log p(image), proposal q(z | image)"] == [
        head,
        ["VAE", "-1.50 ± 0.25", "-91.126", "", "-232.758"],
        ["MVAE", "", "-90.619", "-3.50 ± 0.25", "-232.535"],
    ]
    assert found["log p(image, label), proposal q(z | image)"] == [
        head,
        ["MVAE", "", "-90.859", "-4.50 ± 0.25", "-233.007"],
    ]
    assert found["log p(image | label), proposal q(z | image)"] == [
        head,
        ["CVAE", "-2.50 ± 0.25", "-87.773", "", "-229.667"],
        ["MVAE", "", "-88.569", "-8.50 ± 0.25", "-230.695"],
    ]
    assert found["Differences from the MVAE on the same rows"] == [
        ["", "", "FashionMNIST"],
        ["log p(image)", "VAE", "+1.25 ± 0.50"],
    ]
    # the VAE has no joint or conditional, the CVAE stands in the main table only
    assert found["Proposal q(z | image, label), as in the paper's supplement"][1:] == [
        ["FashionMNIST", "MVAE", "-6.50 ± 0.25", "-7.50 ± 0.25", "-10.50 ± 0.25"]
    ]
    heads, row = found["Other ways to log p(image | label)"]
    ways = dict(zip(heads[2:], row[2:], strict=True))
    assert list(ways.values()) == ["-9.50 ± 0.25", "-12.50 ± 0.25", "-13.50 ± 0.25", "-11.50 ± 0.25"]
    assert ways["log p(image given label), q(z given label), log p(label) from the prior"] == "-12.50 ± 0.25"


def test_table3_has_variances_and_their_errors():
    found = sections(page("table3", MADE))
    assert found["log p(image, z) - log q(z | image)"][1:] == [
        ["VAE", "1.50 ± 0.50", "26.904", "", "25.795"],
        ["MVAE", "", "25.640", "3.50 ± 0.50", "20.309"],
    ]
    assert found["log p(image, z | label) - log q(z | image)"][1:] == [
        ["CVAE", "2.50 ± 0.50", "22.486", "", "12.748"],
        ["MVAE", "", "25.899", "8.50 ± 0.50", "18.443"],
    ]
    assert found["log p(image, z | label) - log q(z | image) 2"][1:] == [["FashionMNIST", "MVAE", "5.50 ± 0.50"]]
    assert found["Proposal q(z | image, label)"][1:] == [
        ["FashionMNIST", "MVAE", "6.50 ± 0.50", "7.50 ± 0.50", "10.50 ± 0.50"]
    ]


@pytest.mark.parametrize("table", ["table2", "table3"])
def test_pages_say_what_was_spent_and_by_what(table):
    text = " ".join(page(table, MADE).split())
    spent = "3 epochs; the first 1,234 test rows; 1,000 importance samples a row; 5,000 draws for log p(label)"
    size = "effective sample size of log p(image) 3.0 to 3.0"
    assert f"- MNIST: {spent} from the prior; {size} - FashionMNIST: {spent} from the prior; {size}" in text
    assert "1 seed. The preset `paper`, on the paper's scale, was not run." in text
    assert "standard error over rows" in text
    assert "Made on a machine, cells at commit abc, by `python -m paper table2`." in text
    assert f"`paper/results/{table}/smoke.json`" in text


def test_a_page_says_where_other_numbers_of_samples_and_a_part_of_the_data_were_taken():
    made = content({**cell("celeba", "mvae19", estimate(-1.5, "marginal")), "data": "9 of 20 faces"})
    made["settings"] |= {"samples_of": {"celeba": 100}, "prior_samples_of": {"celeba": 900}}
    text = " ".join(page("table2", made).split())
    assert "- CelebA (9 of 20 faces): 3 epochs; the first 1,234 test rows; 100 importance samples a row; 900 " in text
    assert sections(page("table2", made))["log p(image), proposal q(z | image)"][1:] == [
        ["MVAE19", "-1.50 ± 0.25", "-6236.109"]
    ]


@pytest.mark.parametrize("table", ["table2", "table3"])
def test_a_page_of_a_single_cell(table):
    found = sections(page(table, content(cell("mnist", "vae", estimate(-1.5, "marginal")))))
    filled = [row for rows in found.values() for row in rows[1:]]
    assert filled == [["VAE", "-1.50 ± 0.25" if table == "table2" else "1.50 ± 0.50", *filled[0][2:]]]


def test_several_seeds_show_their_mean_and_its_standard_error():
    values = [-1.0, -2.0, -4.5]
    cells = [cell("mnist", "vae", estimate(value, "marginal"), seed=seed) for seed, value in enumerate(values)]
    text = page("table2", content(*cells))
    error = np.std(values, ddof=1) / math.sqrt(3)
    assert f"| VAE | {np.mean(values):.2f} ± {error:.2f} | -91.126 |" in text
    assert "standard error over 3 seeds" in " ".join(text.split())


def test_main_entries_are_those_under_q_of_the_image_with_the_prior_behind():
    entries = main_entries(MADE["cells"][2]["estimates"])
    assert {entry["quantity"]: entry["nats"] for entry in entries} == {
        "marginal": -3.5,
        "joint": -4.5,
        "conditional": -8.5,
    }


# From cells that were trained and scored


@pytest.fixture
def measured(cells, tmp_path, in_turn):
    """Table 2 of two seeds of three models: the JSON, and a function from cell to its scores."""
    chosen, places = {"dataset": ["mnist"], "model": ["vae", "cvae", "mvae"]}, {"runs": cells / "runs"}
    setup = Setup(
        "table2", "smoke", tmp_path, data_dir=str(cells / "data"), chosen=chosen, options={"seeds": 2}, **places
    )
    list(run(setup))

    def values(model, quantity, seed):
        path = folder_of({"dataset": "mnist", "model": model, "seed": seed}, setup) / "scores.json"
        wanted = {
            "marginal": (["image"], None),
            "joint": (["image"], None),
            "conditional": (["image", "label"], None) if model == "cvae" else (["image"], "prior"),
        }[quantity]
        (found,) = (
            entry
            for entry in read_json(path)["estimates"]
            if (entry["quantity"], entry["proposal"], entry["second"]) == (quantity, *wanted)
        )
        return found

    return json.loads((tmp_path / "table2" / "smoke.json").read_text()), values


def test_differences_are_those_of_the_same_rows(measured):
    result, values = measured
    found = {(d["quantity"], d["model"]): d for d in result["differences"]}
    assert set(found) == {("marginal", "vae"), ("conditional", "cvae")}
    for (quantity, model), difference in found.items():
        rows = np.mean(
            [
                np.subtract(values(model, quantity, seed)["values"], values("mvae", quantity, seed)["values"])
                for seed in (0, 1)
            ],
            axis=0,
        )
        assert rows.shape == (20,)
        assert difference["nats"] == pytest.approx(rows.mean(), rel=1e-9)
        assert difference["error"] == pytest.approx(rows.std(ddof=1) / math.sqrt(20), rel=1e-9)
        assert difference["minus"] == "mvae"


def test_two_seeds_on_the_page(measured):
    result, values = measured
    found = sections(page("table2", result))["log p(image), proposal q(z | image)"]
    for title, model in (("VAE", "vae"), ("MVAE", "mvae")):
        nats = [values(model, "marginal", seed)["nats"] for seed in (0, 1)]
        assert nats[0] != nats[1]
        (row,) = (row for row in found if row[0] == title)
        assert row[1] == f"{np.mean(nats):.2f} ± {np.std(nats, ddof=1) / math.sqrt(2):.2f}"


def test_the_page_for_the_docs_is_the_one_on_screen(monkeypatch, capsys, copied, in_turn):
    monkeypatch.chdir(copied)
    Path("docs").mkdir()
    arguments = ["--dataset", "mnist", "--preset", "smoke", "--out", "out", "--runs", "runs", "--data-dir", "data"]
    assert main(["table3", *arguments, "--model", "vae", "--docs", "docs"]) == 0
    text = Path("docs/table3.md").read_text()
    assert text == page("table3", read_json(Path("out/table3/smoke.json")))
    assert text in capsys.readouterr().out
