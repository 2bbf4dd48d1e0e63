"""Listeners that remember what the driver saw."""

from pymongo import monitoring


class Topology(monitoring.TopologyListener):
    def __init__(self):
        self.types = []

    def opened(self, event):
        pass

    def description_changed(self, event):
        self.types.append(event.new_description.topology_type_name)

    def closed(self, event):
        pass


class Pools(monitoring.ConnectionPoolListener):
    """Counts what happens to connections."""

    def __init__(self):
        self.cleared, self.closed, self.created = 0, [], 0

    def pool_cleared(self, event):
        self.cleared += 1

    def connection_closed(self, event):
        self.closed.append(event.reason)

    def connection_created(self, event):
        self.created += 1

    def ignore(self, event):
        pass

    pool_created = pool_ready = pool_closed = connection_ready = ignore
    connection_check_out_started = connection_check_out_failed = ignore
    connection_checked_out = connection_checked_in = ignore


class Heartbeats(monitoring.ServerHeartbeatListener):
    def __init__(self):
        self.failures, self.replies = [], []

    def started(self, event):
        pass

    def succeeded(self, event):
        self.replies.append(event.reply)

    def failed(self, event):
        self.failures.append(event.reply)
