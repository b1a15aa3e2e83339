//! Each check, by facts that are made for it.

use super::facts::{Facts, Folder, FolderIs, OtherDomain, Socket, SocketIs, Space};
use super::finding::{Finding, Severity};
use super::{Report, programs, system, write};
use crate::commands::top::tests::{merge, processor, report, subscription, world};
use serde_json::{Value, json};
use std::path::PathBuf;

fn with(reports: Value, silent: Value) -> Facts {
    Facts {
        domain: "lab".to_owned(),
        version: "0.1.0".to_owned(),
        world: Ok(world(reports, silent)),
        ..Facts::default()
    }
}

/// One program with this in its report.
fn one(snapshot: Value) -> Facts {
    with(json!([report("aa", 70, 10, snapshot)]), json!([]))
}

fn texts(findings: &[Finding]) -> Vec<(Severity, &str)> {
    findings
        .iter()
        .map(|f| (f.severity, f.what.as_str()))
        .collect()
}

fn topic(name: &str, hash: u64, publishers: usize, subscriptions: Value) -> Value {
    let publisher = json!({
        "id": 1, "owner": null, "published": 0, "outstanding": 0, "in_flight": 0, "paused": false,
    });
    json!({
        "name": name, "id": 7, "type_name": format!("T{hash}"), "type_hash": hash, "codec": "Serde", "history": 0,
        "connected_to": [], "publishers": vec![publisher; publishers], "subscriptions": subscriptions,
    })
}

#[test]
fn directories_of_others_links_and_modes() {
    let facts = |is: FolderIs| Facts {
        path: Some(PathBuf::from("/run/mproc/lab")),
        user: 1000,
        folders: ["/run", "/run/mproc", "/run/mproc/lab"]
            .map(|path| Folder {
                path: path.into(),
                is: if path == "/run/mproc" {
                    is.clone()
                } else {
                    FolderIs::Directory {
                        owner: 1000,
                        mode: 0o700,
                    }
                },
            })
            .to_vec(),
        ..Facts::default()
    };
    let directory = |owner, mode| FolderIs::Directory { owner, mode };
    let said = |is| {
        let found = system::directory(&facts(is));
        assert_eq!(found.len(), 1);
        (
            found[0].severity,
            found[0].what.clone(),
            found[0].advice.clone().unwrap_or_default(),
        )
    };
    let ok = (Severity::Ok, "/run/mproc/lab".to_owned(), String::new());
    assert_eq!(said(directory(1000, 0o700)), ok);
    // Whoever joins makes it.
    assert_eq!(said(FolderIs::Missing), ok);
    let problem =
        |what: &str, advice: &str| (Severity::Problem, what.to_owned(), advice.to_owned());
    assert_eq!(
        said(directory(1000, 0o755)),
        problem(
            "/run/mproc has mode 0755, and must have 0700",
            "chmod 700 /run/mproc"
        )
    );
    assert_eq!(
        said(directory(0, 0o700)),
        problem(
            "/run/mproc belongs to user 0, and this is user 1000",
            "set XDG_RUNTIME_DIR to a directory of yours"
        )
    );
    assert_eq!(
        said(FolderIs::Link),
        problem(
            "/run/mproc is a symbolic link, which is not followed",
            "rm /run/mproc"
        )
    );
    assert_eq!(
        said(FolderIs::NoDirectory).1,
        "/run/mproc is not a directory"
    );
    let found = system::directory(&Facts::default());
    assert_eq!(found[0].severity, Severity::Problem);
}

#[test]
fn machine_without_room() {
    let mut facts = Facts::default();
    facts.limits.descriptors_soft = Some(256);
    facts.limits.descriptors_hard = Some(512);
    facts.limits.maps_max = Some(1000);
    facts.limits.files_open = Some(95);
    facts.limits.files_max = Some(100);
    facts.limits.inotify_instances_max = Some(8);
    facts.limits.address_space = Some(1 << 30);
    let found = system::limits(&facts);
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(
        found[0].advice.as_deref(),
        Some("ulimit -n 4096 (at most 512)")
    );
    facts.memory.bytes_available = Some(1 << 20);
    facts.memory.group_bytes_max = Some(100);
    facts.memory.group_bytes_used = Some(91);
    assert_eq!(system::memory(&facts).len(), 2);
    facts.memory.group_bytes_used = Some(90);
    facts.memory.bytes_available = Some(1 << 30);
    assert_eq!(
        texts(&system::memory(&facts)),
        [(Severity::Ok, "1.00 GiB available")]
    );
    facts.kernel.memfd = Some("Function not implemented".to_owned());
    assert_eq!(
        texts(&system::kernel(&facts)),
        [(
            Severity::Problem,
            "no sealed memory (memfd_create): Function not implemented"
        )]
    );
    facts.space = Some(Space {
        bytes_free: 0,
        inodes_free: None,
        kind: 0x6969,
    });
    let found = system::file_system(&facts);
    let severities: Vec<_> = found.iter().map(|f| f.severity).collect();
    assert_eq!(severities, [Severity::Problem, Severity::Warning]);
}

