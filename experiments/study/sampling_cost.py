"""What sampling takes of a device, in each of its three ways: an estimate."""

from dataclasses import dataclass
from math import ceil

from eval.settings import Way
from experiments.study.devices import Device
from train.memory import BFLOAT16, Shape

FILLED = 0.9  # share of a device's memory that weights and caches may fill
ASSUMED = (
    "answers are as long as the data trained on in the mean; their lengths are exponential, so the longest of n is 1 + 1/2 + "
    "... + 1/n means, or as many tokens as are allowed",
    "a batch goes on until its longest answer; in the other two ways a new answer begins where one has ended, and at last "
    "the longest is waited for",
    f"a step of generation reads weights and caches once (bfloat16), and weights and caches fill {FILLED:.0%} of memory at most",
)


@dataclass(frozen=True)
class Sampling:
    """Answers to be sampled of one model.

    Attributes:
        mean: tokens of an answer.
        most: tokens that an answer may have.
        together: answers at a time at most.
    """

    answers: int
    mean: float
    most: int
    together: int

    def longest(self, of: int) -> float:
        """Expected tokens of the longest of some answers."""
        return min(self.most, self.mean * sum(1 / i for i in range(1, of + 1)))


def seconds(way: Way, shape: Shape, device: Device, sampling: Sampling, utilisation: float) -> float:
    """Seconds in which one device samples.

    Args:
        utilisation: share of the device's operations that are reached.
    """

    def step(together: int, length: float) -> float:
        """Seconds of a step over answers that have so many tokens by then."""
        read = BFLOAT16 * shape.parameters + together * shape.cache() * length
        operations = together * shape.flops(2 * length)
        least = device.server_step if way is Way.server else device.step
        return max(least, read / device.bandwidth, operations / (device.flops * utilisation))

    together = min(sampling.together, sampling.answers)
    if way is Way.batches:
        steps = sampling.longest(of=together)
        return ceil(sampling.answers / together) * steps * step(together, steps / 2)
    room = FILLED * device.memory - BFLOAT16 * shape.parameters
    together = max(1, min(together, int(room / (shape.cache() * sampling.mean))))
    full = sampling.answers * sampling.mean / together * step(together, sampling.mean / 2)
    last = sampling.longest(of=sampling.answers) - sampling.mean
    return full + last * step(1, sampling.most / 2)
