//! What `mproc record` writes and `mproc play` publishes, between real processes.

mod roles;
#[path = "../support/mod.rs"]
mod support;
mod terminal;

use roles::COUNT;
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use support::{Place, Ran, Running, play_role};

#[test]
fn role() {
    play_role(&[
        ("talker", roles::talker),
        ("listener", roles::listener),
        ("counter", roles::counter),
        ("reader", roles::reader),
        ("renamed", roles::renamed),
        ("by_id", roles::by_id),
        ("follower", roles::follower),
    ]);
}

/// Starts recording, and returns when the file is there.
fn recorder(place: &Place, arguments: &[&str]) -> Running {
    let mut all = vec!["record"];
    all.extend(arguments);
    let mut recorder = place.start(&all);
    recorder.line_with("recording to");
    recorder
}

/// Ends a recorder as Ctrl-C does.
fn stop(recorder: Running) -> Ran {
    recorder.signal("INT");
    let ran = recorder.end();
    ran.ok();
    // Many recorders here are there before their publisher, and say so.
    let mut others = ran.err.lines().filter(|line| !line.ends_with("yet"));
    assert_eq!(others.next(), None, "{ran:?}");
    ran
}

/// Records `count` numbers into `run.mcap`.
fn numbers(place: &Place, count: u64, arguments: &[&str]) -> Ran {
    let mut all = vec!["counter", "-o", "run.mcap"];
    all.extend(arguments);
    let recorder = recorder(place, &all);
    let mut counter = place.program("counter");
    counter.say(&count.to_string());
    counter.line_with("@done");
    stop(recorder)
}

fn info(place: &Place, file: &str) -> serde_json::Value {
    place.run(&["info", file, "--json"]).json()
}

