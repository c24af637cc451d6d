"""Sentences and their translations, from small files in the originals' formats."""

import json
import os

import pytest
import torch

import mvae
from mvae.cli import main
from mvae.config.folder import read_spec
from mvae.config.recipes import resolve
from mvae.data.iwslt import load_iwslt, part_of_iwslt, vocabularies
from mvae.data.sources import load_dataset
from mvae.files import DataError
from mvae.generation.translate import translate_texts
from mvae.training.loop import Loop

ENGLISH = ["the cat sat", "the dog", "", "the cat sat on the mat", "a rare word"]
VIETNAMESE = ["con mèo ngồi", "con chó", "con mèo", "con mèo ngồi trên chiếu", ""]


def write(folder, name, lines, ending="\n"):
    (folder / name).write_text("".join(line + ending for line in lines), encoding="utf-8", newline="")


@pytest.fixture
def place(tmp_path, nowhere):
    folder = tmp_path / "iwslt15-en-vi"
    folder.mkdir()
    for part, rows in (("train", slice(None)), ("tst2012", slice(0, 2)), ("tst2013", slice(3, 4))):
        write(folder, f"{part}.en", ENGLISH[rows])
        write(folder, f"{part}.vi", VIETNAMESE[rows], "\r\n")
    write(folder, "vocab.en", ["<unk>", "<s>", "</s>", "cat", "the", "dog", "sat", "absent"])
    write(folder, "vocab.vi", ["<unk>", "<s>", "</s>", "con", "mèo", "ngồi"])
    return folder


def test_words_are_those_of_the_vocabulary_that_stand_often_enough(place):
    assert vocabularies(place)["en"].words == ("cat", "the", "sat")
    assert vocabularies(place, fewest=1)["en"].words == ("cat", "the", "dog", "sat")
    (place / "vocab.en").unlink()
    assert vocabularies(place)["en"].words == ("the", "cat", "sat")


def test_sentences_become_symbols_and_an_empty_line_is_absent(place):
    train, validation, test = load_iwslt(place, longest=5)
    words = vocabularies(place)
    assert [len(part) for part in (train, validation, test)] == [5, 2, 1]
    for name, lines in (("en", ENGLISH), ("vi", VIETNAMESE)):
        for row, line in enumerate(lines):
            assert train.present[name][row] == bool(line)
            kept = line.split()[:5]
            said = words[name].text(train.values[name][row])
            assert said == " ".join(word if word in words[name].words else "<unk>" for word in kept)
    assert test.values["vi"].tolist() == [words["vi"].symbols("con mèo ngồi ? ?", 5).tolist()]


