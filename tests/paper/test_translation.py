"""Tables 4 and 5 on small files; what they say, against answers that are known."""

import json
import math
from pathlib import Path

import pytest
import torch

from mvae.config.build import build_model
from mvae.config.folder import load, read_spec
from mvae.config.specs import ModelSpec
from mvae.data.iwslt import load_iwslt
from mvae.data.texts import as_read
from mvae.evaluation.translation import quality_of_texts
from paper import collapse, translation, translation_view
from paper.__main__ import main
from paper.pages import mean
from paper.runner import CATALOG, page

SUBJECTS = {"the cat": "con mèo", "the dog": "con chó", "a child": "một đứa trẻ", "the big house": "ngôi nhà to"}
VERBS = {
    "sat on the mat .": "ngồi trên chiếu .",
    "ran very far .": "chạy rất xa .",
    "is here &quot; now &quot; .": "ở đây .",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translation")
    data = folder / "data" / "iwslt15-en-vi"
    data.mkdir(parents=True)
    pairs = [(f"{s} {v}", f"{a} {b}") for s, a in SUBJECTS.items() for v, b in VERBS.items()]
    for part, count in (("train", 60), ("tst2012", 24), ("tst2013", 24)):
        for number, language in enumerate(("en", "vi")):
            lines = [pairs[row % len(pairs)][number] for row in range(count)]
            (data / f"{part}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "docs").mkdir()
    return folder


@pytest.fixture(autouse=True)
def here(place, monkeypatch, nowhere):
    monkeypatch.chdir(place)


def reproduced(name, *options):
    return main([name, "--preset", "smoke", "--data-dir", "data", "--out", "out", *options])


def test_table4_scores_each_model_by_share(in_turn, capsys):
    assert reproduced("table4", "--docs", "docs") == 0
    content = json.loads(Path("out/table4/smoke.json").read_text())
    cells = {(cell["model"], cell["share"]): cell for cell in content["cells"]}
    few, everything = ("mvae", "mvae-annealed", "pairs", "nearest"), ("mvae", "mvae-annealed", "nearest")
    assert list(cells) == [(model, 0.1) for model in few] + [(model, 1.0) for model in everything]
    assert [cell["aligned"] for cell in cells.values()] == [6, 6, 6, 6, 60, 60, 60]
    # All test sentences are among the aligned ones: the nearest is the right one.
    assert cells["nearest", 1.0]["scores"]["bleu en to vi"] == pytest.approx(100)
    assert cells["nearest", 0.1]["scores"]["bleu en to vi"] < 100
    model = load("runs/reproduce/smoke/iwslt-en-vi/mvae-1/seed-0")
    test = load_iwslt("data", longest=10, fewest=1)[2]
    scores = cells["mvae", 1.0]["scores"]
    lengths = {name: model.modalities[name].lengths(test.values[name][:10]) for name in ("en", "vi")}
    for name in ("en", "vi"):
        perplexity = math.exp(-10 * scores[f"log p({name})"] / int(lengths[name].sum()))
        assert scores[f"perplexity({name})"] == pytest.approx(perplexity, rel=1e-6)
    z = model.posterior(test.only(["vi"])).mean
    written = [model.modalities["en"].alphabet.text(row) for row in model.modalities["en"].decoder(z).mode]
    truth = [as_read(line) for line in Path("data/iwslt15-en-vi/tst2013.en").read_text(encoding="utf-8").splitlines()]
    quality = quality_of_texts([as_read(text.replace("<unk>", "")) for text in written], truth)
    assert scores["bleu vi to en"] == pytest.approx(quality["bleu"])
    assert scores["chrf vi to en"] == pytest.approx(quality["chrf"])
    assert scores["log p(vi given en)"] == pytest.approx(scores["log p(joint)"] - scores["log p(en)"], abs=3)
    text = Path("docs/table4.md").read_text()
    assert text == page("table4", content)
    assert f"| 100 % (60) | -478.12 ± 3.02 | {scores['log p(joint)']:.2f} |" in text
    assert "mvae, 10 % aligned, seed 0: log p(joint)" in capsys.readouterr().out
    begun = len(in_turn)
    assert reproduced("table4", "--resume") == 0
    assert len(in_turn) == begun


def test_models_of_table4_may_be_chosen_and_added(in_turn, capsys):
    chosen = ["table4", "--preset", "smoke", "--data-dir", "data", "--out", "chosen", "--docs", "docs"]
    assert main([*chosen, "--model", "nearest"]) == 0
    assert {cell["model"] for cell in json.loads(Path("chosen/table4/smoke.json").read_text())["cells"]} == {"nearest"}
    assert main([*chosen, "--model", "nearest", "mvae", "--resume"]) == 0
    assert [label.split(",")[0] for label in in_turn] == ["nearest", "nearest", "mvae", "mvae"]
    assert main([*chosen, "--model", "pairs", "mvae-annealed", "--share", "1", "--resume"]) == 0
    assert in_turn[4:] == ["mvae-annealed, 100 % aligned, seed 0"]
    assert main([*chosen, "--model", "moses", "--resume"]) == 2
    assert "--model: expected some of mvae, mvae-annealed, pairs, nearest, got 'moses'" in capsys.readouterr().err


def test_table5_shows_sentences_chosen_by_a_rule_and_trains_nothing_twice(in_turn):
    assert reproduced("table4", "--resume") == 0
    weights = Path("runs/reproduce/smoke/iwslt-en-vi/mvae-annealed-1/seed-0/model.safetensors")
    trained = weights.stat().st_mtime_ns
    assert reproduced("table5", "--docs", "docs") == 0
    assert weights.stat().st_mtime_ns == trained
    content = json.loads(Path("out/table5/smoke.json").read_text())
    assert [cell["share"] for cell in content["cells"]] == [0.1, 1.0]
    sentences = content["cells"][1]["sentences"]
    assert len(sentences) == translation.SHOWN
    for language in ("en", "vi"):
        lines = Path(f"data/iwslt15-en-vi/tst2013.{language}").read_text(encoding="utf-8").splitlines()
        assert [one[language] for one in sentences] == [as_read(line) for line in lines[::3]]
    assert [one["en"] for one in sentences] == [one["en"] for one in content["cells"][0]["sentences"]]
    text = Path("docs/table5.md").read_text()
    assert text == page("table5", content)
    assert f"- **en** {sentences[0]['en']}\\\n  **→ vi** {sentences[0]['vi from en']}" in text


def test_a_cell_that_was_cut_short_goes_on_and_one_of_other_settings_is_refused(in_turn, capsys):
    arguments = ["table4", "--preset", "smoke", "--data-dir", "data", "--out", "again", "--runs", "again"]
    assert main(arguments) == 0
    folder = Path("again/smoke/iwslt-en-vi/mvae-1/seed-0")
    weights = (folder / "model.safetensors").read_bytes()
    for name in ("trained.json", "model.safetensors"):
        (folder / name).unlink()
    Path("again/table4/smoke.json").unlink()
    assert main(arguments) == 0
    assert (folder / "model.safetensors").read_bytes() == weights
    config = json.loads((folder / "config.json").read_text())
    config["training"]["learning_rate"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    Path("again/table4/smoke.json").unlink()
    assert main(arguments) == 2
    assert "mvae-1/seed-0 holds a run with other settings" in capsys.readouterr().err


def test_texts_are_shown_as_they_are():
    assert translation_view.plain_text("a <b> *c* [d]_") == r"a \<b\> \*c\* \[d\]\_"


def test_what_differs_between_the_models_is_how_they_are_trained():
    preset = CATALOG["table4"]["presets"]["cpu"]
    cells = ({"model": model, "share": 0.01, "seed": 0} for model in ("mvae", "mvae-annealed", "pairs"))
    plain, annealed, pairs = (translation._options(cell, preset, 1000, 10) for cell in cells)
    assert {place.split(".")[-1]: value for place, value in annealed.items() if plain.get(place) != value} == {
        "annealing_epochs": preset["epochs"],
        "keep": "last",
    }
    assert {place.split(".")[-1]: value for place, value in pairs.items() if plain.get(place) != value} == {
        "passes": 100,
        "patience": 1,
        "shares": None,
    }
    assert plain["training.shares"] == {"complete": translation.PAIRED_SHARE}


def test_means_are_over_seeds():
    cells = [{"model": "mvae", "share": 0.1, "aligned": 6, "scores": {"log p(en)": value}} for value in (-10.0, -12.0)]
    frame = translation_view.frame_of(cells)
    assert "| 10 % (6) | -11.00 ± 1.41 |" in translation_view.by_share(frame, "mvae", ["log p(en)"], mean(2))


def test_what_keeps_z_in_use_is_compared_on_validation_sentences(in_turn, capsys):
    variants = ["equal-time", "nothing", "bag", "both", "transformer"]
    assert reproduced("collapse", "--variant", *variants, "--docs", "docs") == 0
    content = json.loads(Path("out/collapse/smoke.json").read_text())
    cells = {cell["variant"]: cell for cell in content["cells"]}
    assert list(cells) == [*variants[1:], "equal-time"]
    specs = {name: read_spec(Path("runs/reproduce/smoke/collapse") / name) for name in cells}
    slower = max(("both", "transformer"), key=lambda name: cells[name]["trained"]["processor_seconds"])
    assert cells["equal-time"]["networks"] == slower
    assert specs["equal-time"] == specs[slower]  # an epoch is the least
    decoders = {name: spec.model.modalities["vi"].decoder for name, spec in specs.items()}
    # As many parameters as the recurrent networks, as near as a multiple of four in width can be.
    assert decoders["transformer"].kind == "transformer"
    wanted, width = cells["both"]["parameters"], decoders["transformer"].width
    for other in (width - 4, width + 4):
        spec = specs["transformer"].model.model_dump(mode="json")
        for language in ("en", "vi"):
            for network in ("encoder", "decoder"):
                spec["modalities"][language][network]["width"] = other
        count = sum(p.numel() for p in build_model(ModelSpec.model_validate(spec)).parameters())
        assert abs(count - wanted) >= abs(cells["transformer"]["parameters"] - wanted)
    rows = load_iwslt("data", longest=10, fewest=1)[1]
    model = load("runs/reproduce/smoke/collapse/both")
    found = model.posterior(rows.only(["en"]))
    q = torch.distributions.Normal(found.mean, found.stddev)
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1).mean().item()
    assert cells["both"]["held"]["en"] == pytest.approx(kl, rel=1e-4)
    text = Path("docs/collapse.md").read_text()
    assert text == page("collapse", content)
    assert "| Transformer |" in text
    assert "transformer: KL en " in capsys.readouterr().out


def timed(variant, seconds, resumed=False):
    return {
        "variant": variant,
        "elbos": [-3.0] * 5,
        "trained": {"processor_seconds": seconds, "resumed": resumed},
    }


def test_as_many_epochs_as_fit_are_an_equal_time():
    cells = [timed("nothing", 1.0), timed("both", 100.0), timed("transformer", 130.0)]
    assert collapse.in_equal_time(cells) == ("transformer", 3)
    cells = [timed("both", 1000.0), timed("transformer", 130.0)]
    assert collapse.in_equal_time(cells) == ("both", 1)
    for wanting in ([timed("both", 1.0)], [timed("both", 1.0), timed("transformer", 2.0, resumed=True)]):
        with pytest.raises(ValueError, match="equal-time: needs both and transformer first"):
            collapse.in_equal_time(wanting)


def test_a_part_of_the_data_is_not_the_papers(capsys):
    assert main(["table4", "--preset", "paper", "--data-dir", "data", "--out", "out"]) == 2
    assert "preset paper: expected all 133,317 training pairs, found " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variant", "word_dropout", "annealing", "cycles", "free", "bag"),
    [
        ("nothing", 0, 0, 1, None, 0),
        ("word-dropout", 0.38, 0, 1, None, 0),
        ("annealing", 0, 3, 1, None, 0),
        ("cycles", 0, 3, 4, None, 0),
        ("free-nats", 0, 0, 1, 10, 0),
        ("bag", 0, 0, 1, None, 1),
        ("fifth", 0.38, 1, 1, None, 0),
        ("both", 0.38, 3, 1, None, 0),
        ("all", 0.38, 3, 1, 10, 1),
    ],
)
def test_each_remedy_is_what_it_is_called(variant, word_dropout, annealing, cycles, free, bag):
    spec = collapse.spec_of(variant, CATALOG["collapse"]["presets"]["smoke"] | {"epochs": 3}, "data")
    assert (spec.training.annealing_epochs, spec.training.annealing_cycles) == (annealing, cycles)
    assert spec.model.options.get("free_nats") == free
    for modality in spec.model.modalities.values():
        assert (modality.decoder.word_dropout, modality.decoder.bag_of_words) == (word_dropout, bag)
