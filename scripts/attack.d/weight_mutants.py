"""Malformed files of weights: safetensors, PyTorch's container, archives."""

import bz2
import io
import json
import re
import struct
import tarfile
import zipfile

LAYER = "transformer.layers.{}.input_layernorm.bias"
WORDS, POSITIONS = "word_embeddings.weight", "transformer.position_embeddings.weight"
HUGE_LAYERS = [100_000, 10**7, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**30]
HUGE_ROWS = [2**27, 2**31, 2**40, 2**60, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
ODD_NUMBERS = ["0", "1", "-1", "7", "1.5", "1e30", "65536", "2147483648", "4294967296", "9223372036854775807",
               "9223372036854775808", "18446744073709551615", "18446744073709551616", "null", '"1"', "[]"]
KINDS = ["F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "C64", "X", ""]
# Pickled integers, and None.
ODD_INTEGERS = [b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True) for size in (8, 9) for value in
                (0, 1, -1, 7, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63))] + [b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"N"]
BOMB = 320 << 20


class Weights:
    """A safetensors file in memory."""

    def __init__(self, data):
        length = struct.unpack("<Q", data[:8])[0]
        self.header, self.data = json.loads(data[8 : 8 + length]), data[8 + length :]

    def file(self, header=None, length=None):
        """Writes the file, with another header or another length of the header if given."""
        text = json.dumps(self.header).encode() if header is None else header
        return struct.pack("<Q", len(text) if length is None else length) + text + self.data

    def with_tensor(self, name, **fields):
        """Writes the file with a tensor that is added or changed. An added one holds no bytes."""
        new = {"dtype": "F32", "shape": [0], "data_offsets": [len(self.data), len(self.data)], **self.header.get(name, {}), **fields}
        return self.file(json.dumps({**self.header, name: new}).encode())


def safetensors_with_claims(weights):
    """Files that claim sizes which they do not have; weights cannot be loaded from them."""
    end = [len(weights.data)] * 2
    # The tables of positions have no bytes, so that only their shape claims memory.
    tables = [name for name in weights.header if "position_embeddings" in name] or [POSITIONS]
    for layer in HUGE_LAYERS:
        yield f"layer {layer}", weights.with_tensor(LAYER.format(layer))
    for rows in HUGE_ROWS:
        for columns in (0, 2):
            header = dict(weights.header)
            for name in tables:
                header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": end}
            yield f"positions of shape [{rows}, {columns}]", weights.file(json.dumps(header).encode())
        for shape in ([rows, 8], [8, rows], [rows, rows], [rows], [rows, 1, 1]):
            yield f"words of shape {shape}", weights.with_tensor(WORDS, shape=shape)
    for offsets in ([0, 2**63], [2**64 - 1, 0], [len(weights.data), 0], [0, len(weights.data) + 4], [-4, 4]):
        yield f"offsets {offsets}", weights.with_tensor(WORDS, data_offsets=offsets)
    size = len(json.dumps(weights.header))
    for length in (0, 1, size - 1, size + 1, 100 << 20, 2**31, 2**63, 2**64 - 1):
        yield f"a header of {length} bytes", weights.file(length=length)
    for text in (b"", b"{", b"[]", b"null", b"{}", b"[" * 100_000, b'{"a":' * 100_000, b"\xff" * 100, b'{"__metadata__":{}}'):
        yield f"the header {text[:20]!r}", weights.file(text)
    for name in sorted(weights.header):
        if name != "__metadata__":
            rest = {other: fields for other, fields in weights.header.items() if other != name}
            yield f"{name} missing", weights.file(json.dumps(rest).encode())


