"""Runs for other machines: they load there and answer alike."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mvae
from mvae import export, hub
from mvae.cli import main
from mvae.files import RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits"
    mvae.fit("digits", out=folder, epochs=1, progress=False)
    assert main(["evaluate", str(folder), "--samples", "3", "--limit", "20"]) == 0
    return folder


@pytest.mark.parametrize("name", ["shared", "shared.zip"])
def test_what_is_exported_loads_and_says_the_same(run, tmp_path, name, capsys):
    assert main(["export", str(run), "--out", str(tmp_path / name)]) == 0
    assert "README.md" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [name]
    moved = tmp_path / f"moved-{name}"
    (tmp_path / name).rename(moved)
    given = {"label": 3}
    expected, found = mvae.load(run).posterior(given).mean, mvae.load(moved).posterior(given).mean
    assert torch.equal(expected, found)


def test_the_card_says_what_it_is_and_how_well_it_does(run):
    card = export.model_card(run)
    report = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert "# digits, mvae" in card
    assert "| label | one value | categorical |" in card
    assert f"accuracy of label from image: {100 * report['accuracy'][0]['accuracy']:.1f} %" in card


def test_a_table_takes_its_columns_along(tmp_path):
    frame = pd.DataFrame({"a": np.arange(40.0) % 7, "b": ["x", "y"] * 20, "n": [f"id{n}" for n in range(40)]})
    frame.loc[3, "a"] = None
    mvae.fit(frame, out=tmp_path / "run", epochs=1, progress=False)
    export.export(tmp_path / "run", tmp_path / "run.zip")
    found = mvae.impute(tmp_path / "run.zip", frame).frame
    assert found.equals(mvae.impute(tmp_path / "run", frame).frame)
    assert "| n | left-out | an identifier" in export.model_card(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "&#60;script&#62;alert(1)&#60;/script&#62;"),
        ("[x](javascript:f) a|b", "&#91;x&#93;(javascript:f) a&#124;b"),
        ("`__init__` *x*\n# y", "&#96;&#95;&#95;init&#95;&#95;&#96; &#42;x&#42; &#35; y"),
        ("see http://x.y or www.x.y, me@x.y", "see http&#58;//x.y or www&#46;x.y, me&#64;x.y"),
        ("petal_length (cm)", "petal_length (cm)"),
    ],
)
def test_names_are_text_in_the_card(tmp_path, name, shown):
    assert export.as_markdown(name) == shown
    frame = pd.DataFrame({name: np.arange(40.0) % 7, "b": ["x", "y"] * 20})
    mvae.fit(frame, out=tmp_path / "run", epochs=1, progress=False, groups={name + "s": [name], "bs": ["b"]})
    card = export.model_card(tmp_path / "run")
    assert name not in card or name == shown
    assert f"| {shown} | number |" in card
    assert f"| {export.as_markdown(name + 's')} | " in card


def test_programs_run_without_this_package(run, tmp_path):
    export.export(run, tmp_path / "shared", programs=True)
    model = mvae.load(run)
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        expected = model.modalities["image"].encoder(images)[0]
        z = torch.randn(3, model.latent_dim)
        parameters = model.modalities["label"].decoder.network(z)
    torch.save((images, z), tmp_path / "inputs.pt")
    code = (
        "import sys, torch; sys.modules['mvae'] = None\n"
        "images, z = torch.load('inputs.pt')\n"
        "encoder = torch.export.load('shared/programs/image.encoder.pt2').module()\n"
        "decoder = torch.export.load('shared/programs/label.decoder.pt2').module()\n"
        "torch.save((encoder(images)[0].detach(), decoder(z).detach()), 'outputs.pt')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    found = torch.load(tmp_path / "outputs.pt")
    assert torch.allclose(found[0], expected, atol=1e-5)
    assert torch.allclose(found[1], parameters, atol=1e-5)


class LocalHub:
    """What `huggingface_hub.HfApi` does, in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create_repo(self, repository, private, exist_ok):
        assert exist_ok
        (self.root / repository).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, repo_id, folder_path, commit_message):
        assert commit_message
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"local/{repo_id}"

    def snapshot_download(self, repository, local_dir, allow_patterns):
        for name in allow_patterns:
            if (self.root / repository / name).exists():
                Path(local_dir).mkdir(exist_ok=True)
                shutil.copy(self.root / repository / name, local_dir)


def test_the_hub_gives_back_what_it_was_given(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hub, "_hub", lambda: LocalHub(tmp_path / "hub"))
    assert main(["export", str(run), "--to-hub", "me/digits"]) == 0
    assert "local/me/digits" in capsys.readouterr().out
    (tmp_path / "hub" / "me" / "digits" / "evil.py").write_text("raise SystemExit", encoding="utf-8")
    assert main(["export", str(tmp_path / "back"), "--from-hub", "me/digits"]) == 0
    assert not (tmp_path / "back" / "evil.py").exists()
    assert torch.equal(
        mvae.load(tmp_path / "back").posterior({"label": 3}).mean, mvae.load(run).posterior({"label": 3}).mean
    )
    shutil.rmtree(tmp_path / "hub" / "me" / "digits")
    (tmp_path / "hub" / "me" / "digits").mkdir()
    with pytest.raises(RunError, match="is not a run"):
        hub.pull("me/digits", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "there"], "there exists; choose another name or delete it"),
        (["--out", "no/such"], "no folder"),
        ([], "expected one of --out, --to-hub and --from-hub"),
        (["--out", "a", "--to-hub", "b/c"], "expected one of"),
    ],
)
def test_faults_are_named(run, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert main(["export", str(run), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_what_is_no_run_is_not_exported(tmp_path):
    with pytest.raises(RunError, match="not a run"):
        export.export(tmp_path, tmp_path / "out.zip")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(RunError, match="damaged"):
        mvae.load(tmp_path / "bad.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]
