"""Reading: pure functions over a view of the state.

`filters` turns a filter expression into a predicate over the full node record; `paging`
cuts an ordered list into pages and finds the place where one continues.

Nothing here knows who asks, over what, or when. Nothing awaits, so what is computed from
one state belongs together. Whatever comes from a user is bounded before it is worked on:
the length of an expression, how deep it nests, how many regular expressions it has. Those
run on an engine whose time is linear in its input.
"""
