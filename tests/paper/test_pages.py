"""Each page of docs/experiments is what its writer makes of the committed results, byte for byte."""

import json
import re
from functools import partial
from pathlib import Path

import pytest

from paper.runner import page

ROOT = Path(__file__).parents[2]
WRITERS = {
    "table1": ("table1.json", partial(page, "table1")),
    "digits": ("digits.json", partial(page, "digits")),
    "digits-validated": ("digits-validated.json", partial(page, "digits")),
    "reconstruct-mnist": ("reconstruct-mnist.json", partial(page, "reconstruct")),
    "table2": ("table2/cpu.json", partial(page, "table2")),
    "table3": ("table3/cpu.json", partial(page, "table3")),
    "figure2": ("figure2/cpu.json", partial(page, "figure2")),
    "figure3": ("figure3/cpu.json", partial(page, "figure3")),
    "few-pairs": ("few-pairs/cpu.json", partial(page, "few-pairs")),
    "k-effect": ("k-effect/cpu.json", partial(page, "k-effect")),
    "dropping": ("dropping/cpu.json", partial(page, "dropping")),
    "attributes": ("attributes/cpu.json", partial(page, "attributes")),
    "figure4": ("figure4/cpu.json", partial(page, "figure4")),
    "table4": ("table4/cpu.json", partial(page, "table4")),
    "table5": ("table5/cpu.json", partial(page, "table5")),
    "collapse": ("collapse/cpu.json", partial(page, "collapse")),
    "imputation": ("imputation/cpu.json", partial(page, "imputation")),
}
BY_HAND = {"reading-tables"}
PAGES = ROOT / "docs" / "experiments"


def test_every_page_has_a_writer():
    assert {path.stem for path in (ROOT / "docs" / "experiments").glob("*.md")} == WRITERS.keys() | BY_HAND


@pytest.mark.parametrize("name", WRITERS)
def test_a_page_is_what_its_results_give(name):
    results, page = WRITERS[name]
    content = json.loads((ROOT / "paper" / "results" / results).read_text(encoding="utf-8"))
    assert page(content) == (ROOT / "docs" / "experiments" / f"{name}.md").read_text(encoding="utf-8")


def test_each_number_of_the_page_by_hand_stands_in_a_table():
    known = " ".join((PAGES / f"{name}.md").read_text(encoding="utf-8") for name in ("table2", "table3", "figure2"))
    text = (PAGES / "reading-tables.md").read_text(encoding="utf-8")
    numbers = set(re.findall(r"-?\d+\.\d+(?: ± \d+\.\d+| %)?", text)) - {"0.01", "0.3"}  # alpha; the paper's rounding
    assert len(numbers) > 10
    assert [number for number in numbers if number not in known] == []


@pytest.mark.parametrize("name", WRITERS)
def test_a_page_begins_with_its_result(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    first, *rest = [part for part in text.split("\n\n") if not part.startswith("#")]
    assert not first.startswith(("|", "!"))
    if (ROOT / "paper" / "results" / name / "cpu.json").exists():
        assert "Preset `cpu`" in " ".join([first, *rest[:4]])
        assert "was not run" in " ".join([first, *rest[:4]])
