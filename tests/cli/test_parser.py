"""Options as they are typed, and the values that arrive."""

from __future__ import annotations

import pytest

from autodidact.catalog.signature import REQUIRED, Option
from autodidact.cli.annotations import alternatives, items, metavar, takes, typed, value
from autodidact.cli.parser import Parser


@pytest.fixture
def parser() -> Parser:
    made = Parser("verb", "RUN [options]", "Does it.")
    made.positional("run", "the run")
    made.options(
        {
            name: Option(name, annotation, default, f"about {name}, see `batch_size` and ``that``.")
            for name, annotation, default in (
                ("batch_size", "int", 4),
                ("lr", "float | None", None),
                ("cache", "bool", True),
                ("fresh", "bool", False),
                ("pretrained", "bool | str", False),
                ("labels", "str | float", "100%"),
                ("names", "tuple[str, ...]", ()),
                ("share", "tuple[float, float]", (0.25, 0.5)),
                ("changes", "dict[str, Any] | None", None),
                ("data", "str | Path | Source", REQUIRED),
            )
        }
    )
    made.option(Option("lr_scale", "float", 1.0, "scale"), prefix="--method.", entry="method_arguments.lr_scale")
    made.option(
        Option("own_way", "bool", True, "way"), prefix="--method.", entry="method_arguments.own_way", given_only=True
    )
    return made


CASES = {
    "--batch-size 8": ("batch_size", 8),
    "--batch_size 8": ("batch_size", 8),
    "--batch-size=8": ("batch_size", 8),
    "": ("batch_size", 4),
    "--lr 1e-3": ("lr", 1e-3),
    "--lr null": ("lr", None),
    "--cache": ("cache", True),
    "--no-cache": ("cache", False),
    "--no_cache": ("cache", False),
    "--cache false": ("cache", False),
    "--cache=no": ("cache", False),
    "--fresh": ("fresh", True),
    "--fresh --cache": ("fresh", True),
    "--no-fresh": ("fresh", False),
    "--fresh true": ("fresh", True),
    "--pretrained": ("pretrained", True),
    "--pretrained --fresh": ("pretrained", True),
    "--pretrained w.safetensors": ("pretrained", "w.safetensors"),
    "--labels 1%": ("labels", "1%"),
    "--names a,b": ("names", ["a", "b"]),
    "--names=": ("names", []),
    "--share 0.1,1": ("share", [0.1, 1.0]),
    "--share [0.1,1]": ("share", [0.1, 1.0]),
    "--changes {a:\u00a02}": ("changes", {"a": 2}),
    "--changes.a 2": ("changes", {"a": 2}),
    "--changes.a 2 --changes.b x": ("changes", {"a": 2, "b": "x"}),
    "--data x": ("data", "x"),
}


@pytest.mark.parametrize("typed_words", CASES)
def test_a_value_arrives_as_its_type_however_the_option_is_spelt(parser, typed_words):
    name, expected = CASES[typed_words]
    # A space that does not separate stands for one that a shell would have quoted.
    words = [word.replace("\u00a0", " ") for word in typed_words.split(" ") if word]
    found = parser.take(["runs/x", *words])
    assert found["run"] == "runs/x"
    assert (list(found[name]) if isinstance(found[name], tuple) else found[name]) == expected


def test_options_below_a_prefix_keep_their_underscores_and_land_in_their_entry(parser):
    assert parser.take(["--method.lr_scale", "2"])["method_arguments"] == {"lr_scale": 2.0}
    assert parser.take(["--method.lr-scale", "2"])["method_arguments"] == {"lr_scale": 2.0}


def test_an_option_that_counts_only_when_given_is_absent_otherwise(parser):
    assert "own_way" not in parser.take([])["method_arguments"]
    assert parser.take(["--no-method.own_way"])["method_arguments"]["own_way"] is False


def test_a_number_below_zero_is_a_value_and_not_an_option(parser):
    assert parser.take(["--lr", "-1"])["lr"] == -1.0


def test_the_command_line_wins_over_the_configuration_file(parser, tmp_path):
    (tmp_path / "c.yaml").write_text("batch_size: 16\nfresh: true\nnames: [p, q]\nchanges: {a: 1}\n")
    found = parser.take(["--config", str(tmp_path / "c.yaml"), "--batch-size", "2", "--changes.b", "3"])
    assert (found["batch_size"], found["fresh"], found["names"]) == (2, True, ["p", "q"])
    assert found["changes"] == {"a": 1, "b": 3}


def test_what_is_printed_as_configuration_is_taken_as_such(parser, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parser.take(["--batch-size", "2", "--share", "0.5,1", "--no-cache", "--method.lr_scale", "3", "--print-config"])
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    found = parser.take(["--config", str(tmp_path / "c.yaml")])
    assert (found["batch_size"], found["share"], found["cache"]) == (2, [0.5, 1.0], False)
    assert found["method_arguments"] == {"lr_scale": 3.0}


def test_the_help_names_other_options_as_they_are_typed(parser):
    text = " ".join(parser.format_help().split())
    assert "about lr, see --batch-size and that" in text
    assert "--share X,Y,..." in text
    assert "(default: 0.25,0.5)" in text
    assert "--[no-]cache about cache, see --batch-size and that (default: on)" in text


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("int", int),
        ("'int'", int),
        ("int | None", int | None),
        ("str | Path | Source", str),
        ("Source | str", str),
        ("bool | str", bool | str),
        ("Mapping[str, str] | str | None", dict[str, str] | str | None),
        ("Mapping[str, Any]", dict[str, object]),
        ("tuple[int, ...]", list[int]),
        ("Sequence[str]", list[str]),
        ("Method", str | dict[str, object]),
    ],
)
def test_annotations_become_types_that_a_command_line_can_give(annotation, kind):
    assert str(typed(annotation)).replace("typing.Any", "object") == str(kind)


def test_an_annotation_that_no_command_line_can_give_is_a_mistake_of_ours():
    with pytest.raises(TypeError, match="no command line can give a value of type Tensor"):
        typed("Tensor")


def test_none_is_no_alternative_and_the_metavar_shows_the_first():
    assert alternatives("int | None") == [int]
    assert metavar("int | None", None) == "N"
    assert metavar("Literal['a', 'b']", "a") == "{a,b}"


def test_what_an_option_takes_is_said_in_words():
    assert takes("Literal['up', 'down'] | None", "dwn") == "takes up or down, got 'dwn'; did you mean 'down'?"
    assert takes("int | float", None) == "takes a whole number or a number, got nothing"


@pytest.mark.parametrize(
    ("text", "annotation", "expected"),
    [
        ("3", "int", 3),
        ("1e-3", "float", 1e-3),
        ("no", "bool", False),
        ("x", "str", "x"),
        ("2", "Literal[1, 2]", 2),
        ("0.5", "int | float", 0.5),
        ("none", "Literal['none', 'all']", "none"),
    ],
)
def test_one_value_is_read_by_its_annotation(text, annotation, expected):
    assert value(text, annotation) == expected


def test_a_value_of_another_type_is_an_error():
    with pytest.raises(ValueError, match=r"takes a whole number, got '1\.5'"):
        value("1.5", "int")


def test_a_list_may_come_as_text_or_as_a_list():
    assert items("1, 2,3", int) == items([1, "2", 3], int) == [1, 2, 3]
