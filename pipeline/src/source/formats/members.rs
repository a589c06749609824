//! Members of a JSON object as they are written.

use std::borrow::Cow;

/// Returns name and value of each member of a valid JSON object, as written. Nothing is copied, whatever the values hold.
pub(super) fn members(object: &str) -> Vec<(&str, &str)> {
    let mut members = Vec::new();
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    // Start of the name or the value, and the name once it is complete.
    let (mut start, mut name) = (0, None);
    for (at, byte) in object.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b':' if depth == 1 => {
                name = Some(object[start..at].trim());
                start = at + 1;
            }
            b',' | b'}' if depth == 1 => {
                members.extend(name.take().map(|name| (name, object[start..at].trim())));
                start = at + 1;
                depth -= usize::from(byte == b'}');
            }
            b'{' | b'[' => {
                depth += 1;
                if depth == 1 {
                    start = at + 1;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    members
}

/// Returns the members of a valid JSON object that are not among the `defined` ones, as a JSON object; `None` if there are none.
pub(super) fn extra_members(object: &str, defined: &[&str]) -> Option<String> {
    let fields = members(object).into_iter().filter(|(name, _)| !defined.contains(&unquoted(name).as_ref()));
    let fields: Vec<_> = fields.map(|(name, value)| format!("{name}: {value}")).collect();
    (!fields.is_empty()).then(|| format!("{{{}}}", fields.join(", ")))
}

/// Returns the name of a member as the parser reads it.
pub(super) fn unquoted(name: &str) -> Cow<'_, str> {
    serde_json::from_str(name).unwrap_or(Cow::Borrowed(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn members_are_as_written() {
        let object = " {\"a\" : {\"x\": [1, 2]}, \"b,\\\"\":1.50 ,\"c\":[\"}\"],\"d\":12345678901234567890123}";
        let expected =
            [("\"a\"", "{\"x\": [1, 2]}"), ("\"b,\\\"\"", "1.50"), ("\"c\"", "[\"}\"]"), ("\"d\"", "12345678901234567890123")];
        assert_eq!(members(object), expected);
        assert_eq!(members("{ }"), []);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), "\\PC{0,6}".prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[\"\\\\{},: a]{0,4}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn members_are_those_of_the_parser(
            fields in prop::collection::btree_map("[\"\\\\{},: é]{0,5}", json(), 0..5), pretty: bool,
        ) {
            let object: Value = fields.clone().into_iter().collect();
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.expect("json");
            let parsed = members(&text).into_iter().map(|(name, value)| {
                (serde_json::from_str::<String>(name).expect("name"), serde_json::from_str::<Value>(value).expect("value"))
            });
            prop_assert_eq!(parsed.collect::<std::collections::BTreeMap<_, _>>(), fields);
        }
    }
}
