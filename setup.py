"""Builds the one extension, fastipc._core, from csrc/ and the Cython sources.

What is static about the package stands in pyproject.toml; this file owns only the look at the
machine before the build, the compiler's settings and where the results go.  It has to be readable
by every old Python, because it is this file that tells them that they are too old: no f-strings,
no annotations.

Environment (each setting builds in a folder of its own under build/, so they never mix):
    FASTIPC_DEBUG=1                      assertions, no optimisation
    FASTIPC_SANITIZE=address,undefined   or "thread": what gcc's -fsanitize= takes
    CC, CPPFLAGS, CFLAGS, LDFLAGS        as everywhere
"""

import os
import shlex
import subprocess
import sys
import sysconfig

OLDEST_PYTHON = (3, 10)
OLDEST_SETUPTOOLS = 77  # reads pyproject.toml's license = "MIT"
ROOT = os.path.dirname(os.path.abspath(__file__))
PROBE = b"#include <Python.h>\n#include <linux/futex.h>\nint main(void) { return 0; }\n"
DEBIAN_REMEDY = "on Debian and Ubuntu: sudo apt install gcc python3-dev"


def compiler_command():
    """The C compiler that the build is going to use, as a list of words."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def find_program(name):
    """The path of an executable, or None; shutil.which, which Python 2 lacks."""
    folders = [""] if os.sep in name else os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def compile_probe(compiler, include):
    """Compile two lines that need the headers; returns what the compiler complains of, or ''."""
    process = subprocess.Popen(
        compiler + ["-fsyntax-only", "-std=gnu11", "-I" + include, "-x", "c", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = process.communicate(PROBE)[0].decode("utf-8", "replace")
    if process.returncode == 0:
        return ""
    errors = [line for line in output.splitlines() if "error" in line]
    return (errors or output.splitlines() or ["exit status %d" % process.returncode])[0].strip()


def find_obstacle():
    """What makes a build impossible here, as one line that names what mends it, or None."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        return "Python %d.%d is too old: install and use Python %d.%d or newer" % (
            tuple(sys.version_info[:2]) + OLDEST_PYTHON
        )
    if not sys.platform.startswith("linux"):
        return (
            "it runs on Linux only, and this is %s: use a Linux machine, container or WSL 2"
            % sys.platform
        )
    if sys.implementation.name != "cpython" or sys.maxsize < 2**32:
        return "it needs a 64-bit CPython: install one and build with that"
    compiler = compiler_command()
    if not find_program(compiler[0]):
        return "there is no C compiler (%s): install one (%s), or name yours in the variable CC" % (
            compiler[0],
            DEBIAN_REMEDY,
        )
    include = sysconfig.get_path("include")
    if not os.path.isfile(os.path.join(include, "Python.h")):
        return "Python's C headers are missing (%s/Python.h): install them (%s)" % (
            include,
            DEBIAN_REMEDY,
        )
    complaint = compile_probe(compiler, include)
    if complaint:
        return "the C compiler fails (%s): install what it lacks (%s)" % (
            complaint,
            "on Debian and Ubuntu: sudo apt install build-essential",
        )
    return None


obstacle = find_obstacle()
if obstacle:
    sys.exit("fastipc cannot be built: " + obstacle)

# Below this line the Python is new enough, and the tools are there.
import glob  # noqa: E402
import hashlib  # noqa: E402
import shutil  # noqa: E402

try:
    import setuptools
    from setuptools import Extension, setup
    from setuptools.command.build import build
    from setuptools.command.build_ext import build_ext
    from setuptools.command.build_py import build_py
except ImportError:
    sys.exit("fastipc cannot be built: setuptools is missing: build with 'pip install .'")
if int(setuptools.__version__.split(".")[0]) < OLDEST_SETUPTOOLS:
    sys.exit(
        "fastipc cannot be built: setuptools %s is too old: build with 'pip install .', which "
        "brings its own, or: pip install -U setuptools" % setuptools.__version__
    )


def is_debug():
    value = os.environ.get("FASTIPC_DEBUG", "")
    if value not in ("", "0", "1"):
        sys.exit("fastipc cannot be built: FASTIPC_DEBUG=%s: give 0 or 1" % value)
    return value == "1"


