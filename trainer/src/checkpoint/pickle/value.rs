//! Values built by a pickle stream, in one flat list with references by index.
//!
//! A flat list needs no recursion to build, walk or free, and can represent the cycles of a hostile stream.

use std::borrow::Cow;

/// Index of a value in its [`Values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// A Python value. Content that no state dict needs is dropped: floats, bytes, members of sets, attributes of objects.
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
    /// Pairs in the order in which they were set; a key that is set twice occurs twice.
    Dict(Vec<(Id, Id)>),
    Set,
    /// Name of a class or function. It is never resolved.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// Result of a call. The call is recorded, never executed.
    Object(Box<Object>),
    /// Reference to an object outside the pickle: a storage.
    Persistent(Id),
    /// Class from the `copyreg` extension registry, which only the program that wrote the file knows.
    Extension,
}

/// A recorded call.
#[derive(Debug)]
pub(super) struct Object {
    /// Class or function.
    pub(super) callable: Id,
    /// Arguments, a tuple.
    pub(super) args: Id,
    /// Items set on the result, for subclasses of dict.
    pub(super) items: Vec<(Id, Id)>,
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Values<'a>(Vec<Value<'a>>);

impl<'a> Values<'a> {
    /// Adds a value. The interpreter limits their number to far less than `u32::MAX`.
    pub(super) fn add(&mut self, value: Value<'a>) -> Id {
        let id = Id(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(value);
        id
    }

    /// Returns the value with this index.
    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        self.0.get(id.0 as usize).unwrap_or(&Value::None)
    }

    /// Returns the value with this index for modification.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Value<'a>> {
        self.0.get_mut(id.0 as usize)
    }

    /// Iterates over all values in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Value<'a>> {
        self.0.iter()
    }

    /// Returns the text of a string.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of a non-negative integer that fits.
    pub(super) fn index(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(int) => usize::try_from(*int).ok(),
            _ => None,
        }
    }

    /// Returns the items of a tuple, list or `torch.Size`.
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

    /// Returns the pairs of a dict, `OrderedDict` or `defaultdict`.
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

    /// Returns the items that Python 2 passes to the constructor of an `OrderedDict`, as a list of pairs.
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

    /// Returns true if the value is one of these names of `module`.
    pub(super) fn is_global(&self, id: Id, module: &str, names: &[&str]) -> bool {
        matches!(self.get(id), Value::Global { module: m, name } if *m == module && names.contains(name))
    }

    /// Returns the Python type of the value for messages, such as `dict` or `argparse.Namespace`.
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

/// Maximum length of text from a file in a message, in characters.
const QUOTE_LIMIT: usize = 120;

/// Returns text from a file for use in a message: control characters escaped, long text shortened.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_LIMIT).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_LIMIT).is_some() {
        quoted.push('…');
    }
    quoted
}
