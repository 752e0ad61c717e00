"""A causal language model of transformers that runs here: it generates, scores and chooses, and its weights learn."""

from __future__ import annotations

import copy
import inspect
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from safetensors import SafetensorError
from torch import Tensor, nn

from autodidact.catalog import unknown
from autodidact.catalog.extras import need
from autodidact.lm.drawing import Drawing, Stopping, uniforms
from autodidact.lm.lm import (
    LM,
    Asked,
    Capability,
    Completion,
    Finish,
    Incapable,
    Prompt,
    Sampling,
    Score,
    check_options,
    shares_of,
)
from autodidact.lm.tokenised import Tokenised, batches
from autodidact.lm.wording import Wording, load_tokenizer
from autodidact.model.device import pick_device

ADAPTER, BASE = "adapter_config.json", "base"
LOGITS = 2**28
"""Logits that are held at once, at most: 1 GiB of them in float32."""
PROBED = 64
"""Values of each tensor that are looked at to see whether the weights have changed."""


class LocalLM(nn.Module, LM):
    """A causal language model of transformers with its tokenizer.

    Prompts go through the tokenizer's chat template where it has one, and the model's answer is asked for; a prompt
    that ends with a message of the assistant is continued instead. Without a template the texts follow one another,
    after the token that the tokenizer begins texts with. Text that the tokenizer has no token for is an error.

    Generating, scoring and choosing run without dropout whatever the mode, and leave the mode as it was. Sampling
    settings that lie in the model's folder are not used; its end tokens are.

    Parameters
    ----------
    module : a causal model of transformers, or one with an adapter of peft.
    tokenizer : a tokenizer of transformers.
    label : what the model is called.

    Attributes
    ----------
    wording : how texts become tokens and tokens texts.
    ends : ids of the tokens that end a completion.
    end : the one of them that is scored and learned as the end: the one the chat template closes an answer with, else
        the tokenizer's; None where there is none.
    budget : tokens that go through the model at once, padding and those still to be generated included.
    """

    def __init__(self, module: nn.Module, tokenizer: Any, *, label: str = "local", budget: int = 16384) -> None:
        super().__init__()
        self.module: Any = module
        self.tokenizer = tokenizer
        self.label = label
        self.budget = budget
        config = self.causal.config.get_text_config()
        self.context = getattr(config, "max_position_embeddings", None)
        known: set[Capability] = {"generate", "score", "choose", "latent", "train", "seeded"}
        self.capabilities = frozenset(known | ({"chat"} if tokenizer.chat_template else set()))
        generation = self.causal.generation_config
        own = generation.eos_token_id if generation is not None else None
        ends = [tokenizer.eos_token_id, *(own if isinstance(own, list | tuple) else [own])]
        self.ends = tuple(dict.fromkeys(int(end) for end in ends if end is not None))
        self.wording = Wording(tokenizer)
        self.end = self.wording.closing(self.ends)
        self._origin: tuple[str, tuple[Any, ...]] | None = None
        self._frozen = False
        self._changes = 0
        self._digest: tuple[tuple[Any, ...], str] | None = None

    @classmethod
    def load(
        cls, where: str | Path, *, device: str = "auto", dtype: torch.dtype | None = None, budget: int = 16384
    ) -> LocalLM:
        """A model from a folder that transformers or peft saved, or from the hub.

        Weights are read from safetensors alone, and code that comes with a model is not run. The adapter of an adapter
        folder can be trained, its base is still.

        Parameters
        ----------
        where : the folder, or a name on the hub; without a network, one that its cache holds.
        device : "auto", "cpu" or "gpu".
        dtype : of the weights; default float32 on the CPU, and as they were saved on a GPU.

        Raises
        ------
        FileNotFoundError : a path where there is no folder.
        ValueError : no causal model there, weights in another format, or a name on the hub that cannot be reached.
        """
        transformers = need("transformers", "language", "a local language model")
        name = str(where)
        if not Path(where).is_dir() and (isinstance(where, Path) or name.startswith((".", "/", "~")) or not name):
            raise FileNotFoundError(f"no such folder: '{where}'")
        chosen = pick_device(device)
        kind = dtype or (torch.float32 if chosen == "cpu" else "auto")
        adapter = _adapter(name)
        base = _base(name, adapter) if adapter else name
        try:
            with _without_bars():
                module = transformers.AutoModelForCausalLM.from_pretrained(
                    base, dtype=kind, use_safetensors=True, trust_remote_code=False
                )
            tokenizer = load_tokenizer(base if adapter and not _has_tokenizer(Path(name)) else name)
            if adapter:
                peft = need("peft", "language", "an adapter")
                module = peft.PeftModel.from_pretrained(module, name, is_trainable=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"no language model at '{where}': {' '.join(str(error).split())} (accepted: a folder of transformers "
                "or peft with safetensors weights, or a name on the hub, which needs the network or its cache)"
            ) from error
        found = cls(module.to(chosen), tokenizer, label=Path(name).name if Path(name).is_dir() else name, budget=budget)
        found._origin = (str(Path(base).resolve()) if Path(base).is_dir() else base, found._base_marks())
        return found.eval()

    def save_folder(self, folder: str | Path) -> Path:
        """Write what transformers loads, or peft where there is an adapter.

        With an adapter only the adapter is written, naming the base it was loaded with; a base that was never loaded,
        or has changed since, is written into the folder "base" inside.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.has_adapter:
            base = self._origin[0] if self._origin and self._origin[1] == self._base_marks() else None
            if base is None:
                base = str((folder / BASE).resolve())
                self._save_base(folder / BASE)
            for config in self.module.peft_config.values():
                config.base_model_name_or_path = base
        # peft asks the hub otherwise whether the vocabulary has grown; an adapter of ours holds no embeddings.
        with _without_bars():
            self.module.save_pretrained(folder, **({"save_embedding_layers": False} if self.has_adapter else {}))
        self.tokenizer.save_pretrained(folder)
        return folder

    def _save_base(self, folder: Path) -> None:
        # A copy without the adapter, for peft takes it out in place.
        plain = copy.deepcopy(self.module).unload()
        with _without_bars():
            plain.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def plain(self) -> dict[str, Any]:
        """JSON-ready: architecture, adapter and tokenizer, everything but the weights.

        Raises
        ------
        ValueError : a tokenizer that is not written with the package tokenizers.
        """
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(f"{type(self.tokenizer).__name__} cannot be kept: it has no form as JSON")
        names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
        special = {name: str(token) for name in names if (token := getattr(self.tokenizer, name)) is not None}
        settings = {
            "label": self.label,
            "budget": self.budget,
            "config": self.causal.config.to_dict(),
            "ends": list(self.ends),
            "tokenizer": backend.to_str(),
            "special": special,
            "template": self.tokenizer.chat_template,
        }
        if self.has_adapter:
            settings["adapter"] = self.module.peft_config[self.module.active_adapter].to_dict()
        return dict(json.loads(json.dumps(settings, default=_as_json)))

    @classmethod
    def from_plain(cls, settings: Mapping[str, Any], *, seed: int = 0) -> LocalLM:
        """The same architecture and tokenizer again, with weights at random from the seed alone."""
        transformers = need("transformers", "language", "a local language model")
        tokenizers = need("tokenizers", "language", "a local language model")
        fields = dict(settings["config"])
        config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer.from_str(settings["tokenizer"]), **settings["special"]
        )
        tokenizer.chat_template = settings["template"]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            module = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            module.generation_config.eos_token_id = list(settings["ends"]) or None
            if "adapter" in settings:
                peft = need("peft", "language", "an adapter")
                adapter = {key: value for key, value in settings["adapter"].items() if key != "peft_type"}
                module = peft.get_peft_model(module, peft.LoraConfig(**adapter))
        return cls(module, tokenizer, label=settings["label"], budget=settings["budget"]).eval()

    def frozen(self) -> LocalLM:
        """A copy whose weights do not learn and which stays in eval mode, as a reference."""
        still = copy.deepcopy(self)
        still.requires_grad_(False)
        still._frozen = True
        return still.eval()

    def train(self, mode: bool = True) -> LocalLM:
        return super().train(mode and not self._frozen)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def has_adapter(self) -> bool:
        return hasattr(self.module, "peft_config")

    @property
    def causal(self) -> Any:
        """The model of transformers itself, which an adapter sits in."""
        return self.module.get_base_model() if self.has_adapter else self.module

    # What the model is called follows from its weights; the interface has it as an attribute.
    @property
    def name(self) -> str:  # type: ignore[override]
        """The label, and a digest of the weights, the configuration and the tokenizer.

        The digest is taken over every byte, but only where something changed since the last time: where a tensor lies,
        how often torch saw it change, 64 of its values spread evenly, the adapter being switched on or off, the chat
        template. Whatever an optimizer, `load_state_dict` or a moving average does is seen so. After a change of few
        single values through ``.data``, call `changed`.
        """
        marks = self._marks()
        if self._digest is None or self._digest[0] != marks:
            self._digest = (marks, self._compute_digest())
        return f"{self.label}@{self._digest[1]}"

    def changed(self) -> None:
        """Say that weights were changed behind torch's back; `name` is computed anew."""
        self._changes += 1

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return sorted(chain(self.module.named_parameters(), self.module.named_buffers()))

    def _marks(self) -> tuple[Any, ...]:
        tensors = self._tensors()
        places = tuple((tensor.data_ptr(), tensor._version) for _, tensor in tensors)
        return places, _probe(tensor for _, tensor in tensors), *self._circumstances(), self._changes

    def _base_marks(self) -> tuple[Any, ...]:
        # An adapter gives the base's tensors longer names.
        short = {name.replace("base_model.model.", "").replace(".base_layer", ""): t for name, t in self._tensors()}
        return _probe(short[name] for name in sorted(short) if "lora_" not in name), self._changes

    def _circumstances(self) -> tuple[Any, ...]:
        """What else changes the answers."""
        off = any(getattr(part, "disable_adapters", False) is True for part in self.module.modules())
        return off, self.tokenizer.chat_template, self.ends, self.end

    def _compute_digest(self) -> str:
        config = {key: value for key, value in self.causal.config.to_dict().items() if key not in _FLEETING}
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        written = backend.to_str() if backend is not None else sorted(self.tokenizer.get_vocab().items())
        found = sha256(json.dumps([config, written, self._circumstances()], sort_keys=True, default=_as_json).encode())
        for name, tensor in self._tensors():
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()[:16]

    def generate(
        self, prompts: Sequence[Asked], sampling: Sampling, *, adapters: Sequence[str] | None = None
    ) -> list[list[Completion]]:
        """Completions of each prompt.

        ``tokens`` are all that were drawn, those of the text or token that ended a completion among them, and
        ``logprobs`` are theirs. What is drawn follows from seed, prompt and sample alone, up to the rounding of a
        model's arithmetic, which depends on how many rows it works on at once. At temperature 0 all samples of a
        prompt are the same, and computed once.

        Parameters
        ----------
        adapters : for each prompt the adapter that answers it, by peft's name, where the model has several; rows of
            different ones go through the trunk together. Default the active one for all.
        """
        self._check_adapters(adapters, len(prompts))
        asked = [Prompt.of(prompt) for prompt in prompts]
        starts = self.wording.prompt_ids(asked)
        for ids in starts:
            self._must_fit(len(ids), sampling.max_tokens, "max_tokens")
        samples = 1 if sampling.temperature == 0 else sampling.n
        jobs = [(prompt, sample) for prompt in range(len(asked)) for sample in range(samples)]
        found: dict[tuple[int, int], Completion] = {}
        with torch.no_grad(), self.evaluating():
            lengths = [len(starts[prompt]) + sampling.max_tokens for prompt, _ in jobs]
            # Drawing makes a few copies of a row's logits.
            for rows in batches(lengths, self.budget, most=max(1, self._columns // 4)):
                batch = [jobs[row] for row in rows]
                uniform = None
                if sampling.temperature:
                    uniform = np.stack([uniforms(asked[prompt], sample, sampling) for prompt, sample in batch])
                named = None if adapters is None else [adapters[prompt] for prompt, _ in batch]
                begun = [starts[prompt] for prompt, _ in batch]
                tokens, logprobs = self._draw(begun, uniform, sampling, named)
                for (prompt, sample), ids, each in zip(batch, tokens, logprobs, strict=True):
                    done = self.completion(ids, each, sampling)
                    found[prompt, sample] = replace(done, prompt_tokens=len(starts[prompt]), sample=sample)
        return [
            [replace(found[prompt, sample % samples], sample=sample) for sample in range(sampling.n)]
            for prompt in range(len(asked))
        ]

    def _draw(
        self,
        starts: list[list[int]],
        uniform: Float64[np.ndarray, "n t"] | None,
        sampling: Sampling,
        adapters: list[str] | None,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """The tokens that follow each start, and their log-probabilities; what comes after an end is not cut off."""
        from transformers import GenerationConfig

        width = max(map(len, starts))
        ids = torch.tensor([[self._pad] * (width - len(start)) + start for start in starts])
        attention = torch.tensor([[0] * (width - len(start)) + [1] * len(start) for start in starts])
        drawing = Drawing(sampling, None if uniform is None else torch.from_numpy(uniform).to(self.device))
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=list(self.ends) or None,
            pad_token_id=self._pad,
            use_cache=True,
        )
        causal = self.causal
        # Only peft's own module hands names of adapters on to the layers.
        speaker, named = (causal, {}) if adapters is None else (self.module, {"adapter_names": adapters})
        # transformers fills settings that were not given from the model's own, a repetition penalty among them.
        own, causal.generation_config = causal.generation_config, GenerationConfig()
        try:
            out = speaker.generate(
                input_ids=ids.to(self.device),
                attention_mask=attention.to(self.device),
                generation_config=settings,
                logits_processor=[drawing],
                stopping_criteria=[Stopping(sampling.stop, width, self.wording.text)] if sampling.stop else [],
                **named,
            )
        finally:
            causal.generation_config = own
        tokens = out[:, width:]
        # A device may have been a step ahead when it learned that all rows had ended.
        logprobs = torch.stack(drawing.logprobs[: tokens.shape[1]], dim=1)
        return tokens.tolist(), logprobs.tolist()

    def completion(self, ids: list[int], logprobs: list[float], sampling: Sampling) -> Completion:
        """What drawn tokens are as an answer: up to their end token, or the text that ends them."""
        finish: Finish = "length"
        length = next((place for place, token in enumerate(ids, 1) if token in self.ends), None)
        if length is not None:
            finish, ids = "stop", ids[:length]
        text = self.wording.text(ids[:-1] if length else ids)
        if any(stop in text for stop in sampling.stop):
            # What a row wrote while others went on must not count: the text that was complete first is what ended it.
            finish, ids = "stop", ids[: self._reach(ids, sampling.stop)]
            text = self.wording.text(ids)
            text = text[: min(place for stop in sampling.stop if (place := text.find(stop)) >= 0)]
        logprobs = logprobs[: len(ids)]
        if not np.isfinite(logprobs).all():
            raise ValueError(f"{self.label} gave logits that are no numbers; its weights may have diverged")
        return Completion(text, finish, tuple(ids), tuple(logprobs), completion_tokens=len(ids))

    def _reach(self, ids: list[int], stop: tuple[str, ...]) -> int:
        """How many tokens it takes until the text holds one of the texts that end it."""
        lengths = range(1, len(ids) + 1)
        return 1 + bisect_left(
            lengths, True, key=lambda length: any(one in self.wording.text(ids[:length]) for one in stop)
        )

    def encode(
        self, prompts: Sequence[Asked], completions: Sequence[str | Sequence[int]], *, end: bool = True
    ) -> Tokenised:
        """Prompts with their completions as tokens.

        A completion is tokenised by itself and follows the prompt's tokens, so that these are what they are when the
        model generates; a tokenizer that would put a space before it is kept from doing so.

        Parameters
        ----------
        completions : texts; or token ids, as `generate` drew them, which are taken as they are, with no end added.
        end : whether the end token follows the texts.

        Raises
        ------
        ValueError : numbers that differ, a completion without tokens, or more tokens than the context.
        Incapable : an end is wanted of a model that has none.
        """
        if len(prompts) != len(completions):
            raise ValueError(f"{len(prompts)} prompts were given with {len(completions)} completions")
        texts = [given for given in completions if isinstance(given, str)]
        if end and texts and self.end is None:
            raise Incapable(f"{self.label} has no end token; score or encode with end=False")
        closing = [self.end] if end and self.end is not None else []
        answers = iter([*ids, *closing] for ids in self.wording.answer_ids(texts))
        rows = [
            (start, next(answers) if isinstance(given, str) else [int(token) for token in given])
            for start, given in zip(self.wording.prompt_ids([Prompt.of(p) for p in prompts]), completions, strict=True)
        ]
        for start, answer in rows:
            if not answer:
                raise ValueError("a completion is empty, and its end is not scored: there is nothing to score")
            self._must_fit(len(start), len(answer), "completion")
        return Tokenised.of(rows, self._pad)

    def logprobs(self, tokenised: Tokenised, *, adapters: Sequence[str] | None = None) -> Float[Tensor, "n t"]:
        """Log-probability (nats) of each token of the completions after those before it; 0 for all other tokens.

        Differentiable, in float32 at least. Dropout is as the mode says. Logits are computed only for columns in which
        some row has a token of its completion, where the architecture allows.

        Parameters
        ----------
        adapters : for each row the adapter that reads it, as in `generate`; only in eval mode.
        """
        self._check_adapters(adapters, len(tokenised))
        tokenised = tokenised.to(self.device)
        columns = tokenised.answer.any(dim=0).nonzero()[:, 0]
        logits = self._logits(tokenised, columns - 1, adapters)
        targets = tokenised.ids[:, columns]
        each = logits.gather(2, targets[..., None])[..., 0] - logits.logsumexp(dim=2)
        each = each.where(tokenised.answer[:, columns], 0)
        return each.new_zeros(tokenised.ids.shape).index_copy(1, columns, each)

    def forward(self, tokenised: Tokenised) -> Float[Tensor, "n t"]:
        return self.logprobs(tokenised)

    def answer_logits(self, tokenised: Tokenised) -> Float[Tensor, "m v"]:
        """What the model expects before each token of the completions, over the vocabulary, row after row.

        Differentiable, in float32 at least; the tokens themselves are ``tokenised.ids[tokenised.answer]``.
        """
        tokenised = tokenised.to(self.device)
        columns = tokenised.answer.any(dim=0).nonzero()[:, 0]
        return self._logits(tokenised, columns - 1)[tokenised.answer[:, columns]]

    def _logits(
        self, tokenised: Tokenised, columns: Tensor, adapters: Sequence[str] | None = None
    ) -> Float[Tensor, "n c v"]:
        """What the model expects after the tokens of some columns."""
        # Padding on the right is never attended to, and what is computed there is never looked at.
        taken: dict[str, Any] = {
            "input_ids": tokenised.ids,
            "attention_mask": tokenised.attention.long(),
            "use_cache": False,
        }
        reader = self.causal
        if adapters is not None:
            reader, taken["adapter_names"] = self.module, list(adapters)
        if self._selective:
            logits = reader(**taken, logits_to_keep=columns).logits
        else:
            logits = reader(**taken).logits[:, columns]
        return logits if logits.dtype == torch.float64 else logits.float()

    def _check_adapters(self, adapters: Sequence[str] | None, rows: int) -> None:
        """Raise ValueError for names of adapters that are not one a row, or not those of the model."""
        if adapters is None:
            return
        if not self.has_adapter:
            raise ValueError(f"{self.label} has no adapter, and its rows name {', '.join(sorted(set(adapters)))}")
        if len(adapters) != rows:
            raise ValueError(f"{rows} rows were given with {len(adapters)} names of adapters")
        for name in dict.fromkeys(adapters):
            if name not in self.module.peft_config:
                raise unknown("adapter", name, self.module.peft_config)

    @property
    def _selective(self) -> bool:
        """Whether the architecture computes logits for chosen columns alone."""
        return "logits_to_keep" in inspect.signature(type(self.causal).forward).parameters

    def hidden(self, tokenised: Tokenised, layers: Sequence[int]) -> dict[int, Float[Tensor, "n t d"]]:
        """What layers make of each token, by layer; differentiable.

        Parameters
        ----------
        layers : 0 for the embeddings, 1 for what the first layer gives, up to the last, whose output has gone through
            the norm that comes after it.
        """
        tokenised = tokenised.to(self.device)
        states = self.causal(
            input_ids=tokenised.ids,
            attention_mask=tokenised.attention.long(),
            use_cache=False,
            output_hidden_states=True,
            # All logits would be computed otherwise.
            **({"logits_to_keep": 1} if self._selective else {}),
        ).hidden_states
        for layer in layers:
            if not 0 <= layer < len(states):
                raise ValueError(f"{self.label} has layers 0 to {len(states) - 1}, got {layer}")
        return {layer: states[layer] for layer in layers}

    def pooled(self, texts: Sequence[str]) -> Float64[np.ndarray, "n d"]:
        """Mean of the last layer's states over the tokens of each text, of length 1; without gradient.

        Of a text that is longer than the context its beginning is read. One without tokens has zeros.
        """
        config = self.causal.config.get_text_config()
        last = int(config.num_hidden_layers)
        ids = [each[: self.context] for each in self.wording.answer_ids(list(texts))]
        found = np.zeros((len(ids), int(config.hidden_size)))
        filled = [row for row, each in enumerate(ids) if each]
        for rows, part in self._parts(Tokenised.of([([], ids[row]) for row in filled], self._pad)):
            states = self.hidden(part, [last])[last].double()
            means = (states * part.attention[..., None]).sum(1) / part.lengths[:, None]
            found[[filled[row] for row in rows]] = nn.functional.normalize(means).cpu().numpy()
        return found

    def score(
        self,
        prompts: Sequence[Asked],
        completions: Sequence[str],
        *,
        end: bool = True,
        adapters: Sequence[str] | None = None,
    ) -> list[Score]:
        """See `LM.score`; `adapters` as in `generate`."""
        self._check_adapters(adapters, len(prompts))
        tokenised = self.encode(prompts, completions, end=end)
        found: dict[int, Score] = {}
        for rows, part in self._parts(tokenised):
            named = None if adapters is None else [adapters[row] for row in rows]
            logprobs = self.logprobs(part, adapters=named).tolist()
            for row, each, answer in zip(rows, logprobs, part.answer.tolist(), strict=True):
                found[row] = Score(tuple(value for value, counts in zip(each, answer, strict=True) if counts))
                if np.isnan(found[row].total):
                    raise ValueError(f"{self.label} gave logits that are no numbers; its weights may have diverged")
        return [found[row] for row in range(len(prompts))]

    def choose(
        self, prompts: Sequence[Asked], options: Sequence[str], *, divided: bool = True
    ) -> Float64[np.ndarray, "n c"]:
        check_options(options)
        answers = self.wording.answer_ids(list(options))
        if not prompts or any(len(ids) != 1 for ids in answers):
            return LM.choose(self, prompts, options, divided=divided)
        chosen = torch.tensor([token for (token,) in answers], device=self.device)
        tokenised = self.encode(prompts, [answers[0]] * len(prompts))
        found = np.empty((len(prompts), len(options)))
        for rows, part in self._parts(tokenised):
            last = part.answer.long().argmax(dim=1) - 1
            columns, place = last.unique(return_inverse=True)
            logits = self._logits(part, columns)[torch.arange(len(part), device=self.device), place]
            every = logits.double().log_softmax(dim=1)[:, chosen].cpu().numpy()
            found[rows] = shares_of(every, divided)
        if not np.isfinite(found).all():
            raise ValueError(f"{self.label} gave logits that are no numbers; its weights may have diverged")
        return found

    def _parts(self, tokenised: Tokenised) -> Iterator[tuple[list[int], Tokenised]]:
        """Rows that go through the model together, on its device, in eval mode and without gradients."""
        budget = min(self.budget, self._columns)
        with torch.no_grad(), self.evaluating():
            for rows in batches(tokenised.lengths.tolist(), budget):
                yield rows, tokenised[rows].to(self.device)

    @property
    def _columns(self) -> int:
        """Tokens whose logits may be held at once."""
        return max(1, LOGITS // int(self.causal.config.get_text_config().vocab_size))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within it dropout is off, as in `eval`; afterwards every part is in the mode that it was in."""
        modes = [(part, part.training) for part in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for part, training in modes:
                part.training = training

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.ends[0] if self.ends else 0)

    def room(self, prompt: Asked) -> int | None:
        if self.context is None:
            return None
        return self.context - len(self.wording.prompt_ids([Prompt.of(prompt)])[0])

    def _must_fit(self, prompt: int, further: int, what: str) -> None:
        if self.context is not None and prompt + further > self.context:
            raise ValueError(
                f"a prompt of {prompt} tokens and {what} of {further} make {prompt + further}; {self.label} has a "
                f"context of {self.context}"
            )


_FLEETING = {"_name_or_path", "transformers_version"}


def _as_json(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(getattr(value, "value", value))


def _probe(tensors: Any) -> bytes:
    """A few values of each tensor, spread evenly."""
    parts = []
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        parts.append(flat[:: max(1, len(flat) // PROBED)][: PROBED + 1].float())
    return bytes(torch.cat(parts).cpu().numpy().tobytes())


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file()


@contextmanager
def _without_bars() -> Iterator[None]:
    """transformers draws a line of progress for each file of weights, however small, unless it is told not to."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _adapter(name: str) -> dict[str, Any] | None:
    """The configuration of the adapter that lies there, None where it is a whole model."""
    from transformers.utils import cached_file

    def file(wanted: str) -> str | None:
        try:
            return cached_file(name, wanted, _raise_exceptions_for_missing_entries=False)
        except OSError:
            # Whether the name can be reached at all is told when the model is looked for.
            return None

    found = file(ADAPTER)
    if found is None:
        return None
    if file("adapter_model.safetensors") is None:
        raise ValueError(f"'{name}' holds no adapter_model.safetensors; adapters in other formats are not read")
    return dict(json.loads(Path(found).read_text()))


def _base(name: str, adapter: Mapping[str, Any]) -> str:
    """Where the base of an adapter lies: in the folder of the adapter, or where the adapter says."""
    inside = Path(name) / BASE
    base = str(inside) if inside.is_dir() else adapter.get("base_model_name_or_path")
    if not base:
        raise ValueError(f"the adapter at '{name}' names no base model")
    return base
