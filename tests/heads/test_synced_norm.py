"""Two gloo processes with synchronised batch norm train as one process with the whole batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.training.waits import Waits
from torch import nn

from autodidact.heads import SyncedBatchNorm, synchronised

WORKER = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from autodidact.heads import synchronised

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
torch.set_num_threads(1)
given = torch.load(f"{folder}/given.pt", weights_only=True)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5))
net = net.double()
net.load_state_dict(given["state"])
net = synchronised(net).train()
# Unequal shares, as the last batch of an epoch may have.
x = given["x"].split([3, 7])[rank].requires_grad_()
target = given["target"].split([3, 7])[rank]
loss = (net(x) - target).square().sum() / 10
loss.backward()
for parameter in net.parameters():
    dist.all_reduce(parameter.grad)
out = {"grads": [p.grad for p in net.parameters()], "x": x.grad, "state": net.state_dict()}
# One process with nothing, channels last; no weights; less precision than the statistics need.
for name, cast in (("uneven", torch.float32), ("half", torch.bfloat16)):
    shares = [0, 10] if name == "uneven" else [5, 5]
    x = given["x"].to(cast).split(shares)[rank].contiguous(memory_format=torch.channels_last).requires_grad_()
    y = synchronised(nn.BatchNorm2d(3, affine=name == "half")).train()(x)
    (y * given["weights"].to(cast).split(shares)[rank]).sum().backward()
    out[name] = [y.detach(), x.grad]
torch.save(out, f"{folder}/rank{rank}.pt")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder: Path = tmp_path_factory.mktemp("synced")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5)
    ).double()
    # A mean far from zero is where E[x^2] - E[x]^2 would lose digits.
    x = torch.randn(10, 3, 4, 4, dtype=torch.float64) + 100
    target = torch.randn(10, 5, dtype=torch.float64)
    weights = torch.randn_like(x)
    torch.save({"state": net.state_dict(), "x": x, "target": target, "weights": weights}, folder / "given.pt")
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(folder)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for worker in workers:
        _, complaint = worker.communicate(timeout=120)
        assert worker.returncode == 0, complaint.decode()
    ranks = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    x.requires_grad_()
    ((net.train()(x) - target).square().sum() / 10).backward()
    return {"net": net, "x": x, "weights": weights, "ranks": ranks}


def test_gradients_equal_those_of_one_big_batch(both: dict) -> None:
    for mine, big in zip(both["ranks"][0]["grads"], both["net"].parameters(), strict=True):
        torch.testing.assert_close(mine, big.grad, rtol=1e-10, atol=1e-10)
    inputs = torch.cat([rank["x"] for rank in both["ranks"]])
    torch.testing.assert_close(inputs, both["x"].grad, rtol=1e-10, atol=1e-10)


def test_running_statistics_equal_those_of_one_big_batch_on_every_process(both: dict) -> None:
    for rank in both["ranks"]:
        for name, value in both["net"].state_dict().items():
            torch.testing.assert_close(rank["state"][name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "cast"), [("uneven", torch.float32), ("half", torch.bfloat16)])
def test_an_empty_share_channels_last_no_weights_and_half_precision(both: dict, name: str, cast: torch.dtype) -> None:
    # As precise as what is read: bf16 has 8 bits, and the mean is a hundred times the spread.
    x = both["x"].detach().to(cast).double().requires_grad_()
    y = nn.BatchNorm2d(3, affine=False).double().train()(x)
    (y * both["weights"].to(cast).double()).sum().backward()
    found = [torch.cat([rank[name][k] for rank in both["ranks"]]).double() for k in (0, 1)]
    close = 1e-4 if name == "uneven" else 2e-2
    torch.testing.assert_close(found[0], y.detach(), rtol=close, atol=close)
    torch.testing.assert_close(found[1], x.grad, rtol=close, atol=close * float(x.grad.abs().max()))


def test_one_process_gets_an_ordinary_batch_norm() -> None:
    torch.manual_seed(0)
    plain, x = nn.BatchNorm1d(3), torch.randn(8, 3)
    synced = synchronised(nn.Sequential(nn.BatchNorm1d(3)))
    assert torch.equal(synced(x), plain(x))
    assert torch.equal(synced[0].running_var, plain.running_var)


def test_state_has_the_names_of_the_norms_it_replaced() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("efficientnet_b0", num_classes=0)
    names = list(model.state_dict())
    parameters = dict(model.named_parameters())
    synced = synchronised(model)
    assert list(synced.state_dict()) == names
    assert all(parameter is parameters[name] for name, parameter in synced.named_parameters())
    assert sum(isinstance(part, SyncedBatchNorm) for part in synced.modules()) > 40


def test_timm_norms_keep_their_activation() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("efficientnet_b0", num_classes=0).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        torch.testing.assert_close(synchronised(model)(x), before, rtol=1e-6, atol=1e-6)


def test_an_unknown_kind_of_batch_norm_is_refused() -> None:
    class Odd(nn.BatchNorm1d):
        pass

    with pytest.raises(ValueError, match=r"cannot synchronise .*Odd"):
        synchronised(nn.Sequential(Odd(3)))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_device_is_not_waited_for_unless_a_process_has_a_single_value(
    momentum: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second process with the same batch, without one.
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_into_tensor", lambda rows, own: rows.copy_(own.repeat(2)))
    norm = SyncedBatchNorm(3, momentum=momentum).train()
    alone = nn.BatchNorm1d(3, momentum=momentum).train()
    for n in (6, 4):
        x = torch.randn(n, 3, generator=torch.Generator().manual_seed(n))
        with Waits() as waits:
            norm(x)
        assert waits.count == 0
        alone(torch.cat([x, x]))
    torch.testing.assert_close(norm.running_var, alone.running_var)
    torch.testing.assert_close(norm.running_mean, alone.running_mean)
    with Waits() as waits:
        norm(x[:1])
    assert waits.count == 1
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(dist, "all_gather_into_tensor", lambda rows, own: rows.copy_(own))
    with pytest.raises(ValueError, match="more than one value a channel"):
        norm._synchronised(x[:1])
