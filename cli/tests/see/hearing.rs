//! `mproc echo`, `hz`, `bw` and `delay`.

use crate::support::{Place, Running};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Says a line to a program again and again until it is dropped: a tap hears what is published after it has come.
struct Talker {
    end: Option<Sender<()>>,
    saying: Option<JoinHandle<()>>,
}

impl Talker {
    fn new(program: &mut Running, line: &str) -> Self {
        let (end, ended) = channel::<()>();
        let mut input = program.input.take().unwrap();
        let line = format!("{line}\n");
        let saying = std::thread::spawn(move || {
            // Not as fast as it can: the program must keep up.
            let turn = Duration::from_millis(5);
            while ended.recv_timeout(turn) == Err(RecvTimeoutError::Timeout) {
                if input.write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self {
            end: Some(end),
            saying: Some(saying),
        }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.end = None;
        self.saying.take().unwrap().join().unwrap();
    }
}

/// Runs `mproc` with these arguments while a program talks, and returns its lines.
fn hear(place: &Place, arguments: &[&str]) -> Vec<String> {
    let ran = place.run(arguments);
    ran.ok().lines().map(str::to_owned).collect()
}

#[test]
fn a_sample_is_shown_in_each_form() {
    let place = Place::new();
    let mut robot = place.program("robot");
    let _talker = Talker::new(&mut robot, "1.5 left");
    let hear = |arguments: &[&str]| hear(&place, arguments);
    let lines = hear(&["echo", "robot/pose", "--once"]);
    let (time, rest) = lines[0].split_once("Z  #").unwrap();
    assert_eq!(time.len(), "17:03:04.123456".len());
    let (_number, value) = rest.split_once("  ").unwrap();
    assert_eq!(value, r#"x: 1.5, y: 0.25, name: "left", path: [1, 2, 3]"#);
    let shown = |arguments: &[&str]| {
        let mut all = vec!["echo", "robot/pose", "--once", "--no-header"];
        all.extend(arguments);
        all.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()
    };
    for (arguments, wanted) in [
        (&["--field", "path[1]"][..], "2"),
        (
            &["--field", "name", "--field", "x"],
            r#"name: "left", x: 1.5"#,
        ),
        (&["--precision", "3", "--field", "y"], "0.250"),
        (
            &["--truncate", "2", "--field", "path"],
            "[1, 2, ... 3 in all]",
        ),
        (
            &["--json"],
            r#"{"x":1.5,"y":0.25,"name":"left","path":[1,2,3]}"#,
        ),
        (&["--filter", "x > 1 and name ~ ef", "--field", "x"], "1.5"),
    ] {
        let all = shown(arguments);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(hear(&all), [wanted], "{arguments:?}");
    }
    let lines = hear(&["echo", "robot/pose", "--csv", "--count", "2"]);
    assert_eq!(
        lines[0],
        "topic,publisher,sequence,published_unix_ns,x,y,name,path[0],path[1],path[2]"
    );
    let cells: Vec<&str> = lines[1].split(',').collect();
    assert_eq!((cells[0], cells[1]), ("robot/pose", "1"));
    assert_eq!(cells[4..], ["1.5", "0.25", "left", "1", "2", "3"]);
    let line: Value = serde_json::from_str(&hear(&["echo", "robot/*", "-1", "--json"])[0]).unwrap();
    assert_eq!(
        (&line["topic"], &line["publisher"], &line["type"]),
        (&json!("robot/pose"), &json!(1), &json!("see::Pose"))
    );
    assert_eq!(line["value"]["path"], json!([1, 2, 3]));
    assert!(line["published_unix_ns"].as_u64().unwrap() > 1_700_000_000_000_000_000);
    assert!(line["sequence"].is_u64() && line["age_ns"].is_u64() && line["lost"] == 0);
}

#[test]
fn plain_data_is_read_by_its_schema_and_else_shown_as_bytes() {
    let place = Place::new();
    let mut sensor = place.program("sensor");
    let _talker = Talker::new(&mut sensor, "go");
    let hear = |arguments: &[&str]| hear(&place, arguments);
    assert_eq!(
        hear(&["echo", "point", "-1", "--no-header"]),
        ["[0.5, -1.0, 2.0]"]
    );
    // Its layout is known to the program only, which has told it.
    assert_eq!(
        hear(&["echo", "plane", "-1", "--no-header"]),
        ["x: 1.5, y: 0.0, flags: [7, 0, 0, 0]"]
    );
    assert_eq!(
        hear(&["echo", "opaque", "-1", "--no-header"]),
        ["[1, 2, 255]"]
    );
    // Of a picture only the beginning is read.
    assert_eq!(
        hear(&["echo", "opaque", "-1", "--no-header", "--truncate", "2"]),
        ["[1, 2]  (the first of 3 elements)"]
    );
    // No line end comes: the bytes are all there is.
    assert_eq!(
        hear(&["echo", "opaque", "-1", "--raw"]),
        ["\u{1}\u{2}\u{fffd}"]
    );
}

#[test]
fn a_program_that_dies_is_waited_for() {
    let place = Place::new();
    let mut robot = place.program("robot");
    let mut echo = place.start(&["echo", "robot/pose", "--no-header", "--field", "name"]);
    let talker = Talker::new(&mut robot, "1 first");
    assert_eq!(echo.line().unwrap(), "\"first\"");
    robot.signal("KILL");
    echo.error_line_with("nobody publishes \"robot/pose\" any more");
    drop(talker);
    let mut robot = place.program("robot");
    let _talker = Talker::new(&mut robot, "2 second");
    echo.line_with("\"second\"");
    echo.error_line_with("is published again");
    echo.signal("INT");
    let ran = echo.end();
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_topic_that_is_not_there_yet_is_waited_for() {
    let place = Place::new();
    let mut echo = place.start(&[
        "echo",
        "robot/pose",
        "--once",
        "--no-header",
        "--field",
        "x",
    ]);
    echo.error_line_with("nobody publishes \"robot/pose\" yet");
    let mut robot = place.program("robot");
    let _talker = Talker::new(&mut robot, "3");
    assert_eq!(echo.line().unwrap(), "3.0");
    assert_eq!(echo.end().code, Some(0));
}

#[test]
fn nothing_within_the_limit_has_a_code_of_its_own() {
    let place = Place::new();
    for arguments in [
        ["echo", "robot/pose", "--timeout", "0.05"],
        ["hz", "robot/pose", "--timeout", "0.05"],
    ] {
        let ran = place.run(&arguments);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(ran.err.contains("within 0.05 s"), "{ran:?}");
    }
    for arguments in [
        &["echo", "a//b*"][..],
        &["hz", "x*"],
        &["echo", ""],
        &["echo", "a", "--filter", "x >"],
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
}

#[test]
fn a_reader_that_goes_ends_it_quietly() {
    let place = Place::new();
    let mut counter = place.program("counter");
    let mut command = place.command(&["echo", "count"]);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut echo = command.spawn().unwrap();
    counter.say("1000");
    // As `head -c 1` does.
    let mut byte = [0];
    echo.stdout.take().unwrap().read_exact(&mut byte).unwrap();
    let mut err = String::new();
    echo.stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    let code = echo.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    assert!(!err.contains("panic") && !err.contains("roken"), "{err}");
}

#[test]
fn a_rate_is_told_exactly() {
    let place = Place::new();
    let mut counter = place.program("counter");
    counter.say("2000");
    let ran = place.run(&["hz", "count", "--window", "1000", "--count", "2", "--json"]);
    let rows: Vec<Value> = ran
        .ok()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 3, "{ran:?}");
    assert_eq!(rows[2]["is_summary"], true);
    for row in &rows {
        // The grid of the publisher is exact in the mean, however busy the machine is.
        let published = row["published"].as_u64().unwrap();
        assert!(published >= 1000, "{row}");
        let interval = &row["interval_ns"];
        assert!(
            interval["min"].as_u64() <= interval["p50"].as_u64(),
            "{row}"
        );
        assert!(
            interval["p99"].as_u64() <= interval["max"].as_u64(),
            "{row}"
        );
        assert!(row["rate_hz"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["taken"].as_u64().unwrap() <= published, "{row}");
    }
    let ran = place.run(&["bw", "count", "--window", "100", "--once", "--json"]);
    let row: Value = serde_json::from_str(ran.ok()).unwrap();
    let bytes = &row["sample_bytes"];
    assert!((1..=9).contains(&bytes["max"].as_u64().unwrap()), "{row}");
    let ran = place.run(&["delay", "count", "--window", "100", "--once", "--json"]);
    let row: Value = serde_json::from_str(ran.ok()).unwrap();
    assert!(row["age_ns"]["min"].as_u64().unwrap() > 0, "{row}");
    let ran = place.run(&["hz", "count", "-w", "50ms", "-n", "1"]);
    let titles = ran
        .ok()
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .collect::<Vec<_>>();
    assert_eq!(
        titles,
        [
            "RATE",
            "PUBLISHED",
            "TAKEN",
            "INTERVAL",
            "MIN",
            "P50",
            "P90",
            "P99",
            "MAX"
        ]
    );
}

#[test]
fn a_measured_program_that_dies_is_waited_for() {
    let place = Place::new();
    let mut counter = place.program("counter");
    counter.say("500");
    let mut hz = place.start(&["hz", "count", "--window", "20", "--json"]);
    hz.line_with("\"publisher\":1");
    counter.signal("KILL");
    hz.error_line_with("nobody publishes \"count\" any more");
    let mut counter = place.program("counter");
    counter.say("500");
    hz.line_with("\"publisher\":2");
    hz.signal("INT");
    let ran = hz.end();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("\"is_summary\":true"), "{ran:?}");
}

#[test]
fn odd_text_does_not_reach_the_terminal() {
    let place = Place::new();
    let mut odd = place.program("odd");
    let _talker = Talker::new(&mut odd, "go");
    let shown = r#""\u{1b}[31mred\u{9b}\r\nline""#;
    assert_eq!(
        hear(&place, &["echo", "größe/*", "-1", "--no-header"]),
        [shown]
    );
    let line = &hear(&place, &["echo", "größe/*", "-1", "--json"])[0];
    assert!(
        !line.contains(|c: char| c.is_control() || c == '\u{202e}'),
        "{line}"
    );
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["value"], "\u{1b}[31mred\u{9b}\r\nline");
    // What goes to a file is as it was said.
    let ran = place.run(&["echo", "größe/*", "-1", "--csv", "--no-header"]);
    assert!(
        ran.ok().ends_with("\"\u{1b}[31mred\u{9b}\r\nline\"\n"),
        "{ran:?}"
    );
}

#[test]
fn values_of_a_local_topic_cannot_be_heard() {
    let place = Place::new();
    let _sensor = place.program("sensor");
    let ran = place.run(&["echo", "local"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("do not leave their process"), "{ran:?}");
}

#[test]
fn several_publishers_have_a_row_each_and_one_in_all() {
    let place = Place::new();
    let (mut left, mut right) = (place.program("counter"), place.program("counter"));
    left.say("300");
    right.say("600");
    let mut hz = place.start(&["hz", "count", "--window", "100ms", "--json"]);
    hz.line_with("\"publisher\":null");
    hz.signal("INT");
    let ran = hz.end();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let rows = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let total: Vec<Value> = rows
        .filter(|row: &Value| row["is_summary"] == true)
        .collect();
    let who: Vec<_> = total.iter().map(|row| row["publisher"].as_u64()).collect();
    assert_eq!(who, [Some(1), Some(2), None], "{ran:?}");
    let published = |row: &Value| row["published"].as_u64().unwrap();
    assert_eq!(
        published(&total[0]) + published(&total[1]),
        published(&total[2])
    );
}

#[test]
fn a_stopped_program_is_not_taken_for_a_dead_one() {
    let place = Place::new();
    let mut counter = place.program("counter");
    counter.say("200");
    let mut hz = place.start(&["hz", "count", "--window", "100ms", "--json"]);
    hz.line_with("\"published\"");
    counter.signal("STOP");
    // It shows as silence, also after it was asked for.
    for _ in 0..30 {
        hz.line_with("\"published\":0");
    }
    counter.signal("CONT");
    loop {
        let row: Value = serde_json::from_str(&hz.line().unwrap()).unwrap();
        if row["published"] != 0 {
            break;
        }
    }
    hz.signal("INT");
    let ran = hz.end();
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
}

#[test]
fn parts_are_shown_with_their_lengths() {
    let place = Place::new();
    let mut sensor = place.program("sensor");
    let _talker = Talker::new(&mut sensor, "go");
    let lines = hear(&place, &["echo", "parted", "-1", "--no-header"]);
    assert_eq!(lines, ["7  + parts of 3 B, 2.00 KiB"]);
    let line = &hear(&place, &["echo", "parted", "-1", "--json"])[0];
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["value"], &line["parts_bytes"]),
        (&json!(7), &json!([3, 2048]))
    );
    let row = &hear(&place, &["bw", "parted", "-w", "5", "--once", "--json"])[0];
    let row: Value = serde_json::from_str(row).unwrap();
    assert!(row["sample_bytes"]["min"].as_u64().unwrap() > 2048, "{row}");
}
