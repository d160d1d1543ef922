"""Metrics for Prometheus: searches, their stages, the queue, and the size of the library.

Each app has a registry of its own, so that the counts of two apps in one process do not add up.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from retrieval.types import SearchResult

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds


class Metrics:
    """Safe to call from several threads."""

    def __init__(self, gauges: Callable[[], dict[str, tuple[float, str]]]) -> None:
        """gauges: returns the current values by name, each with a description."""
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(gauges))
        self._searches = Counter(
            "folioscope_searches",
            "Searches by their outcome: reranked, first_stage, nothing, refused, failed, remembered.",
            ["outcome"],
            registry=self._registry,
        )
        self._stage = Histogram(
            "folioscope_stage_seconds",
            "Seconds of each stage of a search.",
            ["stage"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._wait = Histogram(
            "folioscope_wait_seconds",
            "Seconds that a search waited for its turn.",
            buckets=BUCKETS,
            registry=self._registry,
        )

    def count_search(self, result: SearchResult) -> None:
        """Count a search that ended with a result, and record the seconds of its stages."""
        for stage in result.stages:
            self._stage.labels(stage.name.replace(" ", "_")).observe(stage.seconds)
        outcome = "reranked" if result.decision.reranked else "first_stage" if result.hits else "nothing"
        self._searches.labels(outcome).inc()

    def count_outcome(self, outcome: str) -> None:
        """Count a search that ended without computing a result: refused, failed, or remembered (cached)."""
        self._searches.labels(outcome).inc()

    def observe_wait(self, seconds: float) -> None:
        """Record the seconds that a search waited in the queue."""
        self._wait.observe(seconds)

    def text(self) -> bytes:
        """Returns all metrics in the exposition format of Prometheus, version 0.0.4."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, gauges: Callable[[], dict[str, tuple[float, str]]]) -> None:
        self._gauges = gauges

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        for name, (value, description) in self._gauges().items():
            yield GaugeMetricFamily(f"folioscope_{name}", description, value=value)
