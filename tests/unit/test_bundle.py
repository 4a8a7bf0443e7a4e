"""A bundle gives the same modules as their files, and never an old one."""

from __future__ import annotations

import os
import subprocess

import pytest

from rkt import bundle

LAUNCH = """
import sys
sys.path.insert(0, {source!r})
sys.path.insert(0, {directory!r})
from rkt import bundle
print(bundle.install({bundle!r}, {directory!r}))
{code}
"""


@pytest.fixture
def package(tmp_path: os.PathLike[str]) -> str:
    """The directory of a package with a module and a package in it."""
    path = os.path.join(tmp_path, "tree", "parts")
    os.makedirs(os.path.join(path, "inner"))
    for name, text in {
        "__init__.py": "",
        "one.py": '"""One."""\nVALUE = 1\n\ndef fail():\n    raise ValueError("here")\n',
        "inner/__init__.py": "from parts import one\n",
        "inner/two.py": "from parts.inner import one\nVALUE = one.VALUE + 1\n",
    }.items():
        with open(os.path.join(path, name), "w") as file:
            file.write(text)
    return path


def run(package: str, path: str, code: str) -> subprocess.CompletedProcess[str]:
    source = os.path.dirname(os.path.dirname(os.path.abspath(bundle.__file__)))
    text = LAUNCH.format(source=source, directory=os.path.dirname(package), bundle=path, code=code)
    return subprocess.run(
        ["/usr/bin/python3", "-IBSc", text], capture_output=True, text=True, check=False, env={}
    )


LOADERS = """
import parts.inner.two
print(parts.inner.two.VALUE, *(type(sys.modules[name].__loader__).__name__ for name in sorted(sys.modules)
      if name.partition(".")[0] == "parts"))
"""


@pytest.mark.parametrize("checked", [True, False])
def test_modules_come_from_the_bundle(package: str, tmp_path: os.PathLike[str], checked: bool) -> None:
    path = os.path.join(tmp_path, "bundle")
    bundle.write(package, path, checked=checked)
    if not checked:
        # Installed together, sources are only for tracebacks.
        os.unlink(os.path.join(package, "one.py"))
    done = run(package, path, LOADERS)
    assert done.stdout == "True\n2 Finder Finder Finder Finder\n", done.stderr


def test_a_process_may_close_all_it_has_open(package: str, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "bundle")
    bundle.write(package, path, checked=True)
    done = run(package, path, "import os\nos.closerange(3, 100)" + LOADERS)
    assert done.stdout == "True\n2 Finder Finder Finder Finder\n", done.stderr


def test_a_bundle_that_is_replaced_meanwhile_is_not_read(package: str, tmp_path: os.PathLike[str]) -> None:
    """An upgrade under a running command: what it imports later comes from the sources."""
    path = os.path.join(tmp_path, "bundle")
    bundle.write(package, path, checked=False)
    with open(f"{path}.next", "wb") as file:
        file.write(os.urandom(1 << 16))
    done = run(package, path, f"import os\nos.rename({path + '.next'!r}, {path!r})" + LOADERS)
    assert done.stdout.startswith("True\n2 "), done.stderr


def test_a_module_whose_source_has_changed_is_imported_from_there(
    package: str, tmp_path: os.PathLike[str]
) -> None:
    path = os.path.join(tmp_path, "bundle")
    bundle.write(package, path, checked=True)
    with open(os.path.join(package, "one.py"), "a") as file:
        file.write("VALUE = 10\n")
    done = run(package, path, LOADERS)
    assert done.stdout == "True\n11 Finder Finder Finder SourceFileLoader\n", done.stderr


def test_a_module_whose_source_is_gone_is_gone(package: str, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "bundle")
    bundle.write(package, path, checked=True)
    os.unlink(os.path.join(package, "one.py"))
    assert "cannot import name 'one'" in run(package, path, LOADERS).stderr


def test_a_traceback_shows_the_source(package: str, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "bundle")
    bundle.write(package, path, checked=True)
    done = run(package, path, "from parts import one\none.fail()")
    assert f'{package}/one.py", line 5, in fail\n    raise ValueError("here")\n' in done.stderr


@pytest.mark.parametrize("content", [None, b"", b"\0" * 100], ids=["missing", "empty", "foreign"])
def test_without_a_bundle_of_this_interpreter_modules_are_imported_as_ever(
    package: str, tmp_path: os.PathLike[str], content: bytes | None
) -> None:
    path = os.path.join(tmp_path, "bundle")
    if content is not None:
        with open(path, "wb") as file:
            file.write(content)
    done = run(package, path, LOADERS)
    assert done.stdout == "False\n2" + 4 * " SourceFileLoader" + "\n", done.stderr


def test_the_same_sources_give_the_same_bundle(package: str) -> None:
    sources = [(f"parts/{name}", os.path.join(package, name)) for name in ("one.py", "__init__.py")]
    assert bundle.build(sources, checked=False) == bundle.build(sources[::-1], checked=False)
