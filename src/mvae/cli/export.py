"""`mvae export`: a run for another machine."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from mvae.cli.options import Command

__all__ = ["EXPORT"]


def _export_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("run", help="folder of a run; with --from-hub, the folder to make")
    add("--out", metavar="DIR|FILE.zip", type=str, help="a folder or a .zip")
    add("--programs", action="store_true", help="networks as programs of torch.export too, which run without mvae")
    add("--to-hub", metavar="USER/NAME", type=str, help="put it on the Hugging Face Hub")
    add("--from-hub", metavar="USER/NAME", type=str, help="fetch it from the Hugging Face Hub")


def _export(options: Namespace) -> int:
    """One folder or zip with configuration, weights, scores and a model card, which mvae.load takes.

    Example: mvae export runs/first --out first.zip
    """
    from mvae.export import export
    from mvae.hub import pull, push

    if sum(bool(options[name]) for name in ("out", "to_hub", "from_hub")) != 1:
        raise ValueError("expected one of --out, --to-hub and --from-hub")
    if options.out:
        print(f"written to {options.out}: {', '.join(export(options.run, options.out, options.programs))}")
    elif options.to_hub:
        print(f"put to {push(options.run, options.to_hub)}")
    else:
        print(f"fetched to {pull(options.from_hub, options.run)}")
    return 0


EXPORT = Command(_export_arguments, _export)
