//! `mproc pub` and `mproc call`.

use crate::support::Place;
use serde_json::json;

#[test]
fn a_value_reaches_a_typed_subscriber() {
    let place = Place::new();
    let mut listener = place.program("listener");
    let ran = place.run(&[
        "pub",
        "robot/pose",
        r#"{"x": 1, "y": -2.5, "name": "a\u00e4", "path": [7]}"#,
    ]);
    ran.ok();
    assert_eq!(ran.err, "mproc: published 1, delivered 1, refused 0\n");
    assert_eq!(
        listener.line_with("@pose"),
        r#"@pose Pose { x: 1.0, y: -2.5, name: "aä", path: [7] }"#
    );
    // Plain data, by the schema that the listener announces.
    place
        .run(&[
            "pub",
            "plane",
            r#"{"x": 1.5, "y": 0, "flags": [1, 2, 3, 4]}"#,
        ])
        .ok();
    assert_eq!(
        listener.line_with("@plane"),
        "@plane [0, 0, 192, 63, 0, 0, 0, 0, 1, 2, 3, 4]"
    );
}

#[test]
fn lines_are_published_in_order_and_none_is_lost_at_the_end() {
    let place = Place::new();
    let mut listener = place.program("listener");
    let lines: String = (0..5000).map(|n| format!("{n}\n")).collect();
    let ran = place.run_with_input(&["pub", "count", "--stdin", "--json"], &lines);
    let wanted = json!({"published": 5000, "delivered": 5000, "refused": 0, "missed_periods": 0});
    assert_eq!(ran.json(), wanted);
    for n in 0..5000 {
        assert_eq!(listener.line_with("@count"), format!("@count {n}"));
    }
    let file = place.file("values.jsonl");
    std::fs::write(&file, "1\n\n2\r\n3").unwrap();
    let file = file.to_str().unwrap();
    let ran = place.run(&[
        "pub", "count", "--file", file, "--rate", "1000", "--count", "2",
    ]);
    assert!(
        ran.err.starts_with("mproc: published 2, delivered 2"),
        "{ran:?}"
    );
    assert_eq!(listener.line_with("@count"), "@count 1");
    assert_eq!(listener.line_with("@count"), "@count 2");
}

#[test]
fn a_value_is_published_again_and_again_until_the_end() {
    let place = Place::new();
    let mut listener = place.program("listener");
    let publishing = place.start(&["pub", "count", "7", "--rate", "200"]);
    for _ in 0..5 {
        assert_eq!(listener.line_with("@count"), "@count 7");
    }
    publishing.signal("INT");
    let ran = publishing.end();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("published"), "{ran:?}");
}