def sanitizers():
    chosen = [name for name in os.environ.get("FASTIPC_SANITIZE", "").split(",") if name]
    unknown = set(chosen) - {"address", "undefined", "leak", "thread"}
    if unknown or ("thread" in chosen and len(chosen) > 1):
        sys.exit(
            "fastipc cannot be built: FASTIPC_SANITIZE=%s: give 'address,undefined' or 'thread'"
            % os.environ["FASTIPC_SANITIZE"]
        )
    return sorted(chosen)


def build_folder():
    """build/, or a folder in it whose name tells these settings from all others."""
    words = (["debug"] if is_debug() else []) + sanitizers()
    flags = [os.environ.get(name, "") for name in ("CC", "CPPFLAGS", "CFLAGS", "LDFLAGS")]
    if any(flags):
        words.append("flags" + hashlib.sha256("\0".join(flags).encode()).hexdigest()[:8])
    return os.path.join("build", "-".join(words)) if words else "build"


def compile_flags():
    # Cython's own code is what the three -Wno- are for; the C tests compile csrc/ without them.
    flags = ["-std=gnu11", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra"]
    flags += ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]
    if is_debug():
        flags += ["-O0", "-g", "-UNDEBUG", "-U_FORTIFY_SOURCE", "-DFIPC_DEBUG=1"]
    elif sanitizers():
        flags += ["-O1", "-g", "-U_FORTIFY_SOURCE"]
    else:
        flags += ["-O2", "-fno-plt"]
    if sanitizers():
        flags += ["-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
        flags += ["-fsanitize=" + ",".join(sanitizers())]
    return flags


def link_flags():
    return ["-pthread"] + (["-fsanitize=" + ",".join(sanitizers())] if sanitizers() else [])


def source_files(*patterns):
    """Sorted, relative to the root: the same build from the same files, wherever it runs."""
    found = [name for pattern in patterns for name in glob.glob(os.path.join(ROOT, pattern))]
    return sorted(os.path.relpath(name, ROOT) for name in found)


class BuildElsewhere(build):
    """Puts each combination of settings into a build folder of its own."""

    def initialize_options(self):
        super().initialize_options()
        self.build_base = build_folder()


class BuildPython(build_py):
    """Copies the modules, after dropping what an earlier state of the source had left there."""

    def run(self):
        package = os.path.join(self.build_lib, "fastipc")
        if not self.editable_mode and os.path.isdir(package):
            for folder, _, names in os.walk(package):
                for name in names:
                    if not name.endswith(".so"):
                        os.unlink(os.path.join(folder, name))
        super().run()


class BuildExtension(build_ext):
    """Translates the .pyx in the build folder and leaves a copy of the result beside the source.

    The copy is there because in the root of a checkout Python finds the source folder before any
    installed package.  Copies of several interpreters differ by their ABI tag.
    """

    def build_extension(self, ext):
        import Cython
        from Cython.Build import cythonize

        # The C is the same under all settings, but not from two versions of Cython: that of an
        # isolated build may differ from one's own.
        generated = os.path.join("build", "cython-" + Cython.__version__)
        module = Extension(ext.name, [name for name in ext.sources if name.endswith(".pyx")])
        translated = cythonize([module], build_dir=generated, language_level=3, force=self.force)
        ext.depends += ext.sources
        ext.sources = translated[0].sources + [
            name for name in ext.sources if not name.endswith(".pyx")
        ]
        super().build_extension(ext)

    def run(self):
        super().run()
        if self.inplace:
            return
        for ext in self.extensions:
            built = self.get_ext_fullpath(ext.name)
            beside = os.path.join(ROOT, "fastipc", os.path.basename(built))
            # Replaced, not overwritten: a running process may have the old file mapped.
            fresh = "%s.%d.tmp" % (beside, os.getpid())
            shutil.copy2(built, fresh)
            os.replace(fresh, beside)


# The C that Cython or an editor may have left beside the .pyx is not a source.
hand_written = [
    name for name in source_files("fastipc/_*.c") if not os.path.isfile(name[:-2] + ".pyx")
]
core = Extension(
    "fastipc._core",
    ["fastipc/_core.pyx"] + hand_written + source_files("csrc/*.c"),
    include_dirs=["csrc", "fastipc"],
    depends=["setup.py"]
    + source_files("csrc/*.h", "fastipc/*.pxi", "fastipc/*.pxd", "fastipc/_*.h"),
    extra_compile_args=compile_flags(),
    extra_link_args=link_flags(),
)

setup(
    ext_modules=[core],
    cmdclass={"build": BuildElsewhere, "build_ext": BuildExtension, "build_py": BuildPython},
)
