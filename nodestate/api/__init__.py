"""HTTP: Nomad's nodes API over a view of the state and a proposer."""
