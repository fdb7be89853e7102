"""The command line: one file per noun.

`main` finds the command and turns what it raises into text and an exit code. A command
declares its flags and has one function that runs it; it talks to a server through
`nodestate.client` only. Where Nomad has the command, flags, columns and texts are those
of Nomad 1.6 and later, less what a node here does not have (CSI, host networks, live
resource usage), so that what people and scripts know keeps working.

Only `agent` may import the server.
"""
