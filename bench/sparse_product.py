"""Does unstructured sparsity make scoring faster? A table of which a part lives, three ways.

Dense with zeros in it, compressed rows (CSR), and a dense table with as many fewer columns: equal
numbers of living weights, answers to as many queries.
"""

from __future__ import annotations

import argparse
import time

import torch

from bench.csr import to_csr
from bench.machine import machine
from bench.options import above, count
from bench.report import Report, Value, median


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options."""
    parser.add_argument("--rows", type=count, default=54_543, help="rows of the table (54,543)")
    parser.add_argument("--width", type=count, default=64, help="columns of the table (64)")
    parser.add_argument("--batch", type=count, nargs="+", default=[1, 16])
    parser.add_argument("--density", type=above(0), nargs="+", default=[0.5, 0.3, 0.1, 0.05])
    parser.add_argument("--rounds", type=count, default=9)
    parser.add_argument("--quick", action="store_true", help="a table too small to mean anything")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> None:
    """Measure and print; ValueError when an option makes no sense."""
    if max(args.density) > 1:
        raise ValueError(f"--density {max(args.density):g} is above 1")
    rows, rounds = (500, 2) if args.quick else (args.rows, args.rounds)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    table_VE = torch.randn(rows, args.width, generator=generator)
    lines: list[dict[str, Value]] = []
    for density in args.density:
        living = torch.rand(table_VE.shape, generator=generator) < density
        masked_VE = table_VE * living
        columns = max(1, round(density * args.width))
        small_VE = table_VE[:, :columns].contiguous()
        packed = to_csr(masked_VE)
        for batch in args.batch:
            query_EB = torch.randn(args.width, batch, generator=generator)
            short_EB = query_EB[:columns].contiguous()
            dense = _milliseconds(masked_VE, query_EB, rounds)
            csr = _milliseconds(packed, query_EB, rounds)
            small = _milliseconds(small_VE, short_EB, rounds)
            numbers = int(living.sum())
            lines.append(
                {
                    "density": density,
                    "batch": batch,
                    "dense with zeros, ms": dense,
                    "CSR, ms": csr,
                    "fewer columns, ms": small,
                    "CSR / dense": csr / dense,
                    "fewer / dense": small / dense,
                    "dense MB": masked_VE.numel() * 4 / 1e6,
                    "CSR MB, int32": (8 * numbers + 4 * (rows + 1)) / 1e6,
                    "bitmap + values MB": (4 * numbers + masked_VE.numel() / 8) / 1e6,
                    "fewer columns MB": small_VE.numel() * 4 / 1e6,
                }
            )
    Report(
        name="sparse-product",
        method=(
            f"Scores of {rows:,} rows of {args.width} for a batch of queries, float32, one thread, "
            f"median of {rounds} rounds; bytes of the CSR form with 32-bit indices.",
            *(("--quick: too small to mean anything.",) if args.quick else ()),
        ),
        machine=machine(),
        rows=lines,
    ).show(as_json=args.json)


def _milliseconds(table: torch.Tensor, query_EB: torch.Tensor, rounds: int) -> float:
    found = []
    table @ query_EB
    for _ in range(rounds):
        began = time.perf_counter()
        table @ query_EB
        found.append(1000 * (time.perf_counter() - began))
    return median(found)