/// The topic of that name in what `info` says.
fn topic<'a>(info: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let topics = info["topics"].as_array().unwrap();
    let found = topics.iter().find(|topic| topic["topic"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {info}"))
}

/// Records each kind of topic, plays the file to a program that knows the types, and returns what `info` says.
fn there_and_back(arguments: &[&str]) -> serde_json::Value {
    let place = Place::new();
    let mut all = vec!["--all", "-o", "run.mcap"];
    all.extend(arguments);
    let recorder = recorder(&place, &all);
    let mut talker = place.program("talker");
    talker.line_with("@done");
    stop(recorder);
    drop(talker);
    let info = info(&place, "run.mcap");
    assert_eq!(info["complete"], true, "{info}");
    assert_eq!(info["dropped"], 0, "{info}");
    assert_eq!(info["topics"].as_array().unwrap().len(), 8, "{info}");
    for topic in info["topics"].as_array().unwrap() {
        assert_eq!(topic["messages"], COUNT, "{info}");
    }

    let mut listener = place.program("listener");
    let played = place.run(&["play", "run.mcap", "--json"]);
    let report = played.json();
    assert_eq!(report["messages"], 8 * COUNT, "{played:?}");
    assert_eq!(played.err, "", "{played:?}");
    listener.line_with("@all");
    listener.say("enough");
    listener.line_with("@0 more");
    info
}

#[test]
fn all_values_come_back_from_json() {
    let info = there_and_back(&[]);
    assert_eq!(info["compression"], serde_json::json!(["zstd"]));
    let encodings = |name| topic(&info, name)["encodings"].to_string();
    assert_eq!(encodings("test/readings"), r#"["json"]"#);
    assert_eq!(encodings("test/numbers"), r#"["json"]"#);
    assert_eq!(encodings("test/floats"), r#"["msgpack","json"]"#);
    assert_eq!(encodings("test/maps"), r#"["msgpack"]"#);
    assert_eq!(encodings("test/points"), r#"["json"]"#);
    assert_eq!(encodings("test/poses"), r#"["json"]"#);
    assert_eq!(encodings("test/frames"), r#"["application/octet-stream"]"#);
    assert_eq!(encodings("test/pictures"), r#"["parts","json"]"#);
    assert_eq!(topic(&info, "test/poses")["schema"], "x: f64, y: f64");
}

#[test]
fn all_values_come_back_raw() {
    let info = there_and_back(&["--encoding", "raw", "--compression", "lz4"]);
    assert_eq!(info["compression"], serde_json::json!(["lz4"]));
    for topic in info["topics"].as_array().unwrap() {
        assert!(!topic["encodings"].to_string().contains("json"), "{info}");
    }
}

#[test]
fn all_values_come_back_uncompressed() {
    let info = there_and_back(&[
        "--compression",
        "none",
        "--encoding",
        "json",
        "--chunk-size",
        "2kB",
    ]);
    assert_eq!(info["compression"], serde_json::json!(["none"]));
    assert!(info["chunks"].as_u64().unwrap() > 10, "{info}");
    // Slices, too, when JSON is asked for.
    assert_eq!(
        topic(&info, "test/frames")["encodings"],
        serde_json::json!(["json"])
    );
}

#[test]
fn files_follow_each_other_and_are_played_as_one() {
    let place = Place::new();
    let splits = ["--split", "--max-size", "200kB", "--compression", "none"];
    let ran = numbers(&place, 1000, &splits);
    let files: Vec<String> = (1..)
        .map(|n| format!("run_{n:03}.mcap"))
        .take_while(|file| place.file(file).exists())
        .collect();
    assert!(files.len() >= 4, "{files:?}");
    assert!(files.iter().all(|file| ran.out.contains(file)), "{ran:?}");
    let mut messages = 0;
    for file in &files {
        let size = fs::metadata(place.file(file)).unwrap().len();
        assert!(size < 300_000, "{file}: {size}");
        let info = info(&place, file);
        assert_eq!(info["complete"], true, "{info}");
        messages += info["messages"].as_u64().unwrap();
    }
    assert_eq!(messages, 1000);

    let mut reader = place.program("reader");
    let mut all = vec!["play", "--quiet"];
    // In whichever order they are named.
    all.extend(files.iter().rev().map(String::as_str));
    assert_eq!(place.run(&all).ok(), "");
    for n in 0..1000 {
        assert_eq!(reader.line_with("@got"), format!("@got {n}"));
    }
}

#[test]
fn a_full_file_ends_the_recording() {
    let place = Place::new();
    let mut recorder = recorder(
        &place,
        &[
            "counter",
            "-o",
            "run.mcap",
            "--max-size",
            "100kB",
            "--compression",
            "none",
        ],
    );
    let mut counter = place.program("counter");
    counter.say("1000");
    recorder.line_with("messages of 1 topic");
    let ran = recorder.end();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let info = info(&place, "run.mcap");
    assert_eq!(info["complete"], true, "{info}");
    let messages = info["messages"].as_u64().unwrap();
    assert!((50..200).contains(&messages), "{info}");
}

#[test]
fn a_recording_ends_in_time() {
    let place = Place::new();
    let ran = place.run(&[
        "record",
        "--all",
        "-o",
        "run.mcap",
        "--duration",
        "0.05",
        "--json",
    ]);
    let report = ran.json();
    assert_eq!(report["messages"], 0);
    assert_eq!(report["files"][0]["file"], "run.mcap");
    assert!(report["duration_ns"].as_u64().unwrap() >= 50_000_000);
    let info = info(&place, "run.mcap");
    assert_eq!(info["complete"], true, "{info}");
    // There is nothing to play in it, which is said.
    let played = place.run(&["play", "run.mcap"]);
    assert_eq!(played.code, Some(1));
    assert!(played.err.contains("nothing to play"), "{played:?}");
}

#[test]
fn what_a_recorder_loses_is_counted_and_told() {
    let place = Place::new();
    let recorder = recorder(&place, &["counter", "-o", "run.mcap", "--queue", "100"]);
    let mut counter = place.program("counter");
    counter.say("1");
    counter.line_with("@done");
    // It holds nobody back while it stands still.
    recorder.signal("STOP");
    counter.say("5000");
    counter.line_with("@published");
    recorder.signal("CONT");
    counter.line_with("@done");
    recorder.signal("INT");
    let ran = recorder.end();
    ran.ok();
    let info = info(&place, "run.mcap");
    let messages = info["messages"].as_u64().unwrap();
    let dropped = info["dropped"].as_u64().unwrap();
    assert_eq!(messages + dropped, 5001, "{info}");
    assert!(dropped >= 4000, "{info}");
    assert_eq!(topic(&info, "counter")["dropped"], dropped);
    assert!(
        ran.err.contains(&format!(
            "{dropped} of 5001 samples of counter were dropped"
        )),
        "{ran:?}"
    );
}

#[test]
fn what_is_queued_when_it_is_to_end_is_written() {
    let place = Place::new();
    for signal in ["INT", "TERM"] {
        let recorder = recorder(&place, &["counter", "-f", "-o", "run.mcap"]);
        let mut counter = place.program("counter");
        counter.say("1");
        counter.line_with("@done");
        recorder.signal("STOP");
        counter.say("50");
        counter.line_with("@published");
        recorder.signal(signal);
        recorder.signal("CONT");
        recorder.end().ok();
        let info = info(&place, "run.mcap");
        assert_eq!(info["messages"], 51, "{info}");
        assert_eq!(info["complete"], true, "{info}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_told() {
    let place = Place::new();
    if !std::path::Path::new("/dev/full").exists() {
        println!("skipped: no /dev/full");
        return;
    }
    let ran = place.run(&["record", "--all", "-f", "-o", "/dev/full"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("cannot write /dev/full: No space left"),
        "{ran:?}"
    );
}

#[test]
fn whoever_reads_the_output_may_go() {
    let place = Place::new();
    numbers(&place, 10, &[]);
    for arguments in [
        &["play", "run.mcap"][..],
        &["info", "run.mcap"],
        &["record", "--all", "-f", "-o", "x.mcap"],
    ] {
        let mut command = place.command(arguments);
        let (reads, writes) = std::io::pipe().unwrap();
        drop(reads);
        let ended = command
            .stdin(Stdio::null())
            .stdout(writes)
            .output()
            .unwrap();
        assert!(
            matches!(ended.status.code(), Some(0 | 1)),
            "{arguments:?} {ended:?}"
        );
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
    }
}

#[test]
fn recordings_of_other_programs_are_played_as_far_as_they_are_understood() {
    let place = Place::new();
    let file = fs::File::create(place.file("other.mcap")).unwrap();
    let mut writer = mcap::Writer::new(std::io::BufWriter::new(file)).unwrap();
    let none = BTreeMap::new();
    let schema = writer.add_schema("Anything", "jsonschema", b"{}").unwrap();
    let channels = [
        writer
            .add_channel(schema, "counter", "json", &none)
            .unwrap(),
        writer.add_channel(0, "/chat\x1bter", "cdr", &none).unwrap(),
        writer.add_channel(0, "unknown", "json", &none).unwrap(),
    ];
    for (n, channel) in channels.into_iter().enumerate() {
        let header = mcap::records::MessageHeader {
            channel_id: channel,
            sequence: 0,
            log_time: n as u64,
            publish_time: n as u64,
        };
        writer
            .write_to_known_channel(&header, br#"[7, "seven"]"#)
            .unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    // The type is that of the domain's topic.
    let mut reader = place.program("reader");
    let played = place.run(&["play", "other.mcap"]);
    assert!(played.ok().contains("1 message of 1 topic"), "{played:?}");
    assert_eq!(reader.line_with("@got"), "@got 7");
    assert!(
        played.err.contains(
            r#"1 message of /chat\u{1b}ter not played: another program wrote it, in encoding "cdr""#
        ),
        "{played:?}"
    );
    assert!(
        played
            .err
            .contains("1 message of unknown not played: its type is not known"),
        "{played:?}"
    );
}

#[test]
fn a_rate_leaves_samples_out_and_counts_them() {
    let place = Place::new();
    numbers(&place, 50, &["--rate", "0.001"]);
    let info = info(&place, "run.mcap");
    assert_eq!(topic(&info, "counter")["messages"], 1);
    assert_eq!(topic(&info, "counter")["throttled"], 49);
}

#[test]
fn topics_are_chosen_by_patterns() {
    let place = Place::new();
    let all = [
        "test/*",
        "**",
        "--exclude",
        "test/frames",
        "-x",
        "test/pictures",
        "-o",
        "run.mcap",
    ];
    let recorder = recorder(&place, &all);
    let mut talker = place.program("talker");
    talker.line_with("@done");
    stop(recorder);
    let info = info(&place, "run.mcap");
    let names: Vec<&str> = info["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| topic["topic"].as_str().unwrap())
        .collect();
    let wanted = [
        "test/floats",
        "test/maps",
        "test/numbers",
        "test/points",
        "test/poses",
        "test/readings",
    ];
    assert_eq!(names, wanted);
    // Two patterns hear each sample; it is recorded once.
    assert_eq!(topic(&info, "test/numbers")["messages"], COUNT);
}

#[test]
fn a_topic_without_a_name_is_recorded() {
    let place = Place::new();
    for arguments in [
        &["7:1", "-f", "-o", "run.mcap"][..],
        &["--all", "-f", "-o", "run.mcap"],
    ] {
        let mut program = place.program("by_id");
        let recorder = recorder(&place, arguments);
        program.line_with("@done");
        stop(recorder);
        let info = info(&place, "run.mcap");
        assert_eq!(topic(&info, "7:1")["messages"], 1, "{info}");
    }
}

#[test]
fn a_file_whose_recorder_was_killed_can_be_read_and_played() {
    let place = Place::new();
    let recorder = recorder(&place, &["--all", "-o", "run.mcap"]);
    let mut counter = place.program("counter");
    counter.say("100");
    counter.line_with("@done");
    // A chunk is written each second.
    let mut seen = 0;
    while seen < 100 {
        let info = info(&place, "run.mcap");
        assert_eq!(info["complete"], false, "{info}");
        seen = info["messages"].as_u64().unwrap();
    }
    recorder.signal("KILL");
    assert_eq!(recorder.end().code, None);
    drop(counter);
    let shown = place.run(&["info", "run.mcap"]);
    assert!(shown.ok().contains("it has no end"), "{shown:?}");
    let mut reader = place.program("reader");
    let played = place.run(&["play", "run.mcap"]);
    assert!(
        played.ok().contains("100 messages of 1 topic"),
        "{played:?}"
    );
    assert!(played.err.contains("it has no end"), "{played:?}");
    for n in 0..100 {
        assert_eq!(reader.line_with("@got"), format!("@got {n}"));
    }
}

#[test]
fn a_program_that_is_killed_does_not_end_the_recording() {
    let place = Place::new();
    let recorder = recorder(&place, &["counter", "-o", "run.mcap"]);
    for _ in 0..2 {
        let mut counter = place.program("counter");
        counter.say("10");
        counter.line_with("@done");
        counter.signal("KILL");
        assert_eq!(counter.end().code, None);
    }
    stop(recorder);
    let info = info(&place, "run.mcap");
    assert_eq!(topic(&info, "counter")["messages"], 20);
    // Each program's publisher has its own channel, with its own sequence.
    assert_eq!(topic(&info, "counter")["publishers"], 2);
}

#[test]
fn a_part_of_a_recording_is_played_under_another_name() {
    let place = Place::new();
    numbers(&place, 20, &[]);
    let mut reader = place.program("renamed");
    let played = place.run(&["play", "run.mcap", "--remap", "counter=counter/other"]);
    assert!(played.ok().contains("20 messages of 1 topic"), "{played:?}");
    for n in 0..20 {
        assert_eq!(reader.line_with("@got"), format!("@got {n}"));
    }
    for nothing in [["--topics", "other/**"], ["--exclude", "counter"]] {
        let ran = place.run(&[&["play", "run.mcap"][..], &nothing].concat());
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("none of 20 messages"), "{ran:?}");
    }
    // From beyond its end: nothing, and no failure.
    let played = place.run(&["play", "run.mcap", "--start-offset", "3600"]);
    assert!(played.ok().contains("0 messages"), "{played:?}");
}

#[test]
fn it_waits_for_subscribers_and_plays_again_and_again() {
    let place = Place::new();
    numbers(&place, 3, &[]);
    let mut player = place.start(&[
        "play",
        "run.mcap",
        "--loop",
        "--wait-for",
        "1",
        "--order",
        "log",
    ]);
    player.line_with("waiting for 1 subscriber of counter");
    let mut reader = place.program("reader");
    for n in 0..10 {
        assert_eq!(reader.line_with("@got"), format!("@got {}", n % 3));
    }
    player.signal("TERM");
    player.end().ok();
}

/// A recording of one message has no length: it was published as fast as the processor could.
#[test]
fn rounds_of_a_loop_rest_between_their_beginnings() {
    let place = Place::new();
    numbers(&place, 1, &[]);
    let mut reader = place.program("reader");
    let begun = std::time::Instant::now();
    let player = place.start(&["play", "run.mcap", "--loop"]);
    for _ in 0..31 {
        assert_eq!(reader.line_with("@got"), "@got 0");
    }
    assert!(begun.elapsed() >= std::time::Duration::from_millis(300));
    player.signal("INT");
    player.end().ok();
}

/// Records two numbers that were published almost a third of a second apart. Returns when, in nanoseconds since 1970.
fn two_numbers(place: &Place) -> (u64, u64) {
    let recorder = recorder(place, &["counter", "-o", "run.mcap"]);
    let mut counter = place.program("counter");
    counter.say("1");
    counter.line_with("@done");
    // The recording is to be long enough that domain time can be seen in it. Nothing is waited for.
    std::thread::sleep(std::time::Duration::from_millis(300));
    counter.say("1");
    counter.line_with("@done");
    stop(recorder);
    let info = info(place, "run.mcap");
    let time = |name: &str| info[name].as_u64().unwrap();
    (time("start_unix_ns"), time("end_unix_ns"))
}

fn time_of(follower: &mut Running) -> u64 {
    let line = follower.line_with("@time");
    line.trim_start_matches("@time ").parse().unwrap()
}

#[test]
fn domain_time_follows_the_recording() {
    let place = Place::new();
    let (first, last) = two_numbers(&place);
    let mut follower = place.program("follower");
    place
        .run(&["play", "run.mcap", "--clock", "--rate", "0.5"])
        .ok();
    let time = time_of(&mut follower);
    // It began where the recording does, and not when the program did. It may go on for a moment after the last message.
    let minute = 60_000_000_000;
    assert!(
        (first..last + minute).contains(&time),
        "{first} {time} {last}"
    );
    assert!(last - first >= 300_000_000, "{first} {last}");
}

#[test]
fn what_is_no_recording_is_said() {
    let place = Place::new();
    fs::write(place.file("text"), "This is a text and no recording.").unwrap();
    fs::write(place.file("empty"), "").unwrap();
    for (file, code, what) in [
        ("text", 1, "no MCAP file"),
        ("empty", 1, "it is empty"),
        (".", 1, "it is no file"),
        ("./missing", 3, "cannot open"),
    ] {
        let ran = place.run(&["play", file]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(what), "{ran:?}");
    }
}

#[test]
fn wrong_arguments_are_named() {
    let place = Place::new();
    fs::write(place.file("there.mcap"), "").unwrap();
    for (arguments, code, what) in [
        (&["record"][..], 2, "TOPIC"),
        (&["record", "a//b"], 2, "segment 2 is empty"),
        (
            &["record", "--all", "--max-size", "5 parsecs"],
            2,
            "parsecs",
        ),
        (&["record", "--all", "--rate", "0"], 2, "rate"),
        (&["record", "--all", "--split"], 2, "--max-size"),
        (&["record", "--all", "-o", "there.mcap"], 1, "--force"),
        (
            &["record", "--all", "-o", "no/such/place"],
            1,
            "no/such/place",
        ),
        (&["play"], 2, "FILE"),
        (&["play", "x", "--rate=-1"], 2, "rate"),
        (&["play", "x", "--remap", "a"], 2, "OLD=NEW"),
        (&["play", "there.mcap", "--pause"], 2, "terminal"),
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?} {ran:?}");
        assert!(ran.err.contains(what), "{arguments:?} {ran:?}");
    }
    assert_eq!(fs::read(place.file("there.mcap")).unwrap(), b"");
}
