"""run_claim: tune on tuning seeds, freeze, run the reported seeds, and say what the paired interval says.

It knows nothing of any particular claim. Every (arm, settings, seed) is worked on once and kept, so a run that was cut
off goes on, and asking for more seeds costs only the new ones.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import autodidact
from autodidact.catalog import cards, unknown
from autodidact.claims.claim import SCALES, Claim, Figures, Scale, Statement
from autodidact.compare.arms import SECONDS, cell_path, digest, run_arms
from autodidact.compare.workers import Workers
from autodidact.data.cores import cores
from autodidact.evaluation.curves import Curves
from autodidact.measures import mean_interval
from autodidact.model.model import write_aside

NAMES = tuple(sorted(name for card in cards().values() for name in card.claims))
FROZEN = Path(__file__).parent / "frozen"
ORIGIN = ("seeds", "machine", "accelerator", "versions", "known")
"""What stays of a result that is extended: of which seeds, made where, and what that had extended in turn."""
PACKAGES = ("torch", "lightning", "numpy", "scikit-learn", "timm", "transformers")
"""Whose versions a result names, where they are installed; the last two build networks."""
HELD, REFUTED, OPEN, NO_PREMISE = "held", "refuted", "open", "no premise"


def claim_named(name: str) -> Claim:
    """The claim of a name; an unknown one raises ValueError with the nearest."""
    if name not in NAMES:
        raise unknown("claim", name, NAMES)
    found = import_module(f"autodidact.claims.{name}").CLAIM
    assert isinstance(found, Claim)
    return found


def run_claim(
    name: str | Claim,
    *,
    seeds: int | None = None,
    first_seed: int | None = None,
    scale: Scale = "laptop",
    json: str | Path | None = None,
    cache: str | Path | None = None,
    jobs: int = 0,
    tune: bool = False,
    known: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run a paper's claim and judge it.

    Parameters
    ----------
    name : of the claim, or a claim of one's own (then ``jobs`` must be 1).
    seeds : how many seeds are reported; fewer than 2 leave the verdict open. Default: those of the committed result, 5
        unless the claim says otherwise.
    first_seed : the reported seeds are this one and those after it. Default: that of the committed result, mostly 0.
    scale : "laptop" is the registered experiment; "gpu" is larger, for an accelerator; "tiny" only tries out the
        machinery in seconds, and its verdict means nothing.
    json : file to which the result is written; a claim that draws writes its picture beside it, as ``.svg``.
    cache : folder of finished work; default ``$AUTODIDACT_CACHE/claims`` or ``~/.cache/autodidact/claims``.
    jobs : processes, of one thread each; 0 for two where there are two cores, and for one at scale "gpu". Networks of
        this size leave most of an accelerator idle: with NVIDIA's MPS running, a process for each core shares it well.
    tune : choose the tuned settings anew instead of taking the frozen ones that come with the claim.
    known : result file of the same experiment, from this machine or another: what it holds is not run again, so that a
        result gets more seeds, or further arms, for the price of the new ones. Its figures have 6 digits. With several
        claims, the folder of their results; a claim that has none there starts anew.
    quiet : no progress line.

    Returns
    -------
    dict, JSON-ready
        number, name, statement, metric, arms (arm -> values by seed, fewer for arms that run on few seeds), difference
        (mean, low, high), margin, direction, verdict, seeds, tuning_seeds, seconds, versions; also scale, budget,
        statements (each with its own values, interval and verdict), figures, curves, settings (what was frozen, with
        its hash) and notes; "known" where a known result was extended: its seeds, and on what machine it was made.
        Where all is known, machine and versions stay those of the known result.

    Raises
    ------
    ValueError
        An unknown claim or scale, no seeds, or reported seeds among the tuning seeds; a known result that is no file,
        or one of another experiment.
    """
    work_force, reported = _asked(name, seeds, first_seed, scale, cache, jobs, quiet)
    result = _run(work_force, reported, tune, None if known is None else Path(known).expanduser())
    if json is not None:
        _write_result(Path(json), result)
    return result


