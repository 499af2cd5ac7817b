"""The admin of datasets, their versions and cases, and of files; importing it registers them."""

from apps.datasets.admin import cases, datasets, files

__all__ = ["cases", "datasets", "files"]
