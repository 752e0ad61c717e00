"""The decoder of MAE and predictor of I-JEPA: each asked place alone decides what is said, from all that was seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autodidact.heads import TokenDecoder, decoder_width, sinusoidal, sinusoidal_grid


def decoder() -> TokenDecoder:
    torch.manual_seed(0)
    made = TokenDecoder(6, sinusoidal_grid((3, 3), 8), outputs=5, depth=2, heads=2)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.double()


def asked() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    context, prefix = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 2, 6, dtype=torch.float64)
    index = torch.tensor([[0, 4, 8], [2, 3, 1]])
    return context, index, torch.tensor([[[1, 2], [5, 7]], [[0, 8], [4, 5]]]), prefix


def test_what_is_said_equals_a_naive_pass_over_one_row_and_one_set() -> None:
    made, (context, index, targets, prefix) = decoder(), asked()
    said = made(context, index, targets, prefix=prefix)
    positions = sinusoidal_grid((3, 3), 8).double()
    for row in range(2):
        for which in range(2):
            seen = torch.cat((prefix[row], context[row])) @ made.embed.weight.T + made.embed.bias
            seen = seen + torch.cat((torch.zeros(2, 8), positions[index[row]]))
            x = torch.cat((seen, made.mask + positions[targets[row, which]]))[None]
            for layer in made.layers:
                x = x + layer.attend(layer.norm1(x))
                x = x + layer.mlp(layer.norm2(x))
            expected = made.norm(x)[0, 5:] @ made.out.weight.T + made.out.bias
            torch.testing.assert_close(said[row, which], expected, rtol=1e-5, atol=1e-6)


def test_what_is_said_of_a_place_does_not_hang_on_the_order_of_the_places() -> None:
    made, (context, index, targets, prefix) = decoder(), asked()
    order = torch.tensor([2, 0, 1])
    said = made(context, index, targets, prefix=prefix)
    other = made(context[:, order], index[:, order], targets.flip(2), prefix=prefix)
    torch.testing.assert_close(other.flip(2), said)


def test_positions_are_part_of_the_model_but_not_of_its_state() -> None:
    assert "positions" not in decoder().state_dict()
    assert not any(parameter is decoder().positions for parameter in decoder().parameters())


def test_positions_on_a_grid_are_those_of_mae_in_another_order() -> None:
    """Checked against ViTMAEForPreTraining of transformers, whose entries are sines first, then cosines."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTMAEConfig(
        image_size=16,
        patch_size=4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        decoder_hidden_size=24,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=1,
    )
    decoder = transformers.ViTMAEForPreTraining(config).decoder
    # Building the whole model leaves them at 0.
    decoder.initialize_weights(16)
    theirs = decoder.decoder_pos_embed[0, 1:]
    ours = sinusoidal_grid((4, 4), 24).unflatten(1, (2, 6, 2)).transpose(2, 3).flatten(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_positions_along_one_axis_are_the_plain_ones() -> None:
    assert torch.equal(sinusoidal_grid((7,), 8), sinusoidal(torch.arange(7), 8))


def test_positions_on_a_grid_that_is_not_square_tell_rows_from_columns() -> None:
    positions = sinusoidal_grid((2, 5), 8).view(2, 5, 8)
    assert torch.equal(positions[0, :, :4], positions[1, :, :4])
    assert torch.equal(positions[:, 0, 4:], positions[:, 4, 4:])
    assert len(positions.flatten(0, 1).unique(dim=0)) == 10


def test_a_width_that_axes_and_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="positions on 2 axes need a width that is a multiple of 4, got 6"):
        sinusoidal_grid((3, 3), 6)
    assert [decoder_width(width, 4) for width in (16, 24, 100, 128, 384)] == [8, 12, 52, 64, 192]
    assert decoder_width(16, 3) == 12
