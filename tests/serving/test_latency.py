"""Holding a latency, in a simulated service."""

from collections import deque
from dataclasses import dataclass
from typing import Callable, List

import pytest

from sledgehammer_allennlp.serving.latency import LatencyControl, Speed

HIGHEST, LOWEST, TARGET = 1.0, 0.8, 0.1
TOKENS = 50
BATCH = 10


def seconds_per_text(threshold: float) -> float:
    """1 ms at the highest threshold, 0.3 ms at the lowest."""
    return 0.0003 + 0.0007 * (threshold - LOWEST) / (HIGHEST - LOWEST)


@dataclass
class Text:
    came: float
    threshold: float
    latency: float = 0.0


class Simulation:
    """One server that takes up to 10 texts at a time, first come, first served."""

    def __init__(self, control: LatencyControl, texts_per_second: Callable[[float], float]) -> None:
        self.answered: List[Text] = []
        self.refused: List[float] = []
        self._control = control
        self._rate = texts_per_second

    def run(self, seconds: float) -> None:
        speed, queue = Speed(), deque()
        running: List[Text] = []
        free_at, arrives_at = 0.0, 0.0
        while arrives_at < seconds:
            while free_at <= arrives_at and (queue or running):
                for text in running:
                    text.latency = free_at - text.came
                self.answered += running
                running = [queue.popleft() for _ in range(min(BATCH, len(queue)))]
                took = sum(seconds_per_text(text.threshold) for text in running)
                if running:
                    speed.measured(took, len(running), TOKENS * len(running))
                    began = max(free_at, running[-1].came)
                    free_at = began + took
            waiting = len(queue) + len(running)
            wait = speed.seconds_for(waiting, TOKENS * waiting)
            if self._control.refuses(wait):
                self.refused.append(arrives_at)
            else:
                queue.append(Text(arrives_at, self._control.threshold(wait)))
                if not running:
                    free_at = arrives_at
            arrives_at += 1 / self._rate(arrives_at)

    def latencies(self) -> List[float]:
        return sorted(text.latency for text in self.answered)

    def threshold_at(self, second: float) -> float:
        return next(text.threshold for text in self.answered if text.came >= second)


def control() -> LatencyControl:
    return LatencyControl(HIGHEST, LOWEST, TARGET)


def test_below_what_the_highest_threshold_can_answer_it_stays():
    simulation = Simulation(control(), lambda second: 700)
    simulation.run(10)
    assert {text.threshold for text in simulation.answered} == {HIGHEST}
    assert simulation.refused == []


def test_at_twice_that_load_the_threshold_falls_as_far_as_it_must_and_nothing_is_late():
    simulation = Simulation(control(), lambda second: 2000)
    simulation.run(10)
    assert simulation.refused == []
    assert simulation.latencies()[-1] < TARGET
    settled = [text.threshold for text in simulation.answered if text.came > 5]
    # 2000 texts a second take 0.5 ms each: a threshold of 0.857.
    assert sum(settled) / len(settled) == pytest.approx(0.857, abs=0.01)


def test_without_a_target_the_same_load_is_ever_later():
    simulation = Simulation(LatencyControl(HIGHEST), lambda second: 2000)
    simulation.run(10)
    assert simulation.latencies()[-1] > 3
    assert simulation.refused == []


def test_when_load_falls_the_threshold_rises_again():
    simulation = Simulation(control(), lambda second: 2500 if 2 < second < 4 else 300)
    simulation.run(8)
    assert simulation.threshold_at(1.9) == HIGHEST
    assert simulation.threshold_at(3) < 0.9
    assert simulation.threshold_at(4.2) == HIGHEST
    assert simulation.latencies()[-1] < TARGET
    assert len(simulation.refused) < 5  # of 5000, until the speed at lower thresholds is known


def test_a_burst_is_answered_in_time_or_refused():
    simulation = Simulation(control(), lambda second: 20_000 if 2 < second < 2.05 else 300)
    simulation.run(5)
    assert simulation.refused  # 1000 texts in 50 ms are more than 300 ms at the lowest threshold
    assert all(2 < second < 2.2 for second in simulation.refused)
    assert simulation.latencies()[-1] < 1.2 * TARGET
    assert simulation.threshold_at(2.3) == HIGHEST


def test_a_sawtooth_of_load_is_followed():
    simulation = Simulation(control(), lambda second: 300 + 2500 * (second % 1))
    simulation.run(10)
    latencies = simulation.latencies()
    assert latencies[int(0.99 * len(latencies))] < TARGET
    assert simulation.refused == []
    assert simulation.threshold_at(5.1) == HIGHEST
    assert simulation.threshold_at(5.9) < 0.9


def test_beyond_what_the_lowest_threshold_can_answer_the_rest_is_refused():
    simulation = Simulation(control(), lambda second: 5000)
    simulation.run(10)
    assert simulation.latencies()[-1] < 1.2 * TARGET
    share = len(simulation.answered) / (len(simulation.answered) + len(simulation.refused))
    assert 0.6 < share < 0.72  # 3333 of 5000 can be answered


def test_a_threshold_never_leaves_its_bounds():
    held = control()
    assert held.threshold(0) == HIGHEST
    assert held.threshold(1e9) == LOWEST
    assert held.refuses(1e9) and not held.refuses(0)
    assert LatencyControl(0.7).threshold(1e9) == 0.7
    assert not LatencyControl(0.7).refuses(1e9)
    assert LatencyControl(0.7, target=1).refuses(1e9)


@pytest.mark.parametrize(
    "lowest, target, wanted",
    [
        (0.8, 0.0, "the latency target is 0 s: wanted a positive"),
        (0.8, float("nan"), "wanted a positive"),
        (0.95, 0.1, "the lowest threshold is 0.95: wanted a number from 0 to the threshold, 0.9"),
        (-0.1, 0.1, "the lowest threshold is -0.1"),
        (0.8, None, "there is no latency target"),
    ],
)
def test_what_cannot_be_held_is_refused(lowest, target, wanted):
    with pytest.raises(ValueError, match=wanted):
        LatencyControl(0.9, lowest, target)


def test_speed_follows_what_is_measured_of_late():
    speed = Speed()
    assert speed.seconds_for(1, 10) == 0
    for seconds in (0.001, 0.003):
        for _ in range(20_000):
            speed.measured(seconds, 1, 10)
        assert speed.seconds_for(3, 30) == pytest.approx(3 * seconds, rel=0.01)


def test_after_a_short_text_longer_ones_are_not_expected_to_take_so_much_a_token():
    """As they are of the few words with which a service is asked whether it is there."""
    speed = Speed()
    speed.measured(0.02, 1, 4)
    assert 0.02 < speed.seconds_for(1, 50) < 0.06
