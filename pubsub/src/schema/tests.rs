//! What schemas promise, for any text and any bytes.

use super::shape::{Kind, Number, Order};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Deserializer as Json, json};

fn parse(text: &str) -> Schema {
    Schema::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn wrong(text: &str) -> (usize, String) {
    let error = Schema::parse(text).unwrap_err();
    (error.at, error.what)
}

fn from_json(schema: &Schema, json: &str) -> Result<Vec<u8>, String> {
    let bytes = schema.write(&mut Json::from_str(json));
    bytes.map_err(|error| error.to_string())
}

fn to_json(schema: &Schema, bytes: &[u8]) -> String {
    serde_json::to_string(&schema.value(bytes).unwrap()).unwrap()
}

#[test]
fn a_schema_is_fields_or_a_type() {
    for (text, bytes, canonical) in [
        ("u8", 1, "u8"),
        (" [ f32;3 ] ", 12, "[f32; 3]"),
        ("[[u8; 2]; 4]", 8, "[[u8; 2]; 4]"),
        ("x:f64,y:f64,", 16, "x: f64, y: f64"),
        ("u8: u8", 1, "u8: u8"),
        ("text: text[16]", 16, "text: text[16]"),
        (
            "a: { b: { c: u16be } }, d: i128le",
            18,
            "a: { b: { c: u16be } }, d: i128le",
        ),
        ("{ a: u8 }", 1, "a: u8"),
        ("n: usize", size_of::<usize>(), "n: u64"),
    ] {
        let schema = parse(text);
        assert_eq!(schema.bytes(), bytes, "{text}");
        assert_eq!(schema.to_string(), canonical);
        assert_eq!(parse(canonical), schema);
    }
}

#[test]
fn what_is_wrong_is_named_with_its_character() {
    for (text, at, what) in [
        ("", 1, "expected a type, not the end"),
        ("x:", 3, "expected a type, not the end"),
        ("x: f65", 4, r#"no type is called "f65""#),
        ("x: u8le", 4, r#"no type is called "u8le""#),
        ("x: bool", 4, "bool is no plain data; use u8"),
        ("ä: u8", 1, r#"expected a type, not "ä""#),
        (
            "x: u8, ä: u8",
            8,
            r#"expected the name of a field, not "ä""#,
        ),
        (
            "x: u8 y: u8",
            7,
            r#"expected "," or the end of the fields, not "y""#,
        ),
        ("x: u8, x: u8", 8, r#"field "x" is there twice"#),
        (
            "x: u8, y",
            9,
            r#"expected ":" after field "y", not the end"#,
        ),
        ("[u8; 0]", 6, "a count must be at least 1"),
        ("[u8; x]", 6, r#"expected a number, not "x""#),
        (
            "[u8; 99999999999999999999]",
            6,
            r#""99999999999999999999" is no count"#,
        ),
        (
            "[u8, 3]",
            4,
            r#"expected ";" after the type of the elements, not ",""#,
        ),
        ("{}", 2, r#"expected the name of a field, not "}""#),
        ("u8 u8", 4, r#""u8" after the schema"#),
        (
            "[[u64; 65536]; 65536]",
            1,
            "a value would have more than 268435456 bytes",
        ),
        (
            "a: [u64; 33554432], b: u8",
            21,
            "a value would have more than 268435456 bytes",
        ),
        (
            "text[268435457]",
            1,
            "a value would have more than 268435456 bytes",
        ),
    ] {
        assert_eq!(wrong(text), (at, what.to_owned()), "{text}");
    }
    let deep = "[".repeat(5000);
    assert_eq!(wrong(&deep), (33, "more than 32 levels".to_owned()));
    let deep = "a:{".repeat(5000);
    assert!(wrong(&deep).1.contains("more than 32 levels"));
    let long = format!("x: u8{}", " ".repeat(1 << 16));
    assert_eq!(wrong(&long).0, 1);
}

#[test]
fn the_deepest_schema_can_be_used() {
    let deep = format!("{}u8{}", "[".repeat(31), "; 1]".repeat(31));
    let schema = parse(&deep);
    let bytes = rmp_serde::to_vec(&schema.value(&[7]).unwrap()).unwrap();
    let mut from = rmp_serde::Deserializer::from_read_ref(&bytes);
    assert_eq!(schema.write(&mut from).unwrap(), [7]);
}

#[test]
fn a_type_that_is_known_by_its_name_needs_no_schema() {
    let of = |name: &str, codec| {
        let schema = Schema::of(&TypeInfo::new(name, 0, codec));
        schema.map(|schema| schema.to_string())
    };
    let known = |name: &str, codec| of(name, codec).unwrap();
    assert_eq!(known("f64", CodecKind::Plain), "f64");
    assert_eq!(known("[[f32; 3]; 2]", CodecKind::Plain), "[[f32; 3]; 2]");
    assert_eq!(known("[u8]", CodecKind::Slices), "u8");
    assert_eq!(known("[[f32; 3]]", CodecKind::Slices), "[f32; 3]");
    type Big = zerocopy::byteorder::U32<zerocopy::byteorder::BigEndian>;
    let name = std::any::type_name::<[Big; 2]>();
    assert_eq!(known(name, CodecKind::Plain), "[u32be; 2]");
    assert_eq!(of("robot::Pose", CodecKind::Plain), None);
    assert_eq!(of("[u8; 0]", CodecKind::Plain), None);
    assert_eq!(of("f64", CodecKind::Serde), None);
    assert_eq!(of("f64", CodecKind::Local), None);
}

#[test]
fn fields_lie_one_after_another_in_their_order_of_bytes() {
    let schema = parse("a: u16be, b: u16le, c: { d: i8, e: [f32be; 1] }, t: text[3]");
    let bytes = [1, 2, 1, 2, 0xff, 0x3f, 0, 0, 0, b'h', b'i', 0];
    let json = r#"{"a":258,"b":513,"c":{"d":-1,"e":[0.5]},"t":"hi"}"#;
    assert_eq!(to_json(&schema, &bytes), json);
    assert_eq!(from_json(&schema, json).unwrap(), bytes);
    // In any order.
    let json = r#"{"t":"hi","c":{"e":[0.5],"d":-1},"b":513,"a":258}"#;
    assert_eq!(from_json(&schema, json).unwrap(), bytes);
    let native = parse("x: u64, y: f64");
    let bytes = [&7_u64.to_ne_bytes()[..], &0.5_f64.to_ne_bytes()].concat();
    assert_eq!(to_json(&native, &bytes), r#"{"x":7,"y":0.5}"#);
}

#[test]
fn the_numbers_of_a_format_must_fit_and_the_error_names_the_field() {
    let fits = |kind: &str, json: &str| from_json(&parse(kind), json).is_ok();
    for (kind, json) in [
        ("u8", "255"),
        ("u8", "255.0"),
        ("u8", "-0"),
        ("i8", "-128"),
        ("u64", "18446744073709551615"),
        ("i64", "-9223372036854775808"),
        ("u128", "340282366920938463463374607431768211455"),
        ("i128", "-170141183460469231731687303715884105728"),
        ("f32", "1"),
        ("f32", "3.4e38"),
        ("f64", "-1e300"),
        ("f64", "18446744073709551615"),
    ] {
        assert!(fits(kind, json), "{json} is a {kind}");
    }
    for (kind, json) in [
        ("u8", "256"),
        ("u8", "-1"),
        ("u8", "1.5"),
        ("u8", "1e300"),
        ("i8", "128"),
        ("i8", "-129"),
        ("u64", "18446744073709551616"),
        ("i64", "9223372036854775808"),
        ("f32", "3.5e38"),
        ("u8", "\"1\""),
        ("u8", "\"NaN\""),
        ("f32", "null"),
        ("f32", "[]"),
        ("u8", "true"),
    ] {
        assert!(!fits(kind, json), "{json} is no {kind}");
    }
    let schema = parse("a: { b: [u8; 3] }, t: text[4]");
    let error = |json: &str| from_json(&schema, json).unwrap_err();
    let says = |json: serde_json::Value, what: &str| {
        let error = error(&json.to_string());
        assert!(error.contains(what), "{error} has {what}");
    };
    says(
        json!({"a": {"b": [1, 300, 2]}, "t": ""}),
        "a.b[1]: 300 is no u8, which is 0 to 255",
    );
    says(
        json!({"a": {"b": [1, "x", 2]}, "t": ""}),
        "expected a u8 for a.b[1]",
    );
    says(
        json!({"a": {"b": [1, 2]}, "t": ""}),
        "a.b: 2 elements where 3 are expected",
    );
    says(
        json!({"a": {"b": [1, 2, 3, 4]}, "t": ""}),
        "a.b: more elements where 3 are expected",
    );
    says(json!({"a": {}, "t": ""}), "a.b: the field is missing");
    says(json!({"a": {"b": [1, 2, 3]}}), "t: the field is missing");
    says(
        json!({"a": {"c": 1}, "t": ""}),
        "a.c: there is no such field, but b",
    );
    says(json!({"a": 7, "t": ""}), "expected a map of fields for a");
    says(
        json!({"a": {"b": [1, 2, 3]}, "t": "hello"}),
        "t: the text has 5 bytes, more than 4",
    );
    says(
        json!({"a": {"b": [1, 2, 3]}, "t": "a\0b"}),
        "t: a text with a zero byte",
    );
    assert!(error(r#"{"t": "", "t": ""}"#).contains("t: the field is there twice"));
}

#[test]
fn floats_that_json_has_not_are_texts_there() {
    let schema = parse("[f64; 4]");
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let json = to_json(&schema, &bytes);
    assert_eq!(json, r#"["NaN","Infinity","-Infinity",-0.0]"#);
    assert_eq!(from_json(&schema, &json).unwrap(), bytes);
}

#[test]
fn bytes_are_numbers_for_people_and_bytes_for_machines() {
    let schema = parse("[u8; 3]");
    assert_eq!(to_json(&schema, &[1, 2, 3]), "[1,2,3]");
    let packed = rmp_serde::to_vec(&schema.value(&[1, 2, 3]).unwrap()).unwrap();
    assert_eq!(packed, [0xc4, 3, 1, 2, 3]);
    let byte = parse("u8");
    let packed = rmp_serde::to_vec(&byte.values(&[1, 2, 3]).unwrap()).unwrap();
    assert_eq!(packed, [0xc4, 3, 1, 2, 3]);
    let mut from = rmp_serde::Deserializer::from_read_ref(&packed);
    assert_eq!(byte.write_values(&mut from).unwrap(), [1, 2, 3]);
    // As sequences they are taken, too.
    let mut from = rmp_serde::Deserializer::from_read_ref(&[0x93, 1, 2, 3]);
    assert_eq!(schema.write(&mut from).unwrap(), [1, 2, 3]);
}

#[test]
fn bytes_of_another_number_are_no_value() {
    let schema = parse("u32");
    let error = schema.value(&[1, 2, 3]).err().unwrap();
    assert_eq!(error.to_string(), "3 bytes are no value of 4 bytes");
    assert!(schema.values(&[1; 6]).is_err());
    assert!(schema.values(&[]).is_ok());
}

#[test]
fn text_that_is_none_is_shown_all_the_same() {
    let schema = parse("text[4]");
    assert_eq!(to_json(&schema, b"a\0bc"), r#""a""#);
    assert_eq!(to_json(&schema, b"abcd"), r#""abcd""#);
    assert_eq!(to_json(&schema, b"a\xff\0\0"), "\"a\u{fffd}\"");
}

fn number() -> impl Strategy<Value = Shape> {
    let order = prop_oneof![Just(Order::Native), Just(Order::Little), Just(Order::Big)];
    (proptest::sample::select(&Kind::ALL[..]), order).prop_map(|((_, kind), order)| {
        let order = if kind.bytes() == 1 {
            Order::Native
        } else {
            order
        };
        Shape::Number(Number { kind, order })
    })
}

/// Any text of a schema without `text`, whose bytes are not all values.
fn schema() -> impl Strategy<Value = Schema> {
    let shape = number().prop_map(|shape| shape.to_string());
    let shape = shape.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            (inner.clone(), 1_usize..5)
                .prop_map(|(element, count)| format!("[{element}; {count}]")),
            vec(inner, 1..5).prop_map(|fields| {
                let fields = fields.iter().enumerate();
                let fields: Vec<_> = fields.map(|(i, shape)| format!("f{i}: {shape}")).collect();
                format!("{{ {} }}", fields.join(", "))
            }),
        ]
    });
    shape.prop_map(|text| parse(&text))
}

/// A schema and the bytes of some values of it.
fn values() -> impl Strategy<Value = (Schema, Vec<u8>)> {
    (schema(), 1_usize..4).prop_flat_map(|(schema, count)| {
        let bytes = schema.bytes() * count;
        (Just(schema), vec(any::<u8>(), bytes))
    })
}

proptest! {
    #[test]
    fn any_bytes_come_back_through_messagepack((schema, bytes) in values()) {
        let packed = rmp_serde::to_vec(&schema.values(&bytes).unwrap()).unwrap();
        let mut from = rmp_serde::Deserializer::from_read_ref(&packed);
        prop_assert_eq!(schema.write_values(&mut from).unwrap(), &bytes[..]);
        let one = &bytes[..schema.bytes()];
        let packed = rmp_serde::to_vec_named(&schema.value(one).unwrap()).unwrap();
        let mut from = rmp_serde::Deserializer::from_read_ref(&packed);
        prop_assert_eq!(schema.write(&mut from).unwrap(), one);
    }

    #[test]
    fn what_json_says_of_any_bytes_is_said_again((schema, bytes) in values()) {
        // Not the same bytes: a NaN has many.
        let said = serde_json::to_string(&schema.values(&bytes).unwrap()).unwrap();
        let again = schema.write_values(&mut Json::from_str(&said)).unwrap();
        prop_assert_eq!(serde_json::to_string(&schema.values(&again).unwrap()).unwrap(), said);
    }

    #[test]
    fn a_schema_is_what_it_says(schema in schema()) {
        prop_assert_eq!(parse(&schema.to_string()), schema);
    }

    #[test]
    fn any_text_with_any_bytes_is_a_value_or_an_error(
        text in r#"([a-c]: ?|[uif](8|16|32|64|128)(le|be)?|text|\[|\]|\{|\}|;|,| |[0-9]{1,3}|.){0,24}"#,
        bytes: Vec<u8>,
    ) {
        if let Ok(schema) = Schema::parse(&text) {
            prop_assert!(schema.bytes() > 0);
            prop_assert_eq!(parse(&schema.to_string()), schema.clone());
            if let Ok(value) = schema.value(&bytes) {
                serde_json::to_string(&value).unwrap();
            }
            if let Ok(values) = schema.values(&bytes) {
                serde_json::to_string(&values).unwrap();
            }
            let _any = schema.write(&mut rmp_serde::Deserializer::from_read_ref(&bytes));
            let _any = schema.write_values(&mut rmp_serde::Deserializer::from_read_ref(&bytes));
        }
        let info = TypeInfo::new(&text, 0, CodecKind::Slices);
        let _any = Schema::of(&info);
        let _any = Schema::of(&TypeInfo { codec: CodecKind::Plain, ..info });
    }
}
