"""Simulated agents: nodes that heartbeat, pull their allocations and report on them.

Nothing is run: what an agent would see of its tasks is drawn from a seed. What the
servers see is what a real agent sends, over the public API and nothing else: batch
registration, heartbeats by the TTL that was given, a blocking query per node with the
node's secret, and reports of what has changed, gathered for a moment.

- `fates` draws: the same for a seed, node and allocation, in whatever order they come;
- `assignments` are allocations as a node reads them, `tasks` how their tasks do;
- `work` is the task machine: an allocation and a time in, transitions and reports out.
  These four are pure: no clock, no randomness, no I/O;
- `identities` says who the nodes are, the same ones for the same seed;
- `servers` asks a server, and another one if that fails;
- `agent` is one node: three loops, for heartbeats, for what is assigned, for the work;
- `fleet` is many of them, for the command line, the lab and tests.

A simulator keeps no file. Started again with the same seed it is the same nodes, reads
what the servers know of its allocations and goes on from there: when a task began is in
its state, and what becomes of it is drawn again.

The room knows the client and the model, and nothing of a server's inside. Time and
jitter are handed to it.
"""