def run_claims(
    names: Sequence[str],
    *,
    seeds: int | None = None,
    first_seed: int | None = None,
    scale: Scale = "laptop",
    json: str | Path | None = None,
    cache: str | Path | None = None,
    jobs: int = 0,
    tune: bool = False,
    known: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, dict[str, Any]]:
    """Run several claims at once: their work is shared among the same processes, so that none waits for a last one.

    Parameters
    ----------
    names : of the claims.
    seeds, first_seed, scale, cache, jobs, tune, known, quiet : see `run_claim`, for each of them.
    json : folder into which every result is written when it is there, as NAME.json.

    Returns
    -------
    dict : name -> what `run_claim` returns. The "wall_seconds" are those from the start of all.

    Raises
    ------
    ValueError : as for `run_claim`; what is known is no folder.
    RuntimeError : work of a claim failed; the other claims are finished first.
    """
    asked = {name: _asked(name, seeds, first_seed, scale, cache, jobs, quiet) for name in dict.fromkeys(names)}
    if known is not None and not Path(known).expanduser().is_dir():
        raise ValueError(f"{known} is no folder: several claims take known results from a folder, as NAME.json")
    if not asked:
        raise ValueError(f"no claim is named; there are {', '.join(NAMES)}")
    results: dict[str, dict[str, Any]] = {}
    failed: list[str] = []

    def one(name: str) -> None:
        try:
            held = None if known is None else Path(known).expanduser() / f"{name}.json"
            results[name] = _run(*asked[name], tune, held if held is not None and held.exists() else None)
        except Exception as error:  # noqa: BLE001 - told when the others are finished
            failed.append(f"{name}: {error}")
            return
        if json is not None:
            _write_result(Path(json) / f"{name}.json", results[name])

    with Workers("autodidact.claims.engine:work", _jobs(jobs, scale)) as workers:
        for work_force, _ in asked.values():
            work_force.workers = workers
            # Read once, here: several threads at once upset the parser of Python 3.11.
            work_force.claim.code()
        with ThreadPoolExecutor(len(asked)) as pool:
            list(pool.map(one, asked))
    if failed:
        raise RuntimeError("; ".join(failed))
    return {name: results[name] for name in asked}


def _asked(
    name: str | Claim,
    seeds: int | None,
    first_seed: int | None,
    scale: Scale,
    cache: str | Path | None,
    jobs: int,
    quiet: bool,
) -> tuple[_Work, list[int]]:
    """Who does a claim's work, and the seeds that are reported."""
    claim = name if isinstance(name, Claim) else claim_named(name)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    count = len(claim.seeds) if seeds is None else seeds
    first = claim.seeds[0] if first_seed is None else first_seed
    reported = list(range(first, first + count))
    if count < 1 or first < 0:
        raise ValueError(f"a claim needs at least 1 seed, from 0 on; got {count} from {first}")
    if clash := sorted(set(reported) & set(claim.tuning_seeds)):
        raise ValueError(f"seeds {', '.join(map(str, clash))} were used for tuning; choose another --first-seed")
    folder = (Path(cache).expanduser() if cache is not None else default_cache()) / claim.name
    return _Work(claim, scale, folder, _jobs(jobs, scale), quiet), reported


def _run(work_force: _Work, reported: list[int], tune: bool, known: Path | None) -> dict[str, Any]:
    claim, scale = work_force.claim, work_force.scale
    started = time.monotonic()
    before = None if known is None else _result(known)
    frozen = None if before is None else work_force.take(before)
    if tune or frozen is None:
        found = _frozen(claim, scale, None if tune else FROZEN / f"{claim.name}.json")
        frozen = _tune(work_force) if found is None else _completed(work_force, found)
    by_seed, spent = work_force.figures(frozen["settings"], reported, "seeds")
    result = _judged(claim, scale, reported, by_seed, frozen)
    took = round(time.monotonic() - started, 1)
    if before is not None and (shared := sorted(set(before["seeds"]) & set(reported))):
        origin = {key: before[key] for key in ORIGIN if key in before} | {"seeds": shared}
        # Where nothing was worked on here, the result stays one of where, and when, it was.
        if work_force.knows(frozen["settings"], reported):
            result |= origin
            took = before.get("wall_seconds", took) if shared == before["seeds"] else took
        else:
            result["known"] = origin
    result |= {"seconds": round(spent, 1), "wall_seconds": took}
    return result


