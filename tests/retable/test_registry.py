"""Plug-ins are listed without being imported, looked up by name, and may come from elsewhere."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from methods import METHODS
from protocols import PROTOCOLS
from retable.errors import RetableError, UnknownName
from retable.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package of plug-ins; returns what adds a module to it."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from retable.registry import Registry\nTHINGS = Registry('thing', 'plugins', 'THINGS')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def add(module, name, more=""):
        (folder / f"{module}.py").write_text(
            f'from plugins import THINGS\n@THINGS.register("{name}"{more})\n'
            f'def thing():\n    return "{module}"\n'
        )

    yield add
    for name in [name for name in sys.modules if name.split(".")[0] == "plugins"]:
        del sys.modules[name]


def registry():
    import plugins

    return plugins.THINGS


def test_names_are_listed_without_imports(package):
    package("b", "second")
    package("a", "first")

    assert registry().names() == ["first", "second"]
    assert "plugins.a" not in sys.modules
    assert registry().get("first")() == "a"
    assert "plugins.b" not in sys.modules


def test_the_version_stands_in_the_decorator_and_is_read_without_import(package):
    package("a", "first")
    package("b", "second", ", version=3")

    assert [registry().version(name) for name in ("first", "second")] == ["1", "3"]
    assert "plugins.b" not in sys.modules


def test_an_unknown_name_lists_near_matches(package):
    package("a", "market1501")

    with pytest.raises(UnknownName, match=r"unknown thing 'market': did you mean 'market1501'"):
        registry().get("market")


def test_two_plugins_of_one_name(package):
    package("a", "same")
    package("b", "same")

    with pytest.raises(RetableError, match=r"'same' is registered by both plugins.a and plugins.b"):
        registry().names()


def test_a_name_registered_twice_at_run_time():
    things = Registry("thing", "protocols", "THINGS")
    things.register("x")(1)

    with pytest.raises(RetableError, match="two things register the name 'x'"):
        things.register("x")(2)


@pytest.mark.usefixtures("package")
def test_entry_points_of_other_distributions_count(monkeypatch):
    entry = EntryPoint("outside", "math:sqrt", "retable.plugins")
    monkeypatch.setattr("retable.registry.entry_points", lambda group: [entry] * (group == entry.group))

    assert registry().names() == ["outside"]
    assert registry().get("outside")(9) == 3


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_loads(name):
    assert METHODS.get(name).UNSTATED


@pytest.mark.parametrize("name", PROTOCOLS.names())
def test_every_protocol_loads_under_its_own_name(name):
    assert PROTOCOLS.get(name)().name == name


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from protocols import PROTOCOLS; from reproductions.spec import paper_keys;"
        "PROTOCOLS.names(); paper_keys();"
        "heavy = {'torch', 'mlflow', 'timm', 'numba', 'pandas', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
