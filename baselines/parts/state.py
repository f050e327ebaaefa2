"""What a checkpoint holds: the state of an agent's parts, by name."""

from __future__ import annotations

from typing import Any, Protocol


class HasState(Protocol):
    """Anything that can be saved and restored: modules, optimisers, memories, streams."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Parts(dict[str, HasState]):
    """The stateful parts of an agent; together they are everything a resumed run needs."""

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.items():
            part.load_state_dict(state[name])