def safetensors_mutant(weights, random):
    """A file with random changes, which may be harmless."""
    text = json.dumps(weights.header)
    kind = random.randrange(6)
    if kind == 0:
        data = bytearray(text.encode())
        for _ in range(random.choice([1, 2, 10])):
            data[random.randrange(len(data))] = random.randrange(256)
        return "bytes of the header", weights.file(bytes(data))
    if kind == 1:
        found = random.choice(list(re.finditer(r"\d+", text)))
        text = text[: found.start()] + random.choice(ODD_NUMBERS) + text[found.end() :]
        return "a number in the header", weights.file(text.encode())
    if kind == 2:
        found = random.choice(list(re.finditer(r'"dtype": "(\w+)"', text)))
        text = text[: found.start(1)] + random.choice(KINDS) + text[found.end(1) :]
        return "a dtype", weights.file(text.encode())
    if kind == 3:
        metadata = dict(weights.header.get("__metadata__") or {})
        for key in metadata:
            metadata[key] = re.sub(r"\d+", lambda _: random.choice(ODD_NUMBERS), metadata[key], count=random.randrange(1, 4))
        metadata.update(random.choice([{}, {"a": "b" * 100_000}, {"config": "{}"}, {"config": "[" * 10_000}]))
        return "metadata", weights.file(json.dumps({**weights.header, "__metadata__": metadata}).encode())
    if kind == 4:
        whole = weights.file()
        return "a truncated file", whole[: random.choice([random.randrange(len(whole)), random.randrange(2000)])]
    names = random.sample(sorted(set(weights.header) - {"__metadata__"}), 2)
    header = {**weights.header, names[0]: weights.header[names[1]]}
    return "two tensors with the same bytes", weights.file(json.dumps(header).encode())


