//! Interpreter for the pickle opcodes of protocols 0 to 5.
//!
//! A pickle is a program for a stack machine. This machine builds plain data. For a class or function it records the name, and for a
//! call the callable and its arguments; it never resolves a name or executes a call. CPython's `Lib/pickletools.py` documents the
//! opcodes.

use std::borrow::Cow;
use std::path::Path;

use super::error::{Fault, PickleError};
use super::input::{Input, decimal, long, quoted, raw_unicode, text, text_or_bytes};
use super::stack::Stack;
use super::value::{Id, Object, Value, Values};

/// Maximum number of opcodes in one pickle. A state dict needs about twenty per tensor.
const MAX_STEPS: usize = 4_000_000;

/// Result of a pickle stream that was read up to `STOP`.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// All values built by the stream.
    pub(super) values: Values<'a>,
    /// Result of the stream.
    pub(super) root: Id,
    /// Offset of the first byte after the stream.
    pub(super) end: usize,
}

/// A failed opcode and the reason.
#[derive(Debug)]
pub(super) struct Failure {
    /// Offset of the opcode.
    pub(super) offset: usize,
    /// Opcode; 0 at the end of the data.
    pub(super) opcode: u8,
    /// Reason.
    pub(super) fault: Fault,
}

impl Failure {
    /// Converts the failure to an error; `part` names the pickle within the file.
    pub(super) fn in_part(self, path: &Path, part: &str) -> PickleError {
        let Failure { offset, opcode, fault } = self;
        PickleError::Opcode { path: path.to_owned(), part: part.to_owned(), offset, opcode, fault }
    }
}

/// Interprets the pickle that starts at byte `start`. Time and memory are proportional to the bytes read, up to fixed limits.
pub(super) fn run(bytes: &[u8], start: usize) -> Result<Pickle<'_>, Failure> {
    let mut machine = Machine { input: Input::new(bytes, start), values: Values::default(), stack: Stack::default() };
    for _ in 0..MAX_STEPS {
        let offset = machine.input.position();
        let opcode = machine.input.byte().map_err(|fault| Failure { offset, opcode: 0, fault })?;
        let step = if opcode == b'.' { machine.stack.pop().map(Some) } else { machine.step(opcode).map(|()| None) };
        match step {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Pickle { end: machine.input.position(), values: machine.values, root }),
            Err(fault) => return Err(Failure { offset, opcode, fault }),
        }
    }
    let fault = Fault::Limit { what: "opcodes", limit: MAX_STEPS };
    Err(Failure { offset: machine.input.position(), opcode: 0, fault })
}