def default_cache() -> Path:
    """Where finished work is kept unless the caller says otherwise."""
    return Path(os.environ.get("AUTODIDACT_CACHE", "~/.cache/autodidact")).expanduser() / "claims"


def freeze(name: str, *, scale: Scale = "laptop", cache: str | Path | None = None, jobs: int = 0) -> Path:
    """Tune a claim on its tuning seeds and write the settings beside the claims, for a source checkout.

    Where the claim has got further arms since it was frozen, only these are tuned.
    """
    claim = claim_named(name)
    folder = (Path(cache).expanduser() if cache is not None else default_cache()) / claim.name
    path = FROZEN / f"{name}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    held = _frozen(claim, scale, path)
    fewer = held is not None and len(held["settings"]) < len(claim.arms)
    known[scale] = _tune(_Work(claim, scale, folder, _jobs(jobs, scale), quiet=False), held if fewer else None)
    _write(path, known)
    return path


def _jobs(asked: int, scale: Scale) -> int:
    return asked or (1 if scale == "gpu" else min(2, cores()))


def _result(path: Path) -> dict[str, Any]:
    """What a result file holds."""
    try:
        found = json.loads(path.read_text())
        if lacking := {"experiment", "settings"} - found["settings"]["frozen"].keys():
            raise KeyError(*lacking)
        needed = ("name", "scale", "seeds", "figures", "settings", "seconds")
        return {key: found[key] for key in needed} | {
            key: found[key] for key in (*ORIGIN, "wall_seconds") if key in found
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result of a claim: {error}") from error


def _write_result(path: Path, result: Mapping[str, Any]) -> None:
    """The result, and beside it the picture of a claim that draws one, under the same name."""
    _write(path, result)
    if panels := [Curves(**panel) for panel in result["curves"]]:
        from autodidact.report.figures import picture

        told = "; ".join(panel.title for panel in panels)
        write_aside(path.with_suffix(".svg"), picture(panels, told).encode())


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


# Doing the work.


def work(claim: str, scale: Scale, arm: str, settings: Mapping[str, Any], seed: int, folder: str) -> None:
    """One cell: an arm on a seed, kept in the folder. What a worker process does."""
    _cell(claim_named(claim), scale, arm, settings, seed, Path(folder))


def _cell(claim: Claim, scale: Scale, arm: str, settings: Mapping[str, Any], seed: int, folder: Path) -> None:
    arguments = {**claim.settings(scale), **claim.arms[arm], **settings}
    run_arms(
        {arm: lambda seed: claim.run(seed=seed, **arguments)},
        [seed],
        folder=folder,
        keys={arm: _key(claim, scale, arm, settings)},
    )


def _key(claim: Claim, scale: Scale, arm: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**claim.key(scale), "arm": dict(claim.arms[arm]), "tuned": dict(settings)}


class _Work:
    """Runs cells that are not done yet, and reads those that are."""

    def __init__(self, claim: Claim, scale: Scale, folder: Path, jobs: int, quiet: bool) -> None:
        self.claim, self.scale, self.folder, self.jobs, self.quiet = claim, scale, folder, jobs, quiet
        self.workers: Workers | None = None
        """Processes that are shared with other claims."""
        self.known: dict[Path, dict[str, float]] = {}
        """Figures from a result, each under the place of its cell; they go before what is kept there."""

    def do(self, cells: Sequence[tuple[str, Mapping[str, Any], int]], title: str) -> None:
        """All cells (arm, tuned settings, seed) that are not kept yet."""
        places = {self._path(*cell): cell for cell in cells}
        missing = [cell for path, cell in places.items() if path not in self.known and not path.exists()]
        if not missing:
            return
        with tqdm(
            total=len(cells),
            initial=len(cells) - len(missing),
            desc=f"{self.claim.name}: {title}",
            unit="run",
            disable=self.quiet,
            mininterval=0.2 if sys.stderr.isatty() else 10.0,
        ) as bar:
            if self.workers is None and (self.jobs == 1 or len(missing) == 1):
                threads = torch.get_num_threads()
                # One thread here too, so that the figures are those that the processes would give.
                torch.set_num_threads(1 if self.scale != "gpu" else threads)
                try:
                    for arm, settings, seed in missing:
                        _cell(self.claim, self.scale, arm, settings, seed, self.folder)
                        bar.update(1)
                finally:
                    torch.set_num_threads(threads)
                return
            described = [
                {
                    "claim": self.claim.name,
                    "scale": self.scale,
                    "arm": arm,
                    "settings": dict(settings),
                    "seed": seed,
                    "folder": str(self.folder),
                }
                for arm, settings, seed in missing
            ]
            with ExitStack() as stack:
                workers = self.workers or stack.enter_context(Workers("autodidact.claims.engine:work", self.jobs))
                workers.do(described, lambda *_: bar.update(1))

    def read(self, arm: str, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
        path = self._path(arm, settings, seed)
        return dict(self.known[path] if path in self.known else json.loads(path.read_text())["figures"])

    def figures(
        self, settings: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], title: str
    ) -> tuple[list[Figures], float]:
        """Figures of the arms, by seed, and the seconds of work behind them."""
        arms = [self.claim.arms_on(place) for place in range(len(seeds))]
        self.do(self._cells(settings, seeds), title)
        by_seed = [
            {arm: self.read(arm, settings[arm], seed) for arm in on} for seed, on in zip(seeds, arms, strict=True)
        ]
        spent = sum(figures.pop(SECONDS) for arms in by_seed for figures in arms.values())
        return list(by_seed), spent

    def knows(self, settings: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> bool:
        """Whether all figures of the arms come from a result that was taken."""
        return all(self._path(*cell) in self.known for cell in self._cells(settings, seeds))

    def _cells(
        self, settings: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]
    ) -> list[tuple[str, Mapping[str, Any], int]]:
        return [(arm, settings[arm], seed) for k, seed in enumerate(seeds) for arm in self.claim.arms_on(k)]

    def take(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Take figures from a result of the same experiment as if they had been worked on here; its frozen settings.

        The claim may have got further arms since; these are tuned as the others were, and all theirs is worked on here.
        """
        claim, frozen = self.claim, result["settings"]["frozen"]
        if (result["name"], result["scale"]) != (claim.name, self.scale):
            raise ValueError(
                f"the known result is of claim '{result['name']}' at scale {result['scale']}, not of '{claim.name}' at "
                f"{self.scale}"
            )
        if frozen["experiment"] != _tuning_key(claim, self.scale, frozen["settings"]):
            raise ValueError(
                f"the known result of '{claim.name}' is of another experiment: its code, settings, arms or grid differ"
            )
        cells: dict[tuple[str, int], dict[str, float]] = {}
        for figure, arms in result["figures"].items():
            for arm, values in arms.items():
                for seed, value in zip(result["seeds"], values, strict=False):
                    if value is not None:
                        cells.setdefault((arm, seed), {})[figure] = value
        for (arm, seed), figures in cells.items():
            place = self._path(arm, frozen["settings"][arm], seed)
            self.known[place] = figures | {SECONDS: result["seconds"] / len(cells)}
        return _completed(self, frozen)

    def _path(self, arm: str, settings: Mapping[str, Any], seed: int) -> Path:
        return cell_path(self.folder, arm, seed, _key(self.claim, self.scale, arm, settings))


# Tuning.


def _candidates(claim: Claim) -> list[dict[str, Any]]:
    return [dict(zip(claim.grid, values, strict=True)) for values in product(*claim.grid.values())]


def _tuning_key(claim: Claim, scale: Scale, among: Container[str] | None = None) -> str:
    """What settings were tuned for; `among` leaves out arms of other names."""
    arms, tunes = (
        {arm: told for arm, told in part.items() if among is None or arm in among} for part in (claim.arms, claim.tunes)
    )
    return digest({**claim.key(scale), **_plain({"arms": arms, "grid": claim.grid, "tunes": tunes})})


def _frozen(claim: Claim, scale: Scale, path: Path | None) -> dict[str, Any] | None:
    """The settings that come with the claim; None where there are none, or they are those of another experiment."""
    if path is None or not path.exists():
        return None
    found = json.loads(path.read_text()).get(scale)
    if found is None or found["experiment"] != _tuning_key(claim, scale, found["settings"]):
        return None
    return dict(found)


def _completed(work_force: _Work, frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Frozen settings, with those of arms that the claim has got since."""
    return dict(frozen) if set(frozen["settings"]) == set(work_force.claim.arms) else _tune(work_force, frozen)


def _tune(work_force: _Work, frozen: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """For every arm the candidate with the best mean on the tuning seeds; equal effort for all arms.

    Arms that have their settings in `frozen` keep them.
    """
    claim, scale = work_force.claim, work_force.scale
    candidates = _candidates(claim)
    if scale == "tiny":
        candidates = candidates[:1]
    had = {} if frozen is None else frozen["settings"]
    tuned = [arm for arm in claim.arms if arm not in claim.tunes and arm not in had]
    table: dict[str, list[dict[str, Any]]] = {}
    if len(candidates) > 1 and tuned:
        seeds = claim.tuning_seeds
        work_force.do([(arm, c, seed) for seed in seeds for c in candidates for arm in tuned], "tuning")
        for arm in tuned:
            table[arm] = [
                {**c, claim.tuned_by: [work_force.read(arm, c, seed)[claim.tuned_by] for seed in seeds]}
                for c in candidates
            ]
    settings = {**dict.fromkeys(tuned, candidates[0]), **had}
    for arm, rows in table.items():
        means = [sum(row[claim.tuned_by]) / len(row[claim.tuned_by]) for row in rows]
        settings[arm] = candidates[means.index(max(means))]
    settings |= {arm: settings[other] for arm, other in claim.tunes.items() if arm not in had}
    if frozen is not None:
        table = {**frozen["tried"], **table}
    ordered = {arm: settings[arm] for arm in claim.arms}
    return {
        "experiment": _tuning_key(claim, scale),
        "hash": digest({"experiment": _tuning_key(claim, scale), "settings": ordered}),
        "settings": ordered,
        "tuning_seeds": list(claim.tuning_seeds) if table else [],
        "tuned_by": claim.tuned_by if table else "",
        "tried": table,
    }


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=dict))


# Judging.


def verdict_of(statement: Statement, values: Sequence[float]) -> tuple[dict[str, float | None], str]:
    """Mean and 95 % interval (Student's t over the seeds), and what they say of the margin."""
    if len(values) < 2:
        return {"mean": values[0], "low": None, "high": None}, OPEN
    mean, low, high = mean_interval(values)
    difference: dict[str, float | None] = {"mean": mean, "low": low, "high": high}
    sign = 1 if statement.direction == "above" else -1
    worst, best = sorted((sign * (low - statement.margin), sign * (high - statement.margin)))
    return difference, HELD if worst > 0 else REFUTED if best < 0 else OPEN


class _NotRun(Exception):
    """A statement asks for an arm that does not run on this seed."""


class _Run(Mapping[str, Mapping[str, float]]):
    """Figures of one seed; asking for an arm that has not run there, or for all of them, raises `_NotRun`."""

    def __init__(self, figures: Figures, arms: Sequence[str]) -> None:
        self._figures, self._arms = figures, arms

    def __getitem__(self, arm: str) -> Mapping[str, float]:
        if arm in self._arms and arm not in self._figures:
            raise _NotRun(arm)
        return self._figures[arm]

    def __iter__(self) -> Iterator[str]:
        return iter([arm for arm in self._arms if self[arm] is not None])

    def __len__(self) -> int:
        return len(self._arms)


def values_of(claim: Claim, statement: Statement, by_seed: Sequence[Figures]) -> list[float]:
    """The statement's number on every seed on which all arms that it asks for have run.

    Raises
    ------
    ValueError
        The main statement leaves out a seed: its arms must run on all of them.
    """
    values = []
    for figures in by_seed:
        with suppress(_NotRun):
            values.append(float(statement.value(_Run(figures, list(claim.arms)))))
    if statement.role == "main" and len(values) < len(by_seed):
        raise ValueError(f"claim '{claim.name}': the arms of the main statement run on few seeds only")
    return values


def _judged(
    claim: Claim, scale: Scale, seeds: list[int], by_seed: Sequence[Figures], frozen: Mapping[str, Any]
) -> dict[str, Any]:
    statements: list[dict[str, Any]] = []
    for statement in claim.statements:
        values = values_of(claim, statement, by_seed)
        difference, verdict = verdict_of(statement, values)
        statements.append(
            {
                "name": statement.name,
                "role": statement.role,
                "text": statement.text,
                "unit": statement.unit,
                "values": [_rounded(value) for value in values],
                "difference": {key: _rounded(value) for key, value in difference.items()},
                "margin": statement.margin,
                "direction": statement.direction,
                "verdict": verdict,
            }
        )
    main = next(entry for entry in statements if entry["role"] == "main")
    verdict, why = overall(main["verdict"], statements)
    names = list(dict.fromkeys(name for figures in by_seed for arm in figures.values() for name in arm))
    notes = list(claim.notes)
    if scale == "tiny":
        notes.insert(0, "Scale tiny only tries out the machinery: this verdict means nothing.")
    return {
        "number": claim.number,
        "name": claim.name,
        "statement": claim.statement,
        "metric": claim.metric,
        "arms": _listed(claim, by_seed, claim.metric),
        "difference": main["difference"],
        "margin": main["margin"],
        "direction": main["direction"],
        "unit": main["unit"],
        "verdict": verdict,
        "why": why,
        "seeds": seeds,
        "tuning_seeds": list(frozen["tuning_seeds"]),
        "scale": scale,
        "meaningful": scale != "tiny",
        "budget": claim.budget.format(**claim.settings(scale)),
        "statements": statements,
        "figures": {name: _listed(claim, by_seed, name) for name in names},
        "curves": [panel.plain() for panel in claim.draws(by_seed)] if claim.draws else [],
        "settings": {"shared": _plain(claim.settings(scale)), "frozen": frozen},
        "versions": _versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "notes": notes,
    }


def _listed(claim: Claim, by_seed: Sequence[Figures], name: str) -> dict[str, list[float | None]]:
    return {
        arm: [_rounded(figures[arm].get(name, math.nan)) for figures in by_seed if arm in figures] for arm in claim.arms
    }


def overall(main: str, statements: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The claim's verdict: that of its main statement, unless a premise, guard or control stands against it."""
    for entry in statements:
        if entry["role"] == "premise" and entry["verdict"] != HELD:
            return NO_PREMISE, f"the premise is {entry['verdict']}: {entry['text']}"
    for entry in statements:
        # Whatever the main statement comes to, it could not count.
        if entry["role"] == "guard" and entry["verdict"] == REFUTED and main != REFUTED:
            return REFUTED, f"the main statement is {main}, but a guard is refuted: {entry['text']}"
    for entry in statements:
        if entry["role"] in ("guard", "control") and entry["verdict"] != HELD and main == HELD:
            return OPEN, f"the {entry['role']} is {entry['verdict']}: {entry['text']}"
    return main, ""


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _versions() -> dict[str, str]:
    found = {"autodidact": autodidact.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
