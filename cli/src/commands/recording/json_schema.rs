//! The JSON schema of a value, for viewers.

use serde_json::{Map, Value, json};

/// The schema of objects that look as this one. What is null or an empty list says nothing of its type, and is left out: a
/// schema allows more than it names.
pub(crate) fn schema_of(title: &str, description: &str, object: &Value) -> Value {
    let mut schema = Map::new();
    let mut put = |key: &str, value: Value| schema.insert(key.to_owned(), value);
    put(
        "$schema",
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    put("title", json!(title));
    put("description", json!(description));
    if let Some(Value::Object(own)) = of(object) {
        schema.extend(own);
    }
    Value::Object(schema)
}

fn of(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(items) => json!({"type": "array", "items": items.iter().find_map(of)?}),
        Value::Object(fields) => {
            let known = fields
                .iter()
                .filter_map(|(name, field)| Some((name.clone(), of(field)?)));
            json!({"type": "object", "properties": known.collect::<Map<_, _>>()})
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_names_the_types_that_the_value_shows() {
        let value = json!({
            "n": 1, "x": 1.0, "s": "", "b": true, "nothing": null, "empty": [],
            "list": [null, {"a": 1}], "in": {"y": [0.5]}
        });
        let schema = schema_of("Pose", "why", &value);
        assert_eq!(schema["title"], "Pose");
        assert_eq!(schema["description"], "why");
        assert_eq!(
            schema["properties"],
            json!({
                "n": {"type": "integer"}, "x": {"type": "number"}, "s": {"type": "string"},
                "b": {"type": "boolean"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}},
                "in": {"type": "object", "properties": {"y": {"type": "array", "items": {"type": "number"}}}}
            })
        );
    }
}
