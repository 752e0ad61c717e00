"""What is read from the source as text is what Python itself would say."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from autodidact.catalog import cards, target
from autodidact.catalog.signature import REQUIRED, RESERVED, documented, options_of, summary_of
from autodidact.training import Settings

SOURCE = '''
"""A file."""

from autodidact.evaluation.arms import BASELINES
from autodidact.training.settings import Settings

MANY = 7
Way = Literal["up", "down"]


class Base:
    """Base.

    Parameters
    ----------
    size, width : in pixels,
        whole ones.
    way : where to.

    Attributes
    ----------
    other : not an argument.
    """

    def __init__(self, encoder: Encoder, *, size: int = MANY, width: float, way: Way | None = "up", schema=None):
        ...


class Inheriting(Base):
    """Has no constructor.

    Parameters
    ----------
    size : of its own.
    """


class Imported(Settings):
    pass


def function(names: str | Sequence[str] = BASELINES, *rest, deep: dict[str, Any] | None = None, **more) -> None:
    """Does it all,
    in two lines.

    More.
    """
'''


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "own.py").write_text(SOURCE)
    return tmp_path / "own.py"


def test_arguments_of_a_constructor_come_with_type_default_and_documentation(path):
    size, width, way = (options_of(path, "Base")[name] for name in ("size", "width", "way"))
    assert (size.annotation, size.default, size.doc) == ("int", 7, "in pixels, whole ones.")
    assert (width.annotation, width.default, width.doc) == ("float", REQUIRED, "in pixels, whole ones.")
    assert (way.annotation, way.default, way.doc) == ("Literal['up', 'down'] | None", "up", "where to.")


def test_networks_are_positional_and_what_the_data_fills_in_is_left_out(path):
    found = options_of(path, "Base")
    assert found["encoder"].positional
    assert set(found) == {"encoder", "size", "width", "way"}


def test_a_class_without_a_constructor_has_its_base_classs_arguments_and_its_own_documentation(path):
    found = options_of(path, "Inheriting")
    assert found["size"].doc == "of its own."
    assert found["way"].doc == "where to."


def test_a_base_class_and_a_default_may_be_imported_from_this_package(path):
    assert options_of(path, "Imported") == options_of("autodidact.training.settings", "Settings")
    assert options_of(path, "function")["names"].default == ("raw", "random", "scratch")


def test_a_function_has_its_named_arguments_only(path):
    assert list(options_of(path, "function")) == ["names", "deep"]


def test_the_summary_is_the_first_paragraph_in_one_line():
    assert summary_of("autodidact.catalog.signature", "documented").startswith('What the section "Parameters"')
    assert "\n" not in summary_of("autodidact.catalog.signature", "options_of")


def test_a_class_that_does_not_exist_is_named_with_the_nearest(path):
    with pytest.raises(ValueError, match="'Bse'; did you mean 'Base'"):
        options_of(path, "Bse")


def test_a_module_that_does_not_exist_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"autodidact\.nothing"):
        options_of("autodidact.nothing", "X")


def test_documentation_ends_where_the_next_section_begins():
    text = "T.\n\nParameters\n----------\na : one\n    two\nb, c : three\n\n    four\n\nReturns\n-------\nd : no\n"
    assert documented(text) == {"a": "one two", "b": "three four", "c": "three four"}


@pytest.mark.parametrize("name", cards())
def test_options_read_as_text_are_those_that_python_sees(name):
    card = cards()[name]
    read = options_of(card.module, card.target)
    seen = {n: p for n, p in inspect.signature(target(card)).parameters.items() if n not in RESERVED}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    assert list(read) == [n for n, p in seen.items() if p.kind in kinds]
    for option in read.values():
        default = seen[option.name].default
        assert option.default is REQUIRED if default is inspect.Parameter.empty else option.default == default


def test_fields_of_the_settings_read_as_text_are_those_of_the_dataclass():
    read = options_of("autodidact.training.settings", "Settings")
    assert {n: o.default for n, o in read.items()} == {
        f.name: REQUIRED if f.default is MISSING else f.default for f in fields(Settings)
    }


def test_methods_are_passed_over_however_they_are_written(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        '''
class Own:
    """Own.

    Parameters
    ----------
    size : in pixels.
    """

    @property
    def area(self) -> int:
        return 4

    @decorated(
        by="several lines",
    )
    def long(
        self,
        other: int = 3,
    ) -> int:
        def inner() -> int:
            return other

        return inner()

    def __init__(self, *, size: int = 2) -> None:
        self.size = size

    async def later(self): ...


def function(*, deep: bool = False) -> None:
    """Does it."""
'''
    )
    assert {name: (o.default, o.doc) for name, o in options_of(file, "Own").items()} == {"size": (2, "in pixels.")}
    assert [(name, o.default) for name, o in options_of(file, "function").items()] == [("deep", False)]
