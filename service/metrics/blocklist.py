"""The operator's blocklist as it holds in this process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.metrics.makers import Makers


class BlocklistMetrics(Makers):
    """What the blocklist's follower notes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.blocklist_items = self._gauge("blocklist_items", "Items that nobody is shown.")
        self.blocklist_timestamp = self._gauge(
            "blocklist_read_timestamp_seconds", "When the blocklist was last read."
        )
        self.blocklist_changes = self._counter(
            "blocklist_changes_total", "Changes of the blocklist that this process took over."
        )

    def blocklist_holds(self, size: int) -> None:
        """Note how many items are blocked from now on."""
        self.blocklist_items.set(size)
        self.blocklist_changes.inc()

    def blocklist_read(self, at_unix: float) -> None:
        """Note when the kept list was last found to be the one that holds."""
        self.blocklist_timestamp.set(at_unix)
