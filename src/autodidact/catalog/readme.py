"""Writes what is generated: the tables of README.md, a page for each method in docs/methods, and docs/speed.md.

``python -m autodidact.catalog.readme`` from the root of a checkout; everything comes from the cards, the docstrings,
the results of the claims in ``results/`` and the figures in ``benchmarks/``, so nobody writes a status by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from autodidact.catalog.card import Card
from autodidact.catalog.cards import cards, options
from autodidact.catalog.signature import REQUIRED, docstring_of
from autodidact.catalog.speed import speed_page
from autodidact.catalog.tables import markdown_table as _table

USED = {
    "method": ("autodidact pretrain {name} --data DATA --out runs/{name}", "--method."),
    "recipe": ("autodidact pretrain {name} --data DATA --out runs/{name}", "--method."),
    "encoder": ("autodidact pretrain METHOD --data DATA --encoder small:{name}", "--encoder."),
    "suite": ("autodidact compare --data DATA --methods {name} --tokens 100000000 --out runs/{name}", ""),
}
"""Kind of a card -> how it is used, and what its options start with."""
IMPROVES = "autodidact improve {name} --model MODEL --task task.yaml --out runs/{name}"
PAGES = Path("docs/methods")
COMPARISONS = Path("results/compare")
"""Tables that ``autodidact compare --json`` wrote, by the name of a suite."""
COMPARED = ("knn", "linear", "retrieval", "lidar", "rankme")
MOST_FIGURES = 16
"""Beside the metric, in the table of a claim's figures: more would not be read."""
KEYS = ("name", "number", "statement", "metric", "arms", "difference", "margin", "verdict", "seeds", "seconds")


def generated(root: Path) -> dict[Path, str]:
    """Path -> content of all that is generated, for a checkout at `root`.

    Raises
    ------
    ValueError : README.md lacks the markers of a block, or a result is not that of a claim.
    """
    results = read_results(root / "results")
    readme = (root / "README.md").read_text()
    readme = replaced(readme, "methods", method_table(results))
    readme = replaced(readme, "claims", claim_table(list(results.values())))
    pages = {
        root / PAGES / f"{card.name}.md": page(card, results, read_comparison(root / COMPARISONS, card))
        for card in cards().values()
    }
    return {root / "README.md": readme, root / "docs/speed.md": speed_page(root / "benchmarks"), **pages}


def write(root: Path) -> list[Path]:
    """Bring all that is generated up to date; the files that changed. Pages of methods that are gone are deleted."""
    wanted = generated(root)
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    gone = [path for path in (root / PAGES).glob("*.md") if path not in wanted]
    for path in gone:
        path.unlink()
    return changed + gone


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """The results of the cards' claims that have been run, by name, in the order of the papers' numbers."""
    found = {}
    for name in dict.fromkeys(name for card in cards().values() for name in card.claims):
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        found[name] = json.loads(path.read_text())
        if missing := [key for key in KEYS if key not in found[name]]:
            raise ValueError(f"{path} is not the result of a claim: it lacks {', '.join(missing)}")
    return found


def read_comparison(folder: Path, card: Card) -> dict[str, Any] | None:
    """The stored table of a suite's methods; None where there is none."""
    path = folder / f"{card.name}.json"
    return json.loads(path.read_text()) if card.kind == "suite" and path.exists() else None


