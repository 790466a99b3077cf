"""Does sparsity make scoring faster? A table of which a part lives, four ways.

Dense with zeros in it, compressed rows (CSR), row blocks of different widths as `--sparse unit`
leaves them, and a dense table with as many fewer columns: equal numbers of living weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from math import gcd

import torch

from bench.csr import to_csr
from bench.machine import machine
from bench.options import above, count
from bench.report import Report, Value, median
from models.table.table import ItemTable, TablePart
from training.sparse.blocks import BlockPool
from training.sparse.pack import layout_of


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
        in_blocks = _Blocks(table_VE, density, generator)
        for batch in args.batch:
            query_EB = torch.randn(args.width, batch, generator=generator)
            short_EB = query_EB[:columns].contiguous()
            dense, csr, blocks, small = _milliseconds(
                (
                    (masked_VE, query_EB),
                    (packed, query_EB),
                    (in_blocks, query_EB),
                    (small_VE, short_EB),
                ),
                rounds,
            )
            numbers = int(living.sum())
            lines.append(
                {
                    "density": density,
                    "batch": batch,
                    "dense with zeros, ms": dense,
                    "CSR, ms": csr,
                    "row blocks, ms": blocks,
                    "fewer columns, ms": small,
                    "CSR / dense": csr / dense,
                    "blocks / dense": blocks / dense,
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
            f"Scores of {rows:,} rows of {args.width} for a batch of queries, float32, one thread; "
            f"CPU time, median of {rounds} rounds by turns; CSR bytes with 32-bit indices.",
            *(("--quick: too small to mean anything.",) if args.quick else ()),
        ),
        machine=machine(),
        rows=lines,
    ).show(as_json=args.json)


class _Blocks:
    """Sixteen blocks of random widths in place of the matrix, as `ItemTable` scores them."""

    def __init__(self, table_VE: torch.Tensor, density: float, generator: torch.Generator) -> None:
        rows, width = table_VE.shape
        pool = BlockPool("table", table_VE, density, row_blocks=16, column_block=gcd(8, width))
        pool.choose_randomly({}, generator)
        blocked_VE = table_VE.clone()
        pool.silence({"table": blocked_VE})
        layout = layout_of(blocked_VE, row_blocks=16)
        self._table = ItemTable((TablePart(0, blocked_VE),), width).cut(layout).contiguous()
        self._bias_V = torch.zeros(rows)

    def __matmul__(self, query_EB: torch.Tensor) -> torch.Tensor:
        scores_BV = torch.empty(query_EB.shape[1], len(self._table))
        self._table.score_into(scores_BV, query_EB.T, self._bias_V)
        return scores_BV


def _milliseconds(
    forms: Sequence[tuple[torch.Tensor | _Blocks, torch.Tensor]], rounds: int
) -> list[float]:
    """Return the median CPU time of each (table, query) product, taken by turns."""
    found: list[list[float]] = [[] for _ in forms]
    for turn in range(rounds + 1):
        for (table, query_EB), times in zip(forms, found, strict=True):
            began = time.thread_time()
            table @ query_EB
            if turn:  # the first one warms up
                times.append(1000 * (time.thread_time() - began))
    return [median(times) for times in found]
