"""Ingests malformed records, in files of many lines, and compares the accepted ones with an independent reading."""

import json

from data_sets import sample
from processes import Failed
from raw_mutants import Mutants, written
from raw_reference import fault_of, questions_of

LINES = 100
GOOD_LINES = 10
# Numbers of good lines are above this one, so that no malformed line takes the number of a good one.
GOOD_NUMBERS = 1_000_000
# A long line, which is below the limit of the format: memory must not grow by a large factor of it.
LONG_TEXT = 2_000_000
SENTENCES = ["Rain fell on {0} for a week.", "{1} sold the house to {2}.", "On Sunday {0} met {2} in the garden!", "Nobody saw {1} again."]
PEOPLE = ["Ada", "Bo Lind", "the old baker", "Éva", "Mr. Okoro", "her dog", "Zürich", "a man of 40"]
COLUMNS = "raw_line, passage, query, entities, choices"


def run(attack, programs):
    sample(programs, attack.folder / "sample", 60, 1, 7)
    text = (attack.folder / "sample" / "ReCoRD" / "train.jsonl").read_text()
    sources = {
        "record": Mutants(attack.random, "record", [json.loads(line) for line in text.splitlines()]),
        "plain": Mutants(attack.random, "plain", [plain_record(attack.random) for _ in range(60)]),
    }
    remaining, number = attack.count, 0
    while remaining > 0:
        kind = ("record", "plain")[number % 2]
        size = min(LINES, remaining)
        source = sources[kind]
        attack.attempt(f"{size - 1} malformed lines ({kind})", check_file, programs, kind, [source.line() for _ in range(size - 1)], source)
        # Each line is a try.
        attack.tries += max(size - 2, 0)
        attack.attempt(f"a long line ({kind})", check_file, programs, kind, [long_line(source)], source)
        remaining -= size
        number += 1


def plain_record(random):
    people = random.sample(PEOPLE, 4)
    sentences = [text.format(*people) for text in random.sample(SENTENCES, 4)]
    answer = random.randrange(3)
    cut = [number for number, text in enumerate(sentences) if people[answer] in text]
    chosen = random.choice(cut) if cut else 0
    sentences[chosen] = sentences[chosen].replace(people[answer], "[BLANK]") if cut else f"It was [BLANK]. {sentences[0]}"
    return {"context": " ".join(sentences), "choices": people, "answer": answer}


def long_line(source):
    record = source.good()
    if source.kind == "record":
        record["passage"]["text"] += " " + "#" * LONG_TEXT
    else:
        record["context"] = "#" * LONG_TEXT + " " + record["context"]
    line = written(record)
    return line, questions_of(line, source.kind)


def check_file(folder, programs, kind, mutants, source):
    """Ingests a file of malformed and good lines; if that fails, searches for the lines that cause it."""
    good = [written(source.good(GOOD_NUMBERS)) for _ in range(GOOD_LINES)]
    try:
        check_lines(folder / "all", programs, kind, mutants, good)
    except Failed as failure:
        blamed = blame(folder, programs, kind, mutants, good)
        shown = "\n".join(f"{len(line)} bytes: {line[:200]!r}" for line, _ in blamed[:3])
        raise Failed(f"{failure}\nlines that cause it:\n{shown or 'only all together'}") from None


def blame(folder, programs, kind, mutants, good):
    """Halves the lines as long as one half fails."""
    number = 0
    while len(mutants) > 1:
        halves = mutants[: len(mutants) // 2], mutants[len(mutants) // 2 :]
        for half in halves:
            number += 1
            try:
                check_lines(folder / f"part-{number}", programs, kind, half, good)
            except Failed:
                mutants = half
                break
        else:
            return []
    return mutants


def check_lines(folder, programs, kind, mutants, good):
    """Ingests lines as the validation split and checks the result."""
    folder.mkdir()
    val, train = folder / "raw-val.jsonl", folder / "raw-train.jsonl"
    lines = [*(line for line, _ in mutants), *good]
    val.write_bytes(b"\n".join(lines) + b"\n")
    # Malformed training records take another path: distractors are drawn for them.
    train.write_bytes(b"\n".join([*good, *(line for line, _ in mutants)]) + b"\n")
    target = folder / "out"
    target.mkdir()
    words = [programs.prep, "-q", "ingest", target, "--train", train, "--val", val, "--format", kind, "--max-rejects", "100%",
             "--threads", "2"]
    programs.run(words, 120).succeeds(0, 3)
    programs.run([programs.prep, "-q", "verify", target]).succeeds()
    words = [programs.prep, "inspect", target, "--sql", f"select {COLUMNS} from shards where split = 'val'", "--json"]
    ended = programs.run(words).succeeds()
    rows = [json.loads(line) for line in ended.out.split("\n") if line]
    good_questions = [questions_of(line, kind) for line in good]
    by_line = [*(questions for _, questions in mutants), *good_questions]
    for row in rows:
        fault = fault_of(row, by_line[row["raw_line"] - 1])
        if fault:
            raise Failed(f"{fault}: {json.dumps(row)[:600]}\n{lines[row['raw_line'] - 1][:600]!r}")
    found = sum(row["raw_line"] > len(mutants) for row in rows)
    expected = sum(map(len, good_questions))
    if found != expected:
        raise Failed(f"{found} rows instead of {expected} are made of the good records")
