"""The import contracts of pyproject.toml hold: layers, no I/O in the core, one module that knows the C helper."""

from __future__ import annotations

from importlinter.application.use_cases import lint_imports
from importlinter.configuration import configure


def test_import_contracts_are_kept() -> None:
    configure()
    assert lint_imports(cache_dir=None)
