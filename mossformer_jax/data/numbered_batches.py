"""Endless batches whose position is one number, which a checkpoint stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mossformer_jax.data.batch import Batch


class NumberedBatches(Iterator[Batch]):
    """Endless batches, each of which depends only on the seed and its number, so a position is one number.

    Args:
        identity: what all batches depend on: seed, batch_size and epoch_size.
    """

    def __init__(self, identity: Mapping[str, int]):
        self._identity, self._step = dict(identity), 0

    def get_state(self) -> dict[str, int]:
        """The position of the iterator, for a checkpoint: plain numbers, the same in every process."""
        return {"step": self._step, **self._identity}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues from a saved state. The numbers of workers and processes may differ.

        Raises:
            ValueError: the state was saved with a different seed, batch size or number of mixtures.
        """
        for name, value in self._identity.items():
            if state[name] != value:
                raise ValueError(
                    f"the saved state has {name}={state[name]}, but the config has {value}; resume with the data "
                    "and settings that the run was started with"
                )
        self.close()
        self._step = state["step"]

    def close(self) -> None:
        """Stops the workers, if there are any; the next batch starts them again."""
