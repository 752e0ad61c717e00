"""choose: which method and which settings suit data without labels, under one budget for every trial."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autodidact.catalog import unknown
from autodidact.compare.arms import digest
from autodidact.compare.crew import Crew
from autodidact.compare.grid import NETWORK, OPTION, Setting
from autodidact.compare.space import Domain, Range, Space, check_space, searched, space_of
from autodidact.data import Source, open_source
from autodidact.evaluation.several_views import JUDGES as OF_VIEWS
from autodidact.evaluation.table import Table
from autodidact.measures import rank_correlation
from autodidact.methods.method import Method
from autodidact.recipes.names import find, options
from autodidact.training import NonFinite, Settings
from autodidact.training.feed import seeded
from autodidact.verbs.arms import Arms, check_fit, methods_of, networks, protocols_of
from autodidact.verbs.evaluate import names_of
from autodidact.verbs.pretrain import versions

if TYPE_CHECKING:
    import optuna

RUNGS = (0.25, 0.5, 1.0)
"""Shares of the budget after which the worse half of a method's trials is given up."""
JOURNAL = "search.journal"
OWNER = "owner"
"""Attribute of a trial: the process that works on it."""
POLL = 1.0
"""Seconds between looks at what other processes do."""
JUDGES = (*OF_VIEWS, "rankme", "rankme_projection")


def choose(
    data: str | Path | Source,
    methods: str | Sequence[str] | None = None,
    *,
    out: str | Path = "runs/choose",
    trials: int = 8,
    hours: float = 0.0,
    search: Mapping[str, Any] | None = None,
    by: str = "retrieval",
    between: str = "retrieval",
    early_stopping: bool = True,
    encoder: str | Mapping[str, str] | None = None,
    encoder_arguments: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    pretrained: bool | str = False,
    settings: Settings | None = None,
    labels: str | float = "100%",
    protocols: str | Sequence[str] | None = None,
    test: str | Path | Source | None = None,
    label_from: str | None = None,
    cache: bool = True,
    json: str | Path | None = None,
    quiet: bool = False,
) -> Table:
    """Try methods and settings on data, each trial under the same budget, and rank them without labels.

    optuna draws the settings of the trials of each method, and trials that are behind at a quarter or at half of the
    budget are given up. Trials of images are compared by `view_retrieval`: how often a random view of an image finds
    another view of it among those of 500 images, the same views for all trials. RankMe (arXiv 2210.02885), which is
    meant for settings of one method, and LiDAR (arXiv 2312.04000) are reported too and can be asked for; after short
    trainings neither ordered trials as accuracy does, and retrieval did (``benchmarks/choose.json``). Over nineteen
    methods of seven families on one transformer retrieval and RankMe ordered methods much as a linear probe does, and
    LiDAR did not (``results/vit_suite.json``; RankMe of embeddings of test images there, their mean taken off). Views
    that change what matters mislead it, as they mislead the methods. Where the data has labels they are used only
    afterwards, to report how well these rankings agree with accuracy. A search that was cut off goes on. The same
    command started several times, on this machine or on others that see the folder, shares the trials.

    Parameters
    ----------
    data : what to pretrain on.
    methods : names, as a sequence or separated by commas; default those that fit the data and whose cards say what to
        vary.
    out : folder of the runs and of the search.
    trials : of every method; the first has the method's defaults.
    hours : start no further round of trials after so many hours; 0 for no limit.
    search : ``method.NAME``, a field of `Settings`, ``encoder`` or ``image_size`` -> ``LOW:HIGH``, ``LOW:HIGH:log`` or
        values with commas between; a single value fixes it. Default: what the cards name, and the learning rate within
        a factor of 4 of the one asked for.
    by : what ranks the trials of a method: "retrieval" or "lidar" of views, "rankme" of the embeddings, or
        "rankme_projection" of what the loss sees: the last 2,048 rows of the training, of 1,024 columns at most. For
        data other than images "rankme" stands in for the first two.
    between : what ranks the best trials of the methods, from the same list.
    early_stopping : give up trials that are behind.
    encoder : of all methods; default each method's own, which compares methods together with their encoders.
    encoder_arguments, image_size, channels, pretrained : see `autodidact.pretrain`.
    settings : how to train all trials; its epochs, steps or tokens are the budget of one.
    labels, protocols, test, label_from : for the agreement with labels only, see `autodidact.compare`.
    cache : pack images into the cache first.
    json : file that gets the table.
    quiet : print nothing while it runs.

    Returns
    -------
    Table
        Trials x figures. ``about``: "ranking", the best trial of each method from the best to the worst; "chosen", its
        first; "trials", the settings of each; "given_up" and "diverged"; "agreement", figure -> protocol -> Spearman's
        correlation over all finished trials, and its mean within methods; "regret", protocol -> how far the chosen
        trial stays behind the best finished one.

    Raises
    ------
    ValueError
        No or unknown methods, data that does not fit one, an option that none has: before anything is trained. Or all
        trials diverged.
    """
    if trials < 1 or hours < 0:
        raise ValueError(
            f"a search needs at least one trial of each method and no negative hours, got {trials}, {hours}"
        )
    for name in (by, between):
        if name not in JUDGES:
            raise unknown("figure to rank by", name, JUDGES)
    settings = settings or Settings()
    source = open_source(
        data, labels=label_from, image_size=image_size, channels=channels, cache=cache, progress=not quiet
    )
    named = names_of(methods) if methods else _fitting_methods(source)
    names, encoder = methods_of(named, encoder)
    if len(set(names)) < len(names):
        raise ValueError(f"each method counts once, got {', '.join(names)}")
    check_space(search or {}, names, settings)
    spaces = {name: space_of(name, search or {}, settings) for name in names}
    for name in names:
        check_fit(Setting(name, name), source)
    chosen = protocols_of(source, protocols)
    if source.schema.first("image") is None:
        by, between = ("rankme" if each in OF_VIEWS else each for each in (by, between))
    different = {tuple(networks(Setting(name, name), encoder).items()) for name in names}
    notes = []
    if len(different) > 1:
        notes.append("the methods have different encoders: name one with --encoder to compare methods alone")
    sized = any(key in NETWORK and not _fixed(drawn) for space in spaces.values() for key, drawn in space.items())
    if sized and {by, between} & set(OF_VIEWS):
        notes.append(
            "trials have images or encoders of their own, and so their own random views: figures of views differ"
        )
    about = {
        "data": source.name,
        "samples": len(source),
        "budget": settings.length,
        "batch_size": settings.batch_size,
        "encoder": dict(encoder) if isinstance(encoder, Mapping) else encoder,
        "encoder_arguments": dict(encoder_arguments or {}),
        "by": by,
        "between": between,
        "protocols": list(chosen),
        "labels": labels if chosen else None,
        "notes": notes,
        "versions": versions(),
    }
    arms = Arms.of(
        data,
        source,
        out,
        settings,
        encoder,
        encoder_arguments=encoder_arguments,
        image_size=image_size,
        channels=channels,
        pretrained=pretrained,
        labels=labels,
        protocols=chosen,
        test=test,
        label_from=label_from,
        cache=cache,
        draws=1,
        quiet=quiet,
    )
    finder = _Search(arms, spaces, by, between, early_stopping)
    had = finder.go_on(trials, hours)
    if had < trials:
        notes.append(f"{had} of {trials} trials of each method, since the hours were over")
    table = _table(finder, about)
    if json is not None:
        table.save(json)
    return table


