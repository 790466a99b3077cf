"""The dashboard *Compute saved*: what routing saves, what it costs, and what that is worth."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from dashboards.compute_detail import CPU, NO_ANSWERS, by_length, by_variant
from dashboards.panels import GREEN, RED, YELLOW, Query, Row, dashboard, graph, number
from dashboards.promql import ANSWERING, increase, over, rate, saved
from dashboards.shapes import NO_MODEL, beside_full, levels, mix, rates, shares_saved

# A plain cloud core, in dollars; whoever looks sets their own.
CPU_HOUR_PRICE = "0.04"
FLOPS, BASELINE = "canet_compute_flops_total", "canet_compute_baseline_flops_total"
BASELINE_CPU = "canet_inference_baseline_cpu_seconds_total"
SUBMODELS = "canet_submodel_requests_total"
MODEL_ANSWERS = rate("canet_recommendations_total", where='source="model"')
CPU_SPENT = rate(CPU, where=ANSWERING)
CORES_SAVED = f"{rate(BASELINE_CPU)} - {CPU_SPENT}"
ALL_PARTS = "all, router charged"
ESTIMATE = (
    "What the full network would have taken is an estimate, fitted to the calls in which it ran."
)
SAVED_STEPS = ((0, RED), (0.1, YELLOW), (0.3, GREEN))


def build() -> models.Dashboard:
    """Return the dashboard."""
    price = (
        builders.TextBoxVariable("cpu_hour_price")
        .label("Price of a CPU-hour")
        .description("What an hour of one core costs you, in your currency.")
        .default_value(CPU_HOUR_PRICE)
        .current(models.VariableOption(text=CPU_HOUR_PRICE, value=CPU_HOUR_PRICE))
    )
    top = (
        number(
            "Compute saved now",
            "Share of the full network's FLOPs that was not spent. Router, encoder and scoring are "
            "charged; answers that ran no model count neither way.",
            "percentunit",
            Query(saved(rate(FLOPS), rate(BASELINE)), "saved"),
            empty=NO_ANSWERS,
            steps=SAVED_STEPS,
            decimals=1,
        ),
        number(
            "CPU time saved now",
            f"Share of the CPU time that was not spent. {ESTIMATE}",
            "percentunit",
            Query(saved(CPU_SPENT, rate(BASELINE_CPU)), "saved"),
            empty=NO_ANSWERS,
            steps=SAVED_STEPS,
            decimals=1,
        ),
        number(
            "Compute saved in the chosen time",
            "Share of the full network's FLOPs that was not spent in the time the dashboard shows.",
            "percentunit",
            Query(saved(increase(FLOPS, "$__range"), increase(BASELINE, "$__range")), "saved"),
            empty=NO_ANSWERS,
            decimals=1,
        ),
        number(
            "Money saved per month at this load",
            "CPU-hours saved at the present rate, times 730 hours, times the price above. "
            f"{ESTIMATE} Real money is saved once fewer cores are paid for.",
            "short",
            Query(f"({CORES_SAVED}) * 730 * $cpu_hour_price", "saved"),
            empty=NO_ANSWERS,
            decimals=2,
        ),
    )
    return dashboard(
        "canet-compute-saved",
        "Compute saved",
        "How much of the full network's compute the router saves, and where the rest goes. Router, "
        "encoder and scoring are all charged; answers that ran no model count neither way.",
        top,
        (_savings(), _routing(), _budget(), by_length(), by_variant()),
        variables=(price,),
    )


def _savings() -> Row:
    return Row(
        "Savings",
        (
            shares_saved(
                "Share of FLOPs saved by part",
                "Encoder and scoring against the full network's; all parts, with the router's own "
                "cost charged. Below 0: more is spent than the full network would have.",
                (rate(FLOPS, by="part"), rate(BASELINE, by="part"), "{{part}}"),
                (rate(FLOPS), rate(BASELINE), ALL_PARTS),
                empty=NO_ANSWERS,
            ),
            shares_saved(
                "Share of CPU time saved by part",
                f"The same in CPU time as measured. {ESTIMATE}",
                (
                    rate(CPU, by="part", where=f'{ANSWERING}, part!="router"'),
                    rate(BASELINE_CPU, by="part"),
                    "{{part}}",
                ),
                (CPU_SPENT, rate(BASELINE_CPU), ALL_PARTS),
                empty=NO_ANSWERS,
            ),
            beside_full(
                "CPU time per FLOP",
                "Seconds of CPU time per FLOP: what was executed, and the full network. Small "
                "networks pay more per FLOP, so CPU time falls less than FLOPs do.",
                "s",
                Query(over(CPU_SPENT, rate(FLOPS)), "executed"),
                over(rate(BASELINE_CPU), rate(BASELINE)),
                estimated=True,
                empty=NO_ANSWERS,
            ),
            beside_full(
                "FLOPs spent by part, and the full network's",
                "FLOPs a second by part, and what the full network would spend on the same "
                "answers. What ran for answers that came too late is spent as well.",
                "flops",
                Query(rate(FLOPS, by="part"), "{{part}}"),
                rate(BASELINE),
                empty=NO_ANSWERS,
            ),
            beside_full(
                "Cores busy, and the full network's",
                f"CPU seconds a second by part. {ESTIMATE}",
                "short",
                Query(rate(CPU, by="part", where=ANSWERING), "{{part}}"),
                rate(BASELINE_CPU),
                estimated=True,
                empty=NO_ANSWERS,
            ),
            graph(
                "Money saved per hour",
                "Cores saved times the price of a CPU-hour set above, in your currency.",
                "short",
                Query(f"({CORES_SAVED}) * $cpu_hour_price", "saved per hour"),
                empty=NO_ANSWERS,
                bottom=None,
            ),
        ),
    )


def _routing() -> Row:
    return Row(
        "Routing",
        (
            mix(
                "Submodel mix",
                "Share of the model's answers by submodel, "
                "d(epth)-w(idth)-e(mbedding)-l(ength read).",
                SUBMODELS,
                "submodel",
                empty=NO_ANSWERS,
            ),
            rates(
                "CPU time by submodel",
                "CPU seconds a second by submodel; `all` is routing, done once for all of them.",
                "short",
                CPU,
                "submodel",
                where=ANSWERING,
                empty=NO_ANSWERS,
                stacked=True,
            ),
            rates(
                "Choices not made by the router",
                "Answers of the model whose submodel the request or the load decided.",
                "reqps",
                "canet_router_overrides_total",
                "reason",
                empty=NO_ANSWERS,
            ),
        ),
    )


def _budget() -> Row:
    return Row(
        "Price and budget",
        (
            graph(
                "Price of compute",
                "What routing pays for compute: the submodel with the most quality minus price "
                "times cost answers. Overload raises it.",
                "short",
                Query("max(canet_compute_price)", "price"),
                empty=NO_MODEL,
            ),
            graph(
                "Budget, and what is spent",
                "Share of the full network's FLOPs: what the price is expected to spend, by the "
                "price curve measured on validation, and what is spent. They part where live "
                "histories are not like those, or requests choose submodels themselves.",
                "percentunit",
                Query("avg(canet_compute_budget_ratio >= 0)", "expected at this price"),
                Query(over(rate(FLOPS), rate(BASELINE)), "spent"),
                empty=NO_MODEL,
            ),
            levels(
                "Why the price is what it is",
                "Instances by reason: as published, as set, or raised by overload.",
                "short",
                "canet_compute_price_reason",
                "reason",
                how="sum",
                empty=NO_MODEL,
                stacked=True,
            ),
            beside_full(
                "FLOPs per answer of the model",
                "Mean FLOPs per answer, and what the full network would spend.",
                "short",
                Query(over(rate(FLOPS), rate(SUBMODELS)), "spent"),
                over(rate(BASELINE), rate(SUBMODELS)),
                empty=NO_ANSWERS,
            ),
            beside_full(
                "CPU time per answer of the model",
                f"Mean CPU seconds per answer. {ESTIMATE}",
                "s",
                Query(over(CPU_SPENT, MODEL_ANSWERS), "spent"),
                over(rate(BASELINE_CPU), MODEL_ANSWERS),
                estimated=True,
                empty=NO_ANSWERS,
            ),
        ),
    )
