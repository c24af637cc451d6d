"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mvae import __version__
from mvae.experiments.commands import Help, add_reproduce_arguments

if TYPE_CHECKING:
    from mvae.runs import Run

__all__ = ["main"]

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `mvae` with these arguments; those of the process where None.

    Returns:
        The exit status: 0, 1 for what went wrong while working, 2 for wrong input, 130 after Ctrl-C.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    options = chosen[chosen.command]
    command: Callable[[Namespace], int] = _COMMANDS[chosen.command]
    try:
        return command(options)
    except ArithmeticError as error:
        return _fail(error, 1)
    except (ValueError, OSError) as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


def _fail(error: Exception, status: int) -> int:
    if os.environ.get("MVAE_DEBUG"):
        raise error
    print(f"mvae: {error}", file=sys.stderr)
    return status


# What can be said


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mvae",
        formatter_class=Help,
        description="Learn one joint distribution over several kinds of data, with any of them missing, and answer in"
        " any direction: classify, generate, fill in, score.",
        epilog="Start with: mvae fit digits --paired-fraction 0.1 --out runs/first",
        version=__version__,
    )
    commands = parser.add_subcommands(dest="command")
    for name, (build, summary) in _PARSERS.items():
        part = ArgumentParser(description=summary, formatter_class=Help)
        commands.add_subcommand(name, part, help=summary.split(". ")[0])
        build(part)
    return parser


def _fit_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "source",
        help="a data set: digits, mnist, multimnist, celeba, ... ('mvae data list'); a table, with holes in it, in a"
        " .csv, .tsv, .parquet, .feather or .jsonl file; or a folder of Arrow or Parquet files, a column a modality,"
        " which stay on disk (with --config)",
    )
    _table_arguments(parser)
    add("--out", metavar="DIR", type=str, help="folder of the run (default: runs/SOURCE)")
    add("--resume", action="store_true", help="continue the run in --out from its last checkpoint")
    add("--method", type=str, help="the model: mvae, mvae-q, vae, cvae, bivcca, jmvae or telbo")
    add("--epochs", metavar="N", type=PositiveInt, help="passes over the training rows")
    add("--batch-size", metavar="N", type=PositiveInt, help="rows a step, of all processes together")
    add("--latent-dim", metavar="D", type=PositiveInt, help="dimension of z")
    add("--learning-rate", metavar="F", type=PositiveFloat, help="of Adam")
    add("--annealing-epochs", metavar="N", type=NonNegativeInt, help="epochs over which the KL weight rises to 1")
    add("--subsets", metavar="K", type=NonNegativeInt, help="mvae, mvae-q: random subsets a step (k of Eq. 5)")
    add(
        "--validation-rows",
        metavar="N",
        type=NonNegativeInt,
        help="rows to hold out, which say which epoch is kept (of a table below 10,000 rows none; celeba and vision"
        " have their own)",
    )
    add(
        "--paired-fraction",
        metavar="F",
        type=ClosedUnitInterval,
        help="share of rows that stay paired; the others keep one modality",
    )
    add("--balance", metavar="NAME", type=str, help="pair each value of this category equally often, e.g. label")
    add("--binarisation", choices=["dynamic", "fixed"], help="of binary-mnist: new pixels at each use, or once")
    add(
        "--data-options",
        metavar="NAME=VALUE",
        type=str,
        nargs="+",
        help="of the data set: multimnist anywhere=true, repeats=false, fewest=1, most=2; celeba skip_damaged=true",
    )
    add("--weight", metavar="NAME=F", type=str, nargs="+", help="weight lambda of a modality, e.g. label=50")
    add(
        "--reconstruct",
        metavar="WHAT",
        type=str,
        help="mvae, mvae-q: what each term decodes: 'given' (Eq. 2), all that is 'present', or what is given and"
        " NAME,NAME,...",
    )
    add("--target", metavar="NAME", type=str, help="vae, cvae: the modality that is modelled (the first)")
    add("--alpha", metavar="F", type=NonNegativeFloat, help="jmvae: weight of the two divergences (0.01)")
    add("--mu", metavar="F", type=ClosedUnitInterval, help="bivcca: weight of the first modality's bound (0.5)")
    add(
        "--paired-share",
        metavar="F",
        type=ClosedUnitInterval,
        help="fill this share of each batch with complete rows, however few",
    )
    add(
        "--completion",
        metavar="F",
        type=NonNegativeFloat,
        help="weight of rows lacking a category, completed with the model's own guess; 0 is the paper's method",
    )
    add(
        "--propagation",
        metavar="F",
        type=NonNegativeFloat,
        help="weight of rows lacking a category, with the class of the rows near them in z; 0 is the paper's method",
    )
    add(
        "--smoothness",
        metavar="F",
        type=NonNegativeFloat,
        help="weight of virtual adversarial training, for few paired rows; 0 is the paper's method",
    )
    add("--best-by", metavar="NAME", type=str, help="keep the epoch that predicts this category best, not by the ELBO")
    add("--patience", metavar="N", type=PositiveInt, help="stop after N epochs without a better validation")
    add(
        "--precision",
        choices=["float32", "bfloat16", "auto"],
        help="of the networks' matrix products in training; auto: bfloat16 where the processor computes in it",
    )
    add("--compile", action="store_true", default=None, help="compile the networks first (needs a C++ compiler)")
    add("--seed", metavar="N", type=NonNegativeInt, help="of initialisation, order, draws and the paired rows")
    add("--data-dir", metavar="DIR", type=str, help="where to look first for data files (then $MVAE_DATA, the cache)")
    add("--devices", metavar="N", type=PositiveInt, default=1, help="GPUs, or CPU processes, on each machine (1)")
    add("--nodes", metavar="M", type=PositiveInt, default=1, help="machines, with torchrun or Slurm (1)")
    add(
        "--strategy",
        choices=["ddp", "fsdp"],
        help="of several devices: each has the whole model (ddp, the default), or a part of its parameters (fsdp)",
    )
    add(
        "--config",
        metavar="FILE.yaml",
        type=str,
        help="any part of a run's config.json, networks too, or the name of a recipe, or of a variant; flags win",
    )


