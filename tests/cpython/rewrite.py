"""Imports CPython's test modules with `multiprocessing` read as another module.

It changes import statements, and those in the scripts that tests hand to a new interpreter, and
nothing else; which modules it applies to is decided here, what runs from them elsewhere.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import marshal
import os
import re
import sys
import types

from tests.cpython.protocol import CACHE_VARIABLE, TARGET_VARIABLE
from tests.cpython.selection import EXECUTOR, MULTIPROCESSING

_ORIGINAL = "multiprocessing"


class Imports(ast.NodeTransformer):
    """Turns `import multiprocessing[.x]` into imports of the target, with the names they bound."""

    def __init__(self, target: str) -> None:
        self._target = target

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for alias in node.names:
            first, _, rest = alias.name.partition(".")
            if first != _ORIGINAL:
                statements.append(ast.Import(names=[alias]))
            elif alias.asname or not rest:
                name = ast.alias(self._named(alias.name), alias.asname or _ORIGINAL)
                statements.append(ast.Import(names=[name]))
            else:
                # `import a.b` loads a.b and binds a, which takes two statements under a new name.
                statements.append(ast.Import(names=[ast.alias(self._named(alias.name))]))
                statements.append(ast.Import(names=[ast.alias(self._target, _ORIGINAL)]))
        return [ast.copy_location(statement, node) for statement in statements]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level == 0 and node.module and node.module.partition(".")[0] == _ORIGINAL:
            node.module = self._named(node.module)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str) and _ORIGINAL in node.value:
            node.value = self._script(node.value)
        return node

    def _named(self, name: str) -> str:
        return self._target + name[len(_ORIGINAL) :]

    def _script(self, text: str) -> str:
        """Rewrites the import lines of a program held in a string."""
        text = re.sub(
            rf"^([ \t]*)import {_ORIGINAL}[ \t]*$",
            rf"\1import {self._target} as {_ORIGINAL}",
            text,
            flags=re.MULTILINE,
        )
        return re.sub(
            rf"^([ \t]*)(import|from) {_ORIGINAL}(\.| as | import )",
            rf"\1\2 {self._target}\3",
            text,
            flags=re.MULTILINE,
        )


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a test module with its imports rewritten; never writes beside the original."""

    target = ""

    def get_code(self, fullname: str) -> types.CodeType:
        cached = self._cached_at(fullname)
        if cached and os.path.exists(cached):
            with open(cached, "rb") as file:
                code: types.CodeType = marshal.load(file)
            return code
        path = self.get_filename(fullname)
        tree = Imports(self.target).visit(ast.parse(self.get_data(path), path))
        ast.fix_missing_locations(tree)
        code = compile(tree, path, "exec", dont_inherit=True)
        if cached:
            # Several processes may get here at once: each writes its own file, one name wins.
            own = f"{cached}.{os.getpid()}"
            with open(own, "wb") as new_file:
                marshal.dump(code, new_file)
            os.replace(own, cached)
        return code

    def _cached_at(self, fullname: str) -> str | None:
        """Name the file that spares every spawned child the compilation, if there is a folder."""
        folder = os.environ.get(CACHE_VARIABLE)
        if not folder:
            return None
        return os.path.join(folder, f"{fullname}.{self.target}.{sys.implementation.cache_tag}")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the suite's own modules as ever, and gives them the rewriting loader."""

    def __init__(self, target: str) -> None:
        self._target = target

    def find_spec(
        self, fullname: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MULTIPROCESSING and not (fullname + ".").startswith(EXECUTOR + "."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)  # type: ignore[arg-type]
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return spec
        loader = _Loader(fullname, spec.loader.path)
        loader.target = self._target
        spec.loader = loader
        return spec


def target() -> str:
    """Return the module under test that the environment names."""
    return os.environ[TARGET_VARIABLE]


def install() -> None:
    """Make later imports of the suite use the target; every process does so before any of them."""
    if target() == _ORIGINAL or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    early = [name for name in sys.modules if name in (MULTIPROCESSING, EXECUTOR)]
    if early:
        raise ImportError(f"{', '.join(early)} was imported before its imports could be rewritten")
    sys.meta_path.insert(0, _Finder(target()))
