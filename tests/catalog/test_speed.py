"""The page of speed: what its parts say of figures, with the newer ones and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autodidact.catalog.speed import speed_page

SURROUNDINGS: dict[str, Any] = {"versions": {}, "processor": "one", "threads": 1}


def page(folder: Path, **files: dict[str, Any]) -> str:
    for name, found in files.items():
        (folder / f"{name}.json").write_text(json.dumps({**SURROUNDINGS, **found}))
    return speed_page(folder)


def epoch(images: int, batch: int, peer: float, threads: int = 2) -> dict[str, Any]:
    row = {
        **{"method": "mae", "encoder": "small:vit", "side": 64, "images": images, "batch": batch},
        "seconds": {"autodidact": 1.0, "peer": peer},
        "all_seconds": {"autodidact": [1.0], "peer": [peer]},
        "share": {"peer": 1 / peer},
    }
    return {"goal": 0.6, "rows": [row], "threads": threads}


def profile(views: float, backward: float, **more: Any) -> dict[str, Any]:
    parts = {
        "views": {"seconds": views, "floor": 2 * views, "operations": 0.0, "bytes": 0.0},
        "backward": {"seconds": backward, "floor": backward / 2, "operations": 1e9, "bytes": 0.0},
    }
    told = {"method": "mae", "encoder": "small:vit", "side": 64, "batch": 128}
    whole = {"seconds": views + backward, "floor": 2 * views + backward / 2}
    return {"rows": [{**told, **whole, "parts": parts, **more}]}


def test_the_floors_of_an_update_are_set_beside_the_peers_epoch(tmp_path: Path) -> None:
    # Eight updates in 0.8 s: 100 ms each, of which 60 are the goal. Views are below their floor: they stay at 10 ms.
    text = page(tmp_path, epoch=epoch(1024, 128, 0.8), step_profile=profile(0.010, 0.080, threads=2))
    said = "| mae, small:vit | peer, 100 | 60 | 90 | 50 | 0.50 | 0.6 | views 10 to 10, backward 80 to 50 |"
    assert said in text
    text = page(tmp_path, step_profile=profile(0.010, 0.120, threads=2))
    assert "| 0.70 | 0.6 | out of reach even at the floors: views 10 to 10, backward 120 to 60 |" in text


def test_floors_of_another_number_of_threads_are_not_set_beside_an_epoch(tmp_path: Path) -> None:
    for more in ({"threads": 1}, {}):
        text = page(tmp_path, epoch=epoch(1024, 128, 0.8), step_profile=profile(0.010, 0.080, **more))
        assert "least share of the peer" not in text
        assert "| mae, small:vit, 64 px, batch 128 | 1 | views | 10.0 | 20.0 |" in text


def test_floors_of_another_processor_are_not_set_beside_an_epoch(tmp_path: Path) -> None:
    measured = epoch(1024, 128, 0.8) | {"processor": "another"}
    text = page(tmp_path, epoch=measured, step_profile=profile(0.010, 0.080, threads=2))
    assert "least share of the peer" not in text


def test_figures_of_a_gpu_stand_under_those_of_the_processor(tmp_path: Path) -> None:
    row = {"encoder": "small:vit", "side": 28, "images": 10, "batch": 5, "ratio": 1.1, "ratios": [1.0, 1.2]}
    took = {"goal": 1.1, "rows": [{**row, "seconds": {"embed": 1.1, "bare loop": 1.0}}]}
    text = page(tmp_path, embed=took, embed_gpu=took | {"device": "a GPU"})
    assert text.count("## Embedding") == 1
    assert "The same on a GPU. `embed` of packed images into a Parquet file, on one a GPU" in text
    assert text.count("keeps what a batch frees") == 1
    assert "python benchmarks/embed.py --device cuda --threads 1 --json benchmarks/embed_gpu.json" in text


def test_a_folders_floors_are_told_where_they_were_measured(tmp_path: Path) -> None:
    seconds = {"photographs": {"first opening": {"autodidact": 2.0}, "pass": {"autodidact": 0.5}}}
    told = {"fashion images": 1, "photographs": 1, "batch": 1, "seconds": seconds}
    assert "Beside them their floors" not in page(tmp_path, data=told)
    text = page(tmp_path, data=told | {"floors": {"photographs": {"bytes": 10**9, "decode": 1.5, "copy": 0.1}}})
    assert "| photographs | 2.00 s | 1.50 s | 2.0 GB/s | 10.0 GB/s |" in text


def test_what_peers_would_need_is_told_where_it_does_not_fit(tmp_path: Path) -> None:
    large = {"n": 65_536, "seconds": 166.0, "bytes": 2**28}
    told = {"n": 8192, "d": 128, "against": {}, "large": large}
    assert "would need" not in page(tmp_path, contrastive=told)
    peers = {"dense": {"bytes": 2**38, "memory": 2**35, "fits": False}, "lightly": {"fits": True}}
    text = page(tmp_path, contrastive=told | {"large": large | {"peers": peers}})
    assert "256 MiB. By what was measured dense would need 256 GiB of 32." in text


def test_what_monitors_take_is_told_where_it_was_timed(tmp_path: Path) -> None:
    monitors = {"updates": 1000, "look": 0.05, "look_spread": [0.04, 0.07], "every": 64, "share": 0.0042}
    text = page(tmp_path, step_profile=profile(0.01, 0.08, threads=2, monitors=monitors) | {"also": [2], "rounds": 9})
    assert "| mae, small:vit, 64 px, batch 128 | 2 | 50.0 (40.0 to 70.0) | 64 updates | 0.4 % |" in text
    assert "training of 1,000 updates" in text
    assert "9 rounds: `python benchmarks/step_profile.py --rounds 9 --threads 1 --also 2 --json" in text
    assert "Monitors" not in page(tmp_path, step_profile=profile(0.01, 0.08))


def shared(processes: int, seconds: float, **more: float) -> dict[str, Any]:
    one = {"processes": processes, "apart": 1, "seconds": seconds, "processor_seconds": seconds, "a_core_each": True}
    return {**one, "seconds_overhead": seconds - 1, "processor_seconds_overhead": 0.0, "overheads": [0.0, 1.0], **more}


def test_throughput_of_two_processes_stands_beside_its_goal_and_the_collectives_that_it_waits_for(
    tmp_path: Path,
) -> None:
    told = {"method": "simclr", "encoder": "net", "side": 32, "share": 64, "sharding": "full"}
    row = {**told, "by_processes": [shared(1, 1.0), shared(2, 1.25)]}
    text = page(tmp_path, scaling={"cores": 2, "rows": [row]})
    assert "| +25 % (+0 to +100) | 1.60 (1.00 to 2.00) | 1.7 |" in text
    assert "collectives" not in text
    exchanged = {"collectives": 40.0, "collective_bytes": float(3 << 20), "collective_seconds": 0.1}
    row["by_processes"] = [shared(1, 1.0), shared(2, 1.25, **exchanged)]
    text = page(tmp_path, scaling={"cores": 2, "rows": [row], "goal": 1.8})
    assert "| 1.60 (1.00 to 2.00) | 1.8 |" in text
    assert "| simclr, net, `--sharding full` | 2 | 40 | 3.0 | 100.0 | 10 % | 25 % |" in text


def test_plans_from_one_process_and_the_formula_stand_beside_what_two_took(tmp_path: Path) -> None:
    def took(seconds: float) -> dict[str, float]:
        return {"seconds": seconds, "bytes": float(1 << 20), "resident": 0.0}

    told = {"method": "mae", "encoder": "net", "side": 32, "batch": 16, "devices": 2}
    row = {**told, "foreseen": took(1.0), "found": took(1.25), "errors": {"seconds": -0.2, "bytes": 0.0}}
    text = page(tmp_path, cost={"goal": 0.2, "rows": [row]})
    assert "| 1.00 s | 1.25 s | -20 % |" in text
    assert "formula" not in text
    row |= {
        "formula": took(0.75) | {"exchange": 0.02, "link": 1.5e9, "delay": 2e-4, "messages": 3.0},
        "spread": {"found": [1.0, 1.5]},
    }
    row["errors"] = {"seconds": -0.2, "bytes": 0.0, "formula": -0.4}
    text = page(tmp_path, cost={"goal": 0.2, "rows": [row]})
    assert "| 1.00 s | 1.25 s (1.00 to 1.50) | -20 % |" in text
    assert "| mae, net | 16 | 2 | 1.50 GB/s | 0.20 ms | 3 | 20.0 ms | 0.75 s | 1.25 s | -40 % | +0 % |" in text
    assert "largest error of the time is 40 %" in text


def test_rounds_and_their_least_and_greatest_are_told_where_they_are_known(tmp_path: Path) -> None:
    row: dict[str, Any] = {"encoder": "vit", "side": 28, "batch": 64, "seconds": {"float32": 0.5, "bf16": 0.25}}
    text = page(tmp_path, bf16={"amx": True, "rows": [row]})
    assert "| vit | 28 px | 64 | 0.500 | 0.250 |" in text
    row["spread"] = {"bf16": [0.2, 0.3]}
    text = page(tmp_path, bf16={"amx": True, "rounds": 9, "rows": [row]})
    assert "| vit | 28 px | 64 | 0.500 | 0.250 (0.200 to 0.300) |" in text
    assert "\n9 rounds: `python benchmarks/bf16.py" in text
    folders: dict[str, Any] = {"fashion images": 1, "photographs": 1, "batch": 2}
    folders |= {"seconds": {"fashion": {"pass": {"ours": 1.0, "peer": 2.0}}}, "rounds": 1}
    assert "| fashion | pass | 1.00 | 2.00 |" in page(tmp_path, data=folders)
    folders["spread"] = {"fashion": {"pass": {"ours": [0.5, 1.5]}}}
    text = page(tmp_path, data=folders)
    assert "| fashion | pass | 1.00 (0.50 to 1.50) | 2.00 |" in text
    assert "One round: `python benchmarks/data.py" in text


def test_claims_whose_number_moved_further_than_from_seed_to_seed_are_named(tmp_path: Path) -> None:
    def row(claim: str, now: float, spread: float) -> dict[str, Any]:
        verdicts = {"verdict was": "held", "verdict": "held"}
        return {"claim": claim, "was": 1.0, "is": now, "spread": spread, **verdicts}

    rows = [row("dcl", 0.0, 0.4), row("bss", 1.25, 0.5), row("same", 1.0, 0.0)]
    text = page(tmp_path, verdicts={"rows": rows})
    assert "| `dcl` | 1 | 0 | 0.4 | -2.5 | held | held |" in text
    assert "by more than one: dcl (-2.5).\n" in text
    assert "by more than one: none.\n" in page(tmp_path, verdicts={"rows": rows[1:]})
    assert "by more than one: none. Not run anew: ctrl, look.\n" in page(
        tmp_path, verdicts={"rows": rows[1:], "left": ["ctrl", "look"]}
    )


def test_of_views_on_a_gpu_is_said_only_what_was_counted_and_timed(tmp_path: Path) -> None:
    def row(blur: str, **more: float) -> dict[str, Any]:
        counts = {"launches": 190, "bytes": 1e9, "drawing_seconds": 0.001}
        floors = {"bytes": 0.004, "operations": 0.0}
        return {"size": 32, "batch": 1024, "blur": blur, **counts, "floors": floors, **more}

    rates = {"bytes": 3e12, "operations": 6e13}
    rows = [row("additions", seconds=0.01), row("products")]
    text = page(tmp_path, views_counted={"rates": rates, "device": "a GPU", "rows": rows})
    assert "their bytes are at 32 px 40 %. Blur by products has not been timed there." in text
    assert "reads nothing back from the device" in text
    rows[1]["seconds"] = 0.008
    text = page(tmp_path, views_counted={"rates": rates, "device": "a GPU", "rows": rows})
    assert "has not been timed" not in text


def test_what_no_gpu_has_measured_is_named(tmp_path: Path) -> None:
    assert "Not measured on a GPU so far: `views`, `epoch`, `contrastive`, " in page(tmp_path)
    (tmp_path / "views_gpu.json").write_text((Path(__file__).parents[2] / "benchmarks/views_gpu.json").read_text())
    assert "Not measured on a GPU so far: `epoch`, `contrastive`, " in page(tmp_path)
