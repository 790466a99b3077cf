"""Answers of the trained network, written down so that a service can prove it gives the same."""

from __future__ import annotations

import torch

from models.catalog import Catalog
from models.checkpoint.golden import GoldenQuery
from models.ranker import Ranker, stack
from models.topk import top_rows
from training.data.split import EvalCases

GOLDEN_K = 20


@torch.inference_mode()
def golden_queries(
    ranker: Ranker, catalog: Catalog, cases: EvalCases, *, histories: int = 3
) -> list[GoldenQuery]:
    """Return the top 20 of every served submodel for a few histories, seen items excluded.

    Histories are the shortest, the median and the longest of the cases (more: evenly between),
    cut to what the network reads.
    """
    lengths = cases.histories.lengths()
    order = lengths.argsort(kind="stable")
    picks = [int(order[i * (len(order) - 1) // max(1, histories - 1)]) for i in range(histories)]
    queries: list[GoldenQuery] = []
    for place, submodel in enumerate(ranker.served):
        for index in dict.fromkeys(picks):
            history = cases.histories[index][-ranker.config.max_length :].tolist()
            ids_BL, lengths_B = stack([history], ranker.bucket(len(history)))
            query_BE = ranker.encode(place, ids_BL, lengths_B)
            scores_V = ranker.score(place, query_BE, ids_BL, lengths_B)[0]
            scores_V[history] = -torch.inf
            rows, scores = top_rows(scores_V, GOLDEN_K)
            queries.append(
                GoldenQuery(
                    history=tuple(catalog.external_id(row) for row in history),
                    submodel=submodel.name,
                    items=tuple(catalog.external_id(row) for row in rows),
                    scores=tuple(scores),
                )
            )
    return queries
