"""How many updates several processes make beside each other on one GPU.

    python bench/gpu_processes.py CHECKPOINT --processes 14 --seconds 5

Each trains the checkpoint as a classifier of three labels on random pairs (batch 128, 32 tokens,
bf16), with one CPU thread. Prints the updates a second of all of them together. Under NVIDIA's
multi-process service kernels of different processes run at the same time; without it the card goes
from one process to the next.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from typing import Any


def train(checkpoint: str, seconds: float, barrier: Any, counts: Any) -> None:
    """Update for so long, after all processes are ready; puts the number of updates."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=3)
    model.float().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids = torch.randint(1000, 20000, (128, 32), device=device)
    labels = torch.randint(0, 3, (128,), device=device)

    def update() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        update()
    finish()
    barrier.wait()
    started, n = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        update()
        n += 1
    finish()
    counts.put(n / (time.monotonic() - started))


def main() -> None:
    """Start them, add them up."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(args.processes), context.Queue()
    work = (args.checkpoint, args.seconds, barrier, counts)
    started = [context.Process(target=train, args=work) for _ in range(args.processes)]
    for process in started:
        process.start()
    rates = [counts.get(timeout=120) for _ in started]
    for process in started:
        process.join()
    print(f"{args.processes} processes: {sum(rates):.1f} updates/s in all", flush=True)


if __name__ == "__main__":
    main()
