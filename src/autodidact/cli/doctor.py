"""``autodidact doctor [--json]``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from autodidact.catalog.signature import Option, summary_of
from autodidact.cli.parser import Parser

MODULE = "autodidact.verbs.doctor"


def run(argv: Sequence[str]) -> None:
    """Look, and print what was found."""
    parser = Parser("doctor", "[--json]", summary_of(MODULE, "doctor"))
    parser.option(Option("json", "bool", False, "as JSON"))
    given = parser.take(argv)
    from autodidact.verbs.doctor import doctor

    found = doctor()
    print(json.dumps(found, indent=1) if given["json"] else page(found))


def page(found: Mapping[str, Any]) -> str:
    """The findings for a terminal."""
    lines = [f"autodidact {found['autodidact']}, Python {found['python']}, {found['platform']}", "", "devices"]
    for device in found["devices"]:
        memory = f", {_size(device['memory'])}" if device["memory"] else ""
        gain = f", bf16 {device['bf16']:g} times as fast as float32" if device["bf16"] else ", no bf16"
        lines.append(f"  {device['kind']}  {device['name']}{memory}{gain}")
    lines.append(f"  {found['cores']} cores, {found['threads']} threads in use, {_size(found['memory'])} of memory")
    cache = found["cache"]
    lines += [
        f"  compiler for --compile: {found['compiler'] or 'none'}",
        f"  cache {cache['folder']}: {_size(cache['bytes'])} in {cache['files']} files, {_size(cache['free'])} free",
        "",
        "packages",
        *_wrapped(", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())),
        "",
        "extras",
    ]
    width = max(map(len, found["extras"]))
    for name, extra in found["extras"].items():
        listed = ", ".join(f"{package} {version or 'missing'}" for package, version in extra["packages"].items())
        lines.append(f"  {name:<{width}}  {listed}" + (f"  ->  {extra['add']}" if extra["missing"] else ""))
    lines += ["", "what would help"]
    lines += [line for said in found["advice"] or ["nothing that we can see"] for line in _wrapped(said, "- ")]
    return "\n".join(lines)


def _wrapped(text: str, mark: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"  {mark}", subsequent_indent="  " + " " * len(mark))


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
