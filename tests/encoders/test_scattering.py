"""Scattering: what Morlet wavelets and averages must do, kymatio's figures, and the encoder built on it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autodidact.encoders import build, scattering
from autodidact.encoders.scatnet import ScatNet
from autodidact.encoders.scattering import Scattering2D, filter_bank, scattering_channels


def noise(n: int, *size: int, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(seed))


def waves(height: int, width: int) -> Tensor:
    """An image by a formula, so that expected values hang on no random generator."""
    i, j = torch.arange(float(height))[:, None], torch.arange(float(width))
    return (0.5 + 0.5 * torch.sin(0.7 * i + 0.03 * j * j + 0.1 * i * j))[None, None]


@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("orientations", [2, 3, 8])
@pytest.mark.parametrize("size", [(28, 28), (29, 17)])
def test_there_are_as_many_maps_as_paths_at_every_2_to_the_j_th_pixel(
    scales: int, orientations: int, size: tuple[int, int]
) -> None:
    front = Scattering2D(size, scales=scales, orientations=orientations)
    paths = 1 + orientations * scales + orientations**2 * scales * (scales - 1) // 2
    found = front(noise(2, *size, channels=3))
    assert tuple(found.shape) == (2, 3 * paths, size[0] // 2**scales, size[1] // 2**scales)
    assert front.paths == scattering_channels(scales, orientations) == paths


def test_the_papers_front_end_has_289_maps_a_colour() -> None:
    assert scattering_channels(2, 16) == 289
    assert [scattering_channels(2, 8, order) for order in (0, 1, 2)] == [1, 17, 81]


KYMATIO = {
    # size, scales, orientations -> map: (row, column, value)
    ((28, 28), 2, 8): {
        0: (1, 2, 0.509988),
        5: (3, 3, 0.035412),
        12: (0, 6, 0.002113),
        40: (5, 1, 0.001204),
        80: (6, 6, 0.001131),
    },
    ((29, 35), 3, 5): {
        0: (1, 2, 0.500016),
        5: (2, 3, 0.030794),
        12: (0, 0, 0.087161),
        40: (1, 1, 0.002145),
        90: (2, 1, 0.004983),
    },
}


def as_kymatio(found: Tensor, scales: int, orientations: int) -> Tensor:
    """Coefficients (n, maps, h, w) as kymatio 0.3.0 gives them, which writes 3.1415 for pi where it norms its filters.

    Every filter on the way to a coefficient is too large by pi / 3.1415: one for order 0, two for order 1, three for 2.
    """
    counts = [scattering_channels(scales, orientations, order) for order in (0, 1, 2)]
    order = torch.tensor([sum(path >= count for count in counts) for path in range(counts[2])])
    factors = (math.pi / 3.1415) ** (order + 1.0)
    return found * factors.repeat(found.shape[1] // counts[2])[:, None, None]


@pytest.mark.parametrize("setting", KYMATIO)
def test_it_equals_kymatios(setting: tuple[tuple[int, int], int, int]) -> None:
    """Values of kymatio 0.3.0 (``ScatteringTorch2D``) for this image, some of each order.

    It divides its filters by ``2 * 3.1415 * ...`` where the norm of a Gaussian has 2 pi, so its coefficients are larger
    by 3e-5, 6e-5 and 9e-5 of their value in order 0, 1 and 2. That is all of the difference: with these factors (see
    `as_kymatio`) the values agree to the six decimals that were kept.

    Compared in full on uniform noise too, without the factors, for eight settings (J = 1 to 3, L = 3 to 16, sizes from
    16 x 24 to 33 x 50, orders 1 and 2): the largest difference was 2.2e-5 where the largest value was 0.76.
    """
    size, scales, orientations = setting
    found = Scattering2D(size, scales=scales, orientations=orientations)(waves(*size))
    as_theirs = as_kymatio(found, scales, orientations)[0]
    for path, (row, column, value) in KYMATIO[setting].items():
        assert float(as_theirs[path, row, column]) == pytest.approx(value, abs=1e-6)


def test_it_equals_kymatios_where_kymatio_is_installed() -> None:
    # Not the package itself: kymatio 0.3.0 imports a function of its 3-D part that SciPy no longer has.
    theirs = pytest.importorskip("kymatio.scattering2d.frontend.torch_frontend").ScatteringTorch2D
    for size, scales, orientations in (((16, 12), 1, 3), ((12, 18), 2, 2)):
        images = noise(2, *size, channels=3)
        expected = theirs(J=scales, shape=size, L=orientations)(images).flatten(1, 2)
        found = as_kymatio(Scattering2D(size, scales=scales, orientations=orientations)(images), scales, orientations)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_maps_of_a_colour_image_come_channel_by_channel_each_with_all_its_paths() -> None:
    front = Scattering2D((12, 16), scales=2, orientations=3)
    images = noise(2, 12, 16, channels=3)
    expected = torch.cat([front(images[:, channel : channel + 1]) for channel in range(3)], dim=1)
    torch.testing.assert_close(front(images), expected, atol=1e-6, rtol=0)


def test_first_order_is_the_averaged_modulus_of_a_direct_convolution() -> None:
    """Every step in space and in float64: the wavelet from its formula, sums over all pixels, then the average."""
    side, padded, scale, turn, orientations = 8, 16, 0, 2, 3
    front = Scattering2D((side, side), scales=2, orientations=orientations).double()
    x = noise(1, side, side).double()
    at = [abs(i) if i < side else 2 * (side - 1) - i for i in range(-4, side + 4)]
    continued = x[0, 0][at][:, at]
    spread, centre, slant = 0.8 * 2**scale, 0.75 * math.pi / 2**scale, 4 / orientations
    angle = (orientations // 2 - 1 - turn) * math.pi / orientations
    # Far enough that what lies beyond is below 1e-10; whole periods are added up, as the borders meet.
    reach = torch.arange(-2 * padded, 2 * padded, dtype=torch.float64)
    row, column = reach[:, None], reach[None]
    forward = row * math.cos(angle) + column * math.sin(angle)
    sideways = column * math.cos(angle) - row * math.sin(angle)
    envelope = torch.exp(-(forward**2 + (slant * sideways) ** 2) / (2 * spread**2))
    envelope = envelope * slant / (2 * math.pi * spread**2)
    wave = envelope * torch.exp(1j * centre * forward)
    morlet = wave - envelope * wave.sum() / envelope.sum()
    low = torch.exp(-(row**2 + column**2) / (2 * 1.6**2)) / (2 * math.pi * 1.6**2)

    def periodic(kernel: Tensor) -> Tensor:
        return kernel.unflatten(0, (-1, padded)).sum(0).unflatten(1, (-1, padded)).sum(1)

    def convolved(image: Tensor, kernel: Tensor) -> Tensor:
        shifts = range(padded)
        return sum(image[p, q] * torch.roll(kernel, (p, q), (0, 1)) for p in shifts for q in shifts)

    response = convolved(convolved(continued, periodic(morlet)).abs(), periodic(low))[4:-4:4, 4:-4:4]
    path = 1 + scale * orientations + turn
    torch.testing.assert_close(front(x)[0, path], response, atol=1e-7, rtol=0)


def test_of_a_constant_image_only_the_average_is_left() -> None:
    found = Scattering2D((20, 20), scales=2, orientations=4)(torch.full((1, 1, 20, 20), 0.7))
    torch.testing.assert_close(found[:, 0], torch.full((1, 5, 5), 0.7), atol=1e-5, rtol=0)
    assert found[:, 1:].abs().max() < 1e-5


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_two_images_come_no_further_apart(scales: int) -> None:
    front = Scattering2D((32, 32), scales=scales, orientations=6)
    x, y = noise(8, 32, 32, seed=1), noise(8, 32, 32, seed=2)
    # Keeping every 2^J-th pixel of either axis divides the energy by 4^J.
    ratio = 2**scales * (front(x) - front(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert bool(((ratio > 0.1) & (ratio <= 1)).all())


def test_a_shift_by_a_pixel_changes_it_less_than_the_output_of_random_filters() -> None:
    x = noise(4, 33, 33)
    here, there = x[..., :32, :32], x[..., 1:, 1:]
    front = Scattering2D((32, 32), scales=3, orientations=4)
    torch.manual_seed(0)
    random = nn.Sequential(nn.Conv2d(1, 48, 8, stride=8, bias=False), nn.ReLU())

    def change(network: nn.Module) -> float:
        one, other = network(here), network(there)
        centre = one.mean(dim=0, keepdim=True)
        return float((one - other).norm() / (one - centre).norm())

    with torch.no_grad():
        assert change(front) < 0.5 * change(random)


def test_many_images_a_few_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Scattering2D((16, 12), scales=2, orientations=3)
    images = torch.rand(7, 3, 16, 12, requires_grad=True)
    of_an_image = 3 * 3 * 24 * 20 * 8
    assert tuple(len(module.get_buffer(name)) for name in ("rows", "columns")) == (24, 20)
    found = []
    for together in (1, 2 * of_an_image, 100 * of_an_image):
        monkeypatch.setattr(scattering, "TOGETHER", together)
        said = module(images)
        found.append((said, *torch.autograd.grad(said.square().sum(), images)))
    for others in zip(*found, strict=True):
        for other in others[1:]:
            torch.testing.assert_close(other, others[0], rtol=1e-5, atol=1e-6)


def test_it_has_nothing_to_train_and_its_gradient_is_finite_even_where_the_modulus_is_zero() -> None:
    front = Scattering2D((12, 16), scales=2, orientations=3)
    assert list(front.parameters()) == []
    assert front.state_dict() == {}
    for x in (torch.zeros(1, 1, 12, 16), noise(1, 12, 16)):
        x.requires_grad_()
        front(x).square().sum().backward()
        assert torch.isfinite(x.grad).all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    front = Scattering2D((8, 8), scales=2, orientations=2).double()
    assert torch.autograd.gradcheck(front, (noise(1, 8, 8).double().requires_grad_(),), atol=1e-6)


def test_filters_of_a_size_are_made_once() -> None:
    assert filter_bank((12, 16), 2, 3) is filter_bank((12, 16), 2, 3)


@pytest.mark.parametrize("side", [4, 7])
def test_images_smaller_than_their_continuation_are_reflected_as_often_as_it_takes(side: int) -> None:
    assert torch.isfinite(Scattering2D((side, side), scales=2)(noise(1, side, side))).all()


@pytest.mark.parametrize(
    ("size", "options", "said"),
    [
        ((7, 40), {"scales": 3}, "3 scales need images of at least 8 pixels, got 7 x 40"),
        ((28, 28), {"orientations": 0}, "orientations of at least 1"),
        ((28, 28), {"scales": 0}, "scales and orientations of at least 1"),
        ((28, 28), {"order": 3}, "an order of 0, 1 or 2"),
    ],
)
def test_filters_that_cannot_be_made_are_refused(size: tuple[int, int], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Scattering2D(size, **options)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="for images of 28 x 28 pixels, got 28 x 32"):
        Scattering2D((28, 28))(noise(1, 28, 32))


def encoder(**options: Any) -> ScatNet:
    torch.manual_seed(0)
    made = build("small:scatnet", **{"image_size": 28, "channels": 1, "orientations": 4, "width": 8, **options})
    assert isinstance(made, ScatNet)
    return made


def test_standardised_maps_of_all_orders_have_one_scale() -> None:
    plain, even = encoder(blocks=0, standardise=False), encoder(blocks=0)
    images = noise(64, 28, 28)
    spread = plain(images).map.std(dim=(0, 2, 3))
    assert spread[9:].mean() < 0.3 * spread[1:9].mean()
    torch.testing.assert_close(even(images).map.std(dim=(0, 2, 3)), torch.ones(25), atol=5e-2, rtol=0)
    assert [parameter for parameter in even.parameters() if parameter.requires_grad] == []


def test_the_embedding_is_the_map_averaged_over_regions_as_torch_does() -> None:
    network = encoder(image_size=(28, 20), pool=4).eval()
    encoded = network(noise(3, 28, 20))
    expected = nn.functional.adaptive_avg_pool2d(encoded.map, (4, 4)).flatten(1)
    torch.testing.assert_close(encoded.pooled, expected)
    assert network.width == 8 * 16
    assert encoder(image_size=8).width == 8 * 4


def test_the_papers_adapter_ends_on_2048_values() -> None:
    """The authors' ScatSimCLR of 30 blocks (src/models/scatnet_simclr.py in vkinakh/scatsimclr at commit 7630b12)
    trains 11,041,280 numbers in its adapter. It was run once outside this repository: given its weights and one
    scattering of 3 orientations, in float64, this adapter's embeddings of 6 random images of 32 pixels differ from its
    own by 8.2e-14 in training and by 8.5e-13 in evaluation, of values up to 49 and 437.
    """
    network = encoder(image_size=32, channels=3, orientations=16, blocks=30, width=128, stem=256)
    assert (network.width, network.depth, network.map_shape) == (2048, 31, (128, 8, 8))
    assert network.stages[0][0].weight.shape == (256, 867, 3, 3)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_041_280


def test_a_residual_block_adds_to_what_passes_around_it() -> None:
    network = encoder(blocks=2, stem=4).eval()
    encoded = network(noise(2, 28, 28), taps=(0, 1, 2))
    first, second = network.stages[1], network.stages[2]
    torch.testing.assert_close(
        encoded.taps[1], torch.relu(first.inner(encoded.taps[0]) + first.around(encoded.taps[0]))
    )
    torch.testing.assert_close(encoded.taps[2], torch.relu(second.inner(encoded.taps[1]) + encoded.taps[1]))
    assert torch.equal(encoded.taps[2], encoded.map)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blocks": -1}, "blocks and stem of at least 0, got 8, 4, -1 and 0"),
        ({"pool": 0}, "width and pool of at least 1"),
        ({"image_size": 3}, "2 scales need images of at least 4 pixels"),
        ({"orientation": 4}, "did you mean 'orientations'"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encoder(**options)


def test_it_runs_in_mixed_precision() -> None:
    network = encoder().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(noise(2, 28, 28)).pooled
    torch.testing.assert_close(mixed.float(), network(noise(2, 28, 28)).pooled, atol=0.1, rtol=0.1)
