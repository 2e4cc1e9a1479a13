"""What tests may touch: the package by its public names, and each other through `helpers` alone."""

import ast

import pytest

from helpers.paths import ROOT

TESTS = ROOT / "tests"
#: Where no public name tells what a test is about, by file and name.
LEFT = {
    ("tracing/test_tracer.py", "_project"),  # counts work that is not to be done
    ("benchmarks/gpu.py", "_PRODUCTS"),  # measures what the package would never do
    ("helpers/devices.py", "_parameters"),  # torch's
}


def trees(folder):
    return {path.relative_to(folder).as_posix(): ast.parse(path.read_text("utf-8")) for path in folder.rglob("*.py")}


def nodes(tree, kind):
    return (node for node in ast.walk(tree) if isinstance(node, kind))


def replaced(tests):
    """What tests put something else in the place of, by file and name."""
    return {
        (file, given.value.rpartition(".")[2])
        for file, tree in tests.items()
        for call in nodes(tree, ast.Call)
        if isinstance(call.func, ast.Attribute) and call.func.attr == "setattr"
        for given in call.args[:2]
        if isinstance(given, ast.Constant) and isinstance(given.value, str)
    }


@pytest.fixture(scope="module")
def tests():
    return trees(TESTS)


@pytest.fixture(scope="module")
def names():
    """All that the package binds: functions, classes, attributes of objects, constants."""
    found = set()
    for tree in trees(ROOT / "blip_trace_widget").values():
        found |= {node.name for node in nodes(tree, (ast.FunctionDef, ast.ClassDef))}
        found |= {node.attr for node in nodes(tree, ast.Attribute) if isinstance(node.ctx, ast.Store)}
        found |= {node.id for node in nodes(tree, ast.Name) if isinstance(node.ctx, ast.Store)}
    return found


def test_no_private_name_of_the_package_is_used(tests, names):
    private = {name for name in names if name.startswith("_") and not name.endswith("_")}
    used = {
        (file, node.attr)
        for file, tree in tests.items()
        for node in nodes(tree, ast.Attribute)
        if node.attr in private and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }
    used |= {(file, name) for file, name in replaced(tests) if name in private}
    assert used == LEFT


def test_no_constant_of_the_package_is_changed(tests, names):
    constants = {name for name in names if name.isupper()}
    assert [(file, name) for file, name in replaced(tests) if name in constants] == []


def test_no_test_file_is_imported(tests):
    imported = {node.module or "" for tree in tests.values() for node in nodes(tree, ast.ImportFrom)}
    imported |= {alias.name for tree in tests.values() for node in nodes(tree, ast.Import) for alias in node.names}
    parts = {part for name in imported for part in name.split(".")}
    assert {part for part in parts if part.startswith("test_") or part in ("conftest", "tests")} == set()
