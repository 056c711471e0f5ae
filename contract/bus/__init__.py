"""Where jobs, events, cancellations and heartbeats travel. No other package spells a Redis key.

    ew:{MODEL}:queue      stream, group `workers`: the jobs that wait, and those claimed
    ew:{MODEL}:job:ID     hash: state, attempt (the fencing token), worker, reply stream, deadline
    ew:{MODEL}:cancel     stream: ids of cancelled jobs; an empty one: a key begins to wait
    ew:{MODEL}:lanes and others
                          whose turn it is among the jobs that wait (`scripts/turns.lua`)
    ew:{MODEL}:dead       stream: jobs that broke every worker that tried them
    ew:{TAG}:leases       sorted set: name -> when its lease ends (ms, Redis' clock)
    ew:{TAG}:ready        the same for those that accept work; TAG is a model (then these are its
                          workers), `_gateways` or `_hosts`
    ew:{TAG}:beats        hash: name -> heartbeat
    ew:{MODEL}:registration:*
                          the same three for hosts: they load the model when it is asked for
    ew:{_jobs}:*          background jobs: a hash each (`job:ID`), the ids of each key (`of:KEY`),
                          who keeps the open ones, when ended ones are forgotten, bytes of all,
                          and webhooks by when they are due
    ew:limit:SUBJECT:*    what a key (`key:ID`) or a group (`group:NAME`) has taken of its
                          limits, over all models (`scripts/limits.lua`)
    ew:out:GATEWAY        reply stream of one gateway process: the frames, and so the durable log

All keys of one model share a hash tag, so a script crosses a cluster slot only for jobs
whose key has limits. Times inside Redis are Redis' own; the clocks of two hosts are never compared.
"""
