"""Rows of *Compute saved* that tell it apart: by history length, by variant and submodel."""

from __future__ import annotations

from dashboards.panels import Row
from dashboards.promql import rate
from dashboards.shapes import NO_MODEL, levels, rates, ratios, shares_saved, spread

NO_ANSWERS = "no answers of the model"
WORK, CPU = "canet_inference_flops_total", "canet_inference_cpu_seconds_total"
LENGTH, LENGTH_BASELINE = "canet_length_flops_total", "canet_length_baseline_flops_total"


def by_length() -> Row:
    """Return what is saved, and what there is to save, by history length."""
    return Row(
        "By history length",
        (
            shares_saved(
                "Share of FLOPs saved by history length",
                "Answers of the model by known items of the history, up to so many; cost is that "
                "of the padded length.",
                (rate(LENGTH, by="length"), rate(LENGTH_BASELINE, by="length"), "up to {{length}}"),
                empty=NO_ANSWERS,
            ),
            rates(
                "FLOPs of the full network by history length",
                "Where there is something to save: what the full network would spend on histories "
                "of up to so many known items.",
                "flops",
                LENGTH_BASELINE,
                "length",
                empty=NO_ANSWERS,
                stacked=True,
            ),
            spread(
                "History length",
                "Known items of the history, over all answers; unknown users have 0.",
                "short",
                "canet_history_length",
            ),
        ),
    )


def by_variant() -> Row:
    """Return FLOPs, CPU time and their ratio by variant and by submodel."""
    return Row(
        "By variant and submodel: FLOPs, CPU time, and their ratio",
        (
            rates(
                "FLOPs by variant",
                "FLOPs a second by variant. A shadow's are no part of the savings above.",
                "flops",
                WORK,
                "variant",
                empty=NO_ANSWERS,
            ),
            rates(
                "CPU time by variant",
                "CPU seconds a second by variant, measured on the engine's thread.",
                "short",
                CPU,
                "variant",
                empty=NO_ANSWERS,
            ),
            ratios(
                "CPU time per FLOP by variant",
                "Seconds of CPU time per FLOP.",
                "s",
                CPU,
                WORK,
                "variant",
                empty=NO_ANSWERS,
            ),
            rates(
                "FLOPs by submodel",
                "FLOPs a second by submodel, all variants; `all` is routing.",
                "flops",
                WORK,
                "submodel",
                empty=NO_ANSWERS,
                stacked=True,
            ),
            ratios(
                "CPU time per FLOP by submodel",
                "Seconds of CPU time per FLOP, all variants: what small networks lose by being "
                "small.",
                "s",
                CPU,
                WORK,
                "submodel",
                empty=NO_ANSWERS,
            ),
            levels(
                "Cost of each submodel",
                "FLOPs over the full network's at the longest history.",
                "percentunit",
                "canet_submodel_flops_ratio",
                "submodel",
                empty=NO_MODEL,
            ),
        ),
    )
