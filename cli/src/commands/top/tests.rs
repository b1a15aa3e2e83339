//! What the screen shows, without a terminal and without other programs.

use super::grid::{Grid, Sort, Tab, details};
use super::keys::{Mode, Ui};
use super::model::{Figures, State, causes};
use super::view::{Look, draw};
use crate::world::World;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

const LOOK: Look = Look {
    has_colour: false,
    has_utf8: true,
};

pub(crate) fn processor(id: u64, name: &str, more: Value) -> Value {
    let mut all = json!({
        "id": id, "name": name, "driver": format!("{name}/driver"), "ended": null, "stalled": false,
        "received": 0, "handled": 0, "queued": 0, "dropped": {}, "returned": 0, "outbox": 0, "outbox_dropped": 0,
        "faults": 0, "panics": 0, "restarts": 0, "restarting": false, "capacity": 1024, "high_water": 0, "busy_ns": 0,
        "longest_handler_ns": 0, "handling_ns": null, "last_message_type": null,
    });
    merge(&mut all, more);
    all
}

pub(crate) fn merge(all: &mut Value, more: Value) {
    let (Value::Object(all), Value::Object(more)) = (all, more) else {
        panic!("both are objects");
    };
    all.extend(more);
}

pub(crate) fn subscription(id: u64, owner: &str, more: Value) -> Value {
    let mut all = json!({
        "id": id, "owner": owner, "when_full": "Wait", "capacity": 64, "paused": false, "closed": false, "offered": 0,
        "taken": 0, "queued": 0, "high_water": 0, "dropped": {}, "refused": 0, "lost": 0, "held": 0, "held_ns_max": null,
    });
    merge(&mut all, more);
    all
}

pub(crate) fn report(id: &str, pid: u32, taken_s: u64, snapshot: Value) -> Value {
    let mut all = json!({
        "processors": [], "drivers": [], "topics": [], "services": [], "waits": [], "dead_letters": 0, "domain": null,
        "totals": {
            "ended": 0, "received": 0, "handled": 0, "queued": 0, "dropped": {}, "returned": 0, "outbox": 0,
            "outbox_dropped": 0, "faults": 0, "panics": 0, "restarts": 0,
        },
    });
    merge(&mut all, snapshot);
    json!({
        "node": {
            "id": id, "pid": pid, "program": "robot", "version": "0.1.0", "domain": "lab", "started_unix_ns": 1,
        },
        "snapshot": all,
        "taken_unix_ns": taken_s * 1_000_000_000,
    })
}

pub(crate) fn world(reports: Value, silent: Value) -> World {
    World::new(serde_json::from_value(json!({ "reports": reports, "silent": silent })).unwrap())
}

fn topic(published: u64) -> Value {
    json!({
        "name": "camera/frames", "id": 7, "type_name": "robot::Frame", "codec": "Serde", "history": 0, "connected_to": [],
        "publishers": [{
            "id": 1, "owner": "camera", "published": published, "outstanding": 1, "in_flight": 0, "paused": false,
        }],
        "subscriptions": [
            subscription(1, "viewer", json!({
                "queued": 3, "high_water": 9, "taken": published, "dropped": { "evicted": 2 }, "when_full": "DropOldest",
            })),
            subscription(3, "other[9]", json!({ "node": "dd", "dropped": { "no_room": 5 }, "when_full": "DropNewest" })),
            subscription(2, "writer", json!({ "queued": 64, "high_water": 64, "held_ns_max": 1_500_000_000_u64 })),
        ],
    })
}

fn earlier() -> World {
    world(
        json!([report(
            "aa",
            70,
            10,
            json!({
                "processors": [
                    processor(1, "camera", json!({ "handled": 100, "busy_ns": 1_000_000_000_u64 })),
                    processor(2, "viewer", json!({ "handled": 5, "handling_ns": 1_000_000_000_u64, "busy_ns": 7 })),
                ],
                "topics": [topic(100)],
            })
        )]),
        json!([]),
    )
}

