"""Importing this lets a program load compressed models that it knows nothing of, and costs next to nothing.

znn.transformers is imported as soon as the program has imported Transformers' quantizers, and never if it does not. For
every program of an environment, one line in its sitecustomize.py, or in a file znn.pth in site-packages:

    import znn.autoload
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_WATCHED = "transformers.quantizers.auto"


class _Loader:
    """The module's own loader, and after it, the registration."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register()


class _Finder:
    def __init__(self) -> None:
        self._searching = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _WATCHED or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


def _register() -> None:
    # A program that never loads a compressed model is not to fail because of it.
    try:
        import znn.transformers  # noqa: F401
    except ImportError as error:
        print(f"znn: models compressed by znn cannot be loaded: {error}", file=sys.stderr)


if _WATCHED in sys.modules:
    _register()
elif not any(type(finder).__name__ == "_Finder" and type(finder).__module__ == __name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
