"""What was found of the faults that the demo injects: when, how many, how many were invented, and the harm done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_pipeline.demo.fault_plan import ALSO, EXPECT_EVERY_SECONDS, FAULTS, FREEZE, NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_pipeline.demo.fault_plan import Fault
    from otel_pipeline.demo.metrics import Metrics
    from otel_pipeline.testing.faults import Injected


@dataclass
class Finding:
    """One fault."""

    fault: Fault
    injected: int = 0
    found: int = 0
    began_s: float | None = None
    """When the first was injected, monotonic, s."""
    seen_s: float | None = None
    """When a metric showed the first, monotonic, s."""

    @property
    def seconds(self) -> float | None:
        """From the first injected to the first found."""
        if self.began_s is None or self.seen_s is None:
            return None
        return max(0.0, self.seen_s - self.began_s)

    @property
    def invented(self) -> int:
        """Found where nothing was injected."""
        return max(0, self.found - self.injected)

    @property
    def complete(self) -> bool:
        """Whether all that can be asked for was found."""
        return self.found >= (min(1, self.injected) if self.fault.sampled else self.injected) > 0


class Findings:
    """Compares what relays inject with what metrics show. `look` is called again and again."""

    def __init__(self, faults: Sequence[Fault] = FAULTS) -> None:
        self.all = [Finding(fault) for fault in faults]
        self.unasked: dict[str, int] = {}
        """What nobody injected, by metric; without zeros."""
        self._stale = False
        self._looked_s: float | None = None
        self.flowing = True
        """Whether messages are expected to come: silence after the last message is none of the findings."""

    def look(self, injected: Mapping[str, Injected], metrics: Metrics, now_s: float) -> None:
        """Take in the present counts; `injected` is by the topic that the relay reads."""
        for finding in self.all:
            fault = finding.fault
            if fault.topic in injected:
                finding.injected = fault.count(injected[fault.topic])
            if finding.injected and finding.began_s is None:
                # At the last look there was none: the time that is shown is rather too long than too short.
                finding.began_s = now_s if self._looked_s is None else self._looked_s
            if fault is FREEZE:
                self._silence(finding, metrics)
            else:
                finding.found = metrics.total(fault.series.metric, fault.series.attributes)
            if finding.found and finding.seen_s is None:
                finding.seen_s = now_s
        self._looked_s = now_s
        self._unasked(metrics)

    @property
    def complete(self) -> bool:
        """Whether every fault was found."""
        return all(finding.complete for finding in self.all)

    def reasons(self) -> list[str]:
        """Say why the run has failed; nothing when every fault was found and none invented."""
        found = []
        for finding in self.all:
            title = finding.fault.title
            if not finding.injected:
                found.append(f"{title}: nothing was injected")
            elif not finding.complete:
                found.append(
                    f"{title}: {finding.found:,} of {finding.injected:,} found by {finding.fault.series.title}"
                )
            if finding.invented:
                found.append(
                    f"{title}: {finding.invented:,} invented by {finding.fault.series.title}, "
                    f"{finding.found:,} found and {finding.injected:,} injected"
                )
        found += [f"{count:,} invented by {title}" for title, count in self.unasked.items()]
        return found

    def _silence(self, finding: Finding, metrics: Metrics) -> None:
        """Count each time that the data becomes too old as one finding."""
        series = finding.fault.series
        stale = self.flowing and metrics.highest(series.metric, series.attributes) > EXPECT_EVERY_SECONDS
        # A delay silences the next hop too, for as long as it lasts.
        delayed = any(each.injected or each.found for each in self.all if each.fault.name == "delay")
        if stale and not self._stale and not delayed:
            finding.found += 1
        self._stale = stale

    def _unasked(self, metrics: Metrics) -> None:
        counts = {series.title: metrics.total(series.metric, series.attributes) for series in NEVER}
        for finding in self.all:
            also = ALSO.get(finding.fault.title)
            if also is not None:
                more = metrics.total(also.metric, also.attributes) - finding.injected
                counts[also.title] = max(0, more)
        self.unasked = {title: count for title, count in counts.items() if count}


@dataclass(frozen=True)
class Harm:
    """What a fault did to the decisions on the images of its window."""

    images: int
    undecided: int
    twice: int
    late: int
    """Images decided on data older than the objective allows."""
    judged: int
    """Decided images that the model was not trained on."""
    right: int
    right_without: int
    """Of those judged, images that the model gets right when nothing is done to them."""

    @property
    def words(self) -> str:
        """What there is to say beside the accuracy."""
        said = [
            f"{self.undecided:,} of {self.images:,} never decided" if self.undecided else "",
            f"{self.twice:,} of {self.images:,} decided twice" if self.twice else "",
            f"{self.late:,} of {self.images:,} on old data" if self.late else "",
        ]
        return ", ".join(filter(None, said)) or "no other"


@dataclass
class Decisions:
    """What the witness knows of the images."""

    predictions: Mapping[int, tuple[int, int]]
    """The digit that the model saw and the one that a person saw, by image."""
    times_s: Mapping[int, float]
    """How long after its scan it was decided, s, by image."""
    counts: Counter[int] = field(default_factory=Counter)
    without: Mapping[int, int] = field(default_factory=dict)
    """What the model says when nothing is done to it, by image."""

    def harm(self, images: Sequence[int], threshold_s: float) -> Harm:
        """Return what was done to the decisions on these images."""
        judged = [image for image in images if image % 2 and image in self.predictions]
        return Harm(
            images=len(images),
            undecided=sum(image not in self.predictions for image in images),
            twice=sum(self.counts[image] > 1 for image in images),
            late=sum(self.times_s.get(image, 0.0) > threshold_s for image in images),
            judged=len(judged),
            right=sum(self.predictions[image][0] == self.predictions[image][1] for image in judged),
            right_without=sum(self.without.get(image) == self.predictions[image][1] for image in judged),
        )
