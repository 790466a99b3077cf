"""The dashboard *Model and trainer*: what serves, how good it is, and what comes next."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import GREEN, RED, YELLOW, Query, Row, dashboard, graph, number, rows
from dashboards.promql import ANSWERING, increase, over, rate
from dashboards.shapes import NO_INSTANCE, NO_MODEL, levels, rates, ratios, spread

NO_TRAINER = "no trainer running"
NO_IMPRESSIONS = "no impressions reported"
DAY = 86_400.0
RELOADS = "canet_model_reloads_total"
ATTRIBUTED = "canet_attributed_events_total"
CLICKS = rate(ATTRIBUTED, by="variant", where='type="click"')


def build() -> models.Dashboard:
    """Return the dashboard."""
    top = (
        rows(
            "Models in use",
            "Version and digest of every variant.",
            Query("canet_model_info == 1", "", as_table=True),
            hidden=("__name__", "job"),
            empty=NO_MODEL,
        ),
        number(
            "Age of the model",
            "Since it was trained.",
            "dtdurations",
            Query(
                'time() - max(canet_model_trained_timestamp_seconds{variant="stable"} > 0)', "age"
            ),
            empty=NO_MODEL,
            width=6,
            steps=((0, GREEN), (3 * DAY, YELLOW), (7 * DAY, RED)),
        ),
        number(
            "Checkpoints refused",
            "In the time the dashboard shows. The log line of the reload says why.",
            "short",
            Query(increase(RELOADS, "$__range", where='result="refused"'), "refused"),
            empty=NO_INSTANCE,
            width=6,
            steps=((0, GREEN), (0.5, RED)),
            decimals=0,
        ),
    )
    return dashboard(
        "canet-model",
        "Model and trainer",
        "Which versions serve, how old and how good they are, and how variants compare.",
        top,
        (_versions(), _quality(), _variants(), _attribution(), _trainer()),
    )


def _versions() -> Row:
    return Row(
        "Versions and reloads",
        (
            levels(
                "Versions over time",
                "Instances by variant and version; a swap shows as one line ending, one starting.",
                "short",
                "canet_model_info",
                "variant, version",
                how="count",
                empty=NO_MODEL,
                width=12,
                stacked=True,
            ),
            graph(
                "Age over time",
                "Since the model of each variant was trained.",
                "dtdurations",
                Query(
                    "time() - max by (variant) (canet_model_trained_timestamp_seconds > 0)",
                    "{{variant}}",
                ),
                empty=NO_MODEL,
                width=12,
            ),
            graph(
                "Load attempts by result",
                "Finished load attempts over five minutes.",
                "short",
                Query(increase(RELOADS, "5m", by="result"), "{{result}}"),
                empty=NO_INSTANCE,
                width=12,
            ),
            graph(
                "Instances on an older version",
                "They serve an older model because the wanted one cannot be loaded.",
                "short",
                Query("sum(canet_model_fallback)", "instances"),
                empty=NO_INSTANCE,
                width=12,
            ),
        ),
    )


def _quality() -> Row:
    return Row(
        "Offline accuracy, as the checkpoints tell it",
        (
            levels(
                "NDCG@10 over time",
                "On the test split of each served version: the full network alone, and as routed.",
                "short",
                "canet_model_offline_metric",
                "variant, metric",
                where='metric=~"(full|routed)_ndcg_10"',
                empty=NO_MODEL,
                width=12,
            ),
            levels(
                "Compute used, as evaluated",
                "FLOPs as routed over the full network's, on the test split.",
                "percentunit",
                "canet_model_offline_metric",
                "variant",
                where='metric="routed_flops_ratio"',
                empty=NO_MODEL,
                width=12,
                top=1,
            ),
        ),
    )


def _variants() -> Row:
    return Row(
        "Candidate against stable, and the shadow",
        (
            rates(
                "Answers by variant",
                "Recommendations a second by variant.",
                "reqps",
                "canet_recommendations_total",
                "variant",
                stacked=True,
            ),
            graph(
                "CPU time per answer by variant",
                "Seconds of the engine's thread per answer of the model.",
                "s",
                Query(
                    over(
                        rate("canet_inference_cpu_seconds_total", by="variant", where=ANSWERING),
                        rate("canet_recommendations_total", by="variant", where='source="model"'),
                    ),
                    "{{variant}}",
                ),
                empty="no answers of the model",
            ),
            rates(
                "Candidate's failures",
                "Queries a second that the stable version answered in the candidate's place.",
                "reqps",
                "canet_candidate_failures_total",
                "reason",
            ),
            spread(
                "Overlap of shadow and stable",
                "Shared items of both answers to the same request: lower quartile, median, mean.",
                "percentunit",
                "canet_shadow_overlap_ratio",
                shares={0.25: "lower quartile", 0.5: "median"},
                with_mean=True,
                empty="no shadow",
                top=1,
            ),
            rates(
                "Requests of the shadow",
                "Answers repeated by the shadow a second: compared, left out under load, failed.",
                "reqps",
                "canet_shadow_requests_total",
                "result",
            ),
            rates(
                "FLOPs of the shadow",
                "What the shadow spends, by submodel; it is no part of the savings.",
                "flops",
                "canet_inference_flops_total",
                "submodel",
                where='variant="shadow"',
                empty="no shadow",
            ),
        ),
    )


def _attribution() -> Row:
    return Row(
        "What came of recommendations",
        (
            graph(
                "Clicks per shown item by variant",
                "Clicks on recommended items over recommended items reported as shown, booked on "
                "the variant that had recommended them.",
                "percentunit",
                Query(over(CLICKS, rate("canet_impressions_total", by="variant")), "{{variant}}"),
                empty=NO_IMPRESSIONS,
            ),
            ratios(
                "Events per shown item by submodel",
                "Events of all types on recommended items over those shown, by the submodel that "
                "had answered; `none` is popular items. Its users differ, not only its quality.",
                "percentunit",
                "canet_submodel_attributed_events_total",
                "canet_submodel_impressions_total",
                "submodel",
                empty=NO_IMPRESSIONS,
            ),
            rates(
                "Items shown by variant",
                "Recommended items a second that were reported as shown.",
                "ops",
                "canet_impressions_total",
                "variant",
            ),
            rates(
                "Events booked on recommendations",
                "A second, by type.",
                "ops",
                ATTRIBUTED,
                "type",
                width=12,
            ),
            rates(
                "Events booked on none",
                "Events a second that name a recommendation nobody knows, one that expired, one "
                "without this item, or, as impressions, none.",
                "ops",
                "canet_unattributed_events_total",
                "reason",
                width=12,
            ),
        ),
    )


def _trainer() -> Row:
    return Row(
        "Trainer",
        (
            graph(
                "Runs by result",
                "Refreshes that ended in the hour before; `refused` is the gate's word.",
                "short",
                Query(increase("canet_trainer_runs_total", "1h", by="result"), "{{result}}"),
                empty=NO_TRAINER,
            ),
            graph(
                "Refused by the gate",
                "Models that were trained and not published in the day before, by reason.",
                "short",
                Query(increase("canet_trainer_refused_total", "1d", by="reason"), "{{reason}}"),
                empty=NO_TRAINER,
            ),
            levels(
                "NDCG@10 of the live and the new model",
                "Both on the newest split, as the gate compares them.",
                "short",
                "canet_trainer_ndcg_10",
                "model",
                empty=NO_TRAINER,
            ),
            number(
                "Since the last run that ended well",
                "Time since a refresh was published, or found nothing to do.",
                "dtdurations",
                Query("time() - max(canet_trainer_last_success_timestamp_seconds > 0)", "age"),
                empty="none yet",
                steps=((0, GREEN), (2 * DAY, YELLOW), (7 * DAY, RED)),
            ),
            number(
                "Duration of the last run",
                "Wall time.",
                "s",
                Query("max(canet_trainer_run_duration_seconds)", "duration"),
                empty=NO_TRAINER,
            ),
            graph(
                "Taken from the event streams",
                "Entries a second while the trainer drains, and those lost before, by kind.",
                "ops",
                Query(rate("canet_trainer_drained_total", by="kind"), "{{kind}}"),
                Query("max(canet_trainer_stream_lost)", "lost in all"),
                empty=NO_TRAINER,
                width=12,
            ),
        ),
    )
