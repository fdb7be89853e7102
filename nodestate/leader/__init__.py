"""The loops that run on the leader only; what they decide is in `planning`.

`services` starts the rest when this server is ready to lead, each with the term that it
leads in, and cancels them when that ends. `heartbeats` marks nodes down that are not heard
of, `drainer` moves work off nodes that drain, and ends their drains. `scheduler` has
evaluations looked at; `broker` says which is next, and `blocked` which wait for room.
`garbage` removes what is over and old enough, `acl_expiry` tokens whose time is over, and
`resets` reads the file that lets ACLs be bootstrapped again. `slices` lets others have
their turn meanwhile.

A service keeps nothing that it could not rebuild from the state. It may be cancelled in
the middle of anything: what it proposes is safe to propose twice, and is proposed for one
term, so that a deposed leader's last words never reach its successor.

The tasks: one that waits for leadership, and under it, during a term, one that watches
the timers of nodes, one that proposes what they found, one for drains, one for garbage,
one for tokens, one that follows evaluations, and a few that look at them.
"""
