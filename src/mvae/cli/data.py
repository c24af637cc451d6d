"""`mvae data`: what data sets there are, and their files."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from mvae.cli.options import Command, Help

__all__ = ["DATA"]


def _data_arguments(parser: ArgumentParser) -> None:
    commands = parser.add_subcommands(dest="action")
    commands.add_subcommand("list", ArgumentParser(description="The data sets known by name."), help="what there is")
    for action, summary in (
        ("check", "Read the files of a data set and say whether they are complete and as published."),
        ("fetch", "Download the missing files of a data set."),
    ):
        part = ArgumentParser(description=f"{summary} Example: mvae data {action} mnist", formatter_class=Help)
        commands.add_subcommand(action, part, help=summary)
        part.add_argument("name", help="a data set")
        part.add_argument("--data-dir", metavar="DIR", type=str, help="where to look first, or to put it")


def _data(options: Namespace) -> int:
    """Example: mvae data check mnist"""
    from mvae.cli.display import print_sources
    from mvae.data.sources import SOURCES, source_named

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
    print(f"{chosen.name}: complete, {len(train):,} training and {len(test):,} test rows")
    return 0


DATA = Command(_data_arguments, _data)
