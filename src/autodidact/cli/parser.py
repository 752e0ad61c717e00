"""Options from signatures: a verb, its settings and a method take the same in Python and on the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, get_args, get_origin

from jsonargparse import ArgumentParser

from autodidact.catalog.nearest import nearest
from autodidact.catalog.signature import REQUIRED, Option
from autodidact.cli.annotations import BARE, EITHER, TRUTHS, alternatives, items, metavar, takes, typed

_QUOTE = "'"


class Parser(ArgumentParser):
    """Parser of one verb.

    Words of an option may be joined by ``-`` or ``_``. An option that is true or false needs no value, and is
    turned off by ``--no-NAME``. Every error is a `ValueError` in one line.

    Parameters
    ----------
    verb : the verb.
    usage : what follows it, such as ``RUN --data DATA [options]``.
    about : what the verb does.
    """

    def __init__(self, verb: str, usage: str, about: str) -> None:
        self.verb = verb
        self.taken: dict[str, tuple[str, Option]] = {}
        super().__init__(
            prog=f"autodidact {verb}",
            usage=f"autodidact {verb} {usage}",
            description=about,
            formatter_class=Help,
            allow_abbrev=False,
            default_meta=False,
            print_config="--print-config",
        )
        self.add_argument("--config", action="config", metavar="FILE", help="YAML file with any of these options")
        self._option_string_actions["--print-config"].help = "print all options as such a file, and stop"
        self._option_string_actions["--print-config"].metavar = ""

    def positional(self, name: str, doc: str) -> None:
        """An argument that is given by its place; the caller checks that it is there."""
        self.add_argument(name, nargs="?", default=argparse.SUPPRESS, help=doc, metavar=name.upper())

    def option(
        self,
        option: Option,
        *,
        prefix: str = "--",
        entry: str = "",
        group: Any = None,
        shown: str | None = None,
        doc: str | None = None,
        given_only: bool = False,
    ) -> None:
        """Add an option.

        Parameters
        ----------
        option : name, type, default and documentation.
        prefix : what stands before its name; with more than the dashes, the name keeps its underscores.
        entry : its place in a configuration file; default its name.
        group : of the help; default the first.
        shown : what the help calls its value; default by its type.
        doc : instead of the option's own.
        given_only : leave it out of the result unless it was given.
        """
        flag = prefix + (option.name.replace("_", "-") if prefix == "--" else option.name)
        entry = entry or option.name
        self.taken[flag] = entry, option
        kind = typed(option.annotation)
        (group or self).add_argument(
            *dict.fromkeys((f"--{entry}", flag)),
            type=partial(items, of=get_args(kind)[0]) if get_origin(kind) is list else kind,
            default=argparse.SUPPRESS if given_only else None if option.default is REQUIRED else option.default,
            help=_explained(option, doc).replace("%", "%%"),
            metavar=shown or metavar(option.annotation, option.default),
        )

    def options(
        self,
        options: Mapping[str, Option],
        *,
        but: Iterable[str] = (),
        docs: Mapping[str, str] | None = None,
        shown: Mapping[str, str] | None = None,
        group: Any = None,
    ) -> None:
        """Add the arguments of a function as options, all but some."""
        for name, option in options.items():
            if name not in but:
                self.option(option, doc=(docs or {}).get(name), shown=(shown or {}).get(name), group=group)

    def format_help(self, *given: Any) -> str:
        """The help, in which a documentation that names another option names it as it is typed."""
        for action in self._actions:
            prefix = re.match(r"--(?:[a-z_]+\.)?", as_typed(action) if action.option_strings else "--")
            action.help = re.sub(
                r"`+([^`]+)`+", partial(self._named, prefix.group() if prefix else "--"), action.help or ""
            )
        return str(super().format_help(*given))

    def _named(self, prefix: str, found: re.Match[str]) -> str:
        name = found.group(1)
        flags = (f"{prefix}{name}", f"--{name.replace('_', '-')}")
        return next((flag for flag in flags if flag in self.taken), name)

    def take(self, argv: Sequence[str]) -> dict[str, Any]:
        """Values by name, nested entries as dictionaries; prints the help where that is asked for."""
        if {"-h", "--help"} & set(argv):
            self.print_help()
            raise SystemExit(0)
        return dict(self.parse_args(self.canonical(argv)).as_dict())

    def canonical(self, argv: Sequence[str], free: tuple[str, ...] = ()) -> list[str]:
        """The same words, options spelt as they were added and every truth value written out.

        Parameters
        ----------
        argv : words after the verb.
        free : beginnings of options that are not known yet and pass unchecked.

        Raises
        ------
        ValueError : an option does not exist; the message names the nearest.
        """
        left, done = list(argv), list[str]()
        while left:
            word = left.pop(0)
            if not word.startswith("--") or word == "--":
                done.append(word)
                continue
            name, equals, value = word.partition("=")
            flag, negated = self._spelt(name, free)
            kinds = alternatives(self.taken[flag][1].annotation) if flag in self.taken else []
            if negated:
                done.append(f"{flag}=false")
            elif equals or flag == "--print-config":
                done.append(f"{flag}{equals}{value}")
            elif bool in kinds:
                own = left and (left[0].lower() in TRUTHS if kinds == [bool] else not left[0].startswith("--"))
                done.append(f"{flag}={left.pop(0) if own else 'true'}")
            else:
                done += [flag, *left[:1]]
                del left[:1]
        return done

    def _spelt(self, name: str, free: tuple[str, ...]) -> tuple[str, bool]:
        """The option that a word means, and whether it is turned off by it."""
        known = {*self._option_string_actions}
        for spelt in (name, name.replace("_", "-"), "--" + name[2:].replace("-", "_")):
            if spelt in known:
                return as_typed(self._option_string_actions[spelt]), False
            positive = f"--{spelt[5:]}"
            if spelt.startswith(("--no-", "--no_")) and self._truth(positive):
                return positive, True
        if name.startswith(tuple(f"{flag}." for flag in known)) or (free and name.startswith(free)):
            return name, False
        raise self._no_option(name)

    def _truth(self, flag: str) -> bool:
        return flag in self.taken and alternatives(self.taken[flag][1].annotation) == [bool]

    def _no_option(self, name: str) -> ValueError:
        plain = name.lstrip("-").replace("-", "_")
        same = [flag for flag, (_, option) in self.taken.items() if option.name == plain]
        close = same[0] if same else nearest(name, self.taken)
        hint = f"; did you mean {close}?" if close else ""
        return ValueError(f"unknown option {name}{hint} ({self.prog} --help lists all)")

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise instead of printing the usage and leaving."""
        raise ValueError(self._said(message)) from ex

    def _said(self, message: str) -> str:
        by_entry = {entry: (flag, option) for flag, (entry, option) in self.taken.items()}
        if stray := re.search(r"Option '([^']+)' is not accepted", message):
            close = nearest(stray.group(1), by_entry)
            hint = f"; did you mean '{close}'?" if close else ""
            return f"unknown entry '{stray.group(1)}' in the configuration{hint}"
        if extra := re.match(r"[Uu]nrecognized arguments: (.*)", message):
            return f"{self.prog} has no place for: {extra.group(1)}"
        if missing := re.search(r"File does not exist: '?([^']*)'?", message):
            return f"no such file: {missing.group(1)}"
        about = re.search(r'(?:Parser key "|argument --)([\w.-]+)', message)
        if about and about.group(1) in by_entry:
            flag, option = by_entry[about.group(1)]
            given = re.search(r"(?:Given value|Got value|invalid .* value): (.*)", message)
            if given or "expected one argument" in message:
                return f"{flag} {takes(option.annotation, given.group(1).strip(_QUOTE) if given else None)}"
        return " ".join(message.split())


class Help(argparse.HelpFormatter):
    """Help that shows each option once, as it is typed."""

    def __init__(self, prog: str, **kept: Any) -> None:
        super().__init__(prog, max_help_position=32, **kept)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or "-h" in action.option_strings:
            return super()._format_action_invocation(action)
        flag, value = as_typed(action), action.metavar
        if value in (BARE, EITHER):
            return f"--{str(value).strip()}{flag.removeprefix('--')}"
        return f"{flag} {value}" if value else flag


def as_typed(action: argparse.Action) -> str:
    """How an option is typed: its last name, but for the form ending in + that jsonargparse gives to lists."""
    return [name for name in action.option_strings if not name.endswith("+")][-1]


def _explained(option: Option, doc: str | None) -> str:
    """The documentation and the default."""
    text = re.sub(r"(?<!\.)\.$", "", option.doc if doc is None else doc)
    shown = ",".join(map(str, option.default)) if isinstance(option.default, tuple) else option.default
    if shown is REQUIRED or shown is None or shown is False or shown == "" or re.search(r"\b[Dd]efault\b", text):
        return text
    return f"{text} (default: {'on' if shown is True else shown})"
