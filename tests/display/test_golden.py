"""Python's formatting of numbers, colours and sentences against the file that vitest holds the front end's against."""

import json

import pytest

from helpers import golden

WRITTEN = json.loads(golden.PATH.read_text("utf-8"))
MADE = golden.plain(golden.cases())


def test_the_file_has_these_cases():
    assert {name: len(listed) for name, listed in WRITTEN.items()} == {name: len(each) for name, each in MADE.items()}


@pytest.mark.parametrize("name", WRITTEN)
def test_python_writes_what_the_file_says(name):
    for written, made in zip(WRITTEN[name], MADE[name], strict=True):
        assert made == written, "if it is meant: python tests/helpers/golden.py"
