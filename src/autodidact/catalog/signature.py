"""Options of a class or function, read from its source as text: nothing is imported, so help and errors are instant."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from autodidact.catalog.nearest import unknown

ROOT = Path(__file__).parent.parent
RESERVED = ("schema", "samples")
"""Constructor arguments that are filled in from the data, not by the user."""

QUOTES = '"""'
CLASSES = ("Encoder", "Source", "Schema", "bool", "float", "int", "str")
"""What stands in most signatures and is no name for a choice: nothing is read to find that out."""
_EMPTY: dict[str, Any] = {"dict": {}, "list": [], "tuple": ()}
Definition = ast.ClassDef | ast.FunctionDef


class Required:
    """Stands for the default of an option that has none."""

    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = Required()


@dataclass(frozen=True)
class Option:
    """One argument of a constructor or function.

    Attributes
    ----------
    name : of the argument.
    annotation : its type, as written.
    default : value of the default; `REQUIRED` where there is none.
    doc : what the docstring says, as one line of text.
    positional : whether it may be passed by position.
    """

    name: str
    annotation: str
    default: Any
    doc: str
    positional: bool = False

    def plain(self) -> dict[str, Any]:
        """JSON-ready; the default is absent where there is none."""
        known = {"type": self.annotation, "default": self.default, "doc": self.doc}
        if self.default is REQUIRED:
            del known["default"]
        return known


def options_of(module: str | Path, name: str) -> dict[str, Option]:
    """Arguments of a class's constructor, of a function, or of a dataclass, in their order.

    A constructor or documentation that the class does not have itself is its base class's.

    Parameters
    ----------
    module : dotted name of a module of this package, or path of a file.
    name : of the class or function.

    Raises
    ------
    FileNotFoundError : no such module.
    ValueError : no such class or function in it, naming the nearest one.
    """
    path = module if isinstance(module, Path) else _file(module)
    tree = _tree(path)
    defined = {node.name: node for node in tree.body if isinstance(node, Definition)}
    if name not in defined:
        raise unknown(f"class in {path}", name, defined)
    return _read(defined[name], tree)


def summary_of(module: str, name: str) -> str:
    """First paragraph of the docstring of a class or function, as one line."""
    found = next(n for n in _tree(_file(module)).body if isinstance(n, Definition) and n.name == name)
    return _line((ast.get_docstring(found) or "").split("\n\n")[0])


def docstring_of(module: str, name: str) -> str:
    """The docstring of a class or function, unindented."""
    found = next(n for n in _tree(_file(module)).body if isinstance(n, Definition) and n.name == name)
    return ast.get_docstring(found) or ""


def documented(docstring: str) -> dict[str, str]:
    """What the section "Parameters" (or "Attributes") of a numpydoc docstring says of each name.

    An entry is ``name : text`` or ``one, two : text``, with indented further lines.
    """
    found: dict[str, str] = {}
    section = re.search(
        r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^\w[\w ]*\n-{3,}|\Z)", docstring, re.MULTILINE | re.DOTALL
    )
    names: list[str] = []
    for line in section.group(1).splitlines() if section else ():
        if entry := re.match(r"(\w+(?:, ?\w+)*) : ?(.*)", line):
            names = re.split(r", ?", entry.group(1))
            found |= dict.fromkeys(names, entry.group(2))
        elif line.strip() and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif not line.strip():
            continue
    return {name: _line(text) for name, text in found.items()}


def _read(node: Definition, tree: ast.Module) -> dict[str, Option]:
    docs = documented(ast.get_docstring(node) or "")
    if isinstance(node, ast.FunctionDef):
        return _arguments(node, docs, tree, skip=())
    if any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list):
        return _fields(node, docs, tree)
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        return _arguments(init, docs, tree, skip=("self", *RESERVED))
    for base in node.bases:
        inherited = _inherited(base, tree)
        if inherited is not None:
            return {
                name: Option(name, o.annotation, o.default, docs.get(name, o.doc), o.positional)
                for name, o in inherited.items()
            }
    return {}


def _inherited(base: ast.expr, tree: ast.Module) -> dict[str, Option] | None:
    """Options of a base class that is defined in the same file or imported from this package by name."""
    found = _find(ast.unparse(base), tree)
    return _read(found[0], found[1]) if found and isinstance(found[0], ast.ClassDef) else None


