"""Permissions: pure functions over policies and a token.

`policies` reads rules (HCL 1 or JSON, by `hcl`), `permissions` puts those of one token
together and answers what it may do, `resolve` goes from a secret and the state to that.
`checks` says what a policy, a token or a role may be written as, `expiry` when a token
ends, `answers` what is sent of them.

Nothing here knows of routes: which permission each needs is said in the route table.
"""