def replaced(text: str, block: str, content: str) -> str:
    """The text with what stands between ``<!-- block -->`` and ``<!-- /block -->`` replaced."""
    pattern = re.compile(rf"(<!-- {block} -->\n).*?(<!-- /{block} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"README.md needs the markers <!-- {block} --> and <!-- /{block} --> once")
    return pattern.sub(lambda found: f"{found.group(1)}{content}\n{found.group(2)}", text)


def method_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """All cards as a Markdown table, each with the verdict on its claim."""
    rows = [
        (
            str(card.number or ""),
            f"[`{card.name}`]({PAGES / card.name}.md)",
            card.kind,
            card.summary,
            ", ".join(results[name]["verdict"] for name in card.claims if name in results),
        )
        for card in cards().values()
    ]
    return _table(("no", "name", "kind", "what it does", "claim"), rows)


def claim_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The results of the claims as a Markdown table."""
    rows = [
        (
            str(result["number"]),
            f"`{result['name']}`",
            result["statement"],
            f"{interval(result['difference'])}{_unit(result)}",
            f"{_side(result)} {result['margin']:g}",
            f"{len(result['seeds'])}",
            _work(result),
            f"**{result['verdict']}**",
        )
        for result in results
    ]
    return _table(
        ("no", "claim", "statement", "difference, 95 % interval", "held if", "seeds", "time", "verdict"), rows
    )


def page(card: Card, results: Mapping[str, Mapping[str, Any]], comparison: Mapping[str, Any] | None = None) -> str:
    """The page of one method, with the results of its claims among those by name, and a table of a suite's methods."""
    facts = [("kind", card.kind), ("paper", card.paper + (f" (no. {card.number})" if card.number else ""))]
    facts += [("data", ", ".join(f"`{field}` ({kind})" for field, kind in card.needs))] if card.needs else []
    facts += [("gives", ", ".join(card.abilities))] if card.abilities else []
    facts += [("encoder", f"`{card.encoder}` unless another is named")] if card.encoder else []
    facts += [("install", f"`pip install 'autodidact[{card.extra}]'`")] if card.extra else []
    facts += [("source", f"[`{card.module}`](../../src/{card.module.replace('.', '/')}.py)")]
    parts = [f"# {card.title}", card.summary, _table(("", ""), facts), _prose(card)]
    if card.kind in USED:
        how = IMPROVES if card.verb == "improve" else USED[card.kind][0]
        said = " ".join(filter(None, (how.format(name=card.name), card.asks)))
        parts.append(f"```sh\n{said}\n```")
    if known := options(card):
        prefix = USED[card.kind][1] if card.kind in USED else ""
        rows = [
            (f"`{prefix}{name}`", f"`{option.annotation}`", _default(option.default), option.doc.replace("``", "`"))
            for name, option in known.items()
        ]
        parts += ["## Options" if prefix else "## Arguments", _table(("", "type", "default", ""), rows)]
    found = [results[name] for name in card.claims if name in results]
    for result in found:
        parts += [f"## Claim `{result['name']}`" if len(card.claims) > 1 else "## Claim", _result(result)]
    if comparison is not None:
        parts += ["## Compared", *_compared(card.name, comparison)]
    parts.append("*Generated from the source by `make readme`.*")
    return "\n\n".join(part for part in parts if part) + "\n"


def interval(difference: Mapping[str, float | None]) -> str:
    """Mean and ends of an interval."""
    if difference["low"] is None:
        return f"{difference['mean']:.3g}"
    return f"{difference['mean']:.3g} [{difference['low']:.3g}, {difference['high']:.3g}]"


def _prose(card: Card) -> str:
    """The docstring of the class, up to its parameters."""
    text = re.split(r"^\w[\w ]*\n-{3,}$", docstring_of(card.module, card.target), flags=re.MULTILINE)[0]
    # From reStructuredText to Markdown, as far as our docstrings use it.
    return text.strip().replace(":math:", "").replace("``", "`").replace("::\n", ":\n")


def _result(result: Mapping[str, Any]) -> str:
    means = [
        (f"`{arm}`", f"{fmean(values):.4g}", ", ".join(f"{value:.4g}" for value in values))
        for arm, values in result["arms"].items()
    ]
    parts = [result["statement"], *_picture(result), _table(("arm", f"{result['metric']}, mean", "by seed"), means)]
    rows = [
        (
            entry["role"],
            entry["text"],
            f"{interval(entry['difference'])}{_unit(entry)}",
            f"{_side(entry)} {entry['margin']:g}",
            entry["verdict"],
        )
        for entry in result.get("statements", ())
    ]
    if rows:
        parts.append(_table(("", "statement", "95 % interval", "held if", "verdict"), rows))
    parts += _figures(result)
    seeds = ", ".join(map(str, result["seeds"]))
    tuned = ", ".join(map(str, result["tuning_seeds"]))
    parts.append(
        f"Verdict: **{result['verdict']}**{' (' + result['why'] + ')' if result.get('why') else ''}. Seeds {seeds}; "
        + (f"settings chosen on seeds {tuned}; " if tuned else "")
        + f"{_work(result)} of work. `autodidact claim {result['name']}` runs it again."
    )
    parts += list(result.get("notes", ()))
    return "\n\n".join(parts)


def _figures(result: Mapping[str, Any]) -> list[str]:
    """What was measured beside the metric: means over the seeds, folded away."""
    others = {name: arms for name, arms in result.get("figures", {}).items() if name != result["metric"]}
    if not others:
        return []
    shown = list(others)[:MOST_FIGURES]
    rows = [(f"`{arm}`", *(_mean(others[name].get(arm, ())) for name in shown)) for arm in result["arms"]]
    where = f"[results/{result['name']}.json](../../results/{result['name']}.json)"
    rest = f", the first {len(shown)} of {len(others)} figures" if len(shown) < len(others) else ""
    return [
        f"<details><summary>Other figures of the arms</summary>\n\nMeans over seeds{rest}; {where} has all, by seed.",
        f"{_table(('arm', *shown), rows)}\n\n</details>",
    ]


def _compared(name: str, comparison: Mapping[str, Any]) -> list[str]:
    """What was compared and how, and the figures of every arm."""
    about, intervals = comparison["about"], comparison["intervals"]
    (network,) = {arm["encoder"]["encoder"] for arm in about["arms"].values()}
    metrics = [metric for metric in COMPARED if any(metric in row for row in intervals.values())]
    seeds = max(len(by_seed) for row in comparison["figures"].values() for by_seed in row.values())
    rows = [
        (f"`{arm}`", *(interval(row[metric]) if metric in row else "" for metric in metrics))
        for arm, row in intervals.items()
    ]
    return [
        f"By `autodidact compare` on {about['data']} ({about['samples']:,} samples, {about['labels']} of the labels): "
        f"`{network}`, {about['budget']} for every method, batches of {about['batch_size']}, {seeds} seeds; means and "
        f"95 % intervals. `raw` is the input itself, `random` the network untrained. `make {name}` runs it again, into "
        f"[{COMPARISONS / name}.json](../../{COMPARISONS / name}.json).",
        _table(("arm", *metrics), rows),
    ]


def _mean(values: Sequence[float | None]) -> str:
    """The mean of those there are, nothing if none."""
    known = [value for value in values if value is not None]
    return f"{fmean(known):.4g}" if known else ""


def _picture(result: Mapping[str, Any]) -> list[str]:
    titles = [panel["title"] for panel in result.get("curves", ())]
    return [f"![{'; '.join(titles)}](../../results/{result['name']}.svg)"] if titles else []


def _side(entry: Mapping[str, Any]) -> str:
    return "below" if entry.get("direction") == "below" else "above"


def _unit(entry: Mapping[str, Any]) -> str:
    return f" {entry['unit']}" if entry.get("unit") else ""


def _work(result: Mapping[str, Any]) -> str:
    """What the cells took, one after the other, and the accelerator where there was one."""
    seconds = result["seconds"]
    took = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    accelerator = result.get("accelerator")
    return f"{took} ({accelerator})" if accelerator else took


def _default(value: Any) -> str:
    return "" if value is REQUIRED else f"`{value!r}`"


if __name__ == "__main__":
    for changed_path in write(Path.cwd()):
        print(changed_path.relative_to(Path.cwd()), file=sys.stderr)