fn later() -> World {
    world(
        json!([
            report(
                "aa",
                70,
                12,
                json!({
                    "processors": [
                        processor(1, "camera", json!({
                            "handled": 300, "busy_ns": 1_500_000_000_u64, "longest_handler_ns": 2_000_000, "high_water": 8,
                        })),
                        processor(2, "viewer", json!({
                            "handled": 5, "busy_ns": 7, "handling_ns": 3_000_000_000_u64, "queued": 1024, "high_water": 1024,
                            "last_message_type": "mproc::Sample<robot::Frame>", "dropped": { "no_room": 4 },
                        })),
                        processor(3, "new", json!({ "handled": 10, "stalled": true, "outbox": 2 })),
                    ],
                    "drivers": [{
                        "id": 1, "name": "camera/driver", "kind": "own", "members": 1, "turns": 400, "parks": 20, "wakes": 20,
                        "threads": 1, "blocked": 0, "steals": 0, "exhausted": 0,
                    }],
                    "topics": [topic(200)],
                    "services": [{
                        "name": "add", "request_type": "robot::Add", "reply_type": "i64", "servers": 1, "servers_elsewhere": 0,
                        "calls": 0, "answered": 0, "failed": 0, "cancelled": 0, "requests": 3, "replies": 3,
                        "replies_dropped": 0, "requests_cancelled": 0,
                    }],
                    "waits": [{ "who": "viewer", "on": ["camera"], "why": "call" }],
                })
            ),
            report(
                "bb",
                80,
                12,
                json!({ "processors": [processor(1, "late\u{1b}[2J", json!({}))] })
            ),
        ]),
        json!([{ "id": "cc", "pid": 90, "why": "stopped" }]),
    )
}

fn figures() -> Figures {
    Figures::new("lab", Some(&earlier()), &later(), false)
}

#[test]
fn loads_and_rates_are_differences_of_two_surveys() {
    let figures = figures();
    let camera = &figures.processors[0];
    assert_eq!(
        (camera.load, camera.handled_per_s),
        (Some(0.25), Some(100.0))
    );
    // A handler that is not over is load, too.
    let viewer = &figures.processors[1];
    assert_eq!((viewer.load, viewer.state), (Some(1.0), State::Handling));
    assert_eq!(viewer.longest_handler_ns, 3_000_000_000);
    // One that was not there counts from 0.
    let new = &figures.processors[2];
    assert_eq!((new.handled_per_s, new.state), (Some(5.0), State::Stalled));
    // A node that was not there has no rates.
    assert_eq!(figures.processors[3].load, None);
    assert_eq!(figures.topics[0].published_per_s, Some(50.0));
    assert_eq!(
        (figures.topics[0].queued, figures.topics[0].capacity),
        (64, 64)
    );
    // Those of the way to another node, too.
    assert_eq!(figures.topics[0].drops, 7);
    assert_eq!(figures.topics[0].subscriptions.len(), 2);
    assert_eq!(figures.topics[0].links[0].to, "dd");
    assert_eq!(causes(&figures.processors[1].dropped), "no room 4");
}

#[test]
fn clocks_and_counters_that_go_back_are_no_rates() {
    let figures = Figures::new("lab", Some(&later()), &earlier(), false);
    assert_eq!(figures.processors[0].load, None);
    assert_eq!(figures.topics[0].published_per_s, None);
}

#[test]
fn json_has_documented_names() {
    let value = serde_json::to_value(figures()).unwrap();
    let names: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "domain",
            "nodes",
            "silent",
            "processors",
            "topics",
            "drivers",
            "services",
            "waits"
        ]
    );
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    assert_eq!(text, include_str!("../../../tests/golden/top.json"));
    assert_eq!(value["processors"][0]["load"], 0.25);
    assert_eq!(value["processors"][1]["state"], "handling");
    assert_eq!(
        value["topics"][0]["subscriptions"][0]["dropped"]["evicted"],
        2
    );
}

fn rows(tab: Tab, sort: Sort, filter: &str) -> Vec<String> {
    let grid = Grid::new(&figures(), tab, sort, filter);
    grid.rows
        .iter()
        .map(|row| row.cells[0].text.clone())
        .collect()
}

#[test]
fn rows_are_sorted_and_filtered() {
    let by = |column, is_reversed| Sort {
        column,
        is_reversed,
    };
    let late = "late\\u{1b}[2J";
    assert_eq!(
        rows(Tab::Processors, by(1, false), ""),
        ["viewer", "camera", "new", late]
    );
    assert_eq!(
        rows(Tab::Processors, by(1, true), ""),
        [late, "new", "camera", "viewer"]
    );
    assert_eq!(
        rows(Tab::Processors, by(0, false), ""),
        ["camera", late, "new", "viewer"]
    );
    // Whatever the case, in any column.
    assert_eq!(rows(Tab::Processors, by(0, false), "STALLED"), ["new"]);
    assert_eq!(rows(Tab::Waits, by(0, false), ""), ["process 90", "viewer"]);
    assert_eq!(rows(Tab::Topics, by(99, false), ""), ["camera/frames"]);
}

fn screen(ui: &mut Ui, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, &figures(), ui, LOOK, 1.0, None))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn press(ui: &mut Ui, keys: &str) {
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\t' => KeyCode::Tab,
            c => KeyCode::Char(c),
        };
        ui.press(KeyEvent::new(code, KeyModifiers::NONE), &figures());
    }
}

