"""Makes every submodule of multiprocessing that fastipc does not replace importable as fastipc's.

`import fastipc.pool` gives the very module object multiprocessing.pool, so that classes, state and
patches are shared.  Nothing is imported before it is asked for.  Which modules are fastipc's own is
not listed anywhere: it is what lies in its folder.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder

TYPE_CHECKING = False  # typing itself takes longer to import than all of fastipc's namespace
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

OURS = "fastipc."
STANDARD = "multiprocessing."


class AliasFinder:
    """A meta path finder; it has to stand before the one that searches folders.

    The reason: once fastipc.dummy is multiprocessing.dummy, a search for fastipc.dummy.connection
    would find that module's file and execute it a second time.
    """

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(OURS):
            return None
        name = fullname[len(OURS) :]
        parent = fullname.rpartition(".")[0]
        if "." not in name and _has_file(PathFinder.find_spec(fullname, path)):
            return None
        if "." in name and getattr(sys.modules.get(parent), "__name__", None) == parent:
            return None  # in a package of ours: one of multiprocessing's has its own name
        from importlib.util import find_spec

        if find_spec(STANDARD + name) is None:
            return None
        return ModuleSpec(fullname, _AliasLoader())  # type: ignore[arg-type]


def _has_file(spec: ModuleSpec | None) -> bool:
    # fastipc/dummy/ holds nothing but stubs; to the import system that is a namespace package.
    return spec is not None and spec.origin is not None


class _AliasLoader:
    """Puts multiprocessing's module in the place of the empty one that the import system made.

    create_module() may not return it, since the import system would then set its __spec__.  Not
    derived from importlib.abc.Loader, whose module takes longer to import than all of fastipc's.
    """

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(STANDARD + name[len(OURS) :])


def install() -> None:
    """Install the finder once, also when fastipc is reloaded."""
    if not any(getattr(finder, "__module__", None) == __name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, AliasFinder)
