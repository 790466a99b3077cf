"""The router finds a rule that is there and falls back to the best static choice otherwise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from training.fit.router_fit import RouterCases, fit_router, rising


def test_planted_rule_is_found_on_users_not_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    features_UC = torch.randn(600, 4, generator=generator)
    sign_U = torch.sign(features_UC[:, 1])
    hard_U = 0.3 * torch.rand(600, generator=generator)
    gap_US = torch.stack([0.1 * sign_U, torch.zeros(600)], 1)
    noise_US = 0.02 * torch.randn(600, 2, generator=generator)
    quality_US = 0.3 + hard_U[:, None] + gap_US + noise_US
    fitted = fit_router(features_UC, quality_US, seed=0)
    chosen_U = fitted.quality_US.argmax(1)
    reached = quality_US[torch.arange(600), chosen_U].mean()
    assert (chosen_U == (sign_U < 0).long()).float().mean() > 0.9
    assert reached > quality_US.mean(0).max() + 0.03
    assert fitted.shrinkage > 0.7
    assert fitted.explained > 0.5
    fresh_UC = torch.randn(200, 4, generator=generator)
    fresh_U = fitted.router(fresh_UC).argmax(1)
    assert (fresh_U == (fresh_UC[:, 1] < 0).long()).float().mean() > 0.9


def test_noise_leaves_the_best_static_choice() -> None:
    generator = torch.Generator().manual_seed(1)
    features_UC = torch.randn(600, 4, generator=generator)
    usual_S = torch.tensor([0.30, 0.34, 0.38])
    quality_US = usual_S + 0.1 * torch.randn(600, 3, generator=generator)
    fitted = fit_router(features_UC, quality_US, seed=0)
    assert fitted.shrinkage < 0.2
    assert (fitted.quality_US.argmax(1) == 2).float().mean() > 0.97
    assert (fitted.router(features_UC).argmax(1) == 2).float().mean() > 0.97


def test_a_faint_rule_among_many_useless_features_is_found() -> None:
    """Every case is noise; together they show the rule, if nothing is learned by heart."""
    generator = torch.Generator().manual_seed(5)
    features_UC = torch.randn(1_500, 40, generator=generator)
    gap_U = 0.05 * features_UC[:, 1]
    noise_US = 0.2 * torch.randn(1_500, 2, generator=generator)
    quality_US = 0.3 + noise_US + torch.stack([gap_U, torch.zeros(1_500)], 1)
    fitted = fit_router(features_UC, quality_US, seed=0)
    predicted_U = fitted.quality_US[:, 0] - fitted.quality_US[:, 1]
    found = np.corrcoef(predicted_U.numpy(), gap_U.numpy())[0, 1]
    assert found > 0.5
    assert fitted.explained > 0.004


def test_same_seed_gives_the_same_router() -> None:
    generator = torch.Generator().manual_seed(2)
    features_UC = torch.randn(40, 3, generator=generator)
    quality_US = torch.rand(40, 2, generator=generator)
    one, other = (fit_router(features_UC, quality_US, seed=7) for _ in range(2))
    assert torch.equal(one.quality_US, other.quality_US)
    assert torch.equal(one.router(features_UC), other.router(features_UC))


def test_one_user_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1 users are too few .* bring more data"):
        fit_router(torch.zeros(1, 3), torch.zeros(1, 2), seed=0)


def test_noise_still_lets_a_price_move_the_users_one_by_one() -> None:
    generator = torch.Generator().manual_seed(3)
    features_UC = torch.randn(600, 4, generator=generator)
    quality_US = 0.3 + 0.1 * torch.randn(600, 2, generator=generator)
    fitted = fit_router(features_UC, quality_US, seed=0)
    ahead_U = fitted.quality_US[:, 1] - fitted.quality_US[:, 0]
    assert len(torch.unique(ahead_U)) > 500


def test_extra_cases_teach_what_few_validation_cases_cannot() -> None:
    generator = torch.Generator().manual_seed(4)

    def made(cases: int) -> RouterCases:
        features = torch.randn(cases, 4, generator=generator)
        gap = 0.05 * torch.sign(features[:, 1])
        noise = 0.2 * torch.randn(cases, 2, generator=generator)
        return RouterCases(
            features=features, quality=0.4 + torch.stack([gap, torch.zeros(cases)], 1) + noise
        )

    few, many = made(60), made(8000)
    alone = fit_router(few.features, few.quality, seed=0)
    taught = fit_router(few.features, few.quality, seed=0, extra=many)

    def right(router: torch.nn.Module) -> float:
        fresh = torch.randn(2000, 4, generator=generator)
        quality = router(fresh)
        return float(((quality[:, 0] > quality[:, 1]) == (fresh[:, 1] > 0)).float().mean())

    assert right(taught.router) > 0.85
    assert right(taught.router) > right(alone.router)


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
        ([0.3, 0.1, 0.4], [0.2, 0.2, 0.4]),
        ([0.3, 0.2, 0.1], [0.2] * 3),
    ],
)
def test_means_rise_with_cost_and_keep_their_average(
    means: list[float], expected: list[float]
) -> None:
    found = rising(np.array(means, dtype=np.float32))
    assert found == pytest.approx(expected, abs=1e-4)
    assert all(low < high for low, high in pairwise(found.tolist()))
