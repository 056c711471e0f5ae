"""GPU memory: what a model needs, where it goes, what is held, and which model makes room.

`checkpoint` and `estimate` work out what a model needs, `placement` where it goes, `eviction`
which models come and go: pure functions. `nvml` looks at the cards, `attribution` says whose the
memory is, `ledger` keeps the account, and `footprints` remember what was measured. `ledger` and
`footprints` have one writer, the supervisor. Everything here counts in bytes.
"""
