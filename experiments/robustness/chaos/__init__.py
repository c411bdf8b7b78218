"""Ten devices, one edge, and everything that goes wrong between them: is any frame lost?

Real processes: `coinfer device --config` daemons, each behind a relay of its own that can fail, and
`coinfer edge`, which is killed, stopped and besieged. The wall clock of all of them jumps. As root
both ends live in namespaces, and the link between these goes down and loses its rate. Every frame
is asked over HTTP and must come back once, with the answer that its very picture has at the exit
it names. Run as

    python -m experiments.robustness.chaos --frames 10000

It prints one JSON object and ends with 1 where a frame was lost, doubled or answered with another's
result. How many were late is reported beside a device that has no edge, asked in the same run.
"""
