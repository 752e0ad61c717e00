"""What is generated is up to date, and says what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autodidact.catalog import cards
from autodidact.catalog.cards import options
from autodidact.catalog.readme import claim_table, generated, read_results, replaced, write
from autodidact.catalog.speed import speed_page

ROOT = Path(__file__).parents[2]
RESULT = {
    "name": "dcl",
    "number": 18,
    "statement": "DCL beats | NT-Xent",
    "metric": "linear accuracy",
    "arms": {"dcl": [0.5, 0.75], "nt_xent": [0.25, 0.5]},
    "difference": {"mean": 0.25, "low": 0.2, "high": 0.3},
    "margin": 0.01,
    "direction": "above",
    "verdict": "held",
    "seeds": [0, 1],
    "tuning_seeds": [1000],
    "seconds": 300,
    "statements": [
        {
            "role": "guard",
            "text": "no collapse",
            "unit": "ranks",
            "difference": {"mean": 3.0, "low": None, "high": None},
            "margin": 1,
            "direction": "above",
            "verdict": "open",
        }
    ],
}


@pytest.fixture
def checkout(tmp_path) -> Path:
    (tmp_path / "README.md").write_text(
        "# x\n<!-- methods -->\nold\n<!-- /methods -->\nkept\n<!-- claims -->\n<!-- /claims -->\nend\n"
    )
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "dcl.json").write_text(json.dumps(RESULT))
    return tmp_path


def test_readme_and_method_pages_of_this_checkout_are_up_to_date():
    stale = [
        str(path.relative_to(ROOT))
        for path, text in generated(ROOT).items()
        if not path.exists() or path.read_text() != text
    ]
    assert stale == [], "run make readme"
    assert {path.stem for path in (ROOT / "docs/methods").glob("*.md")} == set(cards())


def test_only_what_stands_between_the_markers_changes(checkout):
    write(checkout)
    text = (checkout / "README.md").read_text()
    assert text.startswith("# x\n<!-- methods -->\n| no |")
    assert "\nold" not in text
    assert "\n<!-- /methods -->\nkept\n<!-- claims -->\n| no |" in text
    assert text.endswith("<!-- /claims -->\nend\n")


def test_writing_twice_changes_nothing_the_second_time(checkout):
    assert len(write(checkout)) == len(cards()) + 2
    assert write(checkout) == []


def test_the_page_of_a_method_that_is_gone_is_deleted(checkout):
    write(checkout)
    (checkout / "docs/methods/gone.md").write_text("")
    assert write(checkout) == [checkout / "docs/methods/gone.md"]


def test_the_claim_table_has_interval_margin_and_verdict():
    (row,) = claim_table([RESULT]).splitlines()[2:]
    assert row == ("| 18 | `dcl` | DCL beats \\| NT-Xent | 0.25 [0.2, 0.3] | above 0.01 | 2 | 5 min | **held** |")


def test_the_page_of_a_method_shows_arms_by_seed_and_every_statement(checkout):
    text = generated(checkout)[checkout / "docs/methods/dcl.md"]
    assert "| `dcl` | 0.625 | 0.5, 0.75 |" in text
    assert "| guard | no collapse | 3 ranks | above 1 | open |" in text
    assert "Verdict: **held**. Seeds 0, 1; settings chosen on seeds 1000; 5 min of work." in text


def test_other_figures_are_folded_away_with_means_of_what_was_measured(checkout):
    figures = {"linear": {"dcl": [0.5, 0.75], "simclr": [None, 0.25]}, "knn": {"dcl": [1, 1], "simclr": [1, 1]}}
    figures |= {f"at {at}": {"dcl": [1.0, 2.0]} for at in range(20)}
    result = RESULT | {"figures": figures, "arms": {"dcl": [0.5, 0.75], "simclr": [0.25, 0.5]}, "metric": "knn"}
    (checkout / "results/dcl.json").write_text(json.dumps(result))
    text = generated(checkout)[checkout / "docs/methods/dcl.md"]
    assert "the first 16 of 21 figures; [results/dcl.json](../../results/dcl.json) has all" in text
    assert "| arm | linear | at 0 |" in text
    assert "| `dcl` | 0.625 | 1.5 |" in text
    assert "| `simclr` | 0.25 |  |" in text
    assert "at 15" not in text.split("Other figures")[1].split("</details>")[0]


def test_the_command_of_a_page_says_what_must_be_said_beside_the_data():
    asking = {card.name: card for card in cards().values() if card.asks}
    assert set(asking) == {"simcore", "continual"}
    for name, card in asking.items():
        text = generated(ROOT)[ROOT / "docs/methods" / f"{name}.md"]
        assert f"autodidact pretrain {name} --data DATA --out runs/{name} {card.asks}\n" in text
        assert card.asks.split()[0].removeprefix("--method.") in options(card)


def test_the_method_table_shows_the_verdict_of_claims_that_were_run(checkout):
    lines = generated(checkout)[checkout / "README.md"].splitlines()
    assert next(line for line in lines if line.startswith("| 18 | [`dcl`]")).endswith("| held |")
    assert next(line for line in lines if line.startswith("| 28 |")).endswith("|  |")


def test_a_card_with_several_claims_shows_the_result_and_the_verdict_of_each(checkout):
    names = cards()["policy_gradient"].claims
    assert names[0] == cards()["policy_gradient"].claim
    assert len(names) > 1
    for name, verdict in zip(names[:2], ("held", "open"), strict=True):
        result = RESULT | {"name": name, "number": 61, "verdict": verdict}
        (checkout / "results" / f"{name}.json").write_text(json.dumps(result))
    found = generated(checkout)
    text = found[checkout / "docs/methods/policy_gradient.md"]
    for name in names[:2]:
        assert f"## Claim `{name}`" in text
        assert f"`autodidact claim {name}` runs it again." in text
    lines = found[checkout / "README.md"].splitlines()
    assert next(line for line in lines if line.startswith("| 61 | [`policy_gradient`]")).endswith("| held, open |")


def test_the_page_of_a_suite_has_the_table_of_a_stored_comparison(checkout):
    page = checkout / "docs/methods/vit_suite.md"
    assert "## Compared" not in generated(checkout)[page]
    of_arm = {"knn": {"mean": 0.5, "low": 0.4, "high": 0.6}, "loss": {"mean": 7.0, "low": None, "high": None}}
    table = {
        "about": {"data": "digits", "samples": 1797, "budget": "9 steps", "batch_size": 8, "labels": "100%"}
        | {"arms": {"mae": {"encoder": {"encoder": "small:vit"}}}},
        "figures": {
            "mae": {"knn": {"0": 0.45, "1": 0.55}, "loss": {"0": 7.0, "1": 7.0}},
            "raw": {"linear": {"0": 0.9}},
        },
        "intervals": {"mae": of_arm, "raw": {"linear": {"mean": 0.9, "low": None, "high": None}}},
    }
    (checkout / "results/compare").mkdir()
    (checkout / "results/compare/vit_suite.json").write_text(json.dumps(table))
    text = generated(checkout)[page].split("## Compared")[1]
    assert "on digits (1,797 samples, 100% of the labels): `small:vit`, 9 steps for every method" in text
    assert "batches of 8, 2 seeds" in text
    assert "| arm | knn | linear |" in text
    assert "| `mae` | 0.5 [0.4, 0.6] |  |" in text
    assert "| `raw` |  | 0.9 |" in text
    assert "`make vit_suite` runs it again" in text


def test_a_readme_without_markers_is_an_error():
    with pytest.raises(ValueError, match="markers <!-- methods -->"):
        replaced("nothing", "methods", "x")


def test_a_result_that_is_not_a_claims_is_an_error(tmp_path):
    (tmp_path / "dcl.json").write_text("{}")
    with pytest.raises(ValueError, match="lacks name, number"):
        read_results(tmp_path)


def test_figures_of_a_benchmark_reach_the_page_of_speed(tmp_path):
    rates = {"views_per_second": 9000, "peer_views_per_second": 1000, "ratio": 9.04, "ratios": [9.5, 7.0, 9.04]}
    row = {"size": 32, "threads": 2, **rates, "goal": 15}
    (tmp_path / "views.json").write_text(json.dumps({"rows": [row], "versions": {"torch": "2"}}))
    text = speed_page(tmp_path)
    assert "| 32 px | 2 | 9,000 | 1,000 | 9.0 (7.0 to 9.5) | 15 |" in text
    assert "python benchmarks/views.py --json" in text
    assert "Contrastive" not in text
    epoch = {
        "method": "simclr",
        "encoder": "small:vit",
        "side": 64,
        "images": 1024,
        "batch": 128,
        "seconds": {"autodidact": 2.0, "peer": 8.0},
        "all_seconds": {"autodidact": [2.0, 1.0, 3.0], "peer": [8.0, 8.0, 8.0]},
    }
    shared = {"threads": 2, "goal": 0.6, "processor": "one", "versions": {}}
    alone = {**epoch, "method": "mae", "seconds": {"autodidact": 1.0}, "share": {}}
    rows = [{**epoch, "share": {"peer": 0.25}}, alone]
    (tmp_path / "epoch.json").write_text(json.dumps({**shared, "rows": rows}))
    page = speed_page(tmp_path)
    assert "| simclr, small:vit | 64 px | 1,024 | 128 | 2.00 s | 8.00 s | 0.25 (0.12 to 0.38) | 0.6 |" in page
    assert "| mae, small:vit | 64 px | 1,024 | 128 | 1.00 s |  |  | 0.6 |" in speed_page(tmp_path)
    (tmp_path / "epoch_gpu.json").write_text(json.dumps({**shared, "goal": 0.8, "device": "a GPU", "rows": rows}))
    page = speed_page(tmp_path)
    assert "The same in bf16 on one a GPU" in page
    assert "| mae, small:vit | 64 px | 1,024 | 128 | 1.00 s |  |  | 0.8 |" in page
    assert "`python benchmarks/epoch.py --device cuda --threads 2 --json benchmarks/epoch_gpu.json`" in page
    (tmp_path / "kill_and_resume.json").write_text(json.dumps({"identical": False, "kills": 3}))
    assert "killed 3 times" in speed_page(tmp_path)
    assert "NOT those" in speed_page(tmp_path)


def test_claims_whose_verdict_has_changed_are_named_on_the_page_of_speed(tmp_path):
    def row(claim: str, verdict: str) -> dict[str, Any]:
        figures = {"was": 1.25, "is": 1.5, "spread": 0.5}
        return {"claim": claim, **figures, "verdict was": "held", "verdict": verdict}

    found = {"rows": [row("dcl", "held"), row("bss", "open")], "versions": {}, "processor": "one"}
    (tmp_path / "verdicts.json").write_text(json.dumps(found))
    assert "Changed: bss." in speed_page(tmp_path)
    assert "| `dcl` | 1.25 | 1.5 | 0.5 | +0.5 | held | held |" in speed_page(tmp_path)
    (tmp_path / "verdicts.json").write_text(json.dumps(found | {"rows": found["rows"][:1]}))
    assert "Changed: none." in speed_page(tmp_path)
