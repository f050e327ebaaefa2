"""Atari: 57 games of the Arcade Learning Environment, version 5, in ale-py's vector environment.

Observation: the last 4 frames, oldest first, uint8 ``[84, 84, 4]``; a frame is grey, the maximum of
the last two of the 4 simulator frames that one decision lasts. Action: the game's own buttons (the
minimal set, 3 to 18), which stick to the previous ones for a frame with probability 0.25. Reward:
points of the game. End: the game is over; games are cut after 27,000 decisions, half an hour.
Source: ale-py 0.12 (Bellemare et al. 2013; the protocol is that of Machado et al. 2018).

A game begins with up to 30 frames without action, of which only the last one is seen; the frames
before it are black. Nothing presses FIRE for the agent. In training, rewards are cut to their sign
and a lost life counts as a termination, with which the game goes on: the observation after it holds
the frames before it. Evaluation plays whole games for their points.

Deviation from the Atari 100k benchmark, whose 26 games are the set ``atari-26``: it has no sticky
actions. In the last observation of a game that is over, ale-py leaves the frame of the end out and
takes the ones of the decision before; no value is learned of such an observation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from suite.envs.lanes import Lanes
from suite.spaces import Discrete, Spaces, box
from suite.steps import LaneStep
from suite.tasks import Bounds, Engine, Family, Task

# Packages are imported where they are used: the tasks can be listed without them.

HORIZON = 27_000
"""Decisions per game: 108,000 frames, half an hour of a 60 Hz game."""

FRAME_SKIP = 4
STACK = 4
SIDE = 84
STICKINESS = 0.25
MAX_NOOPS = 30

_TABLE = "{}, table of the human-normalised score, openrlbenchmark hns.py and dreamerv3"

_HARD_EXPLORATION = (
    "Alien Amidar BankHeist Freeway Frostbite Gravitar Hero MontezumaRevenge MsPacman Pitfall"
    " PrivateEye Qbert Solaris Surround Venture WizardOfWor Zaxxon"
)
"""Of high complexity; the others' is medium. Bellemare et al. 2016, "Unifying count-based
exploration and intrinsic motivation", table 1: exploration is hard, rewards dense or sparse."""

_SCORES: dict[str, tuple[float, float]] = {
    "Alien": (227.8, 7127.7),
    "Amidar": (5.8, 1719.5),
    "Assault": (222.4, 742.0),
    "Asterix": (210.0, 8503.3),
    "Asteroids": (719.1, 47388.7),
    "Atlantis": (12850.0, 29028.1),
    "BankHeist": (14.2, 753.1),
    "BattleZone": (2360.0, 37187.5),
    "BeamRider": (363.9, 16926.5),
    "Berzerk": (123.7, 2630.4),
    "Bowling": (23.1, 160.7),
    "Boxing": (0.1, 12.1),
    "Breakout": (1.7, 30.5),
    "Centipede": (2090.9, 12017.0),
    "ChopperCommand": (811.0, 7387.8),
    "CrazyClimber": (10780.5, 35829.4),
    "Defender": (2874.5, 18688.9),
    "DemonAttack": (152.1, 1971.0),
    "DoubleDunk": (-18.6, -16.4),
    "Enduro": (0.0, 860.5),
    "FishingDerby": (-91.7, -38.7),
    "Freeway": (0.0, 29.6),
    "Frostbite": (65.2, 4334.7),
    "Gopher": (257.6, 2412.5),
    "Gravitar": (173.0, 3351.4),
    "Hero": (1027.0, 30826.4),
    "IceHockey": (-11.2, 0.9),
    "Jamesbond": (29.0, 302.8),
    "Kangaroo": (52.0, 3035.0),
    "Krull": (1598.0, 2665.5),
    "KungFuMaster": (258.5, 22736.3),
    "MontezumaRevenge": (0.0, 4753.3),
    "MsPacman": (307.3, 6951.6),
    "NameThisGame": (2292.3, 8049.0),
    "Phoenix": (761.4, 7242.6),
    "Pitfall": (-229.4, 6463.7),
    "Pong": (-20.7, 14.6),
    "PrivateEye": (24.9, 69571.3),
    "Qbert": (163.9, 13455.0),
    "Riverraid": (1338.5, 17118.0),
    "RoadRunner": (11.5, 7845.0),
    "Robotank": (2.2, 11.9),
    "Seaquest": (68.4, 42054.7),
    "Skiing": (-17098.1, -4336.9),
    "Solaris": (1236.3, 12326.7),
    "SpaceInvaders": (148.0, 1668.7),
    "StarGunner": (664.0, 10250.0),
    "Surround": (-10.0, 6.5),
    "Tennis": (-23.8, -8.3),
    "TimePilot": (3568.0, 5229.2),
    "Tutankham": (11.4, 167.6),
    "UpNDown": (533.4, 11693.2),
    "Venture": (0.0, 1187.5),
    "VideoPinball": (16256.9, 17667.9),
    "WizardOfWor": (563.5, 4756.5),
    "YarsRevenge": (3092.9, 54576.9),
    "Zaxxon": (32.5, 9173.3),
}
"""Of a random agent and of a human."""

_ATARI_5 = "BattleZone DoubleDunk NameThisGame Phoenix Qbert"
_ATARI_10 = f"Amidar Bowling Frostbite KungFuMaster Riverraid {_ATARI_5}"
_ATARI_26 = (
    "Alien Amidar Assault Asterix BankHeist BattleZone Boxing Breakout ChopperCommand CrazyClimber"
    " DemonAttack Freeway Frostbite Gopher Hero Jamesbond Kangaroo Krull KungFuMaster MsPacman Pong"
    " PrivateEye Qbert RoadRunner Seaquest UpNDown"
)


