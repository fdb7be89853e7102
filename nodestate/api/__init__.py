"""HTTP in front: Nomad's API to the letter, except where we differ on purpose.

A handler decodes, asks whether it may, settles time and ids, builds a command and
proposes it; or it reads the replica and renders what it found. Nothing here decides
what a change does: that is the state machine's. This room only knows ports.

Every request takes one way. `app` is what aiohttp calls; `middleware` finds the route,
runs the handler, turns what went wrong into a status and a text by the one table in
`problems`, measures, and writes the answer. `routes` is one table: paths, methods, what
each needs of a token, and metric labels all come from it; `authorization` asks for that
before anything is read. `calls` is what a handler is
given; `replies` is what it returns.

What must stay true:

- Index and body of an answer come from the same uninterrupted step.
- A blocking read registers, then reads, then waits, in that order.
- Work is not done twice: `cache` keeps a node's JSON as long as the record is the same
  object, and the list as long as the table has the same index; a thousand watchers of
  one list are one encoding, and a slow reader holds up a slice of it and not a copy.
- Whatever comes from outside has a limit with a name, and an error says which.
- No log line, event or error has a SecretID. A node's is in no answer either: only its
  digest leaves `agent`. A token's is in those in which Nomad's clients read it.
- A write that was sent and not heard of is answered `unknown`, never as done or failed.

The room starts no tasks of its own: everything runs in the task of its request.
"""
