"""Table encoders: the tokenizer and transformer of T-JEPA, and the MLP."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autodidact.data import Field, Schema
from autodidact.encoders import build
from autodidact.encoders.rows import Rows
from autodidact.encoders.tabular import TabularMLP, TabularTransformer
from autodidact.model import Masked

CARDINALITIES = (2, 4)
SCHEMA = Schema(
    numeric=Field("numeric", (3,), columns=("age", "mass", "constant")),
    categorical=Field("categorical", (2,), columns=("sex", "site"), cardinalities=CARDINALITIES),
)
RANGES = {"minimum": [0.0, -1.0, 2.0], "maximum": [10.0, 3.0, 2.0]}


def transformer(**changes: object) -> TabularTransformer:
    torch.manual_seed(0)
    encoder = build(
        "small:tabular", schema=SCHEMA, statistics=RANGES, **{"width": 8, "heads": 2, "hidden": 12, **changes}
    )
    assert isinstance(encoder, TabularTransformer)
    for name, parameter in encoder.named_parameters():
        if "norm" in name or name.startswith("tail") or "layers" in name:
            nn.init.normal_(parameter, std=0.5)
    return encoder.eval()


def rows() -> Rows:
    numeric = torch.tensor([[1.0, 2.0, 2.0], [math.nan, 0.5, 2.0], [9.0, math.nan, math.nan], [0.0, -1.0, 2.0]])
    return Rows(numeric, torch.tensor([[0, 3], [1, -1], [-1, 0], [-1, -1]]))


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def naive(encoder: TabularTransformer, numeric: Tensor, categorical: Tensor, columns: list[int]) -> Tensor:
    """Output tokens, [REG] first, of one row and some of its columns, by loops."""
    low, high = encoder.minimum, encoder.maximum
    tokens, places = [encoder.reg[r] for r in range(encoder.reg_count)], list(range(encoder.reg_count))
    for column in columns:
        if column < 3:
            span = high[column] - low[column]
            value = (numeric[column] - low[column]) / (span if span > 0 else 1)
            token = encoder.missing[column] if value.isnan() else value * encoder.weight[column]
        else:
            code = int(categorical[column - 3])
            first = sum(CARDINALITIES[: column - 3])
            token = encoder.missing[column] if code < 0 else encoder.embedding.weight[first + code]
        tokens.append(token + encoder.bias[column])
        places.append(encoder.reg_count + column)
    x = torch.stack(tokens)
    for row, place in enumerate(places):
        for i in range(x.shape[1]):
            angle = place / 100 ** ((i - i % 2) / x.shape[1])
            x[row, i] = x[row, i] + (math.cos(angle) if i % 2 else math.sin(angle))
    for layer in encoder.layers:
        x = layer.norm1(x + layer.attend(x[None])[0])
        x = layer.norm2(x + layer.mlp(x))
    _, first_norm, linear, _, last_norm = encoder.tail
    return layer_norm(layer_norm(x, first_norm) @ linear.weight.T + linear.bias, last_norm)


@pytest.mark.parametrize("reg", [0, 1, 2])
def test_tokens_equal_a_naive_loop_over_rows_and_columns(reg: int) -> None:
    encoder = transformer(reg=reg)
    encoded = encoder(rows())
    for row in range(4):
        expected = naive(encoder, rows().numeric[row], rows().categorical[row], [0, 1, 2, 3, 4])
        torch.testing.assert_close(encoded.prefix[row], expected[:reg], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(encoded.tokens[row], expected[reg:], rtol=1e-4, atol=1e-4)


def test_kept_columns_equal_a_naive_loop_over_these_alone() -> None:
    encoder = transformer()
    keep = torch.tensor([[4, 0], [1, 3], [2, 4], [3, 2]])
    encoded = encoder(rows(), keep=keep)
    for row in range(4):
        expected = naive(encoder, rows().numeric[row], rows().categorical[row], keep[row].tolist())
        torch.testing.assert_close(encoded.prefix[row], expected[:1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(encoded.tokens[row], expected[1:], rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(column=st.integers(0, 4), value=st.floats(-1e6, 1e6), category=st.integers(-1, 1))
def test_outputs_do_not_depend_on_columns_that_are_not_kept(column: int, value: float, category: int) -> None:
    encoder, plain, changed = transformer(), rows(), rows()
    keep = torch.tensor([[other for other in range(5) if other != column]] * 4)
    if column < 3:
        changed.numeric[:, column] = value
    else:
        changed.categorical[:, column - 3] = category
    assert torch.equal(encoder(plain, keep=keep).tokens, encoder(changed, keep=keep).tokens)


def test_a_masked_column_is_the_mask_token_with_its_bias_and_position() -> None:
    encoder, token = transformer(), torch.randn(8, generator=torch.Generator().manual_seed(3))
    where = torch.zeros(4, 5, dtype=torch.bool)
    where[:, 1], where[:, 3] = True, True
    masked = encoder(rows(), masked=Masked(where, token))
    with torch.no_grad():
        encoder.missing[1], encoder.missing[3] = token, token
    blank = rows()
    blank.numeric[:, 1], blank.categorical[:, 0] = math.nan, -1
    assert torch.equal(masked.tokens, encoder(blank).tokens)


def test_keeping_all_columns_changes_nothing() -> None:
    encoder = transformer()
    plain, kept = encoder(rows()), encoder(rows(), keep=torch.arange(5).expand(4, -1))
    assert torch.equal(kept.tokens, plain.tokens)
    assert torch.equal(kept.pooled, plain.pooled)


def test_permuting_columns_with_their_weights_and_places_permutes_tokens() -> None:
    encoder, order = transformer(), torch.tensor([2, 0, 1])
    permuted = transformer()
    permuted.load_state_dict(encoder.state_dict())
    every = torch.cat((order, torch.tensor([3, 4])))
    with torch.no_grad():
        permuted.weight.copy_(encoder.weight[order])
        permuted.bias.copy_(encoder.bias[every])
        permuted.missing.copy_(encoder.missing[every])
        permuted.minimum.copy_(encoder.minimum[order])
        permuted.maximum.copy_(encoder.maximum[order])
        permuted.positions[1:] = encoder.positions[1:][every]
    shuffled = Rows(rows().numeric[:, order], rows().categorical)
    torch.testing.assert_close(permuted(shuffled).tokens, encoder(rows()).tokens[:, every], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "reg", "flat"])
def test_the_embedding_is_what_pool_says(pool: str) -> None:
    encoder = transformer(pool=pool, reg=2)
    encoded = encoder(rows())
    expected = {
        "mean": encoded.tokens.mean(dim=1),
        "reg": encoded.prefix.mean(dim=1),
        "flat": encoded.tokens.reshape(4, 40),
    }[pool]
    torch.testing.assert_close(encoded.pooled, expected)
    assert encoder.width == expected.shape[1]


def test_taps_are_the_column_tokens_behind_each_layer() -> None:
    encoder = transformer(depth=3)
    seen = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda _, __, out: seen.append(out[:, 1:]))
    taps = encoder(rows(), taps=(0, 2)).taps
    assert torch.equal(taps[0], seen[0])
    assert torch.equal(taps[2], seen[2])


def test_gradient_reaches_only_the_missing_vectors_of_missing_cells() -> None:
    encoder = transformer()
    encoder(rows()).pooled.sum().backward()
    touched = encoder.missing.grad.abs().sum(dim=1) > 0
    assert touched.tolist() == [True, True, True, True, True]
    encoder.zero_grad()
    full = Rows(rows().numeric.nan_to_num(1.0), rows().categorical.clamp(min=0))
    encoder(full).pooled.sum().backward()
    assert encoder.missing.grad.abs().max() == 0


def test_before_any_training_a_missing_number_is_the_middle_of_its_range() -> None:
    torch.manual_seed(0)
    encoder = build(
        "small:tabular", schema=SCHEMA, statistics={"minimum": [0.0, -1.0, 2.0], "maximum": [10.0, 3.0, 4.0]}
    )
    category = torch.tensor([[0, 3]])
    absent = encoder(Rows(torch.full((1, 3), math.nan), category)).tokens
    middle = encoder(Rows(torch.tensor([[5.0, 1.0, 3.0]]), category)).tokens
    torch.testing.assert_close(absent, middle)


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
@pytest.mark.parametrize("name", ["small:tabular", "small:mlp"])
def test_a_table_may_have_columns_of_one_kind_only(name: str, kind: str) -> None:
    schema = Schema({kind: SCHEMA[kind]})
    encoder = build(name, schema=schema, statistics=RANGES if kind == "numeric" else {"minimum": [], "maximum": []})
    prepared = encoder.eval().prepare({kind: getattr(rows(), kind)})
    assert torch.isfinite(encoder(prepared).pooled).all()


def test_a_constant_or_empty_column_gives_finite_embeddings_and_gradients() -> None:
    statistics = {"minimum": [0.0, math.nan, 2.0], "maximum": [10.0, math.nan, 2.0]}
    encoder = build("small:tabular", schema=SCHEMA, statistics=statistics)
    numeric = rows().numeric
    numeric[:, 1] = math.nan
    pooled = encoder(encoder.prepare({"numeric": numeric, "categorical": rows().categorical})).pooled
    pooled.square().sum().backward()
    assert torch.isfinite(pooled).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", ["small:tabular", "small:mlp"])
def test_rows_that_do_not_fit_are_refused(name: str) -> None:
    encoder = build(name, schema=SCHEMA, statistics=RANGES)
    with pytest.raises(ValueError, match="'site' has category 4, but the encoder knows only 0 to 3"):
        encoder.prepare({"numeric": torch.zeros(2, 3), "categorical": torch.tensor([[0, 1], [0, 4]])})
    with pytest.raises(ValueError, match="3 numeric and 2 categorical columns, this table has 4 and 2"):
        encoder.prepare({"numeric": torch.zeros(2, 4), "categorical": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="reads 'numeric' and 'categorical'; the batch has image"):
        encoder.prepare({"image": torch.zeros(2, 1, 8, 8)})


def test_ranges_of_another_table_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values of the minimum for 3 numeric columns"):
        build("small:tabular", schema=SCHEMA, statistics={"minimum": [0.0, 1.0], "maximum": [1.0, 2.0]})


def test_pooling_by_reg_needs_one() -> None:
    with pytest.raises(ValueError, match="at least one"):
        transformer(pool="reg", reg=0)


def test_mlp_sees_scaled_numbers_indicators_and_one_hot_categories() -> None:
    torch.manual_seed(0)
    encoder = build("small:mlp", schema=SCHEMA, statistics=RANGES, width=6, depth=1).eval()
    assert isinstance(encoder, TabularMLP)
    expected = torch.tensor(
        [
            [0.1, 0.75, 0.0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
            [0.5, 0.375, 0.0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
            [0.9, 0.5, 0.5, 0, 1, 1, 0, 0, 1, 0, 0, 0],
            [0.0, 0.0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
    )
    linear, norm = encoder.layers[0][0], encoder.layers[0][1]
    out = (expected @ linear.weight.T / (1 + norm.eps) ** 0.5).clamp(min=0)
    torch.testing.assert_close(encoder(rows()).pooled, out)


def test_rows_are_selected_and_joined_together() -> None:
    picked = Rows.cat([rows().select(torch.tensor([2])), rows().select(torch.tensor([0, 1]))])
    torch.testing.assert_close(picked.numeric, rows().numeric[[2, 0, 1]], equal_nan=True)
    assert torch.equal(picked.categorical, rows().categorical[[2, 0, 1]])
    assert (len(picked), picked.columns) == (3, 5)
