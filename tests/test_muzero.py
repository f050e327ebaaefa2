"""MuZero: what it remembers, what it learns from, and how it acts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from agents_support import Training, make_agent
from torch import Tensor

from baselines.parts import replay as replay_module
from baselines.parts.n_step import bootstrap_steps, n_step_targets
from baselines.parts.sequences import SequenceReplay
from baselines.parts.support import Support, squash, unsquash
from suite.registry import engine_for, find_task
from suite.spaces import Discrete, MultiDiscrete, Spaces, box
from suite.steps import Transition
from suite.streams import Streams, lane_seeds

CPU = torch.device("cpu")
SEEDS = (0, 1)
ACTIONS = {
    "discrete": Discrete(3),
    "multidiscrete": MultiDiscrete((2, 3)),
    "box": box(-1.0, 1.0, (2,)),
}


def make(actions: Any = None, **changes: Any) -> Any:
    spaces = Spaces({"obs": box(-10.0, 10.0, (1,))}, actions or Discrete(3))
    return make_agent("muzero", spaces, 400, SEEDS, **changes)


def play(agent: Any, steps: int) -> list[dict[str, Tensor] | None]:
    """Steps of all lanes in a world without an end, whose observations are the step's number."""
    found = []
    for number in range(steps):
        obs, following = ({"obs": torch.full((2, 2, 1), float(n))} for n in (number, number + 1))
        first = torch.zeros(2, 2, dtype=torch.bool)
        _, action, extras = agent.act(None, obs, first, True)
        reward = torch.ones(2, 2)
        step = Transition(obs, action, reward, following, first, first, extras)
        found.append(agent.observe(step))
    return found


# Scalars as distributions


@pytest.mark.parametrize(
    ("scalar", "place"), [(0.0, 0.0), (3.0, 1.003), (-8.0, -2.008), (9999.0, 99 + 9.999)]
)
def test_the_scale_is_squashed_by_a_root(scalar: float, place: float) -> None:
    assert squash(torch.tensor(scalar)).item() == pytest.approx(place)
    assert unsquash(torch.tensor(place)).item() == pytest.approx(scalar, rel=1e-5)


def test_unsquash_is_exact_near_0() -> None:
    small = torch.tensor([0.0, 1e-3, -1e-3, 1e-2])
    torch.testing.assert_close(unsquash(squash(small)), small, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("scalar", "shares"),
    [
        (0.0, {2: 1.0}),
        (3.0, {3: 0.997, 4: 0.003}),
        (-8.0, {0: 1.0}),  # -2.008 is beyond the support
        (1e9, {4: 1.0}),
        (unsquash(torch.tensor(-0.25)).item(), {1: 0.25, 2: 0.75}),
    ],
)
def test_a_scalar_is_shared_by_two_neighbours(scalar: float, shares: dict[int, float]) -> None:
    support = Support(2, CPU)
    logits = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    log_probs = logits.log_softmax(dim=0)
    expected = -sum(share * float(log_probs[index]) for index, share in shares.items())
    found = support.cross_entropy(logits.view(1, 5), torch.tensor([scalar]))
    assert found.tolist() == pytest.approx([expected], abs=1e-5)


def test_the_mean_bin_is_decoded() -> None:
    support = Support(2, CPU)
    weights = torch.tensor([[1e-9, 1e-9, 0.75, 0.25, 1e-9], [1.0] * 5])
    expected = [unsquash(torch.tensor(0.25)).item(), 0.0]
    assert support.decode(weights.log()).tolist() == pytest.approx(expected, abs=1e-5)


# What states were worth

REWARD = [1.0, 2.0, 4.0, 8.0, 16.0]
VALUE = [100.0, 200.0, 300.0]


@pytest.mark.parametrize(
    ("last", "terminated", "steps", "targets"),
    [
        (4, None, [1, 2, 3], [1 + 1 + 25, 2 + 2 + 50, 4 + 4 + 75]),
        # the third step is cut: what follows it counts, and no reward beyond it
        (2, None, [1, 2, 2], [1 + 1 + 25, 2 + 2 + 50, 4 + 150]),
        (2, 2, [1, 2, 2], [1 + 1 + 25, 2 + 2, 4]),
        (1, 1, [1, 1, 1], [1 + 1, 2, 0]),
        (0, 0, [0, 0, 0], [1, 0, 0]),
        # a termination after the returns' end is none of their business
        (4, 4, [1, 2, 3], [27, 54, 83]),
    ],
    ids=["no-end", "truncated", "terminated", "terminated-early", "terminated-at-once", "later"],
)
def test_n_step_targets_by_literal_numbers(
    last: int, terminated: int | None, steps: list[int], targets: list[float]
) -> None:
    ends = torch.zeros(1, 1, 5, dtype=torch.bool)
    if terminated is not None:
        ends[..., terminated] = True
    stop = torch.tensor([[last]])
    assert bootstrap_steps(stop, 3, 2).tolist() == [[steps]]
    found = n_step_targets(
        torch.tensor([[REWARD]]), ends, stop, torch.tensor([[VALUE]]), steps=2, discount=0.5
    )
    assert found[0, 0].tolist() == targets