#[test]
fn sockets_and_other_domains() {
    let socket = |pid, is, is_left| Socket {
        pid,
        name: format!("{pid}-x.sock"),
        is,
        is_left,
    };
    let facts = Facts {
        sockets: vec![
            socket(1, SocketIs::Listening, true),
            socket(2, SocketIs::Stale, false),
            socket(3, SocketIs::Stale, true),
            socket(4, SocketIs::Busy, true),
        ],
        unfinished: 2,
        other_domains: vec![
            OtherDomain {
                name: "old".to_owned(),
                listening: 0,
            },
            OtherDomain {
                name: "b".to_owned(),
                listening: 2,
            },
        ],
        ..Facts::default()
    };
    let found = system::sockets(&facts);
    let severities: Vec<_> = found.iter().map(|f| f.severity).collect();
    use Severity::{Note, Warning};
    assert_eq!(severities, [Note, Warning, Warning, Note]);
    assert_eq!(
        texts(&system::other_domains(&facts)),
        [(Note, "2 nodes in domain \"b\"")]
    );
}

#[test]
fn silent_nodes_are_problems_by_their_process_state() {
    let silent = |pid: u32| json!({ "id": format!("{pid}"), "pid": pid, "why": "it speaks\u{1b}[2J version 9" });
    let mut facts = with(
        json!([]),
        json!([silent(5), silent(6), silent(7), silent(8)]),
    );
    // One that was killed, of which the sockets tell, and one that nobody can see.
    facts.sockets.push(Socket {
        pid: 7,
        name: "7-x.sock".to_owned(),
        is: SocketIs::Stale,
        is_left: false,
    });
    facts.process_states.insert(7, None);
    facts.process_states.insert(8, None);
    facts.process_states.insert(5, Some('T'));
    facts.process_states.insert(6, Some('S'));
    let found = programs::nodes_answer(&facts);
    assert_eq!(
        texts(&found),
        [
            (
                Severity::Problem,
                "process 5 is stopped, and does not answer"
            ),
            (
                Severity::Problem,
                "process 6 does not answer: it speaks\\u{1b}[2J version 9"
            ),
            (
                Severity::Warning,
                "process 8 has ended just now, or cannot be seen from here: it speaks\\u{1b}[2J version 9"
            ),
        ]
    );
    assert_eq!(
        found[0].advice.as_deref(),
        Some("kill -CONT 5, or kill -KILL 5")
    );
}

#[test]
fn other_versions_are_told() {
    let mut facts = one(json!({}));
    assert_eq!(programs::versions(&facts)[0].severity, Severity::Ok);
    facts.version = "0.2.0".to_owned();
    assert_eq!(
        texts(&programs::versions(&facts)),
        [(
            Severity::Warning,
            "robot[70] has mproc 0.1.0, this command 0.2.0"
        )]
    );
}

#[test]
fn circles_are_told_once_each() {
    let wait = |who: &str, on: &[&str]| json!({ "who": who, "on": on, "why": "call" });
    let circles = |waits: Vec<Value>| {
        let found = programs::circles(&one(json!({ "waits": waits })));
        found.into_iter().map(|f| f.what).collect::<Vec<_>>()
    };
    let none = ["nobody waits in a circle"];
    assert_eq!(circles(vec![]), none);
    assert_eq!(
        circles(vec![wait("a", &["b"]), wait("b", &["c"]), wait("d", &[])]),
        none
    );
    assert_eq!(
        circles(vec![
            wait("x", &["b"]),
            wait("b", &["c", "a"]),
            wait("a", &["b"]),
            wait("me", &["me"]),
        ]),
        [
            "in robot[70] a -> b wait for each other",
            "in robot[70] me waits for itself"
        ]
    );
}

