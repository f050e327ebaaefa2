"""A stand-in for isaacgymenvs: points on a line, reset in each of the three ways of its tasks.

A world starts within 0.1 of 0, falls when its position is above 3, and is rewarded by its position.

- ``Cartpole`` resets at the end of the next step. The action moves the position.
- ``Ingenuity`` resets at the start of the next step and uses what ``reset_idx`` returns. The action
  changes a speed; the speed of worlds that were flagged is cleared.
- ``AnymalTerrain`` resets in the same step. The action moves the position, which is shown with
  noise.

As on a graphics card, worlds can be placed once between two steps of the simulator; and as in some
tasks, the previous action is not there to be observed before the first step. Trouble on request: a
seed that eight divides has no simulation, an action of ``RAISE`` raises, one of ``DIE`` ends the
process.
"""

import os
import sys

import torch

LIMIT = 5
RAISE = 0.125
DIE = 0.375


def make(seed, task, num_envs, sim_device, rl_device, headless=False, force_render=True, **others):
    assert headless
    assert not force_render
    if seed % 8 == 0:
        sys.stdout.write("*** Failed to create sim\n")
        sys.exit()
    kinds = {
        "Cartpole": ResetAtTheEnd,
        "Ingenuity": ResetAtTheStart,
        "AnymalTerrain": ResetInTheSameStep,
    }
    return kinds[task](num_envs, sim_device, rl_device)


class VecTask:
    """Shows (position, episode, steps of the episode, steps of the simulator, action, 2000)."""

    num_obs = 6
    num_acts = 1
    clip_obs = 1000.0
    max_episode_length = LIMIT

    def __init__(self, num_envs, device, rl_device):
        self.num_envs, self.device, self.rl_device = num_envs, device, rl_device
        self.obs_buf = torch.zeros(num_envs, self.num_obs)
        self.rew_buf = torch.zeros(num_envs)
        self.reset_buf = torch.ones(num_envs, dtype=torch.long)
        self.progress_buf = torch.zeros(num_envs, dtype=torch.long)
        self.position, self.speed = torch.zeros(num_envs), torch.zeros(num_envs)
        self.episode, self.steps = torch.full((num_envs,), -1), torch.zeros(num_envs)
        self.clock = 0
        self.placed = False
        self.obs_dict = {}

    def zero_actions(self):
        return torch.zeros(self.num_envs, self.num_acts)

    def step(self, actions):
        assert actions.shape == (self.num_envs, 1)
        assert actions.abs().max() <= 1
        if (actions == RAISE).any():
            raise RuntimeError("broken glass")
        if (actions == DIE).any():
            os.write(2, b"out of memory\n")
            os._exit(3)
        sys.stdout.write("stepping\n")
        sys.stdout.flush()
        self.pre_physics_step(actions)
        self.position += self.speed
        self.steps += 1
        self.clock += 1
        self.placed = False
        self.progress_buf += 1
        self.post_physics_step()
        self.obs_dict["obs"] = self.obs_buf.clamp(-self.clip_obs, self.clip_obs)
        time_outs = (self.progress_buf >= self.max_episode_length - 1) & (self.reset_buf != 0)
        return self.obs_dict, self.rew_buf, self.reset_buf, {"time_outs": time_outs}

    def pre_physics_step(self, actions):
        self.actions = actions[:, 0].clone()
        self.speed = self.actions

    def reset_idx(self, env_ids):
        assert not self.placed
        self.placed = True
        self.position[env_ids] = 0.2 * torch.rand(len(env_ids)) - 0.1
        self.steps[env_ids] = 0
        self.episode[env_ids] += 1
        self.reset_buf[env_ids] = 0
        self.progress_buf[env_ids] = 0
        return env_ids

    def flagged(self):
        return self.reset_buf.nonzero().flatten()

    def compute_observations(self):
        clock, far = torch.full((2, self.num_envs), self.clock), torch.full((self.num_envs,), 2e3)
        columns = (self.position, self.episode, self.steps, clock[0], self.actions, far)
        self.obs_buf = torch.stack(columns, dim=1)

    def judge(self):
        late = self.progress_buf >= self.max_episode_length - 1
        return (self.position > 3) | late

    def compute_reward(self):
        self.rew_buf[:] = self.position
        self.reset_buf[:] = self.judge()


class ResetAtTheEnd(VecTask):
    def post_physics_step(self):
        if len(self.flagged()) > 0:
            self.reset_idx(self.flagged())
        self.compute_observations()
        self.compute_reward()


class ResetAtTheStart(VecTask):
    def pre_physics_step(self, actions):
        flagged = self.flagged()
        assert (self.progress_buf[flagged] > 0).all()  # at 0, Ingenuity would draw a new target
        placed = torch.tensor([], dtype=torch.long)
        if len(flagged) > 0:
            placed = torch.cat([placed, self.reset_idx(flagged)])
        assert torch.equal(placed, flagged)
        self.actions = actions[:, 0].clone()
        self.speed += self.actions
        self.speed[flagged] = 0

    def post_physics_step(self):
        self.compute_observations()
        self.compute_reward()


class ResetInTheSameStep(VecTask):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.reset_idx(torch.arange(self.num_envs))

    def post_physics_step(self):
        self.check_termination()
        self.rew_buf = self.position.clone()
        if len(self.flagged()) > 0:
            self.reset_idx(self.flagged())
        self.compute_observations()
        self.obs_buf[:, 0] += 0.01 * torch.rand(self.num_envs)

    def check_termination(self):
        self.reset_buf = self.judge()

    def reset_idx(self, env_ids):
        super().reset_idx(env_ids)
        self.reset_buf[env_ids] = 1
