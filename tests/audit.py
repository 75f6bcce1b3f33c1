"""The invariants that a journal's records show by themselves (DESIGN section 10).

audit(records) returns a list of sentences, one for each violation; records are holdfast-dump's, in order.
"""

INPUTS_WITH_RING_SEQ = ("phase", "saved", "no-room")


def check_order(records):
    """Sequence and turn numbers have no holes, and every turn is closed by its own record."""
    wrong = []
    inputs = decisions = 0
    turn = 1
    for index, record in enumerate(records):
        if record["seq"] != index + 1:
            wrong.append(f"record {index + 1} has seq {record['seq']}")
        if record["turn"] != turn:
            wrong.append(f"record {record['seq']} is of turn {record['turn']}, not {turn}")
        if record["kind"] == "turn":
            if (record["input_count"], record["decision_count"]) != (inputs, decisions):
                wrong.append(f"turn {turn} holds {inputs} inputs and {decisions} decisions, and says otherwise")
            inputs = decisions = 0
            turn += 1
        elif record["kind"] in DECISIONS:
            decisions += 1
        else:
            inputs += 1
    return wrong


DECISIONS = {
    "start",
    "kill",
    "clear-attempt",
    "sample-rank",
    "capture",
    "survey",
    "verify",
    "fault",
    "recovered",
    "standing",
    "ask",
    "end",
    "digest",
}


def ring_seqs(records):
    """(rank, attempt) → every report that stands in the journal, with the gaps between."""
    seen = {}
    for record in records:
        if record["kind"] == "step":
            for rank, cell in enumerate(record["cells"]):
                if "present" in cell["flags"]:
                    seen.setdefault((rank, record["attempt"]), []).append((cell["ring_seq"], 1))
        elif record["kind"] in INPUTS_WITH_RING_SEQ:
            seen.setdefault((record["rank"], record["attempt"]), []).append((record["ring_seq"], 1))
        elif record["kind"] == "gap":
            seen.setdefault((record["rank"], record["attempt"]), []).append(
                (record["first_ring_seq"], record["count"])
            )
    return seen


def check_reports(records):
    """H3: a rank's reports are contiguous within an attempt, or a gap record stands there; none comes twice."""
    wrong = []
    for (rank, attempt), reports in ring_seqs(records).items():
        expected = 1
        for ring_seq, count in reports:
            if ring_seq != expected:
                wrong.append(f"H3: rank {rank}, attempt {attempt}: report {ring_seq} where {expected} was due")
            expected = ring_seq + count
    return wrong


def check_attempts(records):
    """H6: an attempt starts when the one before is proven gone.  H1: nothing is seen of what was not decided."""
    wrong = []
    decided, cleared = 0, -1
    for record in records:
        kind = record["kind"]
        if kind == "start":
            if record["attempt"] not in (decided, decided + 1):
                wrong.append(f"attempt {record['attempt']} follows {decided}")
            if record["attempt"] == decided + 1 and cleared < decided:
                wrong.append(f"H6: attempt {record['attempt']} starts before {decided} is gone")
            decided = record["attempt"]
        elif kind == "clear" and not record["stuck"]:
            cleared = max(cleared, record["attempt"])
        elif kind in ("started", "connected", "step") and record["attempt"] > decided:
            wrong.append(f"H1: {kind} of attempt {record['attempt']} before its start was decided")
    return wrong


def check_sources(records):
    """H8: what an attempt starts from was verified in the same restart."""
    wrong = []
    memory, verified = {}, set()
    for record in records:
        kind = record["kind"]
        if kind == "memory":
            memory.setdefault(record["attempt"], {})[record["rank"]] = set(record["step"]) - {None}
        elif kind == "verified" and record["result"] == "ok":
            verified.add((record["attempt"], record["step"]))
        elif kind == "start" and record["source"] == "memory":
            holders = memory.get(record["attempt"], {})
            if len(holders) != record["rank_count"] or any(record["step"] not in s for s in holders.values()):
                wrong.append(f"H8: attempt {record['attempt']} starts from memory that was not verified")
        elif kind == "start" and record["source"] == "file":
            if (record["attempt"], record["step"]) not in verified:
                wrong.append(f"H8: attempt {record['attempt']} starts from a file that was not verified")
    return wrong


def check_evidence(records):
    """H9: a rank that stalled, or stands in its crash handler, is ended only when its stacks were taken or given up."""
    wrong = []
    asked = {}
    for record in records:
        if record["kind"] == "fault" and record["fault"].startswith("stall-"):
            asked[record["attempt"]] = None  # the attempt must not be ended without a word of evidence
        elif record["kind"] == "evidence" and record["attempt"] in asked:
            asked[record["attempt"]] = record["seq"]
        elif record["kind"] == "clear-attempt" and asked.get(record["attempt"], 0) is None:
            wrong.append(f"H9: attempt {record['attempt']} stalled and is ended without evidence")
    return wrong


def audit(records):
    records = list(records)
    return [
        sentence
        for check in (check_order, check_reports, check_attempts, check_sources, check_evidence)
        for sentence in check(records)
    ]