#[test]
fn wrong_values_are_named_with_their_places() {
    let place = Place::new();
    let _listener = place.program("listener");
    let wrong = |arguments: &[&str], input: &str| {
        let ran = place.run_with_input(arguments, input);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        ran.err
    };
    let err = wrong(&["pub", "count", "--stdin"], "1\n2\n{\n");
    assert!(err.contains("published 2, delivered 2"), "{err}");
    assert!(
        err.contains("line 3: column 1: EOF while parsing an object"),
        "{err}"
    );
    let err = wrong(
        &[
            "pub",
            "plane",
            r#"{"x": 1, "y": 2, "flags": [1, 2, 300, 4]}"#,
        ],
        "",
    );
    assert!(err.contains("flags[2]: 300 is no u8"), "{err}");
    let err = wrong(&["pub", "count", "--type", "String", "1"], "");
    assert!(err.contains(r#"topic "count" has the type u64"#), "{err}");
}

#[test]
fn the_type_must_be_known() {
    let place = Place::new();
    let ran = place.run(&["pub", "nobody/there", "1"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("--type"), "{ran:?}");
    let ran = place.run(&["pub", "nobody/there", "1", "--type", "i64"]);
    assert!(ran.err.contains("published 1, delivered 0"), "{ran:?}");
    let ran = place.run(&[
        "pub",
        "nobody/there",
        "1",
        "--type",
        "i64",
        "--wait-for",
        "1",
        "--timeout",
        "0.01",
    ]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    // Values without a layout can be looked at, and not made.
    let _sensor = place.program("sensor");
    let ran = place.run(&["pub", "mproc/x", "1", "--type", "i64"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn a_service_is_called() {
    let place = Place::new();
    let _server = place.program("server");
    assert_eq!(place.run(&["call", "add", "[2, 3]"]).ok(), "5\n");
    let ran = place.run(&["call", "fails"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(
        ran.err,
        "mproc: call of \"fails\": server failed: no\\u{1b}[2J luck\n"
    );
    let ran = place.run(&["call", "add", r#""x""#]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("(i64, i64)"), "{ran:?}");
    let ran = place.run(&["call", "waits", "--timeout", "0.05"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let ran = place.run(&["call", "ad"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains(r#""add""#), "{ran:?}");
    assert_eq!(place.run(&["call", "add", "[1,"]).code, Some(2));
}

#[test]
fn a_service_that_is_about_to_start_is_waited_for() {
    let place = Place::new();
    let calling = place.start(&["call", "add", "[20, 22]", "--wait", "120"]);
    let _server = place.program("server");
    assert_eq!(calling.end().ok(), "42\n");
}

#[test]
fn a_call_is_given_up_at_the_end() {
    let place = Place::new();
    let _server = place.program("server");
    let mut calling = place.start(&["call", "waits", "--timeout", "100"]);
    // It has reached the server: that counts it.
    loop {
        let info = place.run(&["info", "waits", "--json"]).json();
        if info[0]["servers"][0]["requests"] == 1 {
            break;
        }
    }
    calling.signal("INT");
    calling.input = None;
    let ran = calling.end();
    assert!(ran.code == Some(1) && ran.err.is_empty(), "{ran:?}");
}

/// Subscriptions that belong to no topic of their node were in no report: what was published at once went to nobody.
#[test]
fn what_is_published_once_reaches_patterns_and_connected_topics() {
    let place = Place::new();
    let mut roamer = place.program("roamer");
    let told = |ran: crate::support::Ran| ran.err;
    let ran = place.run(&["pub", "free/range", "7", "--type", "u64"]);
    assert_eq!(told(ran), "mproc: published 1, delivered 1, refused 0\n");
    assert_eq!(roamer.line_with("@pattern"), "@pattern 7");
    let ran = place.run(&["pub", "from", "8", "--type", "u64"]);
    assert_eq!(told(ran), "mproc: published 1, delivered 1, refused 0\n");
    assert_eq!(roamer.line_with("@connection"), "@connection 8");
    // Of another type: nobody is waited for, and nobody gets it.
    let ran = place.run(&["pub", "free/range", "7", "--type", "i8"]);
    assert_eq!(told(ran), "mproc: published 1, delivered 0, refused 0\n");
}

/// As above.
#[test]
fn what_is_published_reaches_a_tap() {
    let place = Place::new();
    let mut echo = place.start(&["echo", "free", "--count", "5", "--no-header"]);
    echo.error_line_with("waiting");
    for n in 0..5 {
        place
            .run(&["pub", "free", &n.to_string(), "--type", "u64"])
            .ok();
        assert_eq!(echo.line(), Some(n.to_string()));
    }
    echo.end().ok();
}

#[test]
fn ctrl_c_ends_it_while_no_line_comes() {
    let place = Place::new();
    let mut publisher = place.start(&["pub", "free", "--type", "u64", "--stdin"]);
    let mut echo = place.start(&["echo", "free", "--count", "1", "--no-header"]);
    while echo.child.try_wait().unwrap().is_none() {
        publisher.say("1");
        std::thread::yield_now();
    }
    publisher.signal("INT");
    assert!(publisher.child.wait().unwrap().success());
}
