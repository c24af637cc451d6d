"""The one table of options: what is declared is in it, and what is written from it agrees with it."""

import inspect
import json
import re
from pathlib import Path
from typing import ClassVar, Literal

import jsonargparse.typing
import pytest
from jsonargparse import ArgumentParser

import mvae
from mvae.cli.fit import FIT
from mvae.config import specs
from mvae.config.options import DERIVED, OPTIONS, placed, table
from mvae.config.specs import DataSpec, ModelSpec, SpecError, TrainingSpec, parse
from mvae.models import JMVAE, METHODS
from mvae.option import Option
from scripts.write_options import docs_page, flags, signature, with_signature, written

SOURCE, OWN_SOURCE = (Path(inspect.getsourcefile(one)).read_text(encoding="utf-8") for one in (mvae.fit, mvae.train))


def parser_of_fit():
    parser = ArgumentParser()
    FIT.add_arguments(parser)
    return parser


# Everything that is declared is in the table


@pytest.mark.parametrize(
    ("part", "spec", "others"),
    [
        ("training", TrainingSpec, set()),
        ("data", DataSpec, {"source", "table", "fingerprint"}),
        ("model", ModelSpec, {"modalities"}),
    ],
)
def test_every_field_of_a_spec_is_an_option_with_help_and_flag(part, spec, others):
    entries = {option.place: option for option in OPTIONS.values() if option.name not in DERIVED}
    for key in spec.model_fields.keys() - others:
        entry = entries[part, key]
        assert len(entry.help.split()) >= 3
        assert entry.flag.startswith("--")
        assert entry.default == (None if spec.model_fields[key].is_required() else spec.model_fields[key].default)


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_a_method_is_in_the_table_with_the_default_of_its_constructor(method):
    defaults = inspect.signature(METHODS[method]).parameters
    for name in METHODS[method].options:
        assert method in OPTIONS[name].methods
        assert OPTIONS[name].place == ("model", name)
        if name in defaults:
            assert OPTIONS[name].default == defaults[name].default
    # and what a constructor takes beside its parts has an entry
    parts = {"modalities", "latent_dim", "joint_encoder"}
    assert defaults.keys() - parts <= METHODS[method].options.keys()


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_share_an_option_say_the_same_of_it(method):
    for name, option in METHODS[method].options.items():
        assert (OPTIONS[name].help, OPTIONS[name].type) == (option.help, option.type)


# What is written from the table


def test_the_files_agree_with_the_table():
    for path, text in written().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python scripts/write_options.py"


def test_fit_shows_every_option_with_its_type():
    parameters = inspect.signature(mvae.fit).parameters
    assert [name for name in parameters if name in OPTIONS] == list(OPTIONS)
    shown = {name: parameters[name].annotation for name in OPTIONS}
    assert shown["epochs"] == "int | None"
    assert shown["patience"] == "int | None"
    assert shown["balance"] == "str | None"
    assert shown["keep"] == "Literal['best', 'last'] | None"
    assert shown["reconstruct"] == "Literal['given', 'present'] | Sequence[str] | None"
    assert shown["data_options"] == "Mapping[str, bool | int] | None"
    assert shown["shares"] == shown["weight"] == "Mapping[str, float] | None"
    assert shown["compile"] == "bool | None"
    assert all(parameters[name].default is None for name in OPTIONS)
    said = inspect.getdoc(mvae.fit)
    assert all(re.search(rf"^    {name}: \S", said, re.MULTILINE) for name in OPTIONS)


def test_train_shows_the_options_of_training_as_fit_does():
    shown, own = inspect.signature(mvae.fit).parameters, inspect.signature(mvae.train).parameters
    names = [name for name, option in OPTIONS.items() if option.place[0] == "training" and name != "steps"]
    assert [name for name in own if name in names] == names
    assert set(own) & set(OPTIONS) == {*names, "validation_rows"}
    assert all((own[name].annotation, own[name].default) == (shown[name].annotation, None) for name in names)
    said = inspect.getdoc(mvae.train)
    assert all(re.search(rf"^    {name}: \S", said, re.MULTILINE) for name in names)


def test_fit_hands_on_every_option(monkeypatch):
    class StopError(Exception):
        pass

    def prepared(source, *, options, **others):
        handed.update(options)
        raise StopError

    monkeypatch.setattr("mvae.training.fit.prepare", prepared)
    for name, option in OPTIONS.items():
        handed = {}
        with pytest.raises(StopError):
            mvae.fit("digits", **{name: {"label": 2.0} if name == "weight" else 1})
        assert option.place in [place[: len(option.place)] for place in handed]


