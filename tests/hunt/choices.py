"""Choices that are recorded under labels, so that a case can be repeated and made smaller."""
import random


class Choices:
    """Draws options at random, or repeats recorded choices; a choice that is not recorded is then the first option,
    which is always the simplest one. `record` maps labels to the numbers of the options, in the order of drawing."""

    def __init__(self, seed=None, recorded=None):
        self.random = random.Random(seed)
        self.recorded = recorded
        self.record = {}
        self.values = {}

    def index(self, label, count, chance=1.0):
        """A number below `count`; other than 0 with probability `chance` at most."""
        assert label not in self.record, label
        if self.recorded is not None:
            number = min(self.recorded.get(label, 0), count - 1)
        else:
            number = self.random.randrange(count) if self.random.random() < chance else 0
        self.record[label] = number
        return number

    def pick(self, label, options, chance=1.0):
        """One of `options`; another than the first with probability `chance` at most."""
        number = self.index(label, len(options), chance)
        self.values[label] = options[number]
        return options[number]

    def rarely(self, label, chance):
        """True with this probability."""
        if self.recorded is not None:
            number = min(self.recorded.get(label, 0), 1)
        else:
            number = int(self.random.random() < chance)
        self.record[label] = number
        self.values[label] = bool(number)
        return bool(number)

    def unusual(self):
        """The choices that are not the simplest, for a reader."""
        return {label: self.values.get(label, n) for label, n in self.record.items() if n}


def shrink(record, still_fails, tries):
    """Removes choices one by one while `still_fails(record)`: each becomes 0, else a smaller number. Uses at most
    `tries` calls. `still_fails` returns the record that was really drawn, or None."""
    smallest = dict(record)
    progress = True
    while progress and tries > 0:
        progress = False
        for label in sorted(smallest, key=list(smallest).index, reverse=True):
            for value in dict.fromkeys((0, smallest.get(label, 0) // 2, smallest.get(label, 0) - 1)):
                if tries <= 0 or value < 0 or value >= smallest.get(label, 0):
                    continue
                tries -= 1
                drawn = still_fails({**smallest, label: value})
                if drawn is not None:
                    smallest = drawn
                    progress = True
                    break
    return smallest
