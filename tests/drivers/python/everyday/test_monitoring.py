"""What the driver makes of the proxy: one mongos, always there."""

import time
import unittest

from place import DATABASE, client
from watching import Heartbeats, Pools, Topology


class Presentation(unittest.TestCase):
    def test_a_sharded_topology_of_one_mongos(self):
        topology, pools, beats = Topology(), Pools(), Heartbeats()
        with client("shop", event_listeners=[topology, pools, beats], heartbeatFrequencyMS=500) as there:
            for n in range(20):
                there[DATABASE]["monitoring"].update_one({"_id": n}, {"$inc": {"n": 1}}, upsert=True)
                time.sleep(0.1)
            self.assertEqual(there.topology_description.topology_type_name, "Sharded")
            self.assertTrue(there.is_mongos)
            self.assertEqual(pools.cleared, 0)
            self.assertEqual(pools.closed, [])
            self.assertEqual(beats.failures, [])
            self.assertGreater(len(beats.replies), 1)
            self.assertEqual(set(topology.types) - {"Unknown"}, {"Sharded"})

    def test_refusals_leave_the_connection_open(self):
        pools = Pools()
        with client("shop", event_listeners=[pools], maxPoolSize=1) as there:
            for command in ({"serverStatus": 1}, {"getParameter": "*"}, {"nothing": 1}, {"mapReduce": "c"}):
                there.admin.command(command, check=False)
                there[DATABASE].command(command, check=False)
            there[DATABASE].command({"explain": {"count": "monitoring", "query": {"_id": 1}}}, check=False)
            there.admin.command("ping")
            self.assertEqual((pools.cleared, pools.closed, pools.created), (0, [], 1))

    def test_replica_set_names_are_not_promised(self):
        with client("shop", replicaSet="rs0", serverSelectionTimeoutMS=1000) as there:
            with self.assertRaises(Exception):
                there.admin.command("ping")
