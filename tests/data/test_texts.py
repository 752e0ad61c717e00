"""Texts from lines of a file."""

from __future__ import annotations

import numpy as np
import pytest

from autodidact.data.texts import read_passages, text_source


def test_lines_of_a_text_file_are_inputs_and_blank_ones_are_none(tmp_path):
    (tmp_path / "words.txt").write_text("one \n\n two\u2028still\n")
    source = text_source(tmp_path / "words.txt")
    assert list(source.column("input")) == ["one", "two\u2028still"]
    assert list(source.names) == ["words:0", "words:1"]
    assert source.schema["input"].kind == "text"


def test_objects_give_their_texts_by_name_and_leave_the_rest_aside(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b", "id": 3}\n{"output": "d", "input": "c"}\n')
    source = text_source(tmp_path / "rows.jsonl")
    assert source.batch(np.arange(2)).fields == {"input": ["a", "c"], "output": ["b", "d"]}


def test_options_are_lists_of_texts(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "options": ["b", "c"]}\n{"input": "d", "options": ["e"]}\n')
    source = text_source(tmp_path / "rows.jsonl")
    assert source.schema["options"].kind == "options"
    assert source.batch(np.array([1, 0])).fields == {"input": ["d", "a"], "options": [["e"], ["b", "c"]]}


def test_the_same_name_with_another_content_has_other_ids(tmp_path):
    ids = []
    for content in ("a\nb\n", "a\nc\n", "a\nb\n"):
        (tmp_path / "words.txt").write_text(content)
        ids.append(text_source(tmp_path / "words.txt").ids.tolist())
    assert ids[0] == ids[2]
    assert not set(ids[0]) & set(ids[1])


def test_plain_texts_in_json_lines_are_inputs(tmp_path):
    (tmp_path / "rows.jsonl").write_text('"a"\n"b"\n')
    assert list(text_source(tmp_path / "rows.jsonl", "prompt").column("prompt")) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"x\n", "texts are read from"),
        ("a.txt", b"\n \n", "holds no text"),
        ("a.txt", b"\xff\xfe", "is not UTF-8 text: .* at byte 0"),
        ("a.jsonl", b'{"a": "b"}\n{"a": \n', "line 2 of a.jsonl is not JSON"),
        ("a.jsonl", b'{"a": 3}\n', "line 1 of a.jsonl holds no text"),
        ("a.jsonl", b'{"a": "b", "options": "b, c"}\n', "line 1 of a.jsonl: its options are no list of texts"),
        ("a.jsonl", b'{"options": ["b", "c"]}\n', "line 1 of a.jsonl holds no text"),
        ("a.jsonl", b'{"a": "b"}\n{"c": "d"}\n', "line 2 of a.jsonl has c; the first one has a"),
    ],
)
def test_what_is_no_text_is_said_with_its_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        text_source(tmp_path / name)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        text_source(tmp_path / "none.txt")


def test_a_corpus_is_read_file_by_file_and_long_texts_are_cut(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.txt").write_text("one\ntwo three\n\n")
    (tmp_path / "inner" / "b.md").write_text("# title\nfirst paragraph\n \nsecond one\n")
    (tmp_path / "c.jsonl").write_text('{"title": "x", "text": "y z"}\n')
    (tmp_path / "d.csv").write_text("left,out\n")
    assert read_passages(tmp_path) == ["one", "two three", "x y z", "# title first paragraph", "second one"]
    assert read_passages(tmp_path / "c.jsonl", words=2) == ["x y", "z"]


def test_a_corpus_without_text_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such corpus"):
        read_passages(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no text"):
        read_passages(tmp_path)
    with pytest.raises(ValueError, match="1 word at least"):
        read_passages(tmp_path, words=0)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_passages(tmp_path)
