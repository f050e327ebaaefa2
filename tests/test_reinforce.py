"""REINFORCE counts finished episodes only, by returns that can be added up by hand."""

from __future__ import annotations

import pytest
import torch
from agents_support import set_table
from on_policy_support import hand_made, table_agent

from baselines.parts.optim import ParameterMatrix
from baselines.reinforce import Carried, finished, returns_to_go, standardised
from suite.configs import resolve_config
from suite.protocols import PROTOCOLS
from suite.registry import find_task, load_algorithm
from suite.steps import Transition


def steps(*values: float) -> torch.Tensor:
    """``[1, T, 1]``."""
    return torch.tensor(values).view(1, -1, 1)


def test_a_step_counts_if_its_episode_ends_before_the_rollout_does() -> None:
    ended = torch.tensor(
        [[[0, 0], [1, 0], [0, 0], [0, 1]], [[0, 0], [0, 0], [0, 0], [0, 0]]]
    ).bool()
    expected = [[[1, 1], [1, 1], [0, 1], [0, 1]], [[0, 0], [0, 0], [0, 0], [0, 0]]]
    assert finished(ended).int().tolist() == expected


def test_returns_stop_at_the_end_of_an_episode() -> None:
    ended = steps(0, 1, 0, 0).bool()
    returns = returns_to_go(steps(1.0, 2.0, 4.0, 8.0), ended, discount=0.5)
    assert returns.flatten().tolist() == [1 + 0.5 * 2, 2, 4 + 0.5 * 8, 8]


def test_standardising_looks_at_weighted_values_alone() -> None:
    values = torch.tensor([[1.0, 3.0, 99.0], [5.0, 5.0, 5.0]])
    weight = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    result = standardised(values, weight)
    assert result[0, :2].tolist() == pytest.approx([-1, 1])
    assert result.isfinite().all()


def update(agent, **changes):
    """Metrics and parameters after a rollout of two seeds; only seed 0 finishes an episode."""
    rollout = {
        "obs": [[0, 1, 0, 1]] * 2,
        "sample": [[0, 1, 1, 0]] * 2,
        "reward": [[1, 2, 3, 4]] * 2,
        "terminated": [[0, 1, 0, 0], [0, 0, 0, 0]],
    }
    metrics = agent._update(hand_made(**(rollout | changes)))
    return metrics, agent.parameters()["networks"].clone()


def agent_of_two(**changes):
    return table_agent("reinforce", seeds=(0, 1), **changes)


def test_unfinished_tails_are_masked_out() -> None:
    before = agent_of_two().parameters()["networks"].clone()
    metrics, after = update(agent_of_two())
    _, other = update(agent_of_two(), reward=[[1, 2, 30, -4]] * 2, sample=[[0, 1, 0, 1]] * 2)
    assert metrics["counted"].tolist() == [0.5, 0]
    assert after.equal(other)
    assert not after[0].equal(before[0])
    assert after[1].equal(before[1])  # nothing finished, nothing learned


def test_a_step_counts_once_when_its_episode_ends_in_this_rollout_or_the_next() -> None:
    carried = Carried()
    # lane 0 ends at steps 1 and 4, lane 1 at step 7 alone: a whole rollout and more
    ended = torch.tensor([[[0, 0], [1, 0], [0, 0], [0, 0], [1, 0], [0, 0], [0, 0], [0, 1]]]).bool()
    zeros = torch.zeros(1, 8, 2)

    def rollout(start: int) -> Transition:
        time = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 2)[:, start : start + 4]
        part, none = zeros[:, start : start + 4], torch.zeros(1, 4, 2, dtype=torch.bool)
        return Transition({"o": time}, part, time, {}, ended[:, start : start + 4], none, {})

    _, counts = carried.join(rollout(0))
    assert counts.int().tolist() == [[[1, 0], [1, 0], [0, 0], [0, 0]]]
    both, counts = carried.join(rollout(4))
    assert both.obs["o"][0, :, 0].tolist() == both.reward[0, :, 1].tolist() == list(range(8))
    assert counts[0, :, 0].int().tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert counts[0, :, 1].int().tolist() == [1] * 8