struct Machine<'a> {
    input: Input<'a>,
    values: Values<'a>,
    stack: Stack,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Result<(), Fault> {
        match opcode {
            0x80 => match self.input.byte()? {
                0..=5 => Ok(()),
                version => Err(Fault::Protocol(version)),
            },
            0x95 => {
                let length = self.input.u64()?;
                self.input.expect_left(length)
            }
            b'N' => self.add(Value::None),
            0x88 | 0x89 => self.add(Value::Bool(opcode == 0x88)),
            b'I' | b'L' => {
                let value = decimal(self.input.line()?)?;
                self.add(value)
            }
            b'J' => self.input.i32().and_then(|int| self.add(Value::Int(int.into()))),
            b'K' => self.input.byte().and_then(|int| self.add(Value::Int(int.into()))),
            b'M' => self.input.u16().and_then(|int| self.add(Value::Int(int.into()))),
            0x8a => {
                let length = self.input.byte()?;
                self.input.take(length.into()).and_then(|bytes| self.add(long(bytes)))
            }
            0x8b => {
                let length = u64::try_from(self.input.i32()?).map_err(|_| Fault::BadNumber)?;
                self.input.take(length).and_then(|bytes| self.add(long(bytes)))
            }
            b'F' => self.input.line().and_then(|_| self.add(Value::Float)),
            b'G' => self.input.take(8).and_then(|_| self.add(Value::Float)),
            b'S' => {
                let value = quoted(self.input.line()?)?;
                self.add(value)
            }
            b'V' => {
                let value = raw_unicode(self.input.line()?)?;
                self.add(value)
            }
            b'T' | b'U' | b'X' | b'B' | b'C' | 0x8c | 0x8d | 0x8e | 0x96 => self.string(opcode),
            0x97 | 0x98 => Err(Fault::OutOfBand),
            b'(' => self.stack.mark(),
            b'0' => self.stack.discard(),
            b'1' => self.stack.since_mark().map(drop),
            b'2' => self.stack.top().and_then(|id| self.stack.push(id)),
            b'p' | b'q' | b'r' | 0x94 => self.store(opcode),
            b'g' | b'h' | b'j' => self.recall(opcode),

            b')' => self.add(Value::Tuple(Vec::new())),
            b']' => self.add(Value::List(Vec::new())),
            b'}' => self.add(Value::Dict(Vec::new())),
            0x8f => self.add(Value::Set),
            0x85 => self.stack.last(1).and_then(|ids| self.add(Value::Tuple(ids))),
            0x86 => self.stack.last(2).and_then(|ids| self.add(Value::Tuple(ids))),
            0x87 => self.stack.last(3).and_then(|ids| self.add(Value::Tuple(ids))),
            b't' => self.stack.since_mark().and_then(|ids| self.add(Value::Tuple(ids))),
            b'l' => self.stack.since_mark().and_then(|ids| self.add(Value::List(ids))),
            b'd' => self.stack.since_mark().and_then(pairs).and_then(|items| self.add(Value::Dict(items))),
            0x91 => self.stack.since_mark().and_then(|_| self.add(Value::Set)),
            b'a' => self.stack.pop().and_then(|id| self.append(&[id])),
            b'e' => self.stack.since_mark().and_then(|ids| self.append(&ids)),
            b's' => {
                let value = self.stack.pop()?;
                let key = self.stack.pop()?;
                self.set_items(&[(key, value)])
            }
            b'u' => self.stack.since_mark().and_then(pairs).and_then(|items| self.set_items(&items)),
            0x90 => self.stack.since_mark().and_then(|_| self.stack.top()).map(drop),

            b'c' => {
                let (module, name) = (self.input.name()?, self.input.name()?);
                self.add(Value::Global { module, name })
            }
            0x93 => self.stack_global(),
            0x82 => self.input.take(1).and_then(|_| self.add(Value::Extension)),
            0x83 => self.input.take(2).and_then(|_| self.add(Value::Extension)),
            0x84 => self.input.take(4).and_then(|_| self.add(Value::Extension)),
            b'R' | 0x81 => {
                let args = self.stack.pop()?;
                self.call(args)
            }
            0x92 => {
                self.stack.pop()?;
                let args = self.stack.pop()?;
                self.call(args)
            }
            b'i' => {
                let (module, name) = (self.input.name()?, self.input.name()?);
                let args = self.stack.since_mark()?;
                let args = self.values.add(Value::Tuple(args));
                let callable = self.values.add(Value::Global { module, name });
                self.object(callable, args)
            }
            b'o' => {
                let mut args = self.stack.since_mark()?;
                if args.is_empty() {
                    return Err(Fault::StackUnderflow);
                }
                let callable = args.remove(0);
                let args = self.values.add(Value::Tuple(args));
                self.object(callable, args)
            }
            b'b' => self.stack.pop().and_then(|_| self.stack.top()).map(drop),
            b'P' => {
                let id = self.values.add(text(self.input.line()?));
                self.add(Value::Persistent(id))
            }
            b'Q' => self.stack.pop().and_then(|id| self.add(Value::Persistent(id))),
            _ => Err(Fault::UnknownOpcode),
        }
    }

    /// Length-prefixed strings: `T` and `U` are Python 2 strings, `X`, 0x8c and 0x8d are text, the others are bytes.
    fn string(&mut self, opcode: u8) -> Result<(), Fault> {
        let length = match opcode {
            b'U' | b'C' | 0x8c => self.input.byte()?.into(),
            b'T' | b'X' | b'B' => self.input.u32()?.into(),
            _ => self.input.u64()?,
        };
        let bytes = self.input.take(length)?;
        self.add(match opcode {
            b'X' | 0x8c | 0x8d => text(bytes),
            b'T' | b'U' => text_or_bytes(bytes),
            _ => Value::Bytes,
        })
    }

    fn add(&mut self, value: Value<'a>) -> Result<(), Fault> {
        let id = self.values.add(value);
        self.stack.push(id)
    }

    fn store(&mut self, opcode: u8) -> Result<(), Fault> {
        let key = match opcode {
            b'p' => self.memo_name()?,
            b'q' => self.input.byte()?.into(),
            b'r' => self.input.u32()?.into(),
            _ => self.stack.stored(),
        };
        self.stack.store(key)
    }

    fn recall(&mut self, opcode: u8) -> Result<(), Fault> {
        let key = match opcode {
            b'g' => self.memo_name()?,
            b'h' => self.input.byte()?.into(),
            _ => self.input.u32()?.into(),
        };
        self.stack.recall(key)
    }

    fn memo_name(&mut self) -> Result<u64, Fault> {
        self.input.name()?.trim().parse().map_err(|_| Fault::BadNumber)
    }

    /// Appends to the value on top. Only lists keep their items, as state dicts are not read from other containers.
    fn append(&mut self, ids: &[Id]) -> Result<(), Fault> {
        let top = self.stack.top()?;
        match self.values.get_mut(top) {
            Some(Value::List(list)) => list.extend_from_slice(ids),
            Some(Value::Object(_)) => {}
            _ => return Err(self.wrong("a list", top)),
        }
        Ok(())
    }

    fn set_items(&mut self, pairs: &[(Id, Id)]) -> Result<(), Fault> {
        let top = self.stack.top()?;
        match self.values.get_mut(top) {
            Some(Value::Dict(items)) => items.extend_from_slice(pairs),
            Some(Value::Object(object)) => object.items.extend_from_slice(pairs),
            _ => return Err(self.wrong("a dict", top)),
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), Fault> {
        let (name, module) = (self.stack.pop()?, self.stack.pop()?);
        let (module, name) = (self.borrowed_text(module)?, self.borrowed_text(name)?);
        self.add(Value::Global { module, name })
    }

    /// Returns text borrowed from the input. Names that needed decoding are rejected: each use would copy them.
    fn borrowed_text(&self, id: Id) -> Result<&'a str, Fault> {
        match self.values.get(id) {
            Value::Text(Cow::Borrowed(text)) => Ok(text),
            _ => Err(Fault::BadText),
        }
    }

    /// Records a call of the value on top of the stack.
    fn call(&mut self, args: Id) -> Result<(), Fault> {
        if !matches!(self.values.get(args), Value::Tuple(_)) {
            return Err(self.wrong("a tuple of arguments", args));
        }
        let callable = self.stack.pop()?;
        self.object(callable, args)
    }

    fn object(&mut self, callable: Id, args: Id) -> Result<(), Fault> {
        self.add(Value::Object(Box::new(Object { callable, args, items: Vec::new() })))
    }

    fn wrong(&self, wanted: &'static str, found: Id) -> Fault {
        Fault::WrongValue { wanted, found: self.values.describe(found) }
    }
}

