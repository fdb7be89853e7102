"""From a proposal to an applied entry, on disk and on the wire.

`replica` owns everything here: the journal, the connections, the engine, and the state
that committed entries are applied to. `proposer` is the door for whoever wants an entry.
The engine is PySyncObj's `SyncObj` with its handlers, tick and loops replaced
(`disarmed` takes away what must never run, `engine` puts in what should), and asks
`rules` for every decision.

What holds here:

- Nothing is told to a peer, or counted, before it is durable. A message that reveals a
  term, a vote or an acknowledgement waits in the `outbox` for the journal.
- An entry is applied once, in order, or the server stops.
- A proposal ends as applied, as certainly not in the log, or as unknown; never twice,
  and never not at all.
- A server votes only as the incarnation that the first entry lists (`formation`).
- No clock, no randomness, no file and no socket is reached but through what `server.py`
  hands over; `disk` and `network` are the only modules that touch the system.

Tasks: the journal's writer, the replica's tick, one dialler per peer, and one for each
question that is being answered. All run on one loop, and none of them shares a lock.

This room does not know what a command means, who may propose it, or HTTP.
"""
