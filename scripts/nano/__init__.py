"""How the built-in model and data sets were made. Not part of the installed package; run from the root: `python -m scripts.nano.recipe`."""
