"""The experiments of Wu & Goodman (2018) and beyond: `python -m paper` lists them. Not part of the package `mvae`."""