class Container:
    """A file of `torch.save` in memory."""

    def __init__(self, data):
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            self.members = {name: file.read(name) for name in file.namelist()}
        self.pickle_name = next(name for name in self.members if name.endswith("data.pkl"))
        self.pickle = self.members[self.pickle_name]

    def file(self, changed=(), compression=zipfile.ZIP_STORED, skipped=()):
        """Writes the file, with other contents of some members."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as file:
            for name, data in {**self.members, **dict(changed)}.items():
                if name not in skipped:
                    file.writestr(name, data)
        return out.getvalue()

    def with_pickle(self, pickle):
        return self.file({self.pickle_name: pickle})


def evil_pickles(marker):
    """Pickles that create the file `marker` if anything in them is called."""
    command = f"touch {marker}".encode()
    text = b"X" + struct.pack("<I", len(command)) + command
    python = f"open({str(marker)!r}, 'w')".encode()
    code = b"X" + struct.pack("<I", len(python)) + python
    return [
        b"cos\nsystem\n(S'" + command + b"'\ntR.",
        b"\x80\x02cposix\nsystem\n" + text + b"\x85R.",
        b"\x80\x02cbuiltins\neval\n" + code + b"\x85R.",
        b"\x80\x02c__builtin__\nexec\n" + code + b"\x85R.",
        b"(S'" + command + b"'\nios\nsystem\n.",
        b"(cos\nsystem\n" + text + b"o.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
        b"\x80\x02csubprocess\nPopen\n(]" + b"X\x05\x00\x00\x00touch" + b"a\x85\x81.",
        b"\x80\x02cos\nsystem\n" + text + b"\x85\x81.",
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00acos\nsystem\n" + text + b"\x85Rsb.",
    ]


def pickle_bombs():
    """Pickles that claim memory or depth."""
    return [
        b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f" + b"a.",
        b"\x80\x02X\xff\xff\xff\x7fa.",
        b"\x80\x02\x8b\xff\xff\xff\x7f\x00.",
        b"\x80\x02]r\xff\xff\xff\xff.",
        b"\x80\x02]" + b"2e" * 10,
        b"\x80\x02" + b"(" * 500_000 + b".",
        b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        b"\x80\x02}" + b"q\x00h\x00h\x00s" * 100 + b".",
        # A list that is doubled at every step.
        b"\x80\x02]q\x00" + b"(h\x00h\x00eq\x00" * 60 + b".",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
        b"",
        b".",
    ]


def container_mutant(container, random, marker):
    """A file of `torch.save` with changes."""
    kind = random.randrange(9)
    if kind == 0:
        pickle = bytearray(container.pickle)
        for _ in range(random.choice([1, 1, 3, 20])):
            pickle[random.randrange(len(pickle))] = random.randrange(256)
        return "bytes of the pickle", container.with_pickle(bytes(pickle))
    if kind == 1:
        at = random.randrange(len(container.pickle))
        return "a truncated pickle", container.with_pickle(container.pickle[:at] + random.choice([b"", b"."]))
    if kind == 2:
        evil = random.choice(evil_pickles(marker))
        # Also in the middle of the good pickle, without its header and its end.
        at = random.randrange(2, len(container.pickle))
        inner = container.pickle[:at] + evil.removeprefix(b"\x80\x02")[:-1] + container.pickle[at:]
        return "a pickle that calls", random.choice([container.with_pickle(evil), container.with_pickle(inner), evil])
    if kind == 3:
        bomb = random.choice(pickle_bombs())
        return "a pickle that claims memory", random.choice([container.with_pickle(bomb), bomb])
    if kind == 4:
        # Sizes, strides, offsets and numbers of elements: LONG1 of nine bytes.
        found = random.choice(list(re.finditer(rb"\x8a\x09.{9}", container.pickle, re.DOTALL)))
        pickle = container.pickle[: found.start()] + random.choice(ODD_INTEGERS) + container.pickle[found.end() :]
        return "a number in the pickle", container.with_pickle(pickle)
    whole = container.file()
    if kind == 5:
        return "a truncated file", whole[: random.randrange(len(whole))]
    if kind == 6:
        data = bytearray(whole)
        # The directory is at the end.
        for _ in range(random.choice([1, 3, 10])):
            data[-random.randrange(1, min(2000, len(data)))] = random.randrange(256)
        return "bytes of the directory", bytes(data)
    tensors = sorted(set(container.members) - {container.pickle_name})
    if kind == 7:
        name = random.choice(tensors)
        changed = random.choice([b"", container.members[name][:-1], container.members[name] * 2])
        return "a member of another size", container.file({name: changed})
    return "a compressed or missing member", random.choice([
        container.file(compression=zipfile.ZIP_DEFLATED), container.file(skipped=[random.choice(tensors)])])


def zip_bomb(container):
    """A member that is compressed far beyond its size."""
    name = next(name for name in container.members if "/data/" in name)
    return container.file({name: bytes(BOMB)}, zipfile.ZIP_DEFLATED)


def archive(members):
    """A .tar.bz2 of (name, content) pairs, where content can be a TarInfo without data."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2", compresslevel=1) as file:
        for name, content in members:
            if isinstance(content, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
            else:
                content.name = name
                file.addfile(content)
    return out.getvalue()


def link(kind, target):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def archives(published, outside):
    """Archives that try to write elsewhere, to `outside` for example, or that unpack to far more than their size; with true if they
    must be refused. Links may also be skipped."""
    top, file = "blocklm-large-blank", "blocklm-large-blank/200000/mp_rank_00_model_states.pt"
    good = [(f"{top}/latest_checkpointed_iteration.txt", b"200000"), (file, published)]
    device = tarfile.TarInfo()
    device.type = tarfile.FIFOTYPE
    bomb = bytes(BOMB)
    return [
        ("a path with ..", True, archive([*good, ("../outside", b"x")])),
        ("a path with .. inside", True, archive([*good, (f"{top}/../../outside", b"x")])),
        ("an absolute path", True, archive([*good, (str(outside), b"x")])),
        ("a link out", False, archive([*good, (f"{top}/link", link(tarfile.SYMTYPE, "..")), (f"{top}/link/outside", b"x")])),
        ("an absolute link", False, archive([(f"{top}/200000", link(tarfile.SYMTYPE, str(outside.parent))), *good])),
        ("a hard link out", False, archive([*good, (f"{top}/link", link(tarfile.LNKTYPE, "/etc/passwd"))])),
        ("a pipe", True, archive([(file, device)])),
        ("two folders", False, archive([*good, ("other/file", b"x")])),
        ("no weights", True, archive([(f"{top}/readme.txt", b"x")])),
        ("a bomb", True, archive([*good, (f"{top}/zeros", bomb)])),
        ("weights that are a bomb", True, archive([good[0], (file, bomb)])),
        ("an empty archive", True, archive([])),
        ("no archive", True, bz2.compress(b"nothing", 1)),
    ]


def archive_mutant(good, random):
    """An archive that is damaged at random. Its CRC finds all of it."""
    data = bytearray(good)
    if random.random() < 0.3:
        return "a truncated archive", True, bytes(data[: random.randrange(10, len(data))])
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return "a flipped bit of an archive", True, bytes(data)