def _table_arguments(parser: ArgumentParser) -> None:
    """What may be said of a table."""
    add = parser.add_argument
    add("--join", metavar="FILE", type=str, nargs="+", help="of a table: more tables; rows in only one are kept")
    add("--on", metavar="COLUMN", type=str, help="of a table: the column that tables are joined by")
    add(
        "--kind",
        metavar="COLUMN=KIND",
        type=str,
        nargs="+",
        help="of a table: number, positive, count, date, yes-no, category, text, image or left-out, where what is"
        " inferred ('mvae inspect') is wrong",
    )
    add(
        "--group",
        metavar="NAME=COLUMN,COLUMN,...",
        type=str,
        nargs="+",
        help="of a table: columns that are one modality; those in no group are one each (default: all are one)",
    )


def _inspect_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", help="a table: a .csv, .tsv, .parquet, .feather or .jsonl file")
    _table_arguments(parser)
    parser.add_argument("--out", metavar="FILE.yaml", type=str, help="write it there, for mvae fit --config")


def _answer_arguments(parser: ArgumentParser, out: str) -> None:
    add = parser.add_argument
    add("run", help="folder of a run that was trained on a table")
    add("data", help="a table with the same columns")
    add("--join", metavar="FILE", type=str, nargs="+", help="more tables, joined as in training")
    add("--out", metavar="FILE", type=str, required=True, help=f"{out}: .csv, .tsv, .parquet, .feather or .jsonl")


def _impute_arguments(parser: ArgumentParser) -> None:
    _answer_arguments(parser, "the filled table")
    add = parser.add_argument
    add("--draws", metavar="M", type=NonNegativeInt, default=0, help="multiple imputations, in files of their own (0)")
    add("--samples", metavar="S", type=PositiveInt, default=100, help="draws of z a row (default: 100)")
    add("--refine", metavar="N", type=NonNegativeInt, default=100, help="steps that fit z to each row (default: 100)")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="of the draws (default: 0)")


def _embed_arguments(parser: ArgumentParser) -> None:
    _answer_arguments(parser, "where each row lies")


def _score_arguments(parser: ArgumentParser) -> None:
    _answer_arguments(parser, "a log-likelihood a row")
    parser.add_argument(
        "--samples", metavar="K", type=PositiveInt, default=200, help="importance samples a row (default: 200)"
    )
    parser.add_argument("--seed", metavar="N", type=NonNegativeInt, default=0, help="of the draws (default: 0)")


