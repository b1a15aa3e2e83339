//! `mproc list`, `info` and `graph`.

use crate::support::{Place, Running};
use serde_json::{Value, json};

/// `text` with what varies replaced: the program's name with its process, ids, times, and the spaces that align them.
fn golden(text: &str, programs: &[(&str, &Running)]) -> String {
    let own = std::env::current_exe().unwrap();
    let own = own.file_name().unwrap().to_str().unwrap().to_owned();
    let mut text = text.to_owned();
    for (role, running) in programs {
        text = text.replace(&format!("{own}[{}]", running.child.id()), role);
    }
    let lines = text.lines().map(|line| {
        let words = line.split_whitespace().map(|word| {
            let is_id = word.len() == 8 && word.chars().all(|c| c.is_ascii_hexdigit());
            if is_id { "ID" } else { word }
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.map(|line| line + "\n").collect()
}

/// Waits until publishers of this topic have met a subscription of another process: what they publish before, that does not get.
fn until_linked(place: &Place, topic: &str) {
    loop {
        let list = place.run(&["list", "topics", topic, "--json"]).json();
        if list["topics"][0]["links"] == 1 {
            return;
        }
    }
}

#[test]
fn a_list_has_all_that_is_there() {
    let place = Place::new();
    let (robot, listener) = (place.program("robot"), place.program("listener"));
    let server = place.program("server");
    let programs = [
        ("robot", &robot),
        ("listener", &listener),
        ("server", &server),
    ];
    let list = |what: &[&str]| golden(place.run(what).ok(), &programs);
    until_linked(&place, "robot/pose");
    assert_eq!(
        list(&["list", "topics"]),
        "TOPIC TYPE PUBLISHERS SUBSCRIPTIONS TAPS\n\
         count u64 0 1 0\n\
         plane [u8; 12] 0 1 0\n\
         robot/pose Pose 1 1 0\n"
    );
    assert_eq!(
        list(&["list", "topics", "robot/**", "--verbose"]),
        "TOPIC TYPE PUBLISHERS SUBSCRIPTIONS TAPS TRAVELS PUBLISHED QUEUED DROPPED HISTORY NODES\n\
         robot/pose Pose 1 1 0 MessagePack 0 0 0 0 listener, robot\n"
            .replace("listener, robot", &in_order(&listener, &robot))
    );
    assert_eq!(
        list(&["list", "services"]),
        "SERVICE REQUEST REPLY SERVERS CALLERS\n\
         add (i64, i64) i64 1 0\n\
         fails () i64 1 0\n\
         waits () i64 1 0\n"
    );
    assert_eq!(
        list(&["list", "processors", "subscriber-1"]),
        "PROCESSOR NODE QUEUED HANDLED STATE\n\
         subscriber-1 listener 0 0 idle\n"
    );
    let all = list(&["list"]);
    for title in ["Nodes (3)", "Topics (3)", "Processors (7)", "Services (3)"] {
        assert!(all.contains(title), "{all}");
    }
    assert!(all.contains("robot ID"), "{all}");
    assert!(!all.contains("Do not answer"), "{all}");
    let json = place
        .run(&["list", "topics", "robot/pose", "--json"])
        .json();
    let topic = &json["topics"][0];
    assert_eq!(json["topics"].as_array().unwrap().len(), 1);
    assert_eq!(topic["types"][0]["type_name"], "see::Pose");
    // Numbers of so many digits are not exact in most readers of JSON.
    let hash = format!("{:#018x}", mproc::TypeInfo::serde("Pose").type_hash);
    assert_eq!(topic["types"][0]["type_hash"], hash);
    assert_eq!(
        (
            &topic["publishers"],
            &topic["subscriptions"],
            &topic["links"]
        ),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(json.get("nodes").is_none() && json["silent_nodes"] == json!([]));
    let ran = place.run(&["list", "topics", "robot/*x"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

/// Nodes are listed by their names, which end with the numbers of their processes.
fn in_order(listener: &Running, robot: &Running) -> String {
    let name = |running: &Running| format!("[{}]", running.child.id());
    match name(listener) < name(robot) {
        true => "listener, robot".to_owned(),
        false => "robot, listener".to_owned(),
    }
}

#[test]
fn an_empty_domain_is_no_failure() {
    let ran = Place::new().run(&["list"]);
    assert!(ran.ok().contains("Topics (0)"));
    assert!(ran.err.contains("nobody else"), "{ran:?}");
}

#[test]
fn a_stopped_program_is_listed_with_the_reason() {
    let place = Place::new();
    let (robot, _listener) = (place.program("robot"), place.program("listener"));
    robot.signal("STOP");
    // The other one may be slow to answer, too.
    let json = loop {
        let json = place.run(&["list", "--json", "--look-limit", "2"]).json();
        if json["nodes"].as_array().unwrap().len() == 1 {
            break json;
        }
    };
    assert_eq!(json["silent_nodes"][0]["pid"], robot.child.id());
    assert_ne!(json["silent_nodes"][0]["why"], "");
    let text = place.run(&["list", "--look-limit", "2"]).ok().to_owned();
    assert!(text.contains("Do not answer ("), "{text}");
    let pid = robot.child.id().to_string();
    let info = place.run(&["info", &pid, "--look-limit", "2"]);
    assert!(info.ok().contains("Does not answer:"), "{info:?}");
    robot.signal("CONT");
    loop {
        let json = place.run(&["list", "--json"]).json();
        if json["nodes"].as_array().unwrap().len() == 2 {
            break;
        }
    }
}

#[test]
fn a_conflict_of_types_is_told() {
    let place = Place::new();
    let (_robot, _stranger) = (place.program("robot"), place.program("stranger"));
    let list = place.run(&["list", "topics"]);
    assert!(list.ok().contains("CONFLICT"), "{list:?}");
    let info = place.run(&["info", "robot/pose"]);
    assert!(
        info.ok().contains("programs disagree on its type"),
        "{info:?}"
    );
    let ran = place.run(&["pub", "robot/pose", "1"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.err.contains("see::Pose") && ran.err.contains("String"),
        "{ran:?}"
    );
}

#[test]
fn info_tells_of_each_kind() {
    let place = Place::new();
    let (mut robot, mut listener) = (place.program("robot"), place.program("listener"));
    until_linked(&place, "robot/pose");
    robot.say("1.5");
    listener.line_with("@pose");
    let json = place.run(&["info", "robot/pose", "--json"]).json();
    let topic = &json[0];
    assert_eq!(topic["kind"], "topic");
    assert_eq!(topic["publishers"][0]["published"], 1);
    let subscription = &topic["subscriptions"][0];
    assert_eq!(subscription["owner"], "subscriber-1");
    assert_eq!(
        (&subscription["taken"], &subscription["queued"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(subscription["when_full"], "Wait");
    assert_eq!(topic["links"].as_array().unwrap().len(), 1);

    let programs = [("robot", &robot), ("listener", &listener)];
    let text = golden(place.run(&["info", "robot/pose"]).ok(), &programs);
    let begins = "Topic: robot/pose\nType: see::Pose\nHash: ";
    assert!(text.starts_with(begins), "{text}");
    assert!(text.contains("\nrobot - 1 "), "{text}");
    assert!(
        text.contains("\nlistener subscriber-1 Wait 0 64 "),
        "{text}"
    );
    assert!(text.contains("\nrobot listener Wait 0 64 "), "{text}");

    let text = golden(place.run(&["info", "subscriber-1"]).ok(), &programs);
    assert!(
        text.contains("Node: listener ID\nDriver: subscriber-1 (own, 1 processors)\nState: idle\n"),
        "{text}"
    );
    let pid = listener.child.id().to_string();
    let json = place.run(&["info", &pid, "--json"]).json();
    assert_eq!(
        (&json[0]["kind"], &json[0]["node"]["pid"]),
        (&json!("node"), &json!(listener.child.id()))
    );
    let topics = json[0]["snapshot"]["topics"].as_array().unwrap();
    let pose = topics.iter().find(|topic| topic["name"] == "robot/pose");
    let topic_id = format!("{:#018x}", mproc::TopicId::from_name("robot/pose").get());
    assert_eq!(pose.unwrap()["id"], topic_id);
    let id = json[0]["node"]["id"].as_str().unwrap();
    let text = golden(place.run(&["info", &id[..6]]).ok(), &programs);
    assert!(
        text.starts_with(&format!("Node: listener\nId: {id}\n")),
        "{text}"
    );

    let ran = place.run(&["info", "robot/pos"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains(r#"mproc info "robot/pose""#), "{ran:?}");
    let ran = place.run(&["info", "robot/pose", "--kind", "service"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

/// A topic that only `echo` hears looked as if nobody heard it, and would look consumed if taps were counted as subscriptions.
#[test]
fn taps_are_shown_and_are_no_subscriptions() {
    let place = Place::new();
    let robot = place.program("robot");
    let echo = place.start(&["echo", "robot/**"]);
    let robot_taps = || place.run(&["list", "topics", "--json"]).json()["topics"][0].clone();
    let topic = loop {
        let topic = robot_taps();
        if topic["links"] == 1 {
            break topic;
        }
    };
    assert_eq!(
        (&topic["name"], &topic["taps"], &topic["subscriptions"]),
        (&json!("robot/pose"), &json!(1), &json!(0))
    );
    let programs = [("robot", &robot)];
    assert_eq!(
        golden(place.run(&["list", "topics"]).ok(), &programs),
        "TOPIC TYPE PUBLISHERS SUBSCRIPTIONS TAPS\nrobot/pose Pose 1 0 1\n"
    );
    let echo_name = format!("mproc[{}]", echo.child.id());
    let info = golden(place.run(&["info", "robot/pose"]).ok(), &programs);
    let tap = format!("{echo_name} (pulled) robot/** DropOldest 0 ");
    let link = format!("robot {echo_name} DropOldest 0 ");
    assert!(info.contains(&tap) && info.contains(&link), "{info}");
    let link = info.lines().find(|line| line.starts_with(&link));
    assert!(link.unwrap().ends_with(" tap"), "{info}");
    let json = place.run(&["info", "robot/pose", "--json"]).json();
    assert_eq!(json[0]["taps"][0]["pattern"], "robot/**");
    assert_eq!(json[0]["links"][0]["tap"], true);
    let pid = echo.child.id().to_string();
    let info = place.run(&["info", &pid]);
    assert!(info.ok().contains("\nTaps\n"), "{info:?}");
    let doctor = place.run(&["doctor"]);
    let note = format!("topic robot/pose has no subscriber but a tap of {echo_name}; ");
    assert!(doctor.out.contains(&note), "{doctor:?}");
}

/// Whoever subscribes to a pattern has declared no topic: the topics that it hears seemed to have no subscriber.
#[test]
fn subscriptions_to_patterns_are_shown_with_the_topics_that_match() {
    let place = Place::new();
    let roamer = place.program("roamer");
    let publishing = place.start(&["pub", "free/range", "7", "--type", "u64", "--rate", "50"]);
    let topic = loop {
        let list = place.run(&["list", "topics", "free/**", "--json"]).json();
        if list["topics"][0]["links"] == 1 {
            break list["topics"][0].clone();
        }
    };
    assert_eq!(
        (
            &topic["publishers"],
            &topic["subscriptions"],
            &topic["taps"]
        ),
        (&json!(1), &json!(1), &json!(0))
    );
    let programs = [("roamer", &roamer)];
    let info = golden(place.run(&["info", "free/range"]).ok(), &programs);
    assert!(info.contains("\nroamer (pulled) free/** Wait "), "{info}");
    let json = place.run(&["graph", "--json"]).json();
    let edges = json["edges"].as_array().unwrap();
    let mut subscribes = edges.iter().filter(|edge| edge["kind"] == "subscribes");
    let is_it = |edge: &Value| edge["from"]["topic"] == "free/range";
    assert!(subscribes.any(is_it), "{json}");
    let doctor = place.run(&["doctor"]);
    assert!(!doctor.out.contains("free/range"), "{doctor:?}");
    publishing.signal("INT");
    publishing.end().ok();
}

#[test]
fn a_graph_says_who_sends_to_whom() {
    let place = Place::new();
    let (robot, listener) = (place.program("robot"), place.program("listener"));
    let programs = [("robot", &robot), ("listener", &listener)];
    let text = golden(place.run(&["graph", "robot/**"]).ok(), &programs);
    let trees = [
        "robot\n└─ program\n└─ publishes robot/pose -> listener/subscriber-1\n",
        "listener\n└─ subscriber-1\n└─ subscribes robot/pose <- robot/program\n",
    ];
    assert!(trees.iter().all(|tree| text.contains(tree)), "{text}");
    let json = place.run(&["graph", "--format", "json"]).json();
    let edges = json["edges"].as_array().unwrap();
    let is = |kind: &str| edges.iter().filter(|edge| edge["kind"] == kind).count();
    assert_eq!((is("publishes"), is("subscribes")), (1, 3));
    // The command itself is in none.
    let pids: Vec<u32> = json["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(pid_of)
        .collect();
    let mut wanted = [robot.child.id(), listener.child.id()];
    wanted.sort_unstable();
    assert_eq!(pids, wanted);
    let mermaid = place.run(&["graph", "--format", "mermaid"]);
    assert!(mermaid.ok().starts_with("flowchart LR\n"));
    let dot = place.run(&["graph", "--format", "dot"]);
    assert!(dot.ok().starts_with("digraph mproc {\n") && dot.ok().ends_with("}\n"));
}

#[test]
fn a_graph_shows_who_sends_direct_messages_while_it_watches() {
    let place = Place::new();
    let chain = place.program("chain");
    let programs = [("chain", &chain)];
    // A machine may be so busy that nothing is sent for so long.
    let watch = |form: &str| loop {
        let ran = place.run(&["graph", "--watch", "0.5", "--format", form]);
        assert_eq!((ran.ok().is_empty(), &*ran.err), (false, ""));
        if ran.out.contains("Hz") || ran.out.contains("per_second") {
            return golden(&ran.out, &programs);
        }
    };
    let text = watch("text");
    let wanted = "chain\n├─ pump\n│ └─ sends to chain/sink ";
    let rest = text
        .strip_prefix(wanted)
        .unwrap_or_else(|| panic!("{text}"));
    let (rate, rest) = rest.split_once(' ').unwrap();
    assert!(rate.parse::<f64>().unwrap() > 0.0, "{text}");
    assert_eq!(rest.trim_start_matches('k'), "Hz\n└─ sink\n");
    assert!(watch("mermaid").contains("p0 -->|"));
    assert!(watch("dot").contains("p0 -> p1 [color=blue, label=\""));

    let json: Value = serde_json::from_str(&watch("json")).unwrap();
    let edges = json["edges"].as_array().unwrap();
    assert_eq!(edges.len(), 1, "{json}");
    let edge = &edges[0];
    assert_eq!(edge["kind"], "sends");
    assert_eq!(edge["from"]["processor"], "pump");
    assert_eq!(edge["to"]["processor"], "sink");
    let (count, often) = (&edge["count"], &edge["per_second"]);
    let (count, often) = (count.as_u64().unwrap(), often.as_f64().unwrap());
    // The window is no shorter than was asked for.
    assert!(
        count > 0 && often > 0.0 && often <= count as f64 / 0.5,
        "{edge}"
    );

    let without = place.run(&["graph", "--watch", "0"]);
    let wanted = "chain\n├─ pump\n└─ sink\n";
    assert_eq!(golden(without.ok(), &programs), wanted);
}

fn pid_of(node: &Value) -> u32 {
    let label = node["label"].as_str().unwrap();
    label.split(['[', ']']).nth(1).unwrap().parse().unwrap()
}

#[test]
fn odd_names_do_not_reach_the_terminal() {
    let place = Place::new();
    let _odd = place.program("odd");
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["list", "--verbose"],
        &["graph"],
        &["graph", "--format", "dot"],
        &["graph", "--format", "mermaid"],
        &["graph", "--json"],
        &["info", "größe/\"a b\", \u{202e}<x>;"],
        &["info", "größe/\"a b\", \u{202e}<x>;", "--json"],
        &["info", "it's \"quoted\" \\"],
        &["info", "größe/\u{202e}"],
    ] {
        let ran = place.run(arguments);
        let all = format!("{}{}", ran.out, ran.err);
        assert!(!all.contains('\u{202e}'), "{arguments:?}: {ran:?}");
        assert!(
            ran.code == Some(0) || arguments[1].ends_with('\u{202e}'),
            "{ran:?}"
        );
        assert!(
            all.contains("größe") || arguments[1].starts_with("it's"),
            "{ran:?}"
        );
    }
}

#[test]
fn what_has_one_name_is_told_apart() {
    let place = Place::new();
    let _server = place.program("server");
    let ran = place.run(&["info", "add"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.err.contains("is the name of a processor and a service"),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("try: --kind processor, or --kind service"),
        "{ran:?}"
    );
    let kind = |kind: &str| place.run(&["info", "add", "--kind", kind, "--json"]).json();
    assert_eq!(kind("service")[0]["request_type"], "(i64, i64)");
    assert_eq!(kind("processor")[0]["driver"], "add");
}