#[test]
fn screen_of_processors() {
    let shown = screen(&mut Ui::new(), 160, 12);
    assert_eq!(
        shown,
        include_str!("../../../tests/golden/top_processors.txt")
    );
}

#[test]
fn screen_of_topics_in_80_columns() {
    let mut ui = Ui::new();
    press(&mut ui, "2");
    assert_eq!(
        screen(&mut ui, 80, 7),
        include_str!("../../../tests/golden/top_topics.txt")
    );
}

#[test]
fn screen_of_20_by_5_has_a_row() {
    assert_eq!(
        screen(&mut Ui::new(), 20, 5),
        "mproc top  domain la\n1 Processors  2 Topi\nPROCESS~   LOADv   M\nviewer    100.0%\n? help  / filter  s\n"
    );
    // Whatever the size and the mode, it is drawn.
    for (width, height) in [(1, 1), (3, 2), (200, 3), (9, 60)] {
        for keys in ["", "?", "\n", "/a", "2", "3\n", "4", "5\n"] {
            let mut ui = Ui::new();
            press(&mut ui, keys);
            screen(&mut ui, width, height);
        }
    }
}

#[test]
fn ascii_terminals_get_ascii() {
    let look = Look {
        has_utf8: false,
        ..LOOK
    };
    let mut terminal = Terminal::new(TestBackend::new(80, 6)).unwrap();
    let mut figures = figures();
    figures.domain = "größe".to_owned();
    terminal
        .draw(|frame| draw(frame, &figures, &mut Ui::new(), look, 1.0, Some("ünable")))
        .unwrap();
    let all = terminal.backend().to_string();
    assert!(all.is_ascii(), "{all}");
    assert!(all.contains("gr??e") && all.contains("?nable"), "{all}");
}

#[test]
fn keys_change_what_is_shown() {
    let mut ui = Ui::new();
    press(&mut ui, "/CAM");
    assert_eq!((ui.mode, ui.filter.as_str()), (Mode::Filter, "CAM"));
    // While a filter is typed, q is a letter.
    press(&mut ui, "q\n");
    assert_eq!(ui.filter, "CAMq");
    assert!(!ui.is_over);
    press(&mut ui, "\u{1b}");
    assert_eq!(ui.filter, "");

    press(&mut ui, "s");
    assert_eq!(ui.sort().column, 2);
    press(&mut ui, "<<");
    assert_eq!(ui.sort().column, 0);
    press(&mut ui, "<r");
    assert_eq!((ui.sort().column, ui.sort().is_reversed), (9, true));
    press(&mut ui, "\t");
    assert_eq!((ui.tab, ui.sort().column), (Tab::Topics, 1));
    press(&mut ui, "1 ");
    assert_eq!(
        (ui.tab, ui.sort().column, ui.is_paused),
        (Tab::Processors, 9, true)
    );
    press(&mut ui, "?");
    assert_eq!(ui.mode, Mode::Help);
    press(&mut ui, "q");
    assert_eq!((ui.mode, ui.is_over), (Mode::Table, false));
    press(&mut ui, "q");
    assert!(ui.is_over);

    let mut ui = Ui::new();
    let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    ui.press(key, &figures());
    assert!(ui.is_over);
}

#[test]
fn a_selected_row_stays_selected_when_it_moves() {
    let mut ui = Ui::new();
    press(&mut ui, "j");
    let selected = ui.selected(&figures()).unwrap();
    assert_eq!(ui.grid(&figures()).1, 1);
    // Reversed, the second of four is the third.
    press(&mut ui, "r");
    assert_eq!(ui.selected(&figures()).unwrap(), selected);
    assert_eq!(ui.grid(&figures()).1, 2);
    press(&mut ui, "jjjjjjj");
    assert_eq!(ui.grid(&figures()).1, 3);
    // When it is gone, whichever stands there is.
    press(&mut ui, "/camera\n");
    assert_eq!(ui.grid(&figures()).1, 0);
}

#[test]
fn details_say_all_of_a_row() {
    let mut ui = Ui::new();
    press(&mut ui, "2\n");
    assert_eq!(ui.mode, Mode::Details);
    let lines = details(&figures(), Tab::Topics, "camera/frames");
    assert!(
        lines.contains(&"published_per_s  50.0".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("owner viewer") && line.contains("dropped evicted 2")),
        "{lines:?}"
    );
    let gone = details(&figures(), Tab::Topics, "nothing");
    assert_eq!(gone, ["it is not there any more"]);
}