def _export_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run; with --from-hub, the folder to make")
    add("--out", metavar="DIR|FILE.zip", type=str, help="a folder or a .zip")
    add("--programs", action="store_true", help="networks as programs of torch.export too, which run without mvae")
    add("--to-hub", metavar="USER/NAME", type=str, help="put it on the Hugging Face Hub")
    add("--from-hub", metavar="USER/NAME", type=str, help="fetch it from the Hugging Face Hub")


def _evaluate_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run")
    add("--samples", metavar="K", type=PositiveInt, default=1000, help="importance samples a row (default: 1000)")
    add("--split", choices=["test", "validation", "train"], default="test", help="which rows (default: test)")
    add("--limit", metavar="N", type=PositiveInt, help="only the first N rows")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="of the draws (default: 0)")
    add("--data-dir", metavar="DIR", type=str, help="where to look first for data files")


def _sample_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run")
    add(
        "--given",
        metavar="NAME=VALUE",
        type=str,
        nargs="+",
        action="extend",
        help="what is known, e.g. label=7, text=1773 or image=digit.png; nothing draws from the prior",
    )
    add("--count", metavar="N", type=PositiveInt, default=64, help="how many to draw (default: 64)")
    add("--out", metavar="FILE", type=str, help="a .png for images, a .csv or .json for labels, numbers and texts")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="of the draws (default: 0)")


def _translate_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run whose modalities are pictures (vision) or texts (iwslt-en-vi)")
    add(
        "inputs",
        nargs="+",
        help="picture files, of any size; or texts, or files with a text a line ('-': what comes in)",
    )
    add("--from", metavar="NAME,...", dest="source", type=str, required=True, help="what the model is given, e.g. gray")
    add("--to", metavar="NAME,...", dest="target", type=str, required=True, help="what it shall make, e.g. image,edge")
    add("--out", metavar="DIR", type=str, help="of pictures: folder of PICTURE-NAME.png")
    add("--draws", metavar="N", type=NonNegativeInt, default=0, help="of pictures: single draws, beside each other (0)")
    add("--as-it-is", action="store_true", help="of pictures: they are grey, obscured, edges, ... already")
    add(
        "--plain",
        action="store_true",
        help="of pictures: what the model says alone, though grey or half a picture says some for certain",
    )
    add("--beam", metavar="N", type=PositiveInt, default=5, help="of texts: how many are grown side by side (5)")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="of the draws (default: 0)")
    add("--data-dir", metavar="DIR", type=str, help="where to look first for dlib's landmarks")


def _data_arguments(parser: ArgumentParser) -> None:
    commands = parser.add_subcommands(dest="action")
    commands.add_subcommand("list", ArgumentParser(description="The data sets known by name."), help="what there is")
    for action, summary in (
        ("check", "Read the files of a data set and say whether they are whole and as published."),
        ("fetch", "Download the files of a data set that are not there yet."),
    ):
        part = ArgumentParser(description=f"{summary} Example: mvae data {action} mnist", formatter_class=Help)
        commands.add_subcommand(action, part, help=summary)
        part.add_argument("name", help="a data set")
        part.add_argument("--data-dir", metavar="DIR", type=str, help="where to look first, or to put it")


_PARSERS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "fit": (
        _fit_arguments,
        "Train a model. What is not said comes from the recipe of the data set."
        " Example: mvae fit digits --paired-fraction 0.1 --out runs/first",
    ),
    "inspect": (
        _inspect_arguments,
        "Say what is understood of a table: the kind of each column. What is printed is a config for mvae fit."
        " Example: mvae inspect people.csv --out people.yaml",
    ),
    "impute": (
        _impute_arguments,
        "Fill the empty cells of a table. Cells that hold something stay as they are; FILE-cells.csv says how sure each"
        " filled one is. Example: mvae impute runs/people people.csv --out filled.csv --draws 20",
    ),
    "embed": (
        _embed_arguments,
        "Give each row of a table its place in the latent space. Example: mvae embed runs/people people.csv --out"
        " z.parquet",
    ),
    "score": (
        _score_arguments,
        "Score each row of a table, the least likely first. Example: mvae score runs/people people.csv --out odd.csv",
    ),
    "export": (
        _export_arguments,
        "Write a run for another machine. One folder or zip with configuration, weights, scores and a model card, which"
        " mvae.load takes. Example: mvae export runs/first --out first.zip",
    ),
    "evaluate": (
        _evaluate_arguments,
        "Score a model on held-out rows. Log-likelihoods by importance sampling and accuracies, on screen and in"
        " RUN/evaluation.json. Example: mvae evaluate runs/first --samples 1000",
    ),
    "sample": (
        _sample_arguments,
        "Draw from a model. Images go to a picture, labels and numbers to a table."
        " Example: mvae sample runs/first --given label=7 --out sevens.png",
    ),
    "translate": (
        _translate_arguments,
        "Make pictures of pictures, or texts of texts. A picture is transformed as --from says and resized first."
        " Example: mvae translate runs/vision me.jpg --from gray --to image,edge --out pictures; or of texts:"
        ' mvae translate runs/iwslt-en-vi "Thank you." --from en --to vi',
    ),
    "reproduce": (
        add_reproduce_arguments,
        "Run an experiment whose results the docs show. Each finished cell is kept. Example: mvae reproduce table1",
    ),
    "data": (_data_arguments, "List, check and fetch data sets. Example: mvae data check mnist"),
}