def test_what_counts_does_not_depend_on_how_long_an_episode_is() -> None:
    """Among episodes no longer than a rollout every step counts exactly once."""
    generator = torch.Generator().manual_seed(0)
    carried, length, counted = Carried(), 0, []
    ends = torch.zeros(400, dtype=torch.bool)
    while length < 400:
        ends[length] = True
        length += int(torch.randint(1, 11, (), generator=generator))
    for start in range(0, 400, 10):
        ended = ends[start : start + 10].view(1, 10, 1)
        part = torch.zeros(1, 10, 1)
        place = torch.arange(start, start + 10).view(1, 10, 1)
        both, counts = carried.join(
            Transition({}, part, part, {}, ended, torch.zeros_like(ended), {"place": place})
        )
        counted += both.extras["place"][counts].tolist()
    assert sorted(counted) == list(range(int(ends.nonzero().max()) + 1))


@pytest.mark.parametrize("protocol", ["quick", "standard", "validation"])
def test_the_presets_have_room_for_a_whole_episode(protocol: str) -> None:
    algorithm = load_algorithm("reinforce")
    for row in PROTOCOLS[protocol].budgets:
        config, horizon = resolve_config(algorithm, row.task, protocol), find_task(row.task).horizon
        if config.whole_episodes and horizon is not None:
            assert config.rollout_steps >= horizon, row.task


def test_a_truncated_episode_is_worth_what_it_has_earned() -> None:
    ends = [[0, 1, 0, 0]] * 2
    _, terminated = update(agent_of_two(), terminated=ends)
    _, truncated = update(agent_of_two(), terminated=None, truncated=ends)
    assert terminated.equal(truncated)


def test_the_rest_counts_too_where_episodes_need_not_be_whole() -> None:
    metrics, after = update(agent_of_two(whole_episodes=False))
    _, other = update(agent_of_two(whole_episodes=False), reward=[[1, 2, 3, -4]] * 2)
    assert metrics["counted"].tolist() == [1, 1]
    assert (after != other).any(dim=1).all()


@pytest.mark.parametrize("piece_size", [1, 3, 100])
def test_the_gradient_is_the_return_times_the_likelihoods(piece_size: int) -> None:
    agent = table_agent(
        "reinforce", normalise_returns=False, entropy_coefficient=0.0, discount=0.5,
        piece_size=piece_size,
    )  # fmt: skip
    set_table(agent.policy.actor, [[0.0, 0.0], [0.0, 0.0]])
    gradients = []
    agent.optimiser.apply = gradients.append
    update_one = hand_made([[0, 1, 0]], [[0, 1, 0]], [[1, 3, 9]], [[0, 1, 0]])
    agent._update(update_one)
    # uniform policy: d log p(chosen) / d logits is 1/2 for the chosen and -1/2 for the other
    first, second = 0.5 * (1 + 0.5 * 3) / 2, 0.5 * 3 / 2  # a mean over two steps
    ((weight, bias),) = agent.policy.actor.layers(gradients[0])
    assert weight.flatten().tolist() == pytest.approx([-first, first, second, -second])
    assert bias.flatten().tolist() == pytest.approx([second - first, first - second])


def test_a_learned_baseline_is_subtracted_and_moves_towards_the_returns() -> None:
    agent = table_agent(
        "reinforce", baseline=True, normalise_returns=False, entropy_coefficient=0.0, discount=1.0
    )
    set_table(agent.baseline.critic, [[5.0], [2.0]])
    items = agent._prepare(hand_made([[0, 1]], [[0, 1]], [[4, 4]], [[0, 1]]))
    assert items["advantage"].tolist() == [[8 - 5, 4 - 2]]
    gradient = ParameterMatrix.gradient(agent.parameter_matrix, agent._loss(items))
    ((_, bias),) = agent.baseline.critic.layers(
        gradient[:, -agent.baseline.critic.packed.shape[1] :]
    )
    assert bias.item() == pytest.approx(0.5 * -(3 + 2) / 2)  # half a mean of squares, twice halved
