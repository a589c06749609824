//! What a pickle stream builds: plain values in one flat list, referring to each other by number.
//!
//! A flat list needs no recursion to build, walk or free, and holds the cycles that a hostile stream can make.

use std::borrow::Cow;

/// Number of a value in its [`Values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// One value. What no state dict needs (floats, bytes, members of sets, attributes of objects) is not kept.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    /// An integer of more than 128 bits.
    HugeInt,
    Float,
    Text(Cow<'a, str>),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Pairs in the order they were set; a key set twice occurs twice.
    Dict(Vec<(Id, Id)>),
    Set,
    /// The name of a class or function. It is never looked up.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// What a call would have made: the call is remembered, never carried out.
    Object(Box<Object>),
    /// A reference to something outside the pickle: the storages of tensors.
    Persistent(Id),
    /// A class of the `copyreg` extension registry, which is empty outside the program that wrote the file.
    Extension,
}

/// A call that was not made.
#[derive(Debug)]
pub(super) struct Object {
    /// Class or function.
    pub(super) callable: Id,
    /// Its arguments, a tuple.
    pub(super) args: Id,
    /// Items set on the result, when it is a kind of dict.
    pub(super) items: Vec<(Id, Id)>,
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Values<'a>(Vec<Value<'a>>);

impl<'a> Values<'a> {
    /// Adds a value. The interpreter bounds how many there are, far below `u32::MAX`.
    pub(super) fn add(&mut self, value: Value<'a>) -> Id {
        let id = Id(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(value);
        id
    }

    /// The value with that number.
    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        self.0.get(id.0 as usize).unwrap_or(&Value::None)
    }

    /// The value with that number, to be changed.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Value<'a>> {
        self.0.get_mut(id.0 as usize)
    }

    /// All values, in the order they were made.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Value<'a>> {
        self.0.iter()
    }

    /// The text, if the value is one.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The non-negative integer, if the value is one that fits.
    pub(super) fn index(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(int) => usize::try_from(*int).ok(),
            _ => None,
        }
    }

    /// The members, if the value is a tuple, a list or a `torch.Size`.
    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(ids) | Value::List(ids) => Some(ids),
            Value::Object(object) if self.is_global(object.callable, "torch", &["Size"]) => match self.get(object.args) {
                Value::Tuple(args) => match args.as_slice() {
                    [only] => match self.get(*only) {
                        Value::Tuple(ids) | Value::List(ids) => Some(ids),
                        _ => None,
                    },
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// The pairs, if the value is a dict, an `OrderedDict` or a `defaultdict`.
    pub(super) fn dict(&self, id: Id) -> Option<Cow<'_, [(Id, Id)]>> {
        match self.get(id) {
            Value::Dict(items) => Some(Cow::Borrowed(items)),
            Value::Object(object) if self.is_global(object.callable, "collections", &["OrderedDict", "defaultdict"]) => {
                let mut items = self.constructor_pairs(object.args);
                if items.is_empty() {
                    return Some(Cow::Borrowed(&object.items));
                }
                items.extend_from_slice(&object.items);
                Some(Cow::Owned(items))
            }
            _ => None,
        }
    }

    /// Python 2 hands the items of an `OrderedDict` to its constructor, as a list of pairs.
    fn constructor_pairs(&self, args: Id) -> Vec<(Id, Id)> {
        let Value::Tuple(args) = self.get(args) else { return Vec::new() };
        let [only] = args.as_slice() else { return Vec::new() };
        let Value::List(pairs) = self.get(*only) else { return Vec::new() };
        let pair = |id: &Id| match self.sequence(*id) {
            Some([key, value]) => Some((*key, *value)),
            _ => None,
        };
        pairs.iter().filter_map(pair).collect()
    }

    /// Whether the value is one of these names of that module.
    pub(super) fn is_global(&self, id: Id, module: &str, names: &[&str]) -> bool {
        matches!(self.get(id), Value::Global { module: m, name } if *m == module && names.contains(name))
    }

    /// The Python type of the value, for messages: `dict`, `argparse.Namespace`.
    pub(super) fn describe(&self, id: Id) -> String {
        let fixed = match self.get(id) {
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::HugeInt => "int",
            Value::Float => "float",
            Value::Text(_) => "str",
            Value::Bytes => "bytes",
            Value::Tuple(_) => "tuple",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
            Value::Set => "set",
            Value::Persistent(_) => "torch storage",
            Value::Extension => "extension class",
            Value::Global { module, name } => return format!("{}.{}", quote(module), quote(name)),
            Value::Object(object) => match self.get(object.callable) {
                Value::Global { module, name } => return format!("{}.{}", quote(module), quote(name)),
                _ => "object",
            },
        };
        fixed.to_owned()
    }
}

/// Longest piece of text from a file that goes into a message, in characters.
const QUOTE_LIMIT: usize = 120;

/// Text from a file made fit for a message: no control characters, no more than a line.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_LIMIT).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_LIMIT).is_some() {
        quoted.push('…');
    }
    quoted
}