# What is done


def _fit(options: Namespace) -> int:
    if options.devices * options.nodes > 1:  # read when torch is imported: DDP warns of what is as it should be
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from mvae.processes import LostProcessError, Processes
    from mvae.runs import OPTIONS, folder_of_shards, paired_only, placed, prepare, takes_table

    table = Path(options.source).stem if takes_table(options.source) else None
    shards = None if table else folder_of_shards(options.source)
    out = options.out or f"runs/{shards.name if shards else table or options.source}"
    run = prepare(
        options.source,
        out=out,
        data_dir=options.data_dir,
        config=_of_table(options, options.config),
        resume=options.resume,
        options=placed(
            {name: options[name] for name in OPTIONS.keys() - {"reconstruct", "shares", "data_options"}}
            | {"reconstruct": _reconstruct(options.reconstruct), "shares": paired_only(options.paired_share)}
            | {"data_options": _data_options(options.data_options)},
            {name: _number(name, value) for name, value in _pairs("--weight", options.weight).items()},
        ),
        processes=Processes(options.devices, options.nodes, options.strategy),
    )
    try:
        return _trained(run) if run.processes.first else _followed(run)
    except LostProcessError as error:
        return _fail(error, 1)


def _trained(run: Run) -> int:
    from mvae.display import print_outcome, print_plan

    print_plan(run)
    outcome = run.train()
    print_outcome(run, outcome)
    return INTERRUPTED if outcome.interrupted else 0


def _followed(run: Run) -> int:
    """Train beside the first process, which does the talking."""
    try:
        return INTERRUPTED if run.train(progress=False).interrupted else 0
    except ArithmeticError:
        return 1


def _of_table(options: Namespace, config: str | None) -> Any:
    """A config with what the options say of a table."""
    from mvae.runs import with_table

    kinds = _pairs("--kind", options.kind) or None
    groups = {name: text.split(",") for name, text in _pairs("--group", options.group).items()} or None
    return with_table(config, kinds, groups, options.join or (), options.on)


def _inspect(options: Namespace) -> int:
    from mvae.storage import write_text
    from mvae.tables.showing import inspect

    said = (_of_table(options, None) or {}).get("data", {}).get("table", {})
    known = {key: value for key, value in said.items() if key in ("columns", "groups")}
    text = inspect(options.data, join=options.join or (), on=options.on, known=known)
    print(text, end="")
    if options.out:
        if Path(options.out).exists():
            raise ValueError(f"{options.out} is already there; choose another name")
        write_text(Path(options.out), text)
        print(f"written to {options.out}; change what is wrong, then: mvae fit {options.data} --config {options.out}")
    return 0


def _impute(options: Namespace) -> int:
    from mvae.tables.answers import impute
    from mvae.tables.writing import check_out, write_table

    out = Path(options.out)
    cells = out.with_name(f"{out.stem}-cells.csv")
    draws = [out.with_stem(f"{out.stem}-{number}") for number in range(1, options.draws + 1)]
    check_out(out, cells, *draws)
    found = impute(
        options.run,
        options.data,
        draws=options.draws,
        num_samples=options.samples,
        refine=options.refine,
        seed=options.seed,
        join=options.join or (),
        progress=True,
    )
    for frame, path in zip([found.frame, found.cells, *found.draws], [out, cells, *draws], strict=True):
        write_table(frame, path)
    columns = found.cells["column"].nunique()
    print(f"filled {len(found.cells):,} empty cells in {columns} columns; written to {out}")
    print(f"how sure each is: {cells}" + (f"; {len(draws)} draws: {draws[0]}, ..." if draws else ""))
    return 0


