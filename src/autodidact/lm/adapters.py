"""Low-rank adapters (LoRA; Hu et al., arXiv 2106.09685): the base stays, a small product is learned beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from autodidact.catalog import unknown
from autodidact.encoders.extras import need
from autodidact.lm.lm import Asked, Completion, Sampling
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

    Parameters
    ----------
    folders : name -> folder of an adapter as peft writes it (``hf/`` of a run), all of one base.
    device : "auto", "cpu" or "gpu".

    Attributes
    ----------
    lm : the base with all adapters; by itself it speaks with the one that spoke last.

    Raises
    ------
    FileNotFoundError, ValueError : no adapter there, or one of another base.
    """

    def __init__(self, folders: Mapping[str, str | Path], *, device: str = "auto") -> None:
        bases = {str(folder): _base_of(Path(folder)) for folder in folders.values()}
        if len(set(bases.values())) != 1:
            said = ", ".join(f"{folder} of {base}" for folder, base in bases.items())
            raise ValueError(f"adapters that are used together must be of one base, got {said or 'none'}")
        (first, *rest) = folders.items()
        self.lm = LocalLM.load(first[1], device=device)
        # The one that a model is loaded with has this name.
        self._called = {first[0]: "default"}
        for number, (name, folder) in enumerate(rest, 1):
            self._called[name] = f"adapter_{number}"
            self.lm.module.load_adapter(str(folder), adapter_name=self._called[name])
        self.lm.eval()

    def generate(self, prompts: Sequence[Asked], names: Sequence[str], sampling: Sampling) -> list[list[Completion]]:
        """Completions of each prompt by the adapter of its name, in the order of the prompts; see `LM.generate`.

        Raises
        ------
        ValueError : another number of names, or an unknown one.
        """
        if len(prompts) != len(names):
            raise ValueError(f"{len(prompts)} prompts were given with {len(names)} names of adapters")
        found: dict[int, list[Completion]] = {}
        for name in dict.fromkeys(names):
            if name not in self._called:
                raise unknown("adapter", name, self._called)
            rows = [row for row, own in enumerate(names) if own == name]
            self.lm.module.set_adapter(self._called[name])
            found |= zip(rows, self.lm.generate([prompts[row] for row in rows], sampling), strict=True)
        return [found[row] for row in range(len(prompts))]


def _base_of(folder: Path) -> str:
    """What an adapter says that it belongs to."""
    path = folder / ADAPTER
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no adapter: there is no {ADAPTER}")
    return str(json.loads(path.read_text()).get("base_model_name_or_path"))
