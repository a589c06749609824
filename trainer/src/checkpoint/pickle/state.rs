//! Search for the state dict in the values of a checkpoint, and flattening of its names.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::error::TensorFault;
use super::tensor::{View, read_tensor};
use super::value::{Id, Value, Values, quote};

/// Keys under which training programs store the state dict; DeepSpeed's comes first.
const STATE_KEYS: [&str; 3] = ["module", "model", "state_dict"];
/// Maximum nesting of dicts.
const MAX_DEPTH: usize = 32;
/// Maximum number of entries of a state dict, tensors and others.
const MAX_ENTRIES: usize = 100_000;
/// Maximum length of a flat name in bytes.
const MAX_NAME: usize = 512;
/// Maximum number of keys in a message.
const SHOWN_KEYS: usize = 8;

/// A state dict with flat names.
#[derive(Debug, Default)]
pub(super) struct State<'v> {
    /// Flat name and view of each tensor, in the order of the file.
    pub(super) tensors: Vec<(String, View<'v>)>,
    /// Other entries inside and next to the state dict, each as `name (type)`.
    pub(super) skipped: Vec<String>,
}

/// Errors of the search.
#[derive(Debug)]
pub(super) enum StateFault {
    /// No state dict was found; describes what was found.
    Missing(String),
    /// A tensor is invalid: name and fault.
    Tensor(String, TensorFault),
}

/// Finds the state dict: under one of [`STATE_KEYS`], or the top dict itself if it maps a name to a tensor.
pub(super) fn find_state<'v>(values: &'v Values<'_>, root: Id) -> Result<State<'v>, StateFault> {
    let Some(items) = values.dict(root) else {
        return Err(StateFault::Missing(format!("the file contains one value of type {}, not a dict", values.describe(root))));
    };
    let items = entries(values, &items);
    let mut finder = Finder { values, state: State::default(), names: HashSet::new(), seen: HashSet::from([root]) };
    let by_key = |wanted: &&str| items.iter().find(|(name, _)| name == wanted).filter(|(_, id)| values.dict(*id).is_some());
    if let Some((state_key, state)) = STATE_KEYS.iter().find_map(by_key) {
        finder.flatten("", *state, 0)?;
        for (name, id) in items.iter().filter(|(name, _)| name != state_key) {
            finder.skip(name, *id)?;
        }
    } else if items.iter().any(|(_, id)| read_tensor(values, *id).is_some()) {
        finder.seen.clear();
        finder.flatten("", root, 0)?;
    }
    if finder.state.tensors.is_empty() {
        return Err(StateFault::Missing(describe_entries(values, &items)));
    }
    Ok(finder.state)
}

struct Finder<'v, 'a> {
    values: &'v Values<'a>,
    state: State<'v>,
    names: HashSet<String>,
    /// Dicts already flattened. Using dicts twice can produce exponentially many names.
    seen: HashSet<Id>,
}

impl<'v> Finder<'v, '_> {
    fn flatten(&mut self, prefix: &str, dict: Id, depth: usize) -> Result<(), StateFault> {
        let values = self.values;
        if depth >= MAX_DEPTH || !self.seen.insert(dict) {
            let why = "a dict that is nested too deep or used under two names";
            let name = if prefix.is_empty() { "(state dict)" } else { prefix };
            return Err(StateFault::Tensor(name.to_owned(), TensorFault::Malformed(why.to_owned())));
        }
        let items = values.dict(dict).unwrap_or_default();
        for (key, id) in entries(values, &items) {
            let name = if prefix.is_empty() { key.into_owned() } else { format!("{prefix}.{key}") };
            if name.len() > MAX_NAME {
                let why = format!("a name of {} bytes", name.len());
                return Err(StateFault::Tensor(quote(&name), TensorFault::Malformed(why)));
            }
            if values.dict(id).is_some() {
                self.flatten(&name, id, depth + 1)?;
                continue;
            }
            match read_tensor(values, id) {
                None => self.skip(&name, id)?,
                Some(Err(fault)) => return Err(StateFault::Tensor(name, fault)),
                Some(Ok(view)) => self.keep(name, view)?,
            }
        }
        Ok(())
    }

    fn keep(&mut self, name: String, view: View<'v>) -> Result<(), StateFault> {
        self.bound()?;
        if !self.names.insert(name.clone()) {
            return Err(StateFault::Tensor(name, TensorFault::Duplicate));
        }
        self.state.tensors.push((name, view));
        Ok(())
    }

    fn skip(&mut self, name: &str, id: Id) -> Result<(), StateFault> {
        self.bound()?;
        self.state.skipped.push(format!("{} ({})", quote(name), self.values.describe(id)));
        Ok(())
    }

    fn bound(&self) -> Result<(), StateFault> {
        if self.state.tensors.len() + self.state.skipped.len() < MAX_ENTRIES {
            return Ok(());
        }
        Err(StateFault::Missing(format!("the dict has more than {MAX_ENTRIES} entries")))
    }
}

/// Returns the entries of a dict with Python's semantics: a key that is set twice keeps its first position and its last value.
fn entries<'k>(values: &'k Values<'_>, items: &[(Id, Id)]) -> Vec<(Cow<'k, str>, Id)> {
    let mut entries: Vec<(Cow<'k, str>, Id)> = Vec::with_capacity(items.len());
    let mut places: HashMap<Cow<'k, str>, usize> = HashMap::with_capacity(items.len());
    for (key, value) in items {
        let key = match values.get(*key) {
            Value::Text(text) => Cow::Borrowed(text.as_ref()),
            Value::Int(int) => Cow::Owned(int.to_string()),
            _ => Cow::Owned(format!("<{}>", values.describe(*key))),
        };
        if let Some(entry) = places.get(&key).and_then(|place| entries.get_mut(*place)) {
            entry.1 = *value;
            continue;
        }
        places.insert(key.clone(), entries.len());
        entries.push((key, *value));
    }
    entries
}

fn describe_entries(values: &Values<'_>, items: &[(Cow<'_, str>, Id)]) -> String {
    if items.is_empty() {
        return "the dict is empty".to_owned();
    }
    let shown: Vec<String> =
        items.iter().take(SHOWN_KEYS).map(|(name, id)| format!("{} ({})", quote(name), values.describe(*id))).collect();
    let more = if items.len() > SHOWN_KEYS { ", …" } else { "" };
    format!("the dict has {}{more}, none of which is a dict of tensors", shown.join(", "))
}