#[test]
fn what_is_full_lost_or_held_is_judged_by_its_policy() {
    let full = |id, when_full: &str, queued: u64| {
        subscription(
            id,
            "o",
            json!({ "when_full": when_full, "queued": queued, "capacity": 4 }),
        )
    };
    let facts = one(json!({
        "processors": [processor(1, "p", json!({ "queued": 1024, "dropped": { "no_room": 3 } }))],
        "topics": [topic("t", 1, 1, json!([
            full(1, "Wait", 4),
            full(2, "DropOldest", 4),
            full(3, "Latest", 4),
            full(4, "Wait", 3),
        ]))],
    }));
    let found = programs::queues(&facts);
    let severities: Vec<_> = found.iter().map(|f| f.severity).collect();
    use Severity::{Note, Ok, Warning};
    assert_eq!(severities, [Warning, Warning, Note], "{found:?}");
    assert_eq!(
        texts(&programs::drops(&facts)),
        [(Warning, "p of robot[70] has lost 3 messages: no room 3")]
    );

    let mut lossy = subscription(1, "o", json!({ "dropped": { "evicted": 2 }, "refused": 1 }));
    let facts = one(json!({ "topics": [topic("t", 1, 1, json!([lossy]))], "dead_letters": 2 }));
    assert_eq!(
        texts(&programs::drops(&facts)),
        [
            (
                Warning,
                "o of robot[70] has not got 3 samples of t (Wait): evicted 2, refused 1"
            ),
            (Note, "robot[70] has 2 dead letters"),
        ]
    );
    merge(
        &mut lossy,
        json!({ "when_full": "Latest", "held": 2, "held_ns_max": 11_000_000_000_u64 }),
    );
    let facts = one(json!({ "topics": [topic("t", 1, 1, json!([lossy]))] }));
    assert_eq!(programs::drops(&facts)[0].severity, Note);
    assert_eq!(
        texts(&programs::leases(&facts)),
        [(
            Warning,
            "o of robot[70] holds 2 samples of t, the oldest for 11.0 s"
        )]
    );
    assert_eq!(programs::leases(&one(json!({})))[0].severity, Ok);
}

#[test]
fn handlers_pools_and_peers() {
    let facts = one(json!({
        "processors": [
            processor(1, "slow", json!({ "handling_ns": 2_000_000_000_u64, "last_message_type": "a::B", "queued": 3 })),
            processor(2, "stuck", json!({ "handling_ns": 20_000_000_000_u64 })),
            processor(3, "quick", json!({ "handling_ns": 5, "restarts": 2, "faults": 1, "restarting": true })),
        ],
        "waits": [{ "who": "stuck", "on": ["slow"], "why": "call" }],
        "drivers": [{
            "id": 1, "name": "pool", "kind": "pool", "members": 1, "turns": 0, "parks": 0, "wakes": 0, "threads": 3,
            "blocked": 2, "steals": 0, "exhausted": 4,
        }],
        "domain": { "name": "lab", "peers": 1, "links": 0, "violations": 1, "refused": 2, "lost_connections": 3 },
    }));
    let found = programs::handlers(&facts);
    assert_eq!(
        texts(&found),
        [
            (
                Severity::Warning,
                "slow of robot[70] has been handling B for 2.00 s; 3 wait"
            ),
            (
                Severity::Problem,
                "stuck of robot[70] has been handling a message for 20.0 s; 0 wait"
            ),
        ]
    );
    assert_eq!(
        found[0].advice.as_deref(),
        Some("look where it is: gdb -p 70")
    );
    assert_eq!(
        found[1].advice.as_deref(),
        Some("it waits for slow (call): look there")
    );
    assert_eq!(
        texts(&programs::faults(&facts)),
        [
            (
                Severity::Warning,
                "quick of robot[70] has had 1 fault, 2 restarts"
            ),
            (
                Severity::Warning,
                "quick of robot[70] is down, and is being restarted"
            ),
        ]
    );
    assert_eq!(
        texts(&programs::pools(&facts)),
        [(
            Severity::Warning,
            "pool of robot[70] had no spare thread 4 times; 2 of 3 are blocked now"
        )]
    );
    let peers = programs::peers(&facts);
    let severities: Vec<_> = peers.iter().map(|f| f.severity).collect();
    assert_eq!(
        severities,
        [Severity::Problem, Severity::Warning, Severity::Note]
    );
}

#[test]
fn report_counts_and_strict_raises() {
    let mut facts = one(json!({ "topics": [topic("t", 1, 1, json!([]))] }));
    facts.path = Some("/x".into());
    let report = Report::new(&facts, false);
    assert_eq!((report.problems, report.warnings, report.notes), (0, 0, 1));
    let report = Report::new(&facts, true);
    assert_eq!((report.problems, report.warnings, report.notes), (0, 1, 0));
    let mut text = Vec::new();
    write(&mut text, &report, false).unwrap();
    let text = anstream::adapter::strip_bytes(&text).into_vec();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "\
warning   topics     topic t has no subscriber; robot[70] publishes
                     -> nothing, if a recorder or a screen hears it now and then; else see its name in mproc list topics
domain lab: 0 problems, 1 warning, 0 notes; 16 ok
"
    );
    let topics = report.findings.into_iter().filter(|f| f.check == "topics");
    let json = serde_json::to_value(topics.collect::<Vec<_>>()).unwrap();
    assert_eq!(
        json,
        json!([{
            "severity": "warning", "check": "topics", "what": "topic t has no subscriber; robot[70] publishes",
            "advice": "nothing, if a recorder or a screen hears it now and then; else see its name in mproc list topics",
        }])
    );
    // Where nobody can be asked, nothing is said of programs.
    let facts = Facts::default();
    let report = Report::new(&facts, false);
    assert!(report.findings.iter().all(|f| f.check != "queues"));
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.check == "nodes" && f.severity == Severity::Problem)
    );
}
