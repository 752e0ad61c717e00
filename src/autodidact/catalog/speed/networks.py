"""The parts of the page of speed on losses and networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autodidact.catalog.speed.figures import between, heading, machine, ranging, versions
from autodidact.catalog.tables import markdown_table


def contrastive(found: Mapping[str, Any]) -> str:
    """The contrastive loss, block by block."""
    rows = [
        (
            peer,
            f"1/{1 / ratio['memory']:.0f}",
            f"{ratio['time']:.2f}{ranging(ratio['times'], '.2f')}",
            f"{ratio['processor_time']:.2f}",
        )
        for peer, ratio in found["against"].items()
    ]
    large = found["large"]
    table = markdown_table(("against", "peak memory", "time", "processor time"), rows)
    if device := found.get("device"):
        return (
            f"The same on one {device} ({versions(found)}).\n\n{table}\n\n{large['n']:,} pairs take "
            f"{large['seconds']:.2f} s and {large['bytes'] / 2**20:,.0f} MiB.{_beyond(large)}"
        )
    return (
        f"## Contrastive loss\n\nNT-Xent, forward and backward, {found['n']:,} pairs of {found['d']} dimensions, "
        f"{found['threads']} thread(s); block by block as a share of the peer.\n\n{table}\n\n{large['n']:,} pairs take "
        f"{large['seconds']:.0f} s and {large['bytes'] / 2**20:,.0f} MiB.{_beyond(large)}"
    )


def _beyond(large: Mapping[str, Any]) -> str:
    """What the peers would need for as many pairs, where that was reckoned."""
    needs = [
        f"{peer} would need {one['bytes'] / 2**30:,.0f} GiB of {one['memory'] / 2**30:,.0f}"
        for peer, one in large.get("peers", {}).items()
        if not one["fits"]
    ]
    return f" By what was measured {' and '.join(needs)}." if needs else ""


def mae(found: Mapping[str, Any]) -> str:
    """A masked autoencoder on visible patches, against all."""
    seconds = found["seconds"]
    row = (
        f"{found['encoder']}, {found['size']} px",
        f"{found['decoder']['depth']} layers of width {found['decoder']['width']}",
        f"{seconds['visible']:.2f} s",
        f"{seconds['all']:.2f} s",
        f"{found['time']:.2f}{ranging(found['times'], '.2f')}",
        f"{found['processor_time']:.2f}",
        f"{found['goal']:g}",
    )
    names = ("encoder", "decoder", "visible patches", "all patches", "time", "processor time", "goal")
    return (
        f"{heading(found, 'Masked autoencoder')}A step with {100 * found['ratio']:g} % of the patches masked, forward, "
        f"backward and update, {machine(found)} and batches of {found['batch']} ({versions(found)}): the encoder on "
        "the visible patches, as a share of the same step with the encoder on all.\n\n"
        f"{markdown_table(names, [row])}"
    )


def compiled(found: Mapping[str, Any]) -> str:
    """Compiled networks, against eager ones."""
    rows = [
        (
            row["encoder"],
            f"{row['side']} px",
            f"{row['batch']}",
            *(f"{took:.3f}" for took in row["seconds"].values()),
            f"{row['ratio']:.2f}{ranging(row['ratios'], '.2f')}",
            f"{row['first_step']:.1f}",
        )
        for row in found["rows"]
    ]
    names = ("encoder", "image", "batch", "eager", "compiled", "compiled over eager", "first step, compiled")
    return (
        f"{heading(found, 'Compiled networks')}Seconds of a training step with the encoder compiled, as `--compile` "
        f"does it, and without, {machine(found)} ({versions(found)}).\n\n{markdown_table(names, rows)}"
    )


def lite(found: Mapping[str, Any]) -> str:
    """DependencyViT-Lite, against DependencyViT."""
    said = {"plain": "plain, of timm", "dependency": "DependencyViT", "lite": "DependencyViT-Lite"}
    rows = [
        (
            said[row["what"]],
            f"{row['operations'] / 1e9:.2f}",
            f"{row['seconds']:.2f} s",
            f"{row['processor_seconds']:.2f} s",
            f"{row['against']:.2f} ({row['spread'][0]:.2f} to {row['spread'][1]:.2f})",
        )
        for row in found["rows"]
    ]
    names = ("vision transformer", "GFLOP an image", "time", "processor time", "time over DependencyViT's")
    return (
        f"## DependencyViT and its Lite form\n\nA forward pass without gradient, {found['batch']} images of "
        f"{found['size']} px, 12 blocks of width 384, {found['threads']} thread(s) ({versions(found)}). Reversed "
        "attention cannot be fused; Lite drops 16 % of the patches after each of the blocks 2, 5, 8 and 11.\n\n"
        f"{markdown_table(names, rows)}"
    )


def bf16(found: Mapping[str, Any]) -> str:
    """bf16 on a processor."""
    rows = [
        (
            row["encoder"],
            f"{row['side']} px",
            f"{row['batch']}",
            *(f"{took:.3f}{between(row.get('spread', {}).get(way), '.3f')}" for way, took in row["seconds"].items()),
        )
        for row in found["rows"]
    ]
    units = "with" if found["amx"] else "without"
    return (
        f"## bf16 on a processor\n\nSeconds of processor time of a training step ({versions(found)}; "
        f"{found['processor']}, {units} matrix units). A training with `--precision bf16` computes attention over at "
        "most 256 tokens in float32, since torch's own in bf16 is slow there.\n\n"
        f"{markdown_table(('encoder', 'image', 'batch', *found['rows'][0]['seconds']), rows)}"
    )
