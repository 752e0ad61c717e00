"""Processes that train together, started from a running test: what is imported already need not be imported again."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

import torch


def together(processes: int, function: Callable[..., Any], *arguments: Any, seconds: float = 60.0) -> list[Any]:
    """What a function returns in each of so many processes; they find each other as under torchrun.

    Where one of them fails or dies, the others are killed, and a RuntimeError holds what it said.
    """
    context = get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_one, args=(there, rank, processes, port, function, arguments))
        process.start()
        there.close()
        started.append((process, here))
    results: dict[int, Any] = {}
    try:
        while len(results) < processes:
            waiting = [here for number, (_, here) in enumerate(started) if number not in results]
            ready = wait(waiting, seconds)
            if not ready:
                raise RuntimeError(f"nothing was heard for {seconds} seconds")
            for number, (process, here) in enumerate(started):
                if here in ready:
                    results[number] = _heard(number, process, here)
    finally:
        for process, _ in started:
            process.kill()
            process.join()
    return [results[number] for number in range(processes)]


def _heard(number: int, process: Any, here: Connection) -> Any:
    try:
        failed, told = here.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"process {number} died (exit code {process.exitcode})") from None
    if failed:
        raise RuntimeError(f"process {number} failed:\n{told}")
    return told


def _one(
    there: Connection, rank: int, processes: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": processes, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in places.items()}
    torch.set_num_threads(1)
    try:
        there.send((False, function(*arguments)))
    except BaseException:  # noqa: BLE001 (told to the test)
        there.send((True, traceback.format_exc()))
    there.close()
    # What pytest has registered for the end of its own process is not for this one.
    os._exit(0)