def _find(name: str, tree: ast.Module) -> tuple[ast.stmt, ast.Module] | None:
    """Where a name of a file is defined at the level of the module, there or in the module of this package that it is
    imported from; and that module."""
    for node in tree.body:
        if isinstance(node, Definition) and node.name == name:
            return node, tree
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node, tree
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return node, tree
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("autodidact."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(alias.name, _tree(_file(str(node.module))))
    return None


def _arguments(
    node: ast.FunctionDef, docs: Mapping[str, str], tree: ast.Module, skip: tuple[str, ...]
) -> dict[str, Option]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = [
        *zip(positional, [*missing, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    found = {}
    for arg, default in pairs:
        if arg.arg not in skip:
            annotation = _annotation(arg.annotation, tree)
            value = REQUIRED if default is None else _value(default, tree)
            # Some docstrings repeat the type before the text.
            doc = docs.get(arg.arg, "").removeprefix(f"{annotation} ")
            found[arg.arg] = Option(arg.arg, annotation, value, doc, arg in positional)
    return found


def _fields(node: ast.ClassDef, docs: Mapping[str, str], tree: ast.Module) -> dict[str, Option]:
    return {
        field.target.id: Option(
            field.target.id,
            _annotation(field.annotation, tree),
            REQUIRED if field.value is None else _value(field.value, tree),
            docs.get(field.target.id, ""),
        )
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def _value(node: ast.expr, tree: ast.Module) -> Any:
    """The value of a literal, or of a name of the module that stands for one."""
    if (
        isinstance(node, ast.Name)
        and (found := _find(node.id, tree))
        and isinstance(found[0], ast.Assign | ast.AnnAssign)
    ):
        assert found[0].value is not None
        return _value(found[0].value, found[1])
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "field":
        given = {str(keyword.arg): keyword.value for keyword in node.keywords}
        return _value(given["default"], tree) if "default" in given else _EMPTY[ast.unparse(given["default_factory"])]
    return ast.literal_eval(node)


def _annotation(node: ast.expr | None, tree: ast.Module) -> str:
    """An annotation as text, names of the package that stand for a choice of literals written out."""
    if node is None:
        return "Any"
    if isinstance(node, ast.BinOp):
        return f"{_annotation(node.left, tree)} | {_annotation(node.right, tree)}"
    if isinstance(node, ast.Name):
        if node.id in CLASSES:
            return node.id
        if (found := _find(node.id, tree)) and isinstance(found[0], ast.Assign):
            return ast.unparse(found[0].value)
    return ast.unparse(node)


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not module.startswith("autodidact") or not found.is_file():
        raise FileNotFoundError(f"no such module of this package: {module}")
    return found


def _tree(path: Path) -> ast.Module:
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, changed: int) -> ast.Module:
    text = path.read_text()
    try:
        return ast.parse(_outline(text), filename=str(path))
    except SyntaxError:
        return ast.parse(text, filename=str(path))


def _outline(text: str) -> str:
    """The text without what functions do and without methods but ``__init__``, which take most of the time of reading
    it: signatures and documentation stay. Of text that is not laid out as this package's is, the outline may be no
    valid code."""
    kept: list[str] = []
    lines = iter(text.splitlines())
    depth: int | None = None
    for line in lines:
        start = line.lstrip()
        indent = len(line) - len(start)
        if depth is not None:
            if not start or indent > depth or (indent == depth and start.startswith(")")):
                continue
            depth = None
        if not start.startswith(("def ", "async def ")):
            kept.append(line)
            continue
        if indent and not start.startswith("def __init__("):
            while kept and kept[-1].startswith(" " * indent + "@"):
                kept.pop()
            depth = indent
            continue
        kept.append(line)
        while not line.endswith((":", "...")):
            line = next(lines, ":")
            kept.append(line)
        if line.endswith("..."):
            continue
        depth = indent
        opening = next(lines, "")
        text_of = opening.strip().removeprefix("r")
        if not text_of.startswith(QUOTES):
            kept.append(" " * (indent + 4) + "...")
            continue
        kept.append(opening)
        line = text_of.removeprefix(QUOTES)
        while not line.endswith(QUOTES):
            line = next(lines, QUOTES)
            kept.append(line)
    return "\n".join(kept)


def _line(text: str) -> str:
    return " ".join(text.split())
