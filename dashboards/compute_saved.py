"""The dashboard *Compute saved*: what routing saves, what it costs, and what that is worth."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import GREEN, RED, YELLOW, Query, Row, dashboard, graph, number
from dashboards.promql import ANSWERING, over, quantile, rate, saved

# A plain cloud core, in dollars; whoever looks sets their own.
CPU_HOUR_PRICE = "0.04"
NO_MODEL = "no answers of the model"
FLOPS, BASELINE = "canet_compute_flops_total", "canet_compute_baseline_flops_total"
CPU, BASELINE_CPU = (
    "canet_inference_cpu_seconds_total",
    "canet_inference_baseline_cpu_seconds_total",
)
SUBMODELS = "canet_submodel_requests_total"
MODEL_ANSWERS = rate("canet_recommendations_total", where='source="model"')
CPU_SPENT = rate(CPU, where=ANSWERING)
CORES_SAVED = f"{rate(BASELINE_CPU)} - {CPU_SPENT}"
ESTIMATE = (
    "What the full network would have taken is an estimate, fitted to the calls in which it ran."
)


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
            empty=NO_MODEL,
            steps=((0, RED), (0.1, YELLOW), (0.3, GREEN)),
            decimals=1,
        ),
        number(
            "CPU time saved now",
            f"Share of the CPU time that was not spent. {ESTIMATE}",
            "percentunit",
            Query(saved(CPU_SPENT, rate(BASELINE_CPU)), "saved"),
            empty=NO_MODEL,
            steps=((0, RED), (0.1, YELLOW), (0.3, GREEN)),
            decimals=1,
        ),
        number(
            "Compute saved in the chosen time",
            "Share of the full network's FLOPs that was not spent in the time the dashboard shows.",
            "percentunit",
            Query(
                saved(
                    "sum (increase(canet_compute_flops_total[$__range]))",
                    "sum (increase(canet_compute_baseline_flops_total[$__range]))",
                ),
                "saved",
            ),
            empty=NO_MODEL,
            decimals=1,
        ),
        number(
            "Money saved per month at this load",
            "CPU-hours saved at the present rate, times 730 hours, times the price above. "
            f"{ESTIMATE} Real money is saved once fewer cores are paid for.",
            "short",
            Query(f"({CORES_SAVED}) * 730 * $cpu_hour_price", "saved"),
            empty=NO_MODEL,
            decimals=2,
        ),
    )
    return dashboard(
        "canet-compute-saved",
        "Compute saved",
        "How much of the full network's compute the router saves, and where the rest goes. Router, "
        "encoder and scoring are all charged; answers that ran no model count neither way.",
        top,
        (_savings(), _routing(), _budget(), _lengths()),
        variables=(price,),
    )


def _savings() -> Row:
    by_part = saved(rate(FLOPS, by="part"), rate(BASELINE, by="part"))
    cpu_by_part = saved(
        rate(CPU, by="part", where=f'{ANSWERING}, part!="router"'), rate(BASELINE_CPU, by="part")
    )
    return Row(
        "Savings",
        (
            graph(
                "Share of FLOPs saved by part",
                "Encoder and scoring against the full network's; all parts, with the router's own "
                "cost charged. Below 0: more is spent than the full network would have.",
                "percentunit",
                Query(by_part, "{{part}}"),
                Query(saved(rate(FLOPS), rate(BASELINE)), "all, router charged"),
                empty=NO_MODEL,
                top=1,
                bottom=None,
            ),
            graph(
                "Share of CPU time saved by part",
                f"The same in CPU time as measured. {ESTIMATE}",
                "percentunit",
                Query(cpu_by_part, "{{part}}"),
                Query(saved(CPU_SPENT, rate(BASELINE_CPU)), "all, router charged"),
                empty=NO_MODEL,
                top=1,
                bottom=None,
            ),
            graph(
                "CPU time per FLOP",
                "Seconds of CPU time per FLOP: what was executed, and the full network. Small "
                "networks pay more per FLOP, so CPU time falls less than FLOPs do.",
                "s",
                Query(over(CPU_SPENT, rate(FLOPS)), "executed"),
                Query(over(rate(BASELINE_CPU), rate(BASELINE)), "full network, estimated"),
                empty=NO_MODEL,
            ),
            graph(
                "FLOPs spent by part, and the full network's",
                "FLOPs a second by part, and what the full network would spend on the same "
                "answers. What ran for answers that came too late is spent as well.",
                "flops",
                Query(rate(FLOPS, by="part"), "{{part}}"),
                Query(rate(BASELINE), "full network"),
                empty=NO_MODEL,
            ),
            graph(
                "Cores busy, and the full network's",
                f"CPU seconds a second by part. {ESTIMATE}",
                "short",
                Query(rate(CPU, by="part", where=ANSWERING), "{{part}}"),
                Query(rate(BASELINE_CPU), "full network, estimated"),
                empty=NO_MODEL,
            ),
            graph(
                "Money saved per hour",
                "Cores saved times the price of a CPU-hour set above, in your currency.",
                "short",
                Query(f"({CORES_SAVED}) * $cpu_hour_price", "saved per hour"),
                empty=NO_MODEL,
                bottom=None,
            ),
        ),
    )


def _routing() -> Row:
    return Row(
        "Routing",
        (
            graph(
                "Submodel mix",
                "Share of the model's answers by submodel, d(epth)-w(idth)-e(mbedding).",
                "percentunit",
                Query(over(rate(SUBMODELS, by="submodel"), rate(SUBMODELS), on=""), "{{submodel}}"),
                empty=NO_MODEL,
                stacked=True,
                top=1,
            ),
            graph(
                "CPU time by submodel",
                "CPU seconds a second by submodel; `all` is routing, done once for all of them.",
                "short",
                Query(rate(CPU, by="submodel", where=ANSWERING), "{{submodel}}"),
                empty=NO_MODEL,
                stacked=True,
            ),
            graph(
                "Choices not made by the router",
                "Answers of the model whose submodel the request or the load decided.",
                "reqps",
                Query(rate("canet_router_overrides_total", by="reason"), "{{reason}}"),
                empty=NO_MODEL,
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
                empty="no model",
            ),
            graph(
                "Why the price is what it is",
                "Instances by reason: as published, as set, or raised by overload.",
                "short",
                Query("sum by (reason) (canet_compute_price_reason)", "{{reason}}"),
                empty="no model",
                stacked=True,
            ),
            graph(
                "FLOPs per answer of the model",
                "Mean FLOPs per answer, and what the full network would spend: the budget that "
                "the price holds.",
                "short",
                Query(over(rate(FLOPS), rate(SUBMODELS)), "spent"),
                Query(over(rate(BASELINE), rate(SUBMODELS)), "full network"),
                empty=NO_MODEL,
            ),
            graph(
                "CPU time per answer of the model",
                f"Mean CPU seconds per answer. {ESTIMATE}",
                "s",
                Query(over(CPU_SPENT, MODEL_ANSWERS), "spent"),
                Query(over(rate(BASELINE_CPU), MODEL_ANSWERS), "full network, estimated"),
                empty=NO_MODEL,
            ),
        ),
    )


def _lengths() -> Row:
    return Row(
        "By history length",
        (
            graph(
                "Share of FLOPs saved by history length",
                "Answers of the model by known items of the history, up to so many; cost is that "
                "of the padded length.",
                "percentunit",
                Query(
                    saved(
                        rate("canet_length_flops_total", by="length"),
                        rate("canet_length_baseline_flops_total", by="length"),
                    ),
                    "up to {{length}}",
                ),
                empty=NO_MODEL,
                top=1,
                bottom=None,
            ),
            graph(
                "FLOPs of the full network by history length",
                "Where there is something to save: what the full network would spend.",
                "flops",
                Query(rate("canet_length_baseline_flops_total", by="length"), "up to {{length}}"),
                empty=NO_MODEL,
                stacked=True,
            ),
            graph(
                "History length",
                "Known items of the history, over all answers; unknown users have 0.",
                "short",
                Query(quantile(0.5, "canet_history_length"), "median"),
                Query(quantile(0.95, "canet_history_length"), "95th percentile"),
            ),
        ),
    )
