"""Several servers in one process: virtual time, a seeded disk, a seeded network.

The only part of the lab that looks inside a server. A `SimulatedCluster` runs the real
replica, engine, journal and proposer on a loop whose clock jumps to the next timer
(`loop`), on disks that lose what was not synced (`disk`), over links that delay, lose and
cut (`network`). A storm (`storm`) draws faults and clients from one seed, lets the cluster
heal, and judges what was promised: no acknowledged write lost or applied twice, the same
entry at the same index everywhere, one leader a term, progress afterwards.

A seed says everything: `storm.play(seed)` plays the same storm again. Nothing here may
read the real clock, the system's randomness, a file or a socket.
"""