def test_every_option_has_a_flag_and_a_place_in_the_docs():
    known = parser_of_fit().get_defaults().keys()
    assert set(OPTIONS) <= set(known)
    page = docs_page()
    for name, option in OPTIONS.items():
        assert page.count(f"| `{name}`, `{option.flag}` |") == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("epochs", "PositiveInt"),
        ("patience", "PositiveInt"),
        ("annealing_epochs", "NonNegativeInt"),
        ("random_subsets", "NonNegativeInt"),
        ("steps", "PositiveInt"),
        ("learning_rate", "PositiveFloat"),
        ("completion", "NonNegativeFloat"),
        ("alpha", "NonNegativeFloat"),
        ("mu", "ClosedUnitInterval"),
        ("surest", "ClosedUnitInterval"),
        ("best_by", "str"),
        ("keep", "choice"),
        ("compile", "bool"),
        ("weight", "pairs"),
        ("reconstruct", "names"),
    ],
)
def test_a_flag_reads_what_the_spec_takes(name, kind):
    (flag,) = (flag for flag in flags() if flag["name"] == name)
    assert flag["type"] == kind
    assert kind in ("str", "choice", "bool", "pairs", "names") or hasattr(jsonargparse.typing, kind)


def test_groups_of_help_teach():
    text = parser_of_fit().format_help()
    order = [text.index(f"\n{heading}:\n") for heading in ("Data", "Model", "Training", "Few labels", "Running")]
    assert order == sorted(order)
    assert order[3] < text.index("\n  --propagation") < order[4]


# Adding an option is one entry


class Training(TrainingSpec):
    momentum: float = specs.option(0.9, "how much of the last step stays", said="momentum {}")
    order: Literal["random", "as-is"] = specs.option("random", "the order of rows in an epoch")


class Extended(JMVAE):
    options: ClassVar = {**JMVAE.options, "depth": Option("how deep it goes", int, least=1)}


def test_adding_an_option_is_one_entry():
    options = table(training=Training, methods={**METHODS, "extended": Extended})
    assert options.keys() - OPTIONS.keys() == {"momentum", "order", "depth"}
    assert "    momentum: float | None = None,\n" in signature(options)
    assert '    order: Literal["random", "as-is"] | None = None,\n' in signature(options)
    source = with_signature(SOURCE, options)
    assert "        depth: extended: how deep it goes.\n" in source
    assert "        momentum: how much of the last step stays.\n" in source
    compile(source, "fit.py", "exec")
    new = {flag["name"]: flag for flag in flags(options) if flag["name"] not in OPTIONS}
    assert {name: flag["flag"] for name, flag in new.items()} == {
        "momentum": "--momentum",
        "order": "--order",
        "depth": "--depth",
    }
    assert (new["order"]["choices"], new["depth"]["type"], new["depth"]["place"]) == (
        ["random", "as-is"],
        "PositiveInt",
        "model.depth",
    )
    assert "| `momentum`, `--momentum` | `float` | `0.9` | how much of the last step stays |" in docs_page(options)
    assert with_signature(source) == SOURCE  # and what is there is replaced
    own = with_signature(OWN_SOURCE, {name: options[name] for name in ("epochs", "momentum", "seed")})
    assert "    epochs: int | None = None,\n    momentum: float | None = None,\n    seed: int | None = None,\n" in own
    compile(own, "train.py", "exec")
    json.dumps(flags(options))


# Where options go


def test_options_are_placed():
    found = placed({"epochs": 3, "method": None, "data_options": {"fewest": 1}, "weight": {"a": 2.0}, "alpha": 0.0})
    assert found == {
        ("training", "epochs"): 3,
        ("data", "options"): {"fewest": 1},
        ("model", "modalities", "a", "weight"): 2.0,
        ("model", "alpha"): 0.0,
    }


def test_a_paired_share_is_a_share_of_complete_rows():
    assert placed({"paired_share": 0.5}) == placed({"shares": {"complete": 0.5}})
    with pytest.raises(SpecError, match="expected shares or paired_share, not both"):
        placed({"paired_share": 0.5, "shares": {"image": 0.5}})


def test_best_by_keeps_the_best_unless_told():
    assert placed({"best_by": "label"})["training", "keep"] == "best"
    assert placed({"best_by": "label", "keep": "last"})["training", "keep"] == "last"


def test_a_method_refuses_nothing_of_its_own(tiny_config):
    for method, model in METHODS.items():
        values = {name: "point" if option.type is str else None for name, option in model.options.items()}
        spec = parse({**tiny_config, "model": {**tiny_config["model"], "method": method, **values}}, "mine")
        assert spec.model.options == {name: value for name, value in values.items() if value}
