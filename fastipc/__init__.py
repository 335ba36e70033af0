"""fastipc: multiprocessing's queues and pipes on Linux, over shared memory.

`import fastipc as mp` in the place of `import multiprocessing as mp`: everything that
multiprocessing exports is here, under the same names.  Queue, JoinableQueue, SimpleQueue and Pipe
are fastipc's own, and so are the contexts that hand them out; the rest is multiprocessing's.

This file owns only the namespace.  As with multiprocessing, importing it is cheap: the queues and
the connections are loaded when they are first asked for.
"""

from __future__ import annotations

import importlib
import multiprocessing as _multiprocessing

from . import _aliases, _platform, context

__version__ = "0.1.0"

_platform.check()
_aliases.install()

# Where the names that are not methods of the default context come from.
_LAZY = {
    "Empty": "queue",
    "Full": "queue",
    "JoinableQueue": "fastipc.queues",
    "Pipe": "fastipc.connection",
    "Queue": "fastipc.queues",
    "ShutDown": "fastipc.queues",
    "SimpleQueue": "fastipc.queues",
    "get_view_bytes": "fastipc._core",
    "get_view_limit": "fastipc._core",
    "set_view_limit": "fastipc._core",
}

# What multiprocessing exports, whatever the version: the public names of its default context.
_FROM_CONTEXT = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update(
    (name, getattr(context._default_context, name)) for name in _FROM_CONTEXT if name not in _LAZY
)
__all__ = sorted({*_FROM_CONTEXT, *_LAZY})

SUBDEBUG = _multiprocessing.SUBDEBUG
SUBWARNING = _multiprocessing.SUBWARNING


def __getattr__(name: str) -> object:
    """Load what is loaded late: the classes above, and submodules."""
    if name in _LAZY:
        value: object = getattr(importlib.import_module(_LAZY[name]), name)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        qualified = f"{__name__}.{name}"
        try:
            value = importlib.import_module(qualified)
        except ModuleNotFoundError as error:
            if error.name != qualified:
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_submodules()})


def _submodules() -> list[str]:
    import pkgutil

    folders = [*__path__, *_multiprocessing.__path__]
    names = [module.name for module in pkgutil.iter_modules(folders)]
    return [name for name in names if name[0] != "_" and not name.endswith("_win32")]
