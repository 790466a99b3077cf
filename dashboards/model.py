"""The dashboard *Model and trainer*: what serves, how good it is, and what comes next."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import GREEN, RED, YELLOW, Query, Row, dashboard, graph, number, rows
from dashboards.promql import ANSWERING, mean, over, quantile, rate

NO_TRAINER = "no trainer running"
DAY = 86_400.0
CLICKS = rate("canet_attributed_events_total", by="variant", where='type="click"')


def build() -> models.Dashboard:
    """Return the dashboard."""
    top = (
        rows(
            "Models in use",
            "Version and digest of every variant.",
            Query("canet_model_info == 1", "", as_table=True),
            hidden=("__name__", "job"),
            empty="no model",
        ),
        number(
            "Age of the model",
            "Since it was trained.",
            "dtdurations",
            Query(
                'time() - max(canet_model_trained_timestamp_seconds{variant="stable"} > 0)', "age"
            ),
            empty="no model",
            width=6,
            steps=((0, GREEN), (3 * DAY, YELLOW), (7 * DAY, RED)),
        ),
        number(
            "Checkpoints refused",
            "In the time the dashboard shows. The log line of the reload says why.",
            "short",
            Query(
                'sum(increase(canet_model_reloads_total{result="refused"}[$__range]))', "refused"
            ),
            empty="no instance",
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
        (_versions(), _quality(), _variants(), _trainer()),
    )


def _versions() -> Row:
    return Row(
        "Versions and reloads",
        (
            graph(
                "Versions over time",
                "Instances by version and variant; a swap shows as one line ending, one starting.",
                "short",
                Query("count by (version, variant) (canet_model_info)", "{{variant}} {{version}}"),
                empty="no model",
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
                empty="no model",
            ),
            graph(
                "Load attempts by result",
                "Finished load attempts over five minutes.",
                "short",
                Query("sum by (result) (increase(canet_model_reloads_total[5m]))", "{{result}}"),
                empty="no instance",
            ),
        ),
    )


def _quality() -> Row:
    return Row(
        "Offline accuracy, as the checkpoints tell it",
        (
            graph(
                "NDCG@10 over time",
                "On the test split of each served version: the full network alone, and as routed.",
                "short",
                Query(
                    "max by (variant, metric) "
                    '(canet_model_offline_metric{metric=~"(full|routed)_ndcg_10"})',
                    "{{variant}} {{metric}}",
                ),
                empty="no model",
                width=12,
            ),
            graph(
                "Compute used, as evaluated",
                "FLOPs as routed over the full network's, on the test split.",
                "percentunit",
                Query(
                    'max by (variant) (canet_model_offline_metric{metric="routed_flops_ratio"})',
                    "{{variant}}",
                ),
                empty="no model",
                top=1,
                width=12,
            ),
        ),
    )


def _variants() -> Row:
    return Row(
        "Candidate against stable, and the shadow",
        (
            graph(
                "Answers by variant",
                "Recommendations a second by variant.",
                "reqps",
                Query(rate("canet_recommendations_total", by="variant"), "{{variant}}"),
                stacked=True,
            ),
            graph(
                "Clicks per shown item",
                "Clicks that name a recommendation over items reported as shown.",
                "percentunit",
                Query(over(CLICKS, rate("canet_impressions_total", by="variant")), "{{variant}}"),
                empty="no impressions reported",
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
            ),
            graph(
                "Events that name a recommendation",
                "A second, by type.",
                "ops",
                Query(rate("canet_attributed_events_total", by="type"), "{{type}}"),
                empty="no instance",
            ),
            graph(
                "Overlap of shadow and stable",
                "Shared items of both answers to the same request: quartiles and mean.",
                "percentunit",
                Query(quantile(0.25, "canet_shadow_overlap_ratio"), "lower quartile"),
                Query(quantile(0.5, "canet_shadow_overlap_ratio"), "median"),
                Query(mean("canet_shadow_overlap_ratio"), "mean"),
                empty="no shadow",
                top=1,
            ),
            graph(
                "Requests of the shadow",
                "Answers repeated by the shadow a second: compared, left out under load, failed.",
                "reqps",
                Query(rate("canet_shadow_requests_total", by="result"), "{{result}}"),
                empty="no instance",
            ),
            graph(
                "Candidate's failures",
                "Queries a second that the stable version answered in the candidate's place.",
                "reqps",
                Query(rate("canet_candidate_failures_total", by="reason"), "{{reason}}"),
                empty="no instance",
            ),
            graph(
                "FLOPs of the shadow",
                "What the shadow spends; it is no part of the savings.",
                "flops",
                Query(rate("canet_shadow_flops_total", by="part"), "{{part}}"),
                empty="no instance",
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
                Query("sum by (result) (increase(canet_trainer_runs_total[1h]))", "{{result}}"),
                empty=NO_TRAINER,
            ),
            graph(
                "Refused by the gate",
                "Models that were trained and not published in the day before, by reason.",
                "short",
                Query("sum by (reason) (increase(canet_trainer_refused_total[1d]))", "{{reason}}"),
                empty=NO_TRAINER,
            ),
            graph(
                "NDCG@10 of the live and the new model",
                "Both on the newest split, as the gate compares them.",
                "short",
                Query("max by (model) (canet_trainer_ndcg_10)", "{{model}}"),
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
