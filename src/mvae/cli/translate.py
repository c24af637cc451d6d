"""`mvae translate`: pictures made of pictures, texts of texts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from mvae.cli.options import Command

if TYPE_CHECKING:
    from mvae.config.specs import DataSpec

__all__ = ["TRANSLATE"]


def _translate_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run whose modalities are pictures (vision) or texts (iwslt-en-vi)")
    inputs = "picture files, of any size; or texts, or files with a text a line ('-': standard input)"
    add("inputs", nargs="+", help=inputs)
    add("--from", metavar="NAME,...", dest="source", type=str, required=True, help="modalities given, e.g. gray")
    add("--to", metavar="NAME,...", dest="target", type=str, required=True, help="modalities to make, e.g. image,edge")
    add("--out", metavar="DIR", type=str, help="pictures: folder of PICTURE-NAME.png")
    add("--draws", metavar="N", type=NonNegativeInt, default=0, help="pictures: single draws, side by side (0)")
    add("--as-it-is", action="store_true", help="pictures: they are grey, obscured, edges, ... already")
    certain = "pictures: the model's answer alone, without the pixels that a grey or half a picture settles"
    add("--plain", action="store_true", help=certain)
    add("--beam", metavar="N", type=PositiveInt, default=5, help="texts: how many are searched side by side (5)")
    add("--seed", metavar="N", type=NonNegativeInt, default=0, help="seed of the draws (default: 0)")
    add("--data-dir", metavar="DIR", type=str, help="where to look first for dlib's landmarks")


def _translate(options: Namespace) -> int:
    """A picture is transformed as --from says and resized first.

    Example: mvae translate runs/vision me.jpg --from gray --to image,edge --out pictures; or of texts: mvae translate
    runs/iwslt-en-vi "Thank you." --from en --to vi
    """
    from mvae.config.folder import load, read_spec

    model, data = load(options.run), read_spec(options.run).data
    sources, targets = ([name.strip() for name in text.split(",")] for text in (options.source, options.target))
    if sources[0] in model.names and model.variables[sources[0]].is_string:
        if len(sources) + len(targets) != 2:
            raise ValueError("--from, --to: expected one name each, where texts are translated")
        for name in ("out", "draws", "as_it_is", "plain"):
            if options[name]:
                raise ValueError(f"--{name.replace('_', '-')}: only for pictures; texts are printed")
        return _translate_texts(options, model, sources[0], targets[0])
    return _translate_pictures(options, model, sources, targets, data)


def _translate_texts(options: Namespace, model: Any, source: str, target: str) -> int:
    """Translate texts line by line, as they come."""
    from mvae.generation.translate import translate_texts

    lines = (line for text in options.inputs for line in _lines(text))
    for number, one in enumerate(translate_texts(model, lines, source, target, options.beam), 1):
        print(one.translation, flush=True)
        if one.unknown:
            print(f"mvae: line {number}: unknown words: {', '.join(one.unknown)}", file=sys.stderr)
        if one.cut:
            print(f"mvae: line {number}: too long, its last {one.cut} words (or pieces) were not read", file=sys.stderr)
    return 0


def _lines(text: str) -> Iterable[str]:
    """The lines of a file, or of standard input; or the text itself."""
    from mvae.data.download import decoded_lines, text_lines

    if text == "-":
        return decoded_lines(sys.stdin.buffer, "standard input")
    with suppress(OSError, ValueError):  # longer than a name may be, or with characters that none has
        if Path(text).is_file():
            return text_lines(Path(text))
    return [text]


def _translate_pictures(options: Namespace, model: Any, sources: list[str], targets: list[str], data: DataSpec) -> int:
    """Make pictures of pictures, once it is sure that all can be read and written."""
    from mvae.generation.translate import (
        check_pictures,
        paths_of,
        read_picture,
        translate,
        with_certain,
        write_pictures,
    )

    if not options.out:
        raise ValueError("--out: name a folder for the pictures")
    check_pictures(model, targets)
    places = paths_of(options.inputs, targets, options.draws, Path(options.out))
    own, landmarks = data.source == "vision", bool(data.options.get("landmarks"))
    transform = own and not options.as_it_is
    if not own and not options.as_it_is:
        print("mvae: pictures are only resized, as with --as-it-is: the run's data set is not vision", file=sys.stderr)
    how = sources, transform, options.data_dir, landmarks
    for picture, given in {picture: read_picture(model, picture, *how) for picture in places}.items():
        found = translate(model, given, targets, options.draws, seed=options.seed)
        write_pictures(with_certain(found, given) if own and not options.plain else found, places[picture])
        for path in places[picture].values():
            print(f"written to {path}")
    return 0


TRANSLATE = Command(_translate_arguments, _translate)
