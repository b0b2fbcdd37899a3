"""The lab page: the link, live, in a browser. `docs/lab.md` has the sketch of the screen.

    sender ─┬─ air 1 ── receiver 1 ─┐
            ├─ air 2 ── receiver 2 ─┼─ feed ── display ── server ── browsers
            └─ …                    ┘
                 ↑ knobs ─────────────────────────┘

Every box up to the feed is a process of its own; the rest is the process that serves the page.
"""