def _embed(options: Namespace) -> int:
    from mvae.tables.answers import embed

    return _answered(options, lambda: embed(options.run, options.data, join=options.join or ()))


def _score(options: Namespace) -> int:
    from mvae.tables.answers import score

    more = {"num_samples": options.samples, "seed": options.seed, "join": options.join or (), "progress": True}
    return _answered(options, lambda: score(options.run, options.data, **more))


def _export(options: Namespace) -> int:
    from mvae.exchange import export, pull, push

    if sum(bool(options[name]) for name in ("out", "to_hub", "from_hub")) != 1:
        raise ValueError("expected one of --out, --to-hub and --from-hub")
    if options.out:
        print(f"written to {options.out}: {', '.join(export(options.run, options.out, options.programs))}")
    elif options.to_hub:
        print(f"put to {push(options.run, options.to_hub)}")
    else:
        print(f"fetched to {pull(options.from_hub, options.run)}")
    return 0


def _answered(options: Namespace, answer: Callable[[], Any]) -> int:
    """Write a frame that says something of each row."""
    from mvae.tables.writing import check_out, write_table

    if not options.out:
        raise ValueError("--out: name the file to write, e.g. --out new.csv")
    check_out(Path(options.out))
    frame = answer()
    write_table(frame, Path(options.out))
    print(frame.head(5).to_string(index=False))
    print(f"{len(frame):,} rows written to {options.out}")
    return 0


def _evaluate(options: Namespace) -> int:
    import torch

    from mvae.display import print_report
    from mvae.evaluation.report import evaluate
    from mvae.runs import held_rows
    from mvae.storage import load, read_spec, write_json

    model, spec = load(options.run), read_spec(options.run)
    if spec.data.source is None:
        raise ValueError(f"{options.run} was trained on rows from Python; score it there with mvae.log_likelihood")
    torch.manual_seed(options.seed)  # training rows may be drawn anew at each use
    rows = held_rows(model, spec, options.split, options.limit, options.data_dir)
    if not len(rows):
        more = "; --split validation has some" if spec.data.validation_rows and options.split == "test" else ""
        more = more or ("; mvae fit --validation-rows N holds some out" if options.split == "validation" else "")
        raise ValueError(f"{options.run} has no {options.split} rows{more}")
    report = {"split": options.split, **evaluate(model, rows, options.samples, options.seed, progress=True)}
    write_json(Path(options.run) / "evaluation.json", report)
    print_report(report, spec.data.source)
    print(f"written to {Path(options.run) / 'evaluation.json'}")
    return 0


def _sample(options: Namespace) -> int:
    import torch

    from mvae.display import print_samples
    from mvae.sampling import are_images, draw, read_given, write_samples
    from mvae.storage import load, read_spec

    model, table = load(options.run), read_spec(options.run).data.table
    if table is not None:
        from mvae.tables.filling import draw_rows

        given_cells = _pairs("--given", options.given)
        return _answered(options, lambda: draw_rows(model, table, given_cells, options.count, options.seed))
    given = read_given(model, _pairs("--given", options.given))
    torch.manual_seed(options.seed)
    samples = draw(model, given, options.count)
    out = Path(options.out) if options.out else _free_path(Path(options.run) / "samples.png")
    elements = {name: part.elements for name, part in model.variables.items()}
    pictures = any(are_images(values) for values in samples.values())
    if options.out or pictures:
        for path in write_samples(samples, out, elements):
            print(f"written to {path}")
    if out.suffix == ".png":
        print_samples(samples, elements)
    return 0


def _translate(options: Namespace) -> int:
    from mvae.storage import load, read_spec

    model, known = load(options.run), read_spec(options.run).data.source
    sources, targets = ([name.strip() for name in text.split(",")] for text in (options.source, options.target))
    if sources[0] in model.names and model.variables[sources[0]].is_string:
        if len(sources) + len(targets) != 2:
            raise ValueError("--from, --to: expected one name each, where texts are translated")
        for name in ("out", "draws", "as_it_is", "plain"):
            if options[name]:
                raise ValueError(f"--{name.replace('_', '-')}: only of pictures; texts are printed")
        return _translate_texts(options, model, sources[0], targets[0])
    return _translate_pictures(options, model, sources, targets, known == "vision")


