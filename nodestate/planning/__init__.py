"""What should be proposed next: pure functions over a view and a time.

`scheduling` has an evaluation come to a plan: `generic` and `system` say what their jobs
want that is not there, `selection` on which node it goes. `drains` says what is to move now
and which drains are over, `garbage` what can be removed, `heartbeats` how long a node may
be silent. The leader's services ask again whenever the state has moved, and propose what
they are told.

This room knows no clock, no log and no network, and not who asks: the time is an
argument, and so is every setting. It reads the state machine's tables and writes none of
them. It waits for nothing, proposes nothing and remembers nothing between two calls, so
that a new leader plans as the old one did.

A plan is made of commands that are safe to propose twice, and safe to apply late: each
says what it looked at (a node's index), and the state machine passes over what has
changed since. A plan is complete (what it leaves out needs nothing), it is in the order
of the nodes' keys, and no command in it is larger than its limit allows.
"""
