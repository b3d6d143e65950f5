"""Finds classes by the names that a configuration holds."""

from importlib import import_module


def class_of(named: str) -> type:
    """Gives the class of "file.Class", a file of this package."""
    file, name = named.split(".")
    return getattr(import_module(f"mmfusion.models.{file}"), name)