def test_rewards_beyond_the_end_do_not_leak_even_if_they_are_not_numbers() -> None:
    reward = torch.tensor([[[1.0, math.nan, math.nan]]])
    ends = torch.tensor([[[True, False, False]]])
    found = n_step_targets(reward, ends, torch.tensor([[0]]), torch.ones(1, 1, 2), 2, 0.5)
    assert found.tolist() == [[[1, 0]]]


# Sequences


@pytest.fixture(params=[0, 1024], ids=["frames", "whole"])
def every_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with all observations kept frame by frame, once with all of them kept whole."""
    monkeypatch.setattr(replay_module, "WHOLE_BYTES", request.param)


def counting_memory(steps: int, capacity: int, ends: int) -> SequenceReplay:
    """Two lanes; step t has the number 10 t + lane, + 1000 for the second seed.

    Episodes of ``ends`` steps. Observations equal the number, and those that end an episode lie
    0.5 beyond.
    """
    replay = SequenceReplay(capacity, {"place": box(0, 1, (1,))}, Streams(SEEDS))
    for t in range(steps):
        number = 10 * t + torch.tensor([[0, 1], [1000, 1001]])
        ended = torch.full((2, 2), (t + 1) % ends == 0)
        following = torch.where(ended, number + 0.5, number + 10.0)
        replay.add(
            {"number": number, "ended": ended},
            {"place": number.unsqueeze(-1).float()},
            {"place": following.unsqueeze(-1).float()},
            ended,
        )
    return replay


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize(("steps", "held"), [(7, 7), (12, 12), (31, 12)])
def test_sequences_follow_one_lane_and_stop_at_ends_and_at_the_newest(
    steps: int, held: int
) -> None:
    length = 4
    replay = counting_memory(steps, capacity=24, ends=5)
    slots, items, last = replay.sample_within(600, length)
    number = items["number"]
    start = number[..., 0] // 10 % 100
    assert set(start.flatten().tolist()) == set(range(steps - held, steps))
    assert set((number[..., 0] % 10).flatten().tolist()) == {0, 1}
    assert (number[0] < 1000).all()
    assert (number[1] >= 1000).all()
    to_the_end = 4 - start % 5
    to_the_newest = steps - 1 - start
    expected = torch.minimum(to_the_end, to_the_newest).clamp(max=length - 1)
    assert torch.equal(last, expected)
    for ahead in range(length):
        inside = ahead <= last
        follower = number[..., 0] + 10 * ahead
        assert torch.equal(number[..., ahead][inside], follower[inside])
    stop = slots.gather(-1, last.unsqueeze(-1)).squeeze(-1)
    obs, following = replay.observations(stop)
    final = number.gather(-1, last.unsqueeze(-1)).float()
    assert torch.equal(obs["place"], final)
    at_end = to_the_end.unsqueeze(-1) == last.unsqueeze(-1)
    assert torch.equal(following["place"], torch.where(at_end, final + 0.5, final + 10))


# What it learns from


class NamedValue:
    """A target network that takes an observation for its value."""

    def represent(self, obs: dict[str, Tensor]) -> Tensor:
        return obs["obs"]

    def predict(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        return latent, latent.squeeze(-1)


@pytest.mark.parametrize(("truncates", "bonus"), [(True, 1), (False, 0)])
def test_values_bootstrap_from_true_observations_at_a_cut_and_from_nothing_at_an_end(
    truncates: bool, bonus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make(unroll_steps=2, return_steps=2, discount=0.5, learning_starts=1_000)
    for number in range(6):
        ends = torch.full((2, 2), number == 2)
        never = torch.zeros_like(ends)
        obs = {"obs": torch.full((2, 2, 1), 8.0 * number)}
        _, action, extras = agent.act(None, obs, ends, True)
        # the true outcome of the third step is 1000, and the next episode begins at 24
        following = {"obs": torch.full((2, 2, 1), 1000.0 if number == 2 else 8.0 * number + 8)}
        cut = (never, ends) if truncates else (ends, never)
        agent.observe(Transition(obs, action, torch.ones(2, 2), following, *cut, extras))
    monkeypatch.setattr(agent, "target", NamedValue())
    monkeypatch.setattr(agent.support, "decode", lambda logits: logits)
    slots, items, last = agent.replay.sample_within(100, 4)
    target = agent._value_target(slots, items, last)
    start = agent.replay.observations(slots[..., 0])[0]["obs"].squeeze(-1)
    from_0, from_1, from_2 = (target[start == 8 * number] for number in range(3))
    assert len(from_0)
    assert len(from_1)
    full, cut_short = 1 + 0.5 * 1, 1.0
    assert (from_0[:, 0] == full + 0.25 * 16).all()
    assert (from_0[:, 1] == full + bonus * 0.25 * 1000).all()
    assert (from_0[:, 2] == cut_short + bonus * 0.5 * 1000).all()
    assert (from_1[:, 1] == cut_short + bonus * 0.5 * 1000).all()
    if not truncates:
        assert (from_1[:, 2] == 0).all()
        assert (from_2[:, 1:] == 0).all()


def test_positions_without_a_target_do_not_count_and_unrolled_ones_count_a_share() -> None:
    agent = make(unroll_steps=2)
    # two seeds, one sequence, three positions; losses lie one position after the other
    losses = torch.tensor([[1.0, 10.0, 100.0], [1.0, math.nan, 100.0]])
    counts = torch.tensor([[[True, True, True]], [[True, False, False]]])
    assert agent._by_position(losses, counts).tolist() == [1 + 0.5 * 10 + 0.5 * 100, 1]
    # rewards have no position of their own at the root
    assert agent._by_position(losses[:, 1:], counts[..., 1:]).tolist() == [55, 0]


def test_the_policy_loss_of_samples_is_the_cross_entropy_of_visits_and_densities() -> None:
    agent = make(box(-1.0, 1.0, (1,)), unroll_steps=1, samples=2, entropy_coefficient=0.0)
    action, share = torch.tensor([[0.3], [-0.2]]), torch.tensor([0.75, 0.25])
    items = {
        "candidates": action.expand(2, 1, 4, 2, 1),
        "share": share.expand(2, 1, 4, 2),
    }
    outputs = torch.tensor([math.atanh(0.1), 0.0]).expand(2, 2, 2)
    deviation = math.exp(-1.0)
    density = torch.distributions.Normal(0.1, deviation)
    expected = -(share * density.log_prob(action.squeeze(-1))).sum().item()
    loss = agent._policy_loss(outputs, items)
    assert loss.flatten().tolist() == pytest.approx([expected] * 4)
    agent = make(box(-1.0, 1.0, (1,)), unroll_steps=1, samples=2, entropy_coefficient=0.5)
    bonus = 0.5 * density.entropy().item()
    loss = agent._policy_loss(outputs, items)
    assert loss.flatten().tolist() == pytest.approx([expected - bonus] * 4)


def test_the_policy_loss_of_listed_actions_is_the_cross_entropy_of_visits() -> None:
    agent = make(Discrete(2), unroll_steps=1)
    share = torch.tensor([[0.75, 0.25], [0.0, 1.0]])  # of two positions
    items = {"share": share.expand(2, 1, 2, 2)}
    outputs = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]]).expand(2, 2, 2)
    expected = [-0.75 * math.log(0.25) - 0.25 * math.log(0.75), math.log(2)]
    assert agent._policy_loss(outputs, items)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("task", "value"), [("termination", (1 - 0.8**5) / (1 - 0.8)), ("truncation", 1 / (1 - 0.8))]
)
def test_an_end_has_no_value_and_a_cut_keeps_it(task: str, value: float) -> None:
    found = find_task(f"probes/{task}")
    lanes = engine_for(found, None).make(found, lane_seeds(SEEDS, "train", 0, 8), "train", 1)
    agent = make_agent(
        "muzero",
        lanes.spaces,
        1_600,
        SEEDS,
        lanes=8,
        simulations=1,
        update_period=4,
        unroll_steps=2,
        batch_size=32,
        discount=0.8,
        learning_rate=1e-2,
        target_rate=0.1,
        hidden=(32,),
        support=5,
    )
    Training(agent, lanes).go_on(1_600)
    obs = {"observation": torch.zeros(2, 1, dtype=torch.int64)}
    with torch.no_grad():
        _, logits = agent.networks.predict(agent.networks.represent(obs))
        assert agent.support.decode(logits)[:, 0].tolist() == pytest.approx([value] * 2, rel=0.05)


# How it acts


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_an_untrained_model_earns_nothing_and_prefers_nothing(actions: Any) -> None:
    agent = make(actions)
    with torch.no_grad():
        latent = agent.networks.represent(
            {"obs": torch.arange(1.0, 6.0).view(1, 5, 1).expand(2, 5, 1)}
        )
        assert latent.amin(dim=-1).tolist() == [[0.0] * 5] * 2
        torch.testing.assert_close(latent.amax(dim=-1), torch.ones(2, 5), rtol=0, atol=1e-3)
        policy, value = agent.networks.predict(latent)
        action = torch.ones(2, 5, agent.candidates.inputs)
        following, reward = agent.networks.imagine(latent, action)
    assert (policy == 0).all()
    for logits in (value, reward):
        assert agent.support.decode(logits).abs().max() < 1e-5
    torch.testing.assert_close(following, latent, rtol=0, atol=1e-3)


def test_candidates_are_taken_at_random_until_learning_starts() -> None:
    agent = make(learning_starts=8)
    obs, first = {"obs": torch.zeros(2, 3_000, 1)}, torch.zeros(2, 3_000, dtype=torch.bool)
    _, action, extras = agent.act(None, obs, first, True)
    assert (extras["share"] == 1 / 3).all()
    for number in range(3):
        assert (action == number).double().mean(dim=1).tolist() == pytest.approx(
            [1 / 3] * 2, abs=0.03
        )
    play(agent, 4)
    _, _, extras = agent.act(None, obs, first, True)
    torch.testing.assert_close(extras["share"].sum(dim=-1), torch.ones(2, 3_000))
    assert (extras["share"] * 2 == (extras["share"] * 2).round()).all()
    assert (extras["share"] != 1 / 3).all()


def test_a_low_temperature_takes_what_was_visited_most(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make(learning_starts=0, temperature_initial=1.0, temperature_final=0.2)
    visits = torch.tensor([1.0, 3.0, 0.0]).expand(2, 4_000, 3)
    obs, first = {"obs": torch.zeros(2, 4_000, 1)}, torch.zeros(2, 4_000, dtype=torch.bool)
    search = agent._search

    def fixed(latent: Tensor, role: str, explore: bool) -> Any:
        root, found = search(latent, role, explore)
        return root, found._replace(visits=visits)

    monkeypatch.setattr(agent, "_search", fixed)
    for added, temperature in ((0, 1.0), (200, 0.6), (400, 0.2)):
        agent.replay.added = added
        assert agent.temperature() == pytest.approx(temperature)
        _, action, extras = agent.act(None, obs, first, True)
        share = 3 ** (1 / temperature) / (1 + 3 ** (1 / temperature))
        assert (action == 1).double().mean(dim=1).tolist() == pytest.approx([share] * 2, abs=0.03)
        assert (action != 2).all()
        assert extras["share"][0, 0].tolist() == [0.25, 0.75, 0]


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_evaluation_draws_from_its_own_role_alone(actions: Any) -> None:
    agent = make(actions)
    play(agent, 30)
    before = agent.streams.state_dict()["cursors"]
    obs, first = {"obs": torch.zeros(2, 5, 1)}, torch.ones(2, 5, dtype=torch.bool)
    agent.act(None, obs, first, False)
    after = agent.streams.state_dict()["cursors"]
    moved = {name for name in after if after[name] != before.get(name)}
    assert {name.split("/")[0] for name in moved} == (
        set() if isinstance(actions, Discrete) else {"evaluation"}
    )


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_it_learns_once_there_is_data_and_its_target_follows(actions: Any) -> None:
    agent = make(actions, learning_starts=32, update_period=8, target_rate=0.25)
    before = agent.target_parameters.rows().clone()
    found = play(agent, 16)
    assert [number for number, metrics in enumerate(found) if metrics] == [15]
    assert all(each.isfinite().all() for each in (found[15] or {}).values())
    moved = before + 0.25 * (agent.networks_parameters.rows() - before)
    torch.testing.assert_close(agent.target_parameters.rows(), moved)
    assert (moved != before).any()
