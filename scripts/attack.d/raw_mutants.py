"""Malformed raw records: lines of ReCoRD and of plain cloze data with random changes."""

import copy
import json
import re

from raw_reference import questions_of

# JSON texts that Python would not write.
ODD_JSON = ["null", "true", "-1", "-0", "0.5", "1e400", "-1e400", "1e15", "2147483648", "9223372036854775807", "9223372036854775808",
            "18446744073709551616", "123456789012345678901234567890", "NaN", '""', '"x"', '" "', "[]", "{}", "[[]]", '[null]', '{"a":1}']
ODD_TEXT = ["\0", "\u0301", "\u200d", "\u202e", "\ufeff", "\u2028", "\U0001f468\u200d\U0001f469", "\uff21", "\u201c", "\u2019",
            "\u2013", "\u0130", "\ufb01", "\u1e9e", "中", "\u3000", "\x7f", "\t", "@highlight\n", "@placeholder", "[BLANK]", "[MASK]", "[CLS]", "##a"]
# Escapes that JSON allows and that are not text: halves of surrogate pairs.
HALVES = ["\\ud800", "\\udfff", "\\udc00\\ud800", "\\ud83d"]
DEEP = [10, 100, 130, 600]
VERY_DEEP = 100_000
LONG = [1_000, 20_000, 200_000]
# Stands for a JSON text that is put in after writing.
PLACE = "\ue000"