def _task(game: str) -> Task:
    random_score, human_score = _SCORES[game]
    return Task(
        id=f"atari/{game}-v5",
        actions="discrete",
        horizon=HORIZON,
        domain="arcade games",
        complexity="high" if game in _HARD_EXPLORATION.split() else "medium",
        paper="Bellemare et al. 2013; Machado et al. 2018",
        bounds=Bounds(
            random_score,
            _TABLE.format("random agent"),
            human_score,
            _TABLE.format("human player"),
        ),
        frames_per_step=FRAME_SKIP,
        wrappers=(
            f"StickyActions({STICKINESS})",
            "MinimalActions",
            f"Noops(0-{MAX_NOOPS})",
            "MaxOfTwoFrames",
            f"Grey({SIDE}x{SIDE})",
            f"Stack({STACK})",
            "SignOfReward(training)",
            "LifeLossTerminates(training)",
        ),
    )


class AleLanes(Lanes):
    """All lanes of all seeds in one of ale-py's vector environments.

    Games that are over restart in the same step; a lane that reaches the horizon is restarted here,
    because ale-py's own limit leaves the last frame out of the observation.

    Args:
        game: ale-py's name of the game, ``ms_pacman``.
        seeds: ``[S, E]``, one per lane.
        horizon: decisions after which a game is truncated; a lost life does not restart the count.
        is_training: cut rewards to their sign, and report a lost life as a termination.
        threads: of the vector environment; the numbers do not depend on it.
    """

    def __init__(
        self, game: str, seeds: np.ndarray, *, horizon: int, is_training: bool, threads: int
    ) -> None:
        from ale_py.vector_env import AtariVectorEnv

        super().__init__((seeds.shape[0], seeds.shape[1]))
        self._seeds = seeds.ravel()
        self._horizon = horizon
        self._is_training = is_training
        self._games: Any = AtariVectorEnv(
            game,
            seeds.size,
            num_threads=threads,
            max_num_frames_per_episode=FRAME_SKIP * (horizon + 1),
            repeat_action_probability=STICKINESS,
            autoreset_mode="SameStep",
            img_height=SIDE,
            img_width=SIDE,
            stack_num=STACK,
            frameskip=FRAME_SKIP,
            noop_max=MAX_NOOPS + 1,  # exclusive in ale-py
            reward_clipping=is_training,
            use_fire_reset=False,
        )
        screen = replace(box(0, 255, (SIDE, SIDE, STACK), "uint8"), stack=STACK)
        self._buttons = len(self._games.ale.get_action_set())
        self.spaces = Spaces({"observation": screen}, Discrete(self._buttons))

    def reset(self) -> dict[str, np.ndarray]:
        frames, info = self._games.reset(seed=self._seeds)
        self._lives = info["lives"]
        self._decisions = np.zeros(len(self._seeds), np.int64)
        return self._read(frames)

    def step(self, action: np.ndarray) -> LaneStep:
        flat = action.ravel()
        # ale-py would wait forever for a lane that was given an action it does not have
        assert flat.min() >= 0, flat
        assert flat.max() < self._buttons, flat
        frames, reward, is_over, _, info = self._games.step(flat)
        self._decisions += 1
        is_cut = (self._decisions >= self._horizon) & ~is_over
        terminated = is_over
        if self._is_training:
            lives = info["lives"]  # of the new game where one is over; some games go on with none
            terminated = is_over | ((lives < self._lives) & (lives > 0))
        last = frames
        if is_over.any():
            last = np.where(is_over[:, None, None, None], info["final_obs"], frames)
        if is_cut.any():
            frames, info = self._games.reset(options={"reset_mask": is_cut})
        self._lives = info["lives"]
        self._decisions[is_over | is_cut] = 0
        next_obs = self._read(last)
        return LaneStep(
            next_obs if frames is last else self._read(frames),
            next_obs,
            reward.astype(np.float32).reshape(self.shape),
            terminated.reshape(self.shape),
            (is_cut & ~terminated).reshape(self.shape),
        )

    def close(self) -> None:
        self._games = None  # its threads end with it; its own close() leaves them running

    def _read(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Frames ``[lanes, STACK, SIDE, SIDE]`` as a view with the frames last."""
        return {"observation": np.moveaxis(frames.reshape(*self.shape, *frames.shape[1:]), 2, -1)}


def _make_ale(task: Task, seeds: np.ndarray, split: str, threads: int) -> Lanes:
    assert task.horizon is not None, task.id
    return AleLanes(
        _game(task),
        seeds,
        horizon=task.horizon,
        is_training=split == "train",
        threads=threads,
    )


def _game(task: Task) -> str:
    """ale-py's name: ``atari/MsPacman-v5`` is ``ms_pacman``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", task.name.removesuffix("-v5")).lower()


def _names(games: str) -> tuple[str, ...]:
    return tuple(f"{game}-v5" for game in games.split())


FAMILY = Family(
    name="atari",
    title="Atari",
    tasks={f"{game}-v5": _task(game) for game in _SCORES},
    engines=(Engine("ale", ("ale-py",), _make_ale),),
    install='pip install "ale-py>=0.12.1"',
    sets={
        "atari-5": _names(_ATARI_5),
        "atari-10": _names(_ATARI_10),
        "atari-26": _names(_ATARI_26),
        "atari-57": tuple(f"{game}-v5" for game in _SCORES),
    },
)
