"""What should be proposed next: pure functions over a view and a time.

A plan is made of commands that are safe to propose twice, and safe to apply late: each
says what it looked at, and the state machine passes over what has changed since. Nothing
here waits, proposes or remembers; the leader's services do that.
"""
