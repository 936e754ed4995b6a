"""Regrouping survivors: instances that stay active at an exit go on in larger batches."""

from typing import List, Optional

from sledgehammer_allennlp.engine.active_instances import ActiveInstances


class WaitingSurvivors:
    """
    Survivors of several chunks that wait at an exit until there are enough of them, so that few
    tokens never run alone.

    # Parameters

    num_exits : `int`
    """

    def __init__(self, num_exits: int) -> None:
        self._by_next_exit: List[List[ActiveInstances]] = [[] for _ in range(num_exits)]

    def add(self, next_exit: int, survivors: ActiveInstances) -> None:
        """Instances that will run to exit `next_exit` go to those that wait for the same."""
        self._by_next_exit[next_exit].append(survivors)

    def num_tokens(self, next_exit: int) -> int:
        """Of all that wait for the same exit."""
        return sum(batch.num_tokens for batch in self._by_next_exit[next_exit])

    def indices(self, next_exit: int) -> List[int]:
        """Which instances wait for the same exit."""
        return [i for batch in self._by_next_exit[next_exit] for i in batch.indices.tolist()]

    def take_if_enough(self, next_exit: int, more_than: int) -> Optional[ActiveInstances]:
        """
        All that wait for the same exit, as one batch, if they have more than `more_than` tokens;
        `None` if they have not, and so go on waiting.
        """
        if self.num_tokens(next_exit) <= more_than:
            return None
        waiting, self._by_next_exit[next_exit] = self._by_next_exit[next_exit], []
        return ActiveInstances.concatenate(waiting)
