"""The project's version: pyproject.toml, --version and the metadata of exported files take it from here."""

__version__ = "0.3.0"
