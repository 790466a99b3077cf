"""Training, validation and test parts of the interactions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalog import Catalog
from training.data.catalog_build import build_catalog
from training.data.errors import DataError
from training.data.interactions import Interactions
from training.data.sequences import Sequences, gather

_log = logging.getLogger(__name__)

# Items in the histories of one part; 2 GiB of int64.
_MAX_HISTORY_ITEMS = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvalCases:
    """What to predict: `targets[i]` followed the non-empty history `histories[i]`.

    targets: (cases,) int64 table rows. users: (cases,) int64 places in `user_ids` of the data.
    """

    histories: Sequences
    targets: NDArray[np.int64]
    users: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def followed(self) -> Sequences:
        """Return the histories with their targets at the end: what is asked about next."""
        offsets = self.histories.offsets
        return Sequences(
            offsets=offsets + np.arange(len(offsets)),
            items=np.insert(self.histories.items, offsets[1:], self.targets),
        )


class SealedCases:
    """Cases that can be opened once: a second look at the test part is no longer a test."""

    __slots__ = ("_cases", "_opened")

    def __init__(self, cases: EvalCases) -> None:
        self._cases = cases
        self._opened = 0

    def __len__(self) -> int:
        return len(self._cases)

    def open(self, *, again: bool = False) -> EvalCases:
        """Return the cases and log it; RuntimeError on a second call without `again`."""
        if self._opened and not again:
            raise RuntimeError(
                "the test part was opened before; what is chosen after looking at it is not "
                "tested by it. Use validation, or open with again=True if that is understood"
            )
        self._opened += 1
        _log.info("test part opened: %d cases, time %d", len(self._cases), self._opened)
        return self._cases


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """One division of the data; all items are table rows of `catalog`.

    training: one sequence per user, in the order of the data's `user_ids`; may be empty.
    training_mask: (n,) the training rows of the interactions.
    left_out: rows or cases dropped because a given catalog lacks their item.
    description: how it was made, for a person.
    """

    catalog: Catalog
    training: Sequences
    validation: EvalCases
    test: SealedCases = field(repr=False)
    training_mask: NDArray[np.bool_] = field(repr=False)
    left_out: int
    description: str

    def open_test(self, *, again: bool = False) -> EvalCases:
        """Return the test cases, once; RuntimeError on a second call without `again`."""
        return self.test.open(again=again)


def leave_one_out(
    interactions: Interactions,
    *,
    catalog: Catalog | None = None,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Split:
    """Return the split where a user's last item is test and the second-last validation.

    A test history holds all before the last, the validation item included. Users with fewer
    than 3 interactions are training only. A catalog that is given is used as it is; without
    one, all items are ordered by their popularity in the training part.
    """
    offsets = interactions.offsets()
    starts, stops = offsets[:-1], offsets[1:]
    long = stops - starts >= 3
    mask = np.ones(len(interactions), dtype=np.bool_)
    mask[stops[long] - 1] = False
    mask[stops[long] - 2] = False
    return _split(
        interactions,
        catalog,
        attributes,
        mask,
        validation_rows=stops[long] - 2,
        test_rows=stops[long] - 1,
        max_history=None,
        description="leave-one-out: last item test, second-last validation",
    )


def temporal(
    interactions: Interactions,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    validation_start_ms: int | None = None,
    test_start_ms: int | None = None,
    every_step: bool = False,
    max_history: int | None = None,
    catalog: Catalog | None = None,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Split:
    """Return the split by time: training, then validation, then test.

    The cuts are moments, or are set so that the last shares of the rows fall behind them; rows
    of one moment stay together. A user's first interaction inside a part that has something
    before it is a case; under `every_step` each such interaction is. Histories hold all that
    came before, also from later parts than training, at most `max_history` items.

    Raises:
        DataError: the data has no times, fractions or cuts make no sense, a part is empty, or
            the histories would not fit in memory.
    """
    if not interactions.has_times:
        raise DataError(
            f"a temporal split needs times, this data has only an order "
            f"({interactions.report.time_kind}); use leave-one-out"
        )
    times = interactions.timestamps
    if (validation_start_ms is None) != (test_start_ms is None):
        raise DataError("give both validation_start_ms and test_start_ms, or neither")
    if validation_start_ms is None or test_start_ms is None:
        both = validation_fraction + test_fraction
        if not (validation_fraction > 0 and test_fraction > 0 and both < 1):
            raise DataError(
                f"validation_fraction {validation_fraction} and test_fraction {test_fraction} "
                "must be above 0 and leave something for training"
            )
        ordered = np.sort(times)
        validation_start_ms = int(ordered[int(len(times) * (1 - both))])
        test_start_ms = int(ordered[int(len(times) * (1 - test_fraction))])
    mask = times < validation_start_ms
    validation = ~mask & (times < test_start_ms)
    test = times >= test_start_ms
    for name, part in (("training", mask), ("validation", validation), ("test", test)):
        if not part.any():
            raise DataError(
                f"the {name} part is empty with cuts at {validation_start_ms} and "
                f"{test_start_ms} ms; the data spans {times.min()} to {times.max()} ms"
            )
    return _split(
        interactions,
        catalog,
        attributes,
        mask,
        validation_rows=_cases(interactions, validation, every_step),
        test_rows=_cases(interactions, test, every_step),
        max_history=max_history,
        description=(
            f"temporal: validation from {validation_start_ms} ms, test from {test_start_ms} ms, "
            + ("every step" if every_step else "one case per user")
        ),
    )


def _cases(
    interactions: Interactions, part: NDArray[np.bool_], every_step: bool
) -> NDArray[np.int64]:
    """Return the rows to predict: those of the part with a history, first per user or all."""
    users = interactions.user_codes
    rows: NDArray[np.int64] = np.flatnonzero(
        part & (interactions.offsets()[users] < np.arange(len(users)))
    )
    if not every_step and len(rows):
        rows = rows[np.append(True, np.diff(users[rows]) > 0)]
    return rows


def _split(
    interactions: Interactions,
    catalog: Catalog | None,
    attributes: Mapping[str, Mapping[str, Any]] | None,
    mask: NDArray[np.bool_],
    *,
    validation_rows: NDArray[np.int64],
    test_rows: NDArray[np.int64],
    max_history: int | None,
    description: str,
) -> Split:
    if catalog is None:
        catalog = build_catalog(interactions, attributes, training_mask=mask)
    rows_of_code = np.array(
        [catalog.item_id(external) or 0 for external in interactions.item_ids], dtype=np.int64
    )
    items = rows_of_code[interactions.item_codes]
    known = items > 0
    training_items = mask & known
    lengths = np.bincount(interactions.user_codes[training_items], minlength=interactions.num_users)
    training = Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=items[training_items],
    )
    if not len(training.items):
        raise DataError("no training rows: every user has fewer items than the split takes away")
    # Place of each row, and of each user's start, among the rows whose item is known.
    places = np.concatenate([[0], np.cumsum(known)]).astype(np.int64)
    starts = places[interactions.offsets()[:-1]]
    known_items = items[known]

    def cases(rows: NDArray[np.int64]) -> tuple[EvalCases, int]:
        users = interactions.user_codes[rows].astype(np.int64)
        stop = places[rows]
        start = starts[users]
        if max_history is not None:
            start = np.maximum(start, stop - max_history)
        keep = known[rows] & (stop > start)
        total = int((stop - start)[keep].sum())
        if total > _MAX_HISTORY_ITEMS:
            raise DataError(
                f"the histories of {int(keep.sum()):,} cases hold {total:,} items, at most "
                f"{_MAX_HISTORY_ITEMS:,} fit; set max_history or one case per user"
            )
        histories = gather(known_items, start[keep], stop[keep])
        found = EvalCases(histories=histories, targets=items[rows[keep]], users=users[keep])
        return found, int(len(rows) - keep.sum())

    validation, missed_validation = cases(validation_rows)
    test, missed_test = cases(test_rows)
    return Split(
        catalog=catalog,
        training=training,
        validation=validation,
        test=SealedCases(test),
        training_mask=mask,
        left_out=int((mask & ~known).sum()) + missed_validation + missed_test,
        description=description,
    )