def _translate_texts(options: Namespace, model: Any, source: str, target: str) -> int:
    """Translate texts line by line, as they come."""
    from mvae.translating import translate_texts

    lines = (line for text in options.inputs for line in _lines(text))
    for number, one in enumerate(translate_texts(model, lines, source, target, options.beam), 1):
        print(one.translation, flush=True)
        if one.unknown:
            print(f"mvae: line {number}: unknown words: {', '.join(one.unknown)}", file=sys.stderr)
        if one.cut:
            print(f"mvae: line {number}: too long, its last {one.cut} words (or pieces) were not read", file=sys.stderr)
    return 0


def _lines(text: str) -> Iterator[str]:
    """The lines of a file, or of what comes in; or the text itself."""
    from mvae.data.files import text_lines

    if text == "-":
        yield from (line.rstrip("\n") for line in sys.stdin)
    elif _is_file(text):
        yield from text_lines(Path(text))
    else:
        yield text


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a name may be, or with characters that none has
        return False


def _translate_pictures(options: Namespace, model: Any, sources: list[str], targets: list[str], own: bool) -> int:
    """Make pictures of pictures, once it is sure that all can be read and written."""
    from mvae.translating import check_pictures, paths_of, read_picture, translate, with_certain, write_pictures

    if not options.out:
        raise ValueError("--out: name a folder for the pictures")
    check_pictures(model, targets)
    places = paths_of(options.inputs, targets, options.draws, Path(options.out))
    transform = own and not options.as_it_is
    everything = {picture: read_picture(model, picture, sources, transform, options.data_dir) for picture in places}
    for picture, given in everything.items():
        found = translate(model, given, targets, options.draws, seed=options.seed)
        write_pictures(with_certain(found, given) if own and not options.plain else found, places[picture])
        for path in places[picture].values():
            print(f"written to {path}")
    return 0


def _reproduce(options: Namespace) -> int:
    from mvae.experiments import commands

    try:
        commands.run(options.experiment, options[options.experiment])
    except RuntimeError as error:  # some cells failed; the others are kept
        return _fail(error, 1)
    return 0


def _data(options: Namespace) -> int:
    from mvae.data.sources import SOURCES, source_named
    from mvae.display import print_sources

    if options.action == "list":
        print_sources(SOURCES)
        return 0
    chosen = options[options.action]
    source = source_named(chosen.name)
    if source.part is not None:
        print(f"{chosen.name}: {source.part(chosen.data_dir)}")  # or an error that says where to put the files
    elif source.collection is None:
        print(f"{chosen.name}: bundled with scikit-learn, nothing to {options.action}")
        return 0
    elif options.action == "fetch":
        print(f"{chosen.name}: complete in {source.collection.fetch(chosen.data_dir)}")
    if options.action == "fetch":
        return 0
    for path, published in source.collection.check(chosen.data_dir) if source.collection else ():
        print(f"{path}: {'as published' if published else 'readable, but not the published contents'}")
    train, *_, test = source.load(chosen.data_dir)
    print(f"{chosen.name}: whole, {len(train):,} training and {len(test):,} test rows")
    return 0


_COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "reproduce": _reproduce,
    "fit": _fit,
    "inspect": _inspect,
    "impute": _impute,
    "embed": _embed,
    "score": _score,
    "export": _export,
    "evaluate": _evaluate,
    "sample": _sample,
    "translate": _translate,
    "data": _data,
}


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{option}: expected NAME=VALUE, got '{text}'")
        if name in pairs:
            raise ValueError(f"{option}: '{name}' is given twice")
        pairs[name] = value
    return pairs


def _reconstruct(text: str | None) -> str | list[str] | None:
    return text if text in (None, "given", "present") else text.split(",")


def _data_options(texts: Sequence[str] | None) -> dict[str, bool | int] | None:
    found: dict[str, bool | int] = {}
    for name, text in _pairs("--data-options", texts).items():
        if text not in ("true", "false") and not text.isdecimal():
            raise ValueError(f"--data-options {name}: expected true, false or a whole number, got '{text}'")
        found[name] = int(text) if text.isdecimal() else text == "true"
    return found or None


def _free_path(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that is not taken."""
    taken = path
    count = 1
    while taken.exists():
        count += 1
        taken = path.with_stem(f"{path.stem}-{count}")
    return taken


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--weight {name}: expected a number, got '{text}'") from None
