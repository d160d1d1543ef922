"""What the server counts, for Prometheus: searches, their stages, who waits, and what is in the library.

A registry of its own for each app, so that two in one process do not add up.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from retrieval.types import SearchResult

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Safe to call from several threads."""

    def __init__(self, gauges: Callable[[], dict[str, tuple[float, str]]]) -> None:
        """`gauges` gives, when asked, values by name, each with a sentence on what it is."""
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(gauges))
        self._searches = Counter(
            "folioscope_searches",
            "Searches by their outcome: reranked, first_stage, nothing, refused, failed, remembered.",
            ["outcome"],
            registry=self._registry,
        )
        self._stage = Histogram(
            "folioscope_stage_seconds", "Seconds of each stage of a search.", ["stage"], buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._waited = Histogram(
            "folioscope_wait_seconds", "Seconds that a search waited for its turn.", buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip

    def searched(self, result: SearchResult) -> None:
        for stage in result.stages:
            self._stage.labels(stage.name.replace(" ", "_")).observe(stage.seconds)
        outcome = "reranked" if result.decision.reranked else "first_stage" if result.hits else "nothing"
        self._searches.labels(outcome).inc()

    def counted(self, outcome: str) -> None:
        """A search that ended without a result of its own: refused, failed, remembered."""
        self._searches.labels(outcome).inc()

    def waited(self, seconds: float) -> None:
        self._waited.observe(seconds)

    def text(self) -> bytes:
        """The exposition format of Prometheus, version 0.0.4."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, gauges: Callable[[], dict[str, tuple[float, str]]]) -> None:
        self._gauges = gauges

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        for name, (value, what) in self._gauges().items():
            yield GaugeMetricFamily(f"folioscope_{name}", what, value=value)