class _Search:
    """The trials of all methods: one study of optuna for each, written down in a journal, so that it goes on.

    Attributes
    ----------
    arms : the work of a trial.
    spaces : method -> what is varied.
    by : figure that trials of one method are compared by.
    between : figure that methods are compared by.
    """

    def __init__(self, arms: Arms, spaces: Mapping[str, Space], by: str, between: str, early_stopping: bool) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        arms.out.mkdir(parents=True, exist_ok=True)
        self.arms, self.spaces, self.by, self.between = arms, spaces, by, between
        same = {
            name: [by, early_stopping, repr(space), arms.key(Setting(name, name))] for name, space in spaces.items()
        }
        storage = JournalStorage(JournalFileBackend(str(arms.out / JOURNAL)))
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if early_stopping:
            pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        self.studies = {
            name: optuna.create_study(
                storage=storage,
                # Another budget, range or data is another study beside it.
                study_name=f"{name}-{digest(same[name])}",
                direction="maximize",
                load_if_exists=True,
                pruner=pruner,
            )
            for name in spaces
        }

    def go_on(self, count: int, hours: float) -> int:
        """Trials, by this process and others in the same folder, until every method has had so many, or as many as were
        begun of any when the hours were over; how many that is."""
        started = time.monotonic()
        with Crew(self.arms.out) as crew:
            while True:
                with crew.alone:
                    if hours and time.monotonic() - started > 3600 * hours:
                        count = min(count, max(1, *(len(study.trials) for study in self.studies.values())))
                    mine, waiting = self._next(count, crew)
                if mine is not None:
                    self._trial(*mine)
                elif waiting:
                    time.sleep(POLL)
                else:
                    return count

    def over(self, method: str) -> list[optuna.trial.FrozenTrial]:
        """Trials that finished, were given up, or diverged."""
        return [trial for trial in self.studies[method].get_trials(deepcopy=False) if trial.state.is_finished()]

    def _next(self, count: int, crew: Crew) -> tuple[tuple[str, optuna.trial.Trial, Mapping[int, float]] | None, bool]:
        """A trial for this process, with what it reported before it was cut off: one that somebody left behind, else a
        new one, method by method; and whether others are at work."""
        import optuna

        busy = False
        for method, study in self.studies.items():
            for begun in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                if begun.number >= count:
                    # Left behind by a longer search.
                    continue
                if crew.lives(begun.user_attrs.get(OWNER)):
                    busy = True
                    continue
                self._draw_by(method, begun.number)
                trial = optuna.trial.Trial(study, begun._trial_id)
                trial.set_user_attr(OWNER, crew.name)
                return (method, trial, begun.intermediate_values), True
        method = min(self.studies, key=lambda name: self._begun(name))
        study, number = self.studies[method], self._begun(method)
        if number >= count:
            return None, busy
        if not number and (usual := _defaults(method, self.spaces[method], self.arms.settings)):
            study.enqueue_trial(usual, skip_if_exists=True)
        self._draw_by(method, number)
        trial = study.ask()
        trial.set_user_attr(OWNER, crew.name)
        return (method, trial, {}), True

    def _draw_by(self, method: str, number: int) -> None:
        """Draws that follow from the number of the trial alone are the same in a search that was cut off."""
        import optuna

        seed = seeded(self.arms.settings.seed, method, number) % 2**32
        self.studies[method].sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)

    def _begun(self, method: str) -> int:
        """Trials that were begun: all but those that wait to be."""
        import optuna

        waiting = optuna.trial.TrialState.WAITING
        return sum(trial.state != waiting for trial in self.studies[method].get_trials(deepcopy=False))

    def _trial(self, method: str, trial: optuna.trial.Trial, reported: Mapping[int, float]) -> None:
        import optuna

        study = self.studies[method]
        setting = _setting(method, self.spaces[method], trial)
        trial.set_user_attr("setting", asdict(setting))
        try:
            figures = self._figures(setting, trial, reported)
        except NonFinite as diverged:
            self._say(f"{setting.name}: {diverged}")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        except optuna.TrialPruned as behind:
            self._say(f"{setting.name}: {behind}")
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return
        trial.set_user_attr("figures", figures)
        study.tell(trial, figures[self.by])
        self._say(f"{setting.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    def _figures(self, setting: Setting, trial: optuna.Trial, reported: Mapping[int, float]) -> dict[str, float]:
        """Train rung by rung; figures of the finished training. `reported` are those of a trial that was cut off."""
        import optuna

        seed = self.arms.settings.seed
        alone = not issubclass(find(setting.method)[0], Method)
        for rung in RUNGS[-1:] if alone else RUNGS:
            model = self.arms.trained_model(setting, seed, rung)
            figures = self.arms.label_free(setting, seed, model)
            found, place = self._judged(self.by, setting, figures), round(rung / RUNGS[0])
            if rung == 1:
                break
            if place not in reported:
                trial.report(found, place)
            if trial.should_prune():
                raise optuna.TrialPruned(f"{self.by} {found:.4g}, given up after {rung:.0%} of the budget")
        self._judged(self.between, setting, figures)
        return {**figures, **self.arms.answers(setting, seed)}

    def _judged(self, name: str, setting: Setting, figures: Mapping[str, float]) -> float:
        if name not in figures:
            lacking = "has no embeddings of views" if name in OF_VIEWS else "has no such rank"
            raise ValueError(f"{setting.method} {lacking}, so it cannot be ranked by {name}; rank by rankme")
        return figures[name]

    def _say(self, line: str) -> None:
        if not self.arms.quiet:
            print(line, file=sys.stderr, flush=True)


def _fitting_methods(source: Source) -> list[str]:
    """Methods that say what to vary and can use the data."""
    found = []
    for name in searched():
        try:
            check_fit(Setting(name, name), source)
        except ValueError:
            continue
        found.append(name)
    if not found:
        raise ValueError(f"no method that says what to vary fits '{source.name}'; name some: {', '.join(searched())}")
    return found


def _defaults(method: str, space: Space, settings: Settings) -> dict[str, Any]:
    """What a method takes where nothing is asked for, as far as it lies in the space; nothing where any does not."""
    own = options(find(method)[0])
    usual: dict[str, Any] = {}
    for key, drawn in space.items():
        name = key.removeprefix(OPTION)
        value = own[name].default if key.startswith(OPTION) else getattr(settings, key, None)
        inside = (
            isinstance(value, int | float) and drawn.low <= value <= drawn.high
            if isinstance(drawn, Range)
            else (value in drawn)
        )
        if not inside:
            return {}
        usual[key] = value
    return usual


def _fixed(drawn: Domain) -> bool:
    return not isinstance(drawn, Range) and len(drawn) == 1


def _setting(method: str, space: Space, trial: optuna.Trial) -> Setting:
    """The setting of a trial, numbers rounded to what its name says."""
    values: dict[str, Any] = {}
    for key, drawn in space.items():
        if not isinstance(drawn, Range):
            values[key] = trial.suggest_categorical(key, drawn)
        elif drawn.whole:
            values[key] = trial.suggest_int(key, int(drawn.low), int(drawn.high), log=drawn.log)
        else:
            values[key] = float(f"{trial.suggest_float(key, drawn.low, drawn.high, log=drawn.log):.3g}")
    said = ", ".join(f"{key.removeprefix(OPTION)}={values[key]}" for key, drawn in space.items() if not _fixed(drawn))
    return Setting(
        f"{method} {said}".strip(),
        method,
        {key.removeprefix(OPTION): value for key, value in values.items() if key.startswith(OPTION)},
        {key: value for key, value in values.items() if not key.startswith(OPTION) and key not in NETWORK},
        {key: value for key, value in values.items() if key in NETWORK},
    )


def _table(search: _Search, about: Mapping[str, Any]) -> Table:
    """Finished trials with their figures, best first, and what follows from them."""
    seed = search.arms.settings.seed
    finished: dict[str, tuple[str, dict[str, float]]] = {}
    given_up: list[str] = []
    diverged: list[str] = []
    settings: dict[str, Any] = {}
    drawn = 0
    for method in search.spaces:
        for trial in search.over(method):
            drawn += 1
            setting = trial.user_attrs["setting"]
            settings[setting["name"]] = {key: setting[key] for key in ("method", "options", "training", "network")}
            if "figures" in trial.user_attrs:
                finished[setting["name"]] = (method, trial.user_attrs["figures"])
            else:
                (given_up if trial.state.name == "PRUNED" else diverged).append(setting["name"])
    if not finished:
        raise ValueError(f"every trial diverged: {', '.join(diverged)}; lower --lr or look at the data")
    table = Table(about)
    if drawn > len(settings):
        table.about["notes"] = [*about["notes"], f"{drawn - len(settings)} of {drawn} trials drew what another one had"]
    ordered = sorted(finished, key=lambda name: -finished[name][1][search.between])
    for name in ordered:
        for metric, value in finished[name][1].items():
            table.add(name, metric, seed, value)
    best: dict[str, str] = {}
    for name, (method, figures) in finished.items():
        if method not in best or figures[search.by] > finished[best[method]][1][search.by]:
            best[method] = name
    ranking = [name for name in ordered if name in best.values()]
    table.about |= {
        "trials": settings,
        "given_up": given_up,
        "diverged": diverged,
        "ranking": ranking,
        "chosen": ranking[0],
        "agreement": agreement(finished, about["protocols"]),
        "regret": {
            protocol: max(figures[protocol] for _, figures in finished.values()) - finished[ranking[0]][1][protocol]
            for protocol in about["protocols"]
        },
    }
    return table


def agreement(
    finished: Mapping[str, tuple[str, Mapping[str, float]]], protocols: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """How well figures that need no labels rank trials as labels do.

    Parameters
    ----------
    finished : trial -> its method and figures.
    protocols : figures that need labels, higher is better.

    Returns
    -------
    dict
        Figure -> protocol -> "all", Spearman's correlation over all trials, and "within", its mean over the methods
        that have at least three; what cannot be said is left out.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in JUDGES:
        having = [(method, figures) for method, figures in finished.values() if name in figures]
        for protocol in protocols:
            entry = {}
            if len(having) > 1:
                entry["all"] = _correlation([figures for _, figures in having], name, protocol)
            groups = [[figures for own, figures in having if own == method] for method in {m for m, _ in having}]
            within = [_correlation(group, name, protocol) for group in groups if len(group) > 2]
            if within:
                entry["within"] = float(np.mean(within))
            if entry:
                found.setdefault(name, {})[protocol] = entry
    return found


def _correlation(rows: Sequence[Mapping[str, float]], first: str, second: str) -> float:
    return rank_correlation([row[first] for row in rows], [row[second] for row in rows])
