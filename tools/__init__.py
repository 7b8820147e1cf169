"""Commands beside the training: python -m tools.NAME --help."""
