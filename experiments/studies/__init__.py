"""The evaluation that claims rest on: a study's runs, kept by digest, and what they amount to.

`study` says what is to be run (TOML), `kept_runs` runs one controller or policy seed on one set
of traces and keeps the result, `results` are the files that come out, `merge` joins runs to them,
`extras` are what plots need beside, `run` is `coinfer evaluate`.
"""
