"""One repetition's figures, and the median over repetitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median


@dataclass(slots=True)
class Sample:
    """Figures of one repetition with one daemon, by name; ``notes`` say what limits or spoils them.

    Attributes:
        detail: what the figures were made from, for the JSON only.
    """

    figures: dict[str, float]
    notes: list[str] = field(default_factory=list)
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """One measurement of one daemon: all repetitions, or why there are none."""

    measurement: str
    daemon: str
    samples: list[Sample] = field(default_factory=list)
    error: str = ""

    @property
    def medians(self) -> dict[str, float]:
        """Median of each figure over the repetitions that have it."""
        names = dict.fromkeys(name for sample in self.samples for name in sample.figures)
        return {
            name: median(sample.figures[name] for sample in self.samples if name in sample.figures) for name in names
        }

    @property
    def notes(self) -> list[str]:
        """The notes of all repetitions, each once."""
        return list(dict.fromkeys(note for sample in self.samples for note in sample.notes))

    def as_json(self) -> dict[str, object]:
        """The row with every repetition, as it is saved."""
        return {
            "measurement": self.measurement,
            "daemon": self.daemon,
            "median": self.medians,
            "notes": self.notes,
            "error": self.error,
            "repetitions": [{"figures": sample.figures, "detail": sample.detail} for sample in self.samples],
        }