def test_files_without_a_line_feed_at_the_end_are_whole(place):
    path = place / "train.en"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert len(load_iwslt(place)[0]) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.vi", b"con\ncon\n", r"train.vi: 2 lines, and train.en has 5; expected a translation a line"),
        ("train.en", b"the\n\xff\nc\nd\ne\n", r"train.en, line 2: not UTF-8: invalid start byte at byte 0"),
        ("vocab.en", b"<unk>\nthe cat\n", r"vocab.en, line 2: expected one word, got 'the cat'"),
        ("vocab.vi", b"con\nm\ncon\n", r"vocab.vi, line 3: 'con' is in line 1 already"),
        ("train.en", b"", r"train.vi: 5 lines, and train.en has 0"),
    ],
)
def test_a_fault_is_named_with_its_line(place, name, content, message):
    (place / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_iwslt(place)


def test_without_files_it_says_where_they_were_looked_for(nowhere):
    with pytest.raises(DataError, match=r"no iwslt15-en-vi files in .*Put train.en, train.vi, tst2012.en"):
        load_iwslt()


def test_a_row_without_either_is_no_row(place):
    write(place, "train.en", ["the cat", "", "the cat"])
    write(place, "train.vi", ["con mèo", "", ""])
    train = load_iwslt(place)[0]
    assert len(train) == 2
    assert train.present["vi"].tolist() == [True, False]
    assert part_of_iwslt(place) == "3 of 133,317 training pairs, 2 of them with an empty side (first: line 2)"


def test_options_below_one_are_refused(place):
    with pytest.raises(ValueError, match="longest, fewest: expected at least 1, got 0 and 2"):
        load_iwslt(place, longest=0)


def test_a_run_learns_the_words_and_loads_without_the_data(place, tmp_path):
    networks = {"encoder": {"embedding": 4, "hidden": 4}, "decoder": {"embedding": 4, "hidden": 4}}
    config = {"model": {"latent_dim": 2, "modalities": {"en": networks, "vi": networks}}}
    options = {"data_options": {"fewest": 1, "longest": 6}, "config": config, "progress": False}
    mvae.fit("iwslt-en-vi", data_dir=place, out=tmp_path / "run", epochs=1, **options)
    spec = read_spec(tmp_path / "run")
    assert spec.model.modalities["en"].likelihood.words == ["cat", "the", "dog", "sat"]
    for path in place.iterdir():
        path.unlink()
    model = mvae.load(tmp_path / "run")
    assert model.modalities["en"].shape == (6,)
    rows = model.modalities["en"].alphabet.symbols("the cat", 6).unsqueeze(0)
    assert model.posterior({"en": rows}).mean.shape == (1, 2)


def test_padding_changes_nothing(place):
    """Of a model of sentences: more room for words, the same words, and the same terms of the bound."""
    torch.manual_seed(0)
    config = {"model": {"latent_dim": 2, "modalities": {}}}
    for name in ("en", "vi"):
        networks = {"encoder": {"embedding": 4, "hidden": 4}, "decoder": {"embedding": 4, "hidden": 4}}
        config["model"]["modalities"][name] = networks
    model = mvae.fit("iwslt-en-vi", data_dir=place, epochs=1, config=config, progress=False).eval()
    rows = load_iwslt(place)[0]
    z = torch.randn(len(rows), 2)
    for name in ("en", "vi"):
        here = rows.present[name]
        part, short = model.modalities[name], rows.values[name][here][:, :8]
        assert int(part.lengths(rows.values[name]).max()) < 8
        for whole, cut in zip(part.encoder(rows.values[name][here]), part.encoder(short), strict=True):
            torch.testing.assert_close(whole, cut)
        distribution = part.decoder(z[here])
        torch.testing.assert_close(distribution.log_prob(rows.values[name][here]), distribution.log_prob(short))


def test_batches_are_of_sentences_of_about_the_same_length(place):
    dataset = load_dataset("iwslt-en-vi", data_dir=place)
    config = {"model": {"latent_dim": 2, "modalities": {}}}
    model = mvae.fit("iwslt-en-vi", data_dir=place, epochs=1, config=config, progress=False)
    order = Loop(model, resolve("iwslt-en-vi", None, {}).training, dataset).batches.order
    assert order.lengths.tolist() == [4, 3, 3, 7, 4]  # the longer of both, and the end


def test_what_z_holds_of_each_language_is_told_in_training(place, tmp_path, capsys):
    arguments = ["fit", "iwslt-en-vi", "--data-dir", str(place), "--epochs", "1", "--latent-dim", "2"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())["history"][-1]
    model, rows = mvae.load(tmp_path / "run"), load_iwslt(place)[1]
    for name in ("en", "vi"):
        found = model.posterior(rows.only([name]))
        posterior = torch.distributions.Normal(found.mean, found.stddev)
        prior = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
        expected = torch.distributions.kl_divergence(posterior, prior).sum(-1).mean().item()
        assert record[f"validation/kl/{name}"] == pytest.approx(expected, rel=1e-4)
    said, bar = capsys.readouterr()
    assert f"z holds {record['validation/kl/en']:.2f} nats of en" in said
    assert f"z holds en {record['validation/kl/en']:.2f}, vi {record['validation/kl/vi']:.2f} nats" in bar
    assert ("it has collapsed" in said) == (min(record["validation/kl/en"], record["validation/kl/vi"]) < 0.1)


def test_few_pairs_are_asked_for_of_the_complete_rows(place):
    train = load_dataset("iwslt-en-vi", data_dir=place, paired_fraction=0.34).train
    whole = train.presence(["en", "vi"])
    assert whole.sum(1).tolist().count(2) == 1  # of three
    assert whole[2].tolist() == [False, True]
    assert whole[4].tolist() == [True, False]


def test_other_words_than_the_run_learned_are_refused(place, tmp_path, capsys):
    arguments = ["fit", "iwslt-en-vi", "--data-dir", str(place), "--epochs", "1", "--latent-dim", "2"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--data-dir", str(place), "--samples", "3"]) == 0
    write(place, "vocab.en", ["<unk>", "the", "cat", "sat"])
    assert main(["evaluate", str(tmp_path / "run"), "--data-dir", str(place), "--samples", "3"]) == 2
    assert "en: the words of the training sentences (3) are not those that the model has learned (3)" in (
        capsys.readouterr().err
    )
    assert main([*arguments, "--out", str(tmp_path / "run"), "--resume"]) == 2


@pytest.mark.skipif("MVAE_DATA" not in os.environ, reason="needs the real files")
def test_the_real_files():
    dataset = load_dataset("iwslt-en-vi")
    assert "10,000 of 133,317 training pairs" in dataset.description
    assert (len(dataset.validation), len(dataset.test)) == (1553, 1268)
    assert len(dataset.train) == 10_000
    assert 1 <= int((~dataset.train.presence(["en", "vi"])).any(1).sum()) <= 3
    words = vocabularies()
    unknown = (dataset.test.values["en"] == words["en"].unknown).sum() / (
        dataset.test.values["en"] != words["en"].end
    ).sum()
    assert 0 < unknown < 0.1
    assert torch.equal(dataset.train.values["en"].max(), torch.tensor(words["en"].end))


def test_sentences_in_pieces_have_no_unknown_word_and_are_cut_at_the_longest(place):
    train, _, _ = load_iwslt(place, longest=7, pieces=60)
    words = vocabularies(place, pieces=60)
    for name, lines in (("en", ENGLISH), ("vi", VIETNAMESE)):
        for row, line in enumerate(lines):
            said, symbols = words[name].text(train.values[name][row]), train.values[name][row]
            assert line.startswith(said)
            assert said == line or (symbols < words[name].unknown).all()  # all seven are pieces where it is cut
            assert bool(said) == bool(line)
    with pytest.raises(ValueError, match="pieces: expected at least 0, got -1"):
        load_iwslt(place, pieces=-1)


def test_a_run_in_pieces_reads_and_writes_words_when_it_is_loaded_again(place, tmp_path):
    small = {"embedding": 4, "hidden": 4}
    language = {"encoder": small, "decoder": small}
    config = {
        "data": {"options": {"longest": 9, "pieces": 60}},
        "model": {"latent_dim": 3, "modalities": {"en": language, "vi": language}},
    }
    out = tmp_path / "run"
    mvae.fit("iwslt-en-vi", config=config, epochs=1, data_dir=str(place), out=out, progress=False)
    model = mvae.load(out)
    alphabet = model.modalities["en"].alphabet
    assert alphabet == vocabularies(place, pieces=60)["en"]
    assert alphabet.pieces
    known, strange = translate_texts(model, ["the cat sat on the mat", "the ☃ sat"], "en", "vi")
    assert known.unknown == ()
    assert known.cut == max(0, len(alphabet.symbols("the cat sat on the mat", 30).unique_consecutive()) - 1 - 9)
    assert strange.unknown == ("☃",)
    mvae.fit("iwslt-en-vi", epochs=2, data_dir=str(place), out=out, progress=False, resume=True)
