"""How messages travel: compressed, and several replies to one command."""

import re
import time
import unittest
import urllib.request

import place
from place import Case, client
from watching import Heartbeats

SIZE = 2_000_000


def bytes_of(app, what):
    """Bytes of the messages of an app so far: `received` or `sent`."""
    text = urllib.request.urlopen(f"http://{place.ADMIN}/metrics", timeout=10).read().decode()
    rows = re.findall(rf'^mdb_runtime_command_{what}_bytes_total{{app="{app}"}} (\d+)', text, re.M)
    return sum(map(int, rows))


class Compression(Case):
    def test_each_compressor_both_ways(self):
        for name in ("zlib", "snappy", "zstd"):
            with self.subTest(name), client("shop", compressors=name) as there:
                self.assertEqual(there.options.pool_options._compression_settings.compressors, [name])
                mine = there[place.DATABASE][self.name]
                before = bytes_of("shop", "received"), bytes_of("shop", "sent")
                mine.insert_one({"_id": name, "x": "y" * SIZE})
                self.assertEqual(mine.find_one({"_id": name})["x"], "y" * SIZE)
                after = bytes_of("shop", "received"), bytes_of("shop", "sent")
                for past, now in zip(before, after):
                    self.assertLess(now - past, SIZE // 5)
                with self.assertRaises(Exception):
                    mine.insert_one({"_id": name})

    def test_none_without_asking(self):
        before = bytes_of("shop", "received")
        self.collection.insert_one({"x": "y" * SIZE})
        self.assertGreater(bytes_of("shop", "received") - before, SIZE)


class Monitoring(unittest.TestCase):
    def test_the_monitor_is_told_without_asking_again(self):
        for mode in ("stream", "poll"):
            beats = Awaited()
            options = {"event_listeners": [beats], "heartbeatFrequencyMS": 500, "serverMonitoringMode": mode}
            with self.subTest(mode), client("shop", **options) as there:
                there.admin.command("ping")
                until = time.monotonic() + 30
                while len(beats.awaited) < 5 and time.monotonic() < until:
                    time.sleep(0.1)
                self.assertEqual(beats.failures, [])
                # The first is asked for, the others come by themselves.
                self.assertEqual(set(beats.awaited[1:5]), {mode == "stream"})


class Awaited(Heartbeats):
    def __init__(self):
        super().__init__()
        self.awaited = []

    def succeeded(self, event):
        super().succeeded(event)
        self.awaited.append(event.awaited)
