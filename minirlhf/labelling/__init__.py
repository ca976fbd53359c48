"""People compare what two models of a run reply: `minirlhf label RUN`.

    pairs        two models answer held-out prompts; which pairs a session shows
    guidelines   the instructions beside a pair, and their version
    answers      labels.jsonl as it is written: appended, on disk at once, one program at a time
    session      who answered what, what comes next, which reply stands left
    page         the pairs in a browser (Flask)
    terminal     the pairs in a terminal
    command      the flags, and the order of it all

What a labels file says afterwards is `minirlhf.labels`.
"""
