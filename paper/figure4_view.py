"""The docs page of Figure 4, made from its results."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from paper.pages import mean, pivot
from paper.runner import CATALOG

SOURCE, DRAWS = "vision", 3
ENTRY = CATALOG["figure4"]
RECIPES, BASELINES, MEASURES = ENTRY["choices"]["recipe"], ENTRY["baselines"], ENTRY["measures"]
LIT = {"edge": 0.2, "mask": 0.5}
"""From which level on a pixel of the truth is: the edges, one pixel wide, have become grey in being made smaller."""
DIRECTIONS = {(given, wanted): title for given, wanted, title in ENTRY["directions"]}
MADE = ("gray", "obscured", "watermark")
"""Images made of other modalities, by which recipes are compared."""
WAYS = {"model": "the model alone", "with certain": "with what is sure put in"}


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: each direction by recipe and way, and the recipe that is best on validation rows."""
    cells = {name: cell for name in RECIPES for cell in content["cells"] if cell["recipe"] == name}
    names = {name: RECIPES[name]["title"] for name in cells}
    frame = pd.DataFrame(
        {"recipe": name, "part": part, **one}
        for name, cell in cells.items()
        for part in ("validation", "test")
        for one in cell[part]
    )
    for name, (_, scale, digits) in MEASURES.items():
        if name in frame:
            frame[f"{name}_shown"] = (scale * frame[name]).map(f"{{:.{digits}f}}".format, na_action="ignore")
    frame["both"] = frame["psnr_shown"] + ", " + frame["ssim_shown"]
    held, test = (frame[frame["part"] == part] for part in ("validation", "test"))
    held = held[(held["way"] == "model") & (held["wanted"] == "image")]
    best = held[held["given"].isin(MADE)].groupby("recipe")["ssim"].mean().loc[list(cells)].idxmax()
    to_image = {given: title for (given, wanted), title in DIRECTIONS.items() if wanted == "image"}
    ways = {
        pair: part.set_index("way").to_dict("index")
        for pair, part in test[test["recipe"] == best].groupby(["given", "wanted"])
    }
    verdicts = {given: ways[given, "image"] for given in MADE if (given, "image") in ways}
    return {
        "some": next(iter(cells.values())),
        "directions": {DIRECTIONS[pair].capitalize(): _direction(test, pair, names) for pair in DIRECTIONS},
        "verdicts": {(DIRECTIONS[name, "image"].capitalize(), BASELINES[name]): one for name, one in verdicts.items()},
        "ahead": sum(one["model"]["ssim"] > one["baseline"]["ssim"] for one in verdicts.values()),
        "lines": {DIRECTIONS["image", name].capitalize(): ways.get(("image", name), {}) for name in LIT},
        "validation": pivot(held, {"recipe": names}, {"given": to_image}, mean(), "both", ["PSNR in dB, SSIM"]),
        "best": RECIPES[best],
        "source": SOURCE,
        "draws": DRAWS,
        "lit": LIT,
        "pictures": [(names[name], cells[name]["file"]) for name in dict.fromkeys([best, next(iter(cells))])],
    }


def _direction(test: pd.DataFrame, pair: tuple[str, str], names: Mapping[str, str]) -> str:
    """A table of a direction: the simplest way, then each recipe in each way."""
    given, wanted = pair
    part = test[(test["given"] == given) & (test["wanted"] == wanted)]
    if part.empty:
        return "No row has it."
    rows = {next(iter(names)) + "/baseline": BASELINES.get(given if wanted == "image" else wanted, "")}
    for name, title in names.items():
        sure = {way: f"{title}; {words}" for way, words in WAYS.items()}
        ways = sure if given in ("gray", "obscured") else {"model": title}
        rows |= {f"{name}/{way}": words for way, words in ways.items()}
    part = part.assign(row=part["recipe"] + "/" + part["way"])
    measures = {f"{name}_shown": title for name, (title, _, _) in MEASURES.items()}
    return pivot(part, {"row": rows}, {"": {name: title for name, title in measures.items() if name in part}}, "".join)
