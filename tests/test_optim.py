"""One optimiser on the matrix of all seeds is one optimiser per seed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.parts.layers import MLP, PlainConvolutions
from baselines.parts.networks import NATURE
from baselines.parts.optim import Adam, ParameterMatrix, linear_decay, per_seed_mean
from suite.streams import Streams

SEEDS = (3, 5, 8)


def network(hidden: tuple[int, ...] = (6,)) -> MLP:
    return MLP(Streams(SEEDS), 4, hidden, 2, "tanh", "orthogonal")


def inputs() -> Tensor:
    return Streams(SEEDS).normal("input", 8, 4).to(torch.get_default_dtype())


def loss_of(mlp: MLP, scale: Tensor) -> Tensor:
    """A loss ``[S]`` whose gradients differ in size between the seeds."""
    return scale * per_seed_mean((mlp(inputs()) - 1) ** 2)


SCALE = torch.tensor([0.01, 1.0, 100.0], dtype=torch.float64)


class TestAdam:
    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("max_norm", [None, 0.5])
    def test_equals_one_adam_per_seed(self, max_norm: float | None):
        mlp = network()
        parameters = ParameterMatrix(mlp)
        optimiser = Adam(parameters, 0.01, max_norm, epsilon=1e-5)
        alone = [
            [view.detach()[s].clone().requires_grad_() for view in parameters.views]
            for s in range(3)
        ]
        optimisers = [torch.optim.Adam(rows, lr=0.01, eps=1e-5) for rows in alone]
        for _ in range(20):
            optimiser.step(loss_of(mlp, SCALE))
            for s, (rows, single) in enumerate(zip(alone, optimisers, strict=True)):
                first, first_bias, last, last_bias = rows[0].split([24, 6, 12, 2])
                hidden = torch.tanh(F.linear(inputs()[s], first.view(6, 4), first_bias))
                outputs = F.linear(hidden, last.view(2, 6), last_bias)
                single.zero_grad()
                (SCALE[s] * ((outputs - 1) ** 2).mean()).backward()
                if max_norm is not None:
                    nn.utils.clip_grad_norm_(rows, max_norm)
                single.step()
        for s, rows in enumerate(alone):
            expected = torch.cat([row.detach().flatten() for row in rows])
            assert torch.allclose(parameters.rows()[s], expected, rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize(
        ("gradient", "clipped"), [((3.0, 4.0), (0.6, 0.8)), ((0.3, 0.4), (0.3, 0.4))]
    )
    def test_clips_the_norm_of_each_seed_by_itself(
        self, gradient: tuple[float, float], clipped: tuple[float, float]
    ):
        vector = nn.ParameterList([torch.zeros(2, 2)])
        parameters = ParameterMatrix(vector)
        optimiser = Adam(parameters, 0.1, max_norm=1.0)
        slope = torch.tensor([gradient, (300.0, 400.0)])
        optimiser.step((vector[0] * slope).sum(dim=1))
        used = optimiser.mean / 0.1  # a tenth of the first gradient
        assert torch.allclose(used, torch.tensor([clipped, (0.6, 0.8)]), atol=1e-5)

    @pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
    @pytest.mark.parametrize("max_norm", [None, 0.5])
    def test_a_diverged_seed_leaves_the_others_bitwise_unchanged(
        self, poison: float, max_norm: float | None
    ):
        outcomes = []
        for factor in (1.0, poison):
            mlp = network((16, 6))
            parameters = ParameterMatrix(mlp)
            optimiser = Adam(parameters, 0.01, max_norm)
            for _ in range(3):
                optimiser.step(loss_of(mlp, torch.tensor([1.0, factor, 1.0])))
            outcomes.append(parameters.rows().clone())
        clean, poisoned = outcomes
        assert not poisoned[1].isfinite().all()
        assert torch.equal(clean[[0, 2]], poisoned[[0, 2]])

    def test_a_diverged_seed_leaves_the_convolutions_of_others_unchanged(self):
        pixels = Streams(SEEDS).uniform("pixels", 2, 1, 36, 36)
        outcomes = []
        for factor in (1.0, torch.nan):
            convolution = PlainConvolutions(Streams(SEEDS), NATURE, (1, 36, 36))
            parameters = ParameterMatrix(convolution)
            optimiser = Adam(parameters, 0.01, max_norm=1.0)
            for _ in range(2):
                optimiser.step(
                    torch.tensor([1.0, factor, 1.0]) * per_seed_mean(convolution(pixels))
                )
            outcomes.append(parameters.rows().clone())
        clean, poisoned = outcomes
        assert poisoned[1].isnan().any()
        assert torch.equal(clean[[0, 2]], poisoned[[0, 2]])

    def test_first_step_has_the_size_of_the_learning_rate(self):
        vector = nn.ParameterList([torch.zeros(1, 2)])
        optimiser = Adam(ParameterMatrix(vector), 0.5)
        optimiser.learning_rate = 0.25
        optimiser.step((vector[0] * torch.tensor([3.0, -7.0])).sum(dim=1))
        assert torch.allclose(vector[0], torch.tensor([[-0.25, 0.25]]))

    def test_counts_its_steps(self):
        mlp = network()
        optimiser = Adam(ParameterMatrix(mlp), 0.01)
        for _ in range(3):
            optimiser.step(loss_of(mlp, torch.ones(3)))
        assert optimiser.updates == 3

    def test_restored_optimiser_goes_on_identically(self):
        mlp = network()
        parameters = ParameterMatrix(mlp)
        optimiser = Adam(parameters, 0.01)
        optimiser.step(loss_of(mlp, torch.ones(3)))
        optimiser.learning_rate = 0.003
        saved = copy.deepcopy((parameters.state_dict(), optimiser.state_dict()))

        other = network()
        other_parameters = ParameterMatrix(other)
        other_optimiser = Adam(other_parameters, 0.01)
        other_parameters.load_state_dict(saved[0])
        other_optimiser.load_state_dict(saved[1])
        for _ in range(2):
            optimiser.step(loss_of(mlp, torch.ones(3)))
            other_optimiser.step(loss_of(other, torch.ones(3)))
        assert torch.equal(parameters.rows(), other_parameters.rows())
        assert other_optimiser.updates == 3


class TestParameterMatrix:
    def test_rows_hold_every_parameter_of_a_seed(self):
        mlp = network()
        before = [p.detach().clone() for p in mlp.parameters()]
        rows = ParameterMatrix(mlp).rows()
        assert rows.shape == (3, 4 * 6 + 6 + 6 * 2 + 2)
        for s in range(3):
            assert torch.equal(rows[s], torch.cat([p[s].flatten() for p in before]))

    def test_outputs_are_the_same_before_and_after(self):
        mlp = network()
        before = mlp(inputs())
        ParameterMatrix(mlp)
        assert torch.equal(mlp(inputs()), before)

    def test_writing_a_row_changes_the_output_of_that_seed_alone(self):
        mlp = network()
        parameters = ParameterMatrix(mlp)
        before = mlp(inputs())
        with torch.no_grad():
            parameters.matrix[1] = 0.0
        after = mlp(inputs())
        assert not after[1].any()
        assert torch.equal(after[[0, 2]], before[[0, 2]])

    def test_loading_a_module_writes_the_matrix(self):
        mlp, other = network(), MLP(Streams((10, 11, 12)), 4, (6,), 2)
        parameters, theirs = ParameterMatrix(mlp), ParameterMatrix(other)
        mlp.load_state_dict(other.state_dict())
        assert torch.equal(parameters.rows(), theirs.rows())

    def test_loading_the_matrix_changes_the_module_and_keeps_no_tie(self):
        mlp, other = network(), MLP(Streams((10, 11, 12)), 4, (6,), 2, "tanh")
        parameters, theirs = ParameterMatrix(mlp), ParameterMatrix(other)
        parameters.load_state_dict(theirs.state_dict())
        assert torch.equal(mlp(inputs()), other(inputs()))
        with torch.no_grad():
            theirs.matrix.zero_()
        assert mlp(inputs()).any()

    @pytest.mark.parametrize(
        ("rate", "moved"), [(1.0, [[2.0, 8.0]]), (0.25, [[0.5, 5.0]]), (0.005, [[0.01, 4.02]])]
    )
    def test_copy_moves_by_the_rate(self, rate: float, moved: list[list[float]]):
        target = nn.ParameterList([torch.tensor([[0.0, 4.0]])])
        online = nn.ParameterList([torch.tensor([[2.0, 8.0]])])
        ParameterMatrix(target).copy_from(ParameterMatrix(online), rate)
        assert torch.allclose(target[0], torch.tensor(moved))

    def test_copies_do_not_follow_what_they_were_copied_from(self):
        online = network()
        target = copy.deepcopy(online)
        online_parameters, target_parameters = ParameterMatrix(online), ParameterMatrix(target)
        later = copy.deepcopy(online)
        target_parameters.copy_from(online_parameters)
        before = target_parameters.rows().clone()
        Adam(online_parameters, 0.1).step(loss_of(online, torch.ones(3)))
        assert torch.equal(target_parameters.rows(), before)
        assert torch.equal(target(inputs()), later(inputs()))
        assert not torch.equal(online(inputs()), later(inputs()))

    @pytest.mark.usefixtures("float64")
    def test_gradient_of_a_seed_is_that_of_its_own_loss(self):
        mlp = network()
        together = ParameterMatrix(mlp).gradient(loss_of(mlp, SCALE))
        for s, seed in enumerate(SEEDS):
            single = MLP(Streams((seed,)), 4, (6,), 2, "tanh", "orthogonal")
            loss = SCALE[s] * per_seed_mean((single(inputs()[s : s + 1]) - 1) ** 2)
            assert torch.allclose(
                together[s], ParameterMatrix(single).gradient(loss)[0], rtol=1e-10
            )

    def test_several_modules_stand_side_by_side(self):
        first, second = (
            nn.ParameterList([torch.ones(2, 1, 2)]),
            nn.ParameterList([torch.zeros(2, 3)]),
        )
        parameters = ParameterMatrix(first, second)
        assert parameters.rows().tolist() == [[1, 1, 0, 0, 0]] * 2
        assert parameters.names == ["0.0", "1.0"]

    def test_modules_that_share_a_parameter_are_refused(self):
        shared = nn.Module()
        shared.part = network()
        with pytest.raises(ValueError, match="share a parameter"):
            ParameterMatrix(shared, shared.part)


def test_per_seed_mean_averages_over_all_but_the_seed():
    values = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]])
    assert per_seed_mean(values).tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("progress", "value"), [(-1.0, 1.0), (0.0, 1.0), (0.25, 0.775), (1.0, 0.1), (3.0, 0.1)]
)
def test_linear_decay_goes_from_start_to_end_and_stays(progress: float, value: float):
    assert linear_decay(1.0, 0.1, progress) == pytest.approx(value)
