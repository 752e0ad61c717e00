"""Batched generation of a local language model, against a bare loop of transformers' own `generate`, on a processor.

Both write as many tokens after the same prompts, in the same batches, with the same weights: greedily, and drawn at
temperature 1. Ours also gives the log-probability of every token, draws by a generator of each row's own, and ends rows
at texts; the bare loop gives texts alone. The models have random weights and no end token, so that both write all that
they may. Contestants take turns; figures are medians.

    python benchmarks/generate.py --json benchmarks/generate.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig

from autodidact.lm import Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.tiny import tiny_lm
from common import arguments, tell_rows

GOAL = 1.15
"""Of the time of the bare loop."""
LETTERS = "abcdefghijklmnopqrstuvwxyz .,>;"
MODELS: tuple[tuple[dict[str, int], int, int, int, int], ...] = (
    ({"width": 64, "depth": 2, "heads": 2}, 256, 32, 32, 256),
    ({"width": 384, "depth": 6, "heads": 6}, 64, 48, 48, 32),
)
"""Sizes, prompts, characters of a prompt at most, tokens written, rows of a batch."""


def bare(lm: LocalLM, prompts: list[str], tokens: int, rows: int, drawn: bool) -> list[str]:
    """What a user of transformers writes."""
    tokenizer = lm.tokenizer
    tokenizer.padding_side = "left"
    settings = GenerationConfig(
        max_new_tokens=tokens, pad_token_id=0, **({"do_sample": True, "top_k": 0} if drawn else {})
    )
    texts: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(prompts), rows):
            batch = tokenizer(prompts[start : start + rows], return_tensors="pt", padding=True)
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            out = lm.module.generate(**inputs, generation_config=settings)
            texts += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def measured(
    sizes: dict[str, int], count: int, longest: int, tokens: int, rows: int, drawn: bool, rounds: int
) -> dict[str, Any]:
    lm = tiny_lm(LETTERS, context=longest + tokens, **sizes)
    lm.ends, lm.module.generation_config.eos_token_id = (), None
    lm.budget = rows * (longest + tokens)
    generator = torch.Generator().manual_seed(0)
    # Longest first, as ours are put into batches.
    lengths = torch.randint(longest // 2, longest + 1, (count,), generator=generator).sort(descending=True).values
    lengths[::rows] = longest
    picked = torch.randint(len(LETTERS), (count, longest), generator=generator).tolist()
    prompts = ["".join(LETTERS[k] for k in row[:length]) for row, length in zip(picked, lengths.tolist(), strict=True)]
    prompts.sort(key=len, reverse=True)
    sampling = Sampling(max_tokens=tokens, temperature=1.0 if drawn else 0.0)

    def ours() -> list[str]:
        return [found[0].text for found in lm.generate(prompts, sampling)]

    contestants: dict[str, Callable[[], list[str]]] = {
        "autodidact": ours,
        "bare loop": lambda: bare(lm, prompts, tokens, rows, drawn),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    written: dict[str, list[str]] = {}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            began, used = time.perf_counter(), time.process_time()
            written[name] = run()
            took[name].append((time.perf_counter() - began, time.process_time() - used))
    own, other = (each[1:] for each in took.values())
    ratios = [a[0] / b[0] for a, b in zip(own, other, strict=True)]
    row = {
        "model": sizes,
        "weights": sum(p.numel() for p in lm.parameters()),
        "prompts": count,
        "tokens": tokens,
        "rows": rows,
        "drawn": drawn,
        "seconds": {name: statistics.median(each[0] for each in found[1:]) for name, found in took.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "processor_time": statistics.median(a[1] / b[1] for a, b in zip(own, other, strict=True)),
        "same_texts": None if drawn else sum(a == b for a, b in zip(*written.values(), strict=True)) / count,
    }
    print(row, flush=True)
    return row


def main() -> None:
    options = arguments(__doc__, rounds=7).parse_args()
    torch.set_num_threads(options.threads)
    rows = [measured(*row, drawn, options.rounds) for row in MODELS for drawn in (False, True)]
    what = "batched generation against a bare loop of transformers' generate"
    tell_rows(what, options, rows, ("torch", "transformers"), goal=GOAL)


if __name__ == "__main__":
    main()