class Mutants:
    """Source of mutants of good records of one kind."""

    def __init__(self, random, kind, records):
        self.random, self.kind, self.records = random, kind, records
        self.number = 0

    def good(self, above=0):
        """A record as it should be, with a number of its own."""
        record = copy.deepcopy(self.random.choice(self.records))
        self.number += 1
        number = above + self.number
        if self.kind == "record":
            record["idx"] = number
            for position, question in enumerate(record["qas"]):
                question["idx"] = 100 * number + position
        else:
            record["id"] = f"own-{number}"
        return record

    def line(self):
        """A malformed line, and the questions that it may give rise to."""
        change = self.random.choice([self.bytes, self.structure, self.value, self.value, self.spans, self.unicode, self.choices,
                                     self.escapes, self.depth, self.length])
        line, reference = change(self.good())
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
        return line, questions_of(line, self.kind) if reference is None else reference

    def bytes(self, record):
        data = bytearray(written(record))
        for _ in range(self.random.choice([1, 1, 1, 3, 10])):
            at = self.random.randrange(len(data))
            kind = self.random.randrange(4)
            if kind == 0:
                data[at] ^= 1 << self.random.randrange(8)
            elif kind == 1:
                data[at:at] = self.random.randbytes(self.random.choice([1, 2, 8]))
            elif kind == 2:
                del data[at : at + self.random.choice([1, 2, 30])]
            else:
                data[at:at] = data[at : at + self.random.choice([1, 20, 200])]
            if not data:
                break
        return bytes(data), None

    def structure(self, record):
        text = written(record).decode()
        places = [found.start() for found in re.finditer(r'[\[\]{}",:]', text)]
        at = self.random.choice(places)
        kind = self.random.randrange(5)
        if kind == 0:
            text = text[:at] + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + self.random.choice('[]{}",:\\') + text[at:]
        elif kind == 2:
            text = text[: self.random.randrange(len(text))]
        elif kind == 3:
            text += self.random.choice([text, "x", "]", "}", ",", " null"])
        else:
            # A key twice.
            key = self.random.choice(sorted(record))
            text = text[:-1] + f',"{key}":{self.random.choice([json.dumps(record[key]), *ODD_JSON])}}}'
        return text.encode(), None

    def value(self, record):
        holder, key = self.random.choice(places_in(record))
        if isinstance(holder, dict) and self.random.random() < 0.2:
            del holder[key]
            return written(record), None
        holder[key] = PLACE
        return put(record, self.random.choice(ODD_JSON)), None

    def spans(self, record):
        if self.kind != "record":
            return self.value(record)
        entities = record["passage"]["entities"]
        length = len(record["passage"]["text"])
        entity = self.random.choice(entities)
        kind = self.random.randrange(6)
        if kind == 0:
            entity[self.random.choice(["start", "end"])] += self.random.choice([-3, -2, -1, 1, 2, 3, 50, -50])
        elif kind == 1:
            entity["start"], entity["end"] = self.random.randrange(-2, length + 2), self.random.randrange(-2, length + 2)
        elif kind == 2:
            entity["start"], entity["end"] = 0, length - self.random.randrange(3)
        elif kind == 3:
            entities *= self.random.choice([2, 30])
        elif kind == 4:
            entities += [{"start": at, "end": at + self.random.randrange(4)} for at in range(0, length, 7)]
        else:
            entities.clear()
        return written(record), None

    def unicode(self, record):
        """Changes of texts, with spans left where they are."""
        for _ in range(self.random.choice([1, 1, 5])):
            texts = [(holder, key) for holder, key in places_in(record) if isinstance(holder[key], str)]
            holder, key = self.random.choice(texts)
            at = self.random.randrange(len(holder[key]) + 1)
            holder[key] = holder[key][:at] + self.random.choice(ODD_TEXT) * self.random.choice([1, 1, 40]) + holder[key][at:]
        return written(record, self.random.random() < 0.5), None

    def escapes(self, record):
        texts = [(holder, key) for holder, key in places_in(record) if isinstance(holder[key], str)]
        holder, key = self.random.choice(texts)
        at = self.random.randrange(len(holder[key]) + 1)
        text = json.dumps(holder[key][:at])[:-1] + self.random.choice(HALVES) + json.dumps(holder[key][at:])[1:]
        holder[key] = PLACE
        # A half of a pair is not text: the record must be refused, or its field be one that nobody reads.
        return put(record, text), None

    def choices(self, record):
        kind = self.random.randrange(6)
        if self.kind == "record":
            question = self.random.choice(record["qas"])
            answers = question["answers"]
            if kind == 0:
                answers.clear()
            elif kind == 1:
                answers[0]["text"] = self.random.choice(["", "nobody", " ", answers[0]["text"] + " "])
            elif kind == 2:
                answers *= 40
            elif kind == 3:
                question["query"] = question["query"].replace("@placeholder", self.random.choice(["", "@placeholder @placeholder"]))
            elif kind == 4:
                record["qas"] = record["qas"] * self.random.choice([2, 20])
            else:
                record["qas"] = []
        else:
            choices = record["choices"]
            if kind == 0:
                choices.append(self.random.choice(["", " ", "\u3000", choices[0], choices[0] + " ", choices[0].upper()]))
            elif kind == 1:
                record["choices"] = [choices[0][: at + 1] for at in range(len(choices[0]))] * 3
            elif kind == 2:
                record["choices"] = choices + [f"choice {number}" for number in range(400)]
            elif kind == 3:
                record["answer"] = self.random.choice([-1, len(choices), [0, len(choices) + 1], [], [0, 0, 1], "0", [[0]], 0.0])
            elif kind == 4:
                record["context"] = record["context"].replace("[BLANK]", self.random.choice(["", "[BLANK] [BLANK]", "[blank]"]))
            else:
                record["choices"] = []
        return written(record), None

    def depth(self, record):
        if self.random.random() < 0.3:
            # In a field that nobody reads; too deep for Python's parser.
            known = questions_of(written(record), self.kind)
            record["other"] = PLACE
            return put(record, "[" * VERY_DEEP + "]" * VERY_DEEP), known
        holder, key = self.random.choice(places_in(record))
        holder[key] = PLACE
        depth = self.random.choice(DEEP)
        nested = self.random.choice(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth])
        return put(record, nested), None

    def length(self, record):
        texts = [(holder, key) for holder, key in places_in(record) if isinstance(holder[key], str)]
        holder, key = self.random.choice(texts)
        unit = self.random.choice(["#", "a", "word ", "é", "Xq ", " ", "\u0301"])
        holder[key] += " " + unit * (self.random.choice(LONG) // len(unit))
        return written(record), None


def written(record, ascii_only=False):
    return json.dumps(record, ensure_ascii=ascii_only).encode()


def put(record, text):
    """Writes a record with a JSON text at the place of the value PLACE."""
    return json.dumps(record, ensure_ascii=False).replace(f'"{PLACE}"', text).encode("utf-8", "surrogatepass")


def places_in(value):
    """All places of values in a record: the object or list that holds a value, and its key."""
    found = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found.append((value, key))
        found += places_in(inner)
    return found
