"""What the server counts, in the text format of Prometheus. No label has a prompt, a path, a token or an address."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of histograms of seconds."""

IN_A_BATCH: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""The same of pictures that are painted at a time."""


@dataclass(slots=True)
class Series:
    """One metric with its values by the values of its labels. `buckets` are those of a histogram, none of another."""

    name: str
    help: str
    kind: str
    labels: tuple[str, ...] = ()
    buckets: Sequence[float] = ()
    values: dict[tuple[str, ...], float] = field(default_factory=dict)
    counts: dict[tuple[str, ...], list[int]] = field(default_factory=dict)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count something."""
        self.values[labels] = self.values.get(labels, 0.0) + by

    def set(self, value: float, *labels: str) -> None:
        """State how much there is now."""
        self.values[labels] = value

    def observe(self, value: float, *labels: str) -> None:
        """Sort a value into the buckets of a histogram."""
        self.add(*labels, by=value)
        counts = self.counts.setdefault(labels, [0] * (len(self.buckets) + 1))
        counts[next((i for i, bound in enumerate(self.buckets) if value <= bound), len(self.buckets))] += 1

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in list(self.values.items()):
            named = dict(zip(self.labels, labels, strict=True))
            if not self.buckets:
                yield f"{self.name}{_braced(named)} {value:g}"
                continue
            total = 0
            for bound, count in zip((*(f"{one:g}" for one in self.buckets), "+Inf"), self.counts[labels], strict=True):
                total += count
                yield f"{self.name}_bucket{_braced({**named, 'le': bound})} {total}"
            yield f"{self.name}_sum{_braced(named)} {value:.6f}"
            yield f"{self.name}_count{_braced(named)} {total}"


class Metrics:
    """All that is counted, by the thread of the event loop alone."""

    def __init__(self, version: str) -> None:
        self._all: list[Series] = []
        self.requests = self._counter("dalle_http_requests_total", "HTTP requests that were answered.", "route", "code")
        self.request_seconds = self._seconds("dalle_http_request_seconds", "Time to the end of an answer.", "route")
        self.queued = self._gauge("dalle_queue_images", "Pictures that wait to be painted.")
        self.queue_seconds = self._seconds("dalle_queue_seconds", "Time from a request to the start of its painting.")
        self.images = self._counter("dalle_images_total", "Pictures that were painted.", "model", "task")
        self.image_seconds = self._seconds("dalle_image_seconds", "Time for a picture.", "model", "task")
        self.together = self._add(
            Series("dalle_batch_images", "Pictures painted at a time.", "histogram", (), IN_A_BATCH)
        )
        self.rejected = self._counter("dalle_rejected_total", "Requests that were not let in.", "reason")
        self.cancelled = self._counter("dalle_cancelled_total", "Requests whose client left.", "when")
        self.failures = self._counter("dalle_failures_total", "Requests that failed while painting.", "kind")
        self.files = self._gauge("dalle_files_bytes", "Pictures that are kept under their URLs.")
        self._gauge("dalle_build_info", "What runs.", "version").set(1, version)

    def text(self) -> str:
        """All of it, as Prometheus reads it."""
        return "\n".join(line for series in self._all for line in series.lines()) + "\n"

    def _add(self, series: Series) -> Series:
        self._all.append(series)
        return series

    def _counter(self, name: str, help: str, *labels: str) -> Series:
        return self._add(Series(name, help, "counter", labels))

    def _gauge(self, name: str, help: str, *labels: str) -> Series:
        return self._add(Series(name, help, "gauge", labels))

    def _seconds(self, name: str, help: str, *labels: str) -> Series:
        return self._add(Series(name, help, "histogram", labels, BUCKETS))


def _braced(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
