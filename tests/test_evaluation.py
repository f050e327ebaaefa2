"""Evaluation in scripted lanes: every episode's length and reward is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from suite.envs.lanes import Lanes
from suite.evaluation import Evaluation, evaluate
from suite.spaces import Discrete, Spaces, box
from suite.steps import LaneStep

CPU = torch.device("cpu")


class ScriptedLanes(Lanes):
    """Lanes whose episodes have given lengths; each step is worth ``rewards[s][e]``.

    Args:
        lengths: lengths of the episodes of lane ``[s][e]``, over and over.
        rewards: ``[S, E]``; 1 if not given.
        truncates: ends are truncations instead of terminations.
    """

    spaces = Spaces({"step": box(0, 99, (1,))}, Discrete(2))

    def __init__(
        self,
        lengths: list[list[tuple[int, ...]]],
        rewards: list[list[float]] | None = None,
        truncates: bool = False,
    ) -> None:
        super().__init__((len(lengths), len(lengths[0])))
        self.lengths = lengths
        self.rewards = np.ones(self.shape, np.float32) if rewards is None else np.float32(rewards)
        self.truncates = truncates
        self.time = np.zeros(self.shape, int)
        self.episode = np.zeros(self.shape, int)
        self.steps = 0
        self.closed = False

    def observation(self) -> dict[str, np.ndarray]:
        return {"step": self.time[..., None].astype(np.float32)}

    def reset(self) -> dict[str, np.ndarray]:
        return self.observation()

    def step(self, action: np.ndarray) -> LaneStep:
        assert action.shape == self.shape
        self.steps += 1
        self.time += 1
        next_obs = self.observation()
        ended = np.zeros(self.shape, bool)
        for s, e in np.ndindex(self.shape):
            script = self.lengths[s][e]
            ended[s, e] = self.time[s, e] == script[self.episode[s, e] % len(script)]
        self.episode += ended
        self.time[ended] = 0
        no = np.zeros(self.shape, bool)
        terminated, truncated = (no, ended) if self.truncates else (ended, no)
        return LaneStep(self.observation(), next_obs, self.rewards, terminated, truncated)

    def close(self) -> None:
        self.closed = True


class CountingAgent:
    """Writes down what it is shown; its carry counts the steps of each episode."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, Tensor, bool]] = []

    def initial(self, lanes: int) -> Tensor:
        return torch.full((1, lanes), -1)

    def act(
        self, carry: Tensor, obs: dict[str, Tensor], first: Tensor, explore: bool
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        carry = torch.where(first, 0, carry + 1)
        self.seen.append((carry, obs["step"].squeeze(-1).clone(), first, explore))
        return carry, torch.zeros(first.shape, dtype=torch.int64), {}


def play(lanes: ScriptedLanes, agent: Any = None, max_episode_steps: int = 1000) -> Evaluation:
    return evaluate(agent or CountingAgent(), lanes, max_episode_steps, CPU)


def test_every_lane_plays_one_episode_whatever_its_length():
    # the first two episodes to finish would both be of the fast lane: mean 1 instead of 5
    result = play(ScriptedLanes([[(1,), (9,)]]))
    assert result.returns.tolist() == [[1.0, 9.0]]
    assert result.lengths.tolist() == [[1, 9]]


def test_returns_are_sums_of_rewards_by_seed_and_episode():
    lanes = ScriptedLanes([[(2, 3), (1, 4)], [(5, 1), (2, 2)]], rewards=[[1.0, 0.5], [-2.0, 0.0]])
    result = play(lanes)
    assert result.lengths.tolist() == [[2, 1], [5, 2]]
    assert result.returns.tolist() == [[2.0, 0.5], [-10.0, 0.0]]
    assert (result.returns.dtype, result.lengths.dtype) == (np.float64, np.int64)


def test_truncated_episodes_count_like_terminated_ones():
    script = [[(2, 3), (1, 4)]]
    truncated = play(ScriptedLanes(script, truncates=True))
    assert truncated.lengths.tolist() == play(ScriptedLanes(script)).lengths.tolist()


def test_steps_beyond_the_episode_of_a_lane_do_not_count():
    result = play(ScriptedLanes([[(1, 50), (3,)]]))
    assert result.lengths.tolist() == [[1, 3]]


def test_play_stops_as_soon_as_the_slowest_lane_is_done():
    lanes = ScriptedLanes([[(1,), (3,)]])
    play(lanes)
    assert lanes.steps == 3


def test_agent_is_shown_beginnings_and_never_explores():
    agent = CountingAgent()
    play(ScriptedLanes([[(2,), (5,)]]), agent)
    assert all(torch.equal(carry, step.long()) for carry, step, _, _ in agent.seen)
    assert [first.tolist()[0] for _, _, first, _ in agent.seen] == [
        [True, True],
        [False, False],
        [True, False],
        [False, False],
        [True, False],
    ]
    assert not any(explore for *_, explore in agent.seen)


def test_endless_episodes_are_cut():
    result = play(ScriptedLanes([[(10_000,), (3,)]]), max_episode_steps=7)
    assert result.lengths.tolist() == [[7, 3]]


def test_lanes_are_closed():
    lanes = ScriptedLanes([[(1,)]])
    play(lanes)
    assert lanes.closed


@pytest.mark.parametrize("method", ["initial", "act"])
def test_lanes_are_closed_when_the_agent_fails(method: str):
    def fail(*arguments: object) -> None:
        raise ArithmeticError

    agent, lanes = CountingAgent(), ScriptedLanes([[(1,)]])
    setattr(agent, method, fail)
    with pytest.raises(ArithmeticError):
        play(lanes, agent)
    assert lanes.closed


class FailingLanes(ScriptedLanes):
    """The lanes of the second seed die at the third step."""

    def step(self, action: np.ndarray) -> LaneStep:
        if self.steps == 2:
            self.failures[1] = "lane 0: segmentation fault"
            self.lengths[1] = [(10**9,)] * self.shape[1]
        return super().step(action)


def test_nobody_waits_for_lanes_that_failed():
    lanes = FailingLanes([[(4,), (5,)], [(4,), (5,)]])
    result = play(lanes)
    assert lanes.steps == 5
    assert result.lengths[0].tolist() == [4, 5]
