"""The data that everything else is about: records, commands, events and outcomes.

A record is a frozen struct, declared once, in snake_case; `naming.nomad_name` gives each
field the spelling that Nomad's JSON has, and what the API sends for a record is the
record itself. Records are `gc=False`: they are trees without cycles, and a collector that
walks a hundred thousand of them stalls the loop.

This room has data and no behaviour. A record may have properties that look at nothing
but itself. It knows neither the state nor how anything here is stored or sent.

Three unions hang together: a `Command` is what was asked for and what enters the log; the
`Event`s are what followed from it; an `Outcome` is what whoever asked is told. Commands
and events are written to disk by their tag, so a tag and the meaning of a field are for
ever: new fields have defaults that mean what old entries meant.

Points in time are Unix nanoseconds (`Timestamp` where they are sent), durations are
nanoseconds, nothing stored is a float.
"""
