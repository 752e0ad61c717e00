"""Low-rank adapters (LoRA; Hu et al., arXiv 2106.09685): the base stays, a small product is learned beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch

from autodidact.catalog import unknown
from autodidact.catalog.extras import need
from autodidact.lm.lm import Asked, Completion, Sampling, Score
from autodidact.lm.local import ADAPTER, LocalLM


def add_adapter(
    lm: LocalLM,
    *,
    rank: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    r"""Put an adapter into a model, in place; from then on only the adapter learns.

    Each projection computes :math:`W x + (\alpha / r) B A x` (section 4.1), with A at random and B = 0, so that the
    model says what it said until it is trained. Parameters of a projection from :math:`d_{in}` to :math:`d_{out}`:
    :math:`r (d_{in} + d_{out})`.

    Parameters
    ----------
    rank : r, from 1.
    alpha : above 0; default 2 r, so that a learning rate does for every rank.
    dropout : share of x that is left out in training, in [0, 1).
    targets : ends of the names of the projections; default all projections of attention and MLP, where the paper
        adapts those of queries and values alone.
    seed : of A.

    Raises
    ------
    ValueError : the model has an adapter already, a rank below 1, or targets that the model does not have.
    """
    peft = need("peft", "language", "an adapter")
    alpha = 2 * rank if alpha is None else alpha
    if lm.has_adapter:
        raise ValueError(f"{lm.label} has an adapter already; merge it first")
    if rank < 1 or not alpha > 0 or not 0 <= dropout < 1:
        raise ValueError(
            f"an adapter needs rank >= 1, alpha > 0 and dropout in [0, 1), got {rank}, {alpha} and {dropout}"
        )
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear" if targets is None else list(targets),
        task_type="CAUSAL_LM",
    )
    training = lm.module.training
    with torch.random.fork_rng(devices=[lm.device] if lm.device.type == "cuda" else []), warnings.catch_warnings():
        # GPT-2 keeps its weights transposed; peft finds out by itself and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        torch.manual_seed(seed)
        lm.module = peft.get_peft_model(lm.module, settings)
    lm.train(training)


@contextmanager
def adapter_off(lm: LocalLM) -> Iterator[None]:
    """Within it the model is the base that the adapter was put into: a reference that costs no memory.

    Raises
    ------
    ValueError : the model has no adapter.
    """
    if not lm.has_adapter:
        raise ValueError(f"{lm.label} has no adapter to switch off")
    with lm.module.disable_adapter():
        yield


def merge_adapter(lm: LocalLM) -> None:
    """Add the adapter to the weights, in place, and take it out; from then on all weights learn.

    Raises
    ------
    ValueError : the model has no adapter.
    """
    if not lm.has_adapter:
        raise ValueError(f"{lm.label} has no adapter to merge")
    training = lm.module.training
    lm.module = lm.module.merge_and_unload()
    lm.module.requires_grad_(True)
    lm.train(training)


def adapter_is_silent(lm: LocalLM) -> bool:
    """Whether a model has an adapter that changes nothing yet: its base says what it says."""
    return lm.has_adapter and not any(bool(p.any()) for name, p in lm.named_parameters() if "lora_B" in name)


class Specialists:
    """Several adapters on one base: every prompt names the one that answers it.

    Prompts of different adapters go through the base together; each layer adds to every row what the row's own adapter
    makes of it (peft's mixed batches).

    Parameters
    ----------
    adapters : name -> folder of an adapter as peft writes it (``hf/`` of a run), or for all of them a model with an
        adapter, which is copied; all of one base.
    device : "auto", "cpu" or "gpu", for folders; models stay where the first one is.

    Attributes
    ----------
    lm : the base with all adapters, in eval mode; by itself it speaks with the first.

    Raises
    ------
    FileNotFoundError, ValueError : no adapter there, or one of another base; folders and models together.
    """

    def __init__(self, adapters: Mapping[str, str | Path | LocalLM], *, device: str = "auto") -> None:
        models = {name: one for name, one in adapters.items() if isinstance(one, LocalLM)}
        folders = {name: Path(one) for name, one in adapters.items() if not isinstance(one, LocalLM)}
        if models and folders:
            raise ValueError(f"adapters are all folders or all models, got models for {', '.join(models)} alone")
        # peft calls the one that a model begins with "default".
        self._called = {name: f"adapter_{number}" if number else "default" for number, name in enumerate(adapters)}
        self.lm = self._of_models(models) if models else self._of_folders(folders, device)
        self.lm.eval()

    def _of_folders(self, folders: Mapping[str, Path], device: str) -> LocalLM:
        bases = {str(folder): _base_of(folder) for folder in folders.values()}
        if len(set(bases.values())) != 1:
            said = ", ".join(f"{folder} of {base}" for folder, base in bases.items())
            raise ValueError(f"adapters that are used together must be of one base, got {said or 'none'}")
        ((_, first), *rest) = folders.items()
        lm = LocalLM.load(first, device=device)
        for name, folder in rest:
            lm.module.load_adapter(str(folder), adapter_name=self._called[name])
        return lm

    def _of_models(self, models: Mapping[str, LocalLM]) -> LocalLM:
        peft = need("peft", "language", "an adapter")
        if lacking := [name for name, one in models.items() if not one.has_adapter]:
            raise ValueError(f"'{lacking[0]}' is a model without an adapter")
        ((first, begun), *rest) = models.items()
        lm, trunk = deepcopy(begun), _trunk(begun)
        for name, one in rest:
            other = _trunk(one)
            if other.keys() != trunk.keys() or not all(_equal(other[key], trunk[key]) for key in trunk):
                raise ValueError(f"adapters that are used together must be of one base; '{name}' and '{first}' are not")
            config = one.module.peft_config[one.module.active_adapter]
            with torch.random.fork_rng(devices=[lm.device] if lm.device.type == "cuda" else []):
                lm.module.add_adapter(self._called[name], config)
            weights = peft.get_peft_model_state_dict(one.module, save_embedding_layers=False)
            peft.set_peft_model_state_dict(lm.module, weights, adapter_name=self._called[name])
        return lm.to(begun.device)

    def generate(self, prompts: Sequence[Asked], names: Sequence[str], sampling: Sampling) -> list[list[Completion]]:
        """Completions of each prompt by the adapter of its name, in the order of the prompts; see `LM.generate`.

        Raises
        ------
        ValueError : another number of names, or an unknown one.
        """
        return self.lm.generate(prompts, sampling, adapters=self._of_rows(prompts, names))

    def score(
        self, prompts: Sequence[Asked], completions: Sequence[str], names: Sequence[str], *, end: bool = True
    ) -> list[Score]:
        """Log-probabilities of given completions by the adapter of each prompt's name; see `LM.score`.

        Raises
        ------
        ValueError : another number of names, or an unknown one.
        """
        return self.lm.score(prompts, completions, end=end, adapters=self._of_rows(prompts, names))

    def _of_rows(self, prompts: Sequence[Asked], names: Sequence[str]) -> list[str]:
        """What peft calls the adapter of each prompt."""
        if len(prompts) != len(names):
            raise ValueError(f"{len(prompts)} prompts were given with {len(names)} names of adapters")
        for name in dict.fromkeys(names):
            if name not in self._called:
                raise unknown("adapter", name, self._called)
        return [self._called[name] for name in names]


def _trunk(lm: LocalLM) -> dict[str, torch.Tensor]:
    """The weights of the base that an adapter sits in."""
    return {name: weight for name, weight in lm.module.named_parameters() if ".lora_" not in name}


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a == b.to(a.device)).all())


def _base_of(folder: Path) -> str:
    """What an adapter says that it belongs to."""
    path = folder / ADAPTER
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no adapter: there is no {ADAPTER}")
    return str(json.loads(path.read_text()).get("base_model_name_or_path"))