fn pairs(ids: Vec<Id>) -> Result<Vec<(Id, Id)>, Fault> {
    let (pairs, odd) = ids.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Fault::StackUnderflow);
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root_of(stream: &[u8]) -> String {
        let pickle = run(stream, 0).expect("valid stream");
        format!("{} {:?}", pickle.values.describe(pickle.root), pickle.values.get(pickle.root))
    }

    fn fault_of(stream: &[u8]) -> (usize, u8, Fault) {
        let failure = run(stream, 0).expect_err("invalid stream");
        (failure.offset, failure.opcode, failure.fault)
    }

    /// All opcodes of protocols 0 to 5 that can occur in a file, in streams that CPython reads.
    #[test]
    fn every_opcode_is_supported() {
        let streams: [(&[u8], &str); 21] = [
            (b"(I1\nI01\nL5L\nF1.5\nt.", "tuple Tuple"),
            (b"(J\xff\xff\xff\xffK\x01M\x02\x00l.", "list List"),
            (b"\x80\x05\x95\x02\x00\x00\x00\x00\x00\x00\x00\x88.", "bool Bool(true)"),
            (b"\x89.", "bool Bool(false)"),
            (b"\x8b\x02\x00\x00\x00\x00\x01.", "int Int(256)"),
            (b"G\x00\x00\x00\x00\x00\x00\x00\x00.", "float Float"),
            (b"(S'k'\nVv\nd.", "dict Dict"),
            (b"T\x01\x00\x00\x00a.", "str Text(\"a\")"),
            (b"U\x01\xff.", "bytes Bytes"),
            (b"B\x01\x00\x00\x00\xffC\x01\xff\x86.", "tuple Tuple"),
            (b"\x8d\x01\x00\x00\x00\x00\x00\x00\x00a.", "str Text(\"a\")"),
            (b"\x8e\x01\x00\x00\x00\x00\x00\x00\x00a\x96\x01\x00\x00\x00\x00\x00\x00\x00a\x86.", "tuple Tuple"),
            (b"]p1\n2a0g1\nq\x05h\x05r\x00\x01\x00\x00j\x00\x01\x00\x00\x87.", "tuple Tuple"),
            (b"N(NN1\x94\x85.", "tuple Tuple([Id("),
            (b"\x8f(K\x01K\x02\x90(\x91\x86.", "tuple Tuple"),
            (b"cos\nsystem\n(Vls\ntR.", "os.system Object"),
            (b"cm\nC\n)\x81}b.", "m.C Object"),
            (b"cm\nC\n)}\x92(Va\nNu(Ne.", "m.C Object"),
            (b"(K\x01im\nC\n(cm\nD\nK\x01o0.", "m.C Object"),
            (b"\x82\x01\x83\x01\x00\x84\x01\x00\x00\x00\x87Pid\n\x86.", "tuple Tuple"),
            (b"(Vid\ntQ.", "torch storage Persistent"),
        ];
        for (stream, expected) in streams {
            assert!(root_of(stream).starts_with(expected), "{:?} is {}", stream.escape_ascii().to_string(), root_of(stream));
        }
    }

    #[test]
    fn faults_have_offset_and_reason() {
        assert_eq!(fault_of(b""), (0, 0, Fault::Truncated { needed: 1, left: 0 }));
        assert_eq!(fault_of(b"N\x80\x09"), (1, 0x80, Fault::Protocol(9)));
        assert_eq!(fault_of(b"NX\xff\xff\xff\xffabc"), (1, b'X', Fault::Truncated { needed: 0xffff_ffff, left: 3 }));
        assert_eq!(fault_of(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff").2, Fault::Truncated { needed: u64::MAX, left: 0 });
        assert_eq!(fault_of(b"\x95\x09\x00\x00\x00\x00\x00\x00\x00N.").2, Fault::Truncated { needed: 9, left: 2 });
        assert_eq!(fault_of(b"\x8b\xff\xff\xff\xff").2, Fault::BadNumber);
        assert_eq!(fault_of(b"h\x03"), (0, b'h', Fault::NoMemo(3)));
        assert_eq!(fault_of(b"NNt"), (2, b't', Fault::NoMark));
        assert_eq!(fault_of(b"N(."), (2, b'.', Fault::StackUnderflow));
        assert_eq!(fault_of(b"N(\x85").2, Fault::StackUnderflow);
        assert_eq!(fault_of(b"}(Nu").2, Fault::StackUnderflow);
        assert_eq!(fault_of(b"cm\nC").2, Fault::NoLineEnd);
        assert_eq!(fault_of(b"\xfe"), (0, 0xfe, Fault::UnknownOpcode));
        assert_eq!(fault_of(b"\x97").2, Fault::OutOfBand);
        assert_eq!(fault_of(b"K\x01Na").2, Fault::WrongValue { wanted: "a list", found: "int".to_owned() });
        assert_eq!(fault_of(b"cm\nC\nNR").2, Fault::WrongValue { wanted: "a tuple of arguments", found: "None".to_owned() });
        assert_eq!(fault_of(b"K\x01K\x02\x93").2, Fault::BadText);
        let fault = fault_of(&b"N0".repeat(MAX_STEPS / 2 + 1)).2;
        assert_eq!(fault, Fault::Limit { what: "opcodes", limit: MAX_STEPS });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Opcodes in any order, most of them valid, with short operands.
        #[test]
        fn no_sequence_of_opcodes_panics(stream in prop::collection::vec(opcode(), 0..60)) {
            let stream = stream.concat();
            if let Ok(pickle) = run(&stream, 0) {
                prop_assert!(pickle.end <= stream.len());
                prop_assert!(pickle.values.iter().count() <= 3 * stream.len());
            }
        }

        #[test]
        fn no_bytes_panic(stream in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(failure) = run(&stream, 0) {
                prop_assert!(failure.offset <= stream.len());
            }
        }
    }

    fn opcode() -> impl Strategy<Value = Vec<u8>> {
        let plain = b"N(012)]}tldaesubRoQ.\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94".to_vec();
        let with_operand: Vec<Vec<u8>> = [
            &b"K\x01"[..],
            b"h\x00",
            b"q\x00",
            b"X\x01\x00\x00\x00a",
            b"cm\nC\n",
            b"im\nC\n",
            b"I7\n",
            b"Pid\n",
            b"\x8c\x01b",
            b"\x8a\x01\xff",
            b"S'x'\n",
        ]
        .map(<[u8]>::to_vec)
        .to_vec();
        prop_oneof![
            3 => prop::sample::select(plain).prop_map(|byte| vec![byte]),
            2 => prop::sample::select(with_operand),
        ]
    }
}
