"""The state machine: from an entry of the log to the state that follows, pure and total.

`machine.apply` is the one door. It asks the resource's `decide_*` what follows from a
command: a refusal, or events that carry the finished records. Then `evolve_*` writes
those and asks nothing again, so a refusal cannot leave half a change behind.

This room knows no clock, no randomness, no disk and no network. Who may do what is asked
before; only that the right asked for is still as it was is looked at again (`permits`). What
could differ between servers is in the command: the time, the digest of a secret, the
seed that the ids of evaluations are derived from. Nothing here depends on the order in
which a map happens to be walked.

What holds after every entry: a table's index is that of the last entry that changed it,
and no record's `modify_index` is above it; a refused command has changed nothing; a node
that drains is closed to placements; a node and the digest of its secret come and go
together, and so do a token and its secret; the same entries give the same bytes
(`snapshot.encode_state`) on every server, and a state read back from its bytes is the state
that was written.

A saved state is restored by entries, too (`restores`): then no table's records need have
been made by this log, but their indexes are as if they had.

A change and the evaluations that it makes are one entry (Nomad makes two, and a crash
between them loses the second).
"""
