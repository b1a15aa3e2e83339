//! The five tables of `top`: which columns they have, how their cells read, sorting and filtering.

use super::model::{Figures, State};
use super::text::{short_type, shown};
use crate::output::{Table, count, duration};
use serde_json::Value;
use std::cmp::Ordering;
use std::time::Duration;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Processors,
    Topics,
    Drivers,
    Services,
    Waits,
}

impl Tab {
    pub(crate) const ALL: [Self; 5] = [
        Self::Processors,
        Self::Topics,
        Self::Drivers,
        Self::Services,
        Self::Waits,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Processors => "Processors",
            Self::Topics => "Topics",
            Self::Drivers => "Drivers",
            Self::Services => "Services",
            Self::Waits => "Waits",
        }
    }

    /// By which column it is sorted at first.
    pub(crate) fn first_sort(self) -> usize {
        match self {
            Self::Processors | Self::Topics | Self::Services => 1,
            Self::Drivers => 2,
            Self::Waits => 0,
        }
    }
}

/// A column. Numbers stand to the right, and the greatest comes first when they are sorted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) is_number: bool,
    /// So that columns do not jump with every digit.
    pub(crate) width_min: usize,
}

const fn text(title: &'static str) -> Column {
    Column {
        title,
        is_number: false,
        width_min: title.len(),
    }
}

const fn number(title: &'static str, width_min: usize) -> Column {
    Column {
        title,
        is_number: true,
        width_min,
    }
}

const PROCESSORS: [Column; 10] = [
    text("PROCESSOR"),
    number("LOAD", 6),
    number("MSG/S", 6),
    number("QUEUE", 7),
    number("HIGH", 4),
    number("LONGEST", 7),
    number("DROPS", 5),
    text("STATE"),
    text("NODE"),
    text("DRIVER"),
];
const TOPICS: [Column; 9] = [
    text("TOPIC"),
    number("PUB/S", 6),
    number("PUBS", 4),
    number("SUBS", 4),
    number("QUEUE", 7),
    number("HIGH", 4),
    number("DROPS", 5),
    number("HELD", 7),
    text("TYPE"),
];
const DRIVERS: [Column; 11] = [
    text("DRIVER"),
    text("KIND"),
    number("LOAD", 6),
    number("MEMBERS", 7),
    number("TURNS/S", 7),
    number("PARKS/S", 7),
    number("STEALS/S", 8),
    number("THREADS", 7),
    number("BLOCKED", 7),
    number("EXHAUSTED", 9),
    text("NODE"),
];
const SERVICES: [Column; 8] = [
    text("SERVICE"),
    number("CALLS/S", 7),
    number("SERVERS", 7),
    number("CALLS", 5),
    number("FAILED", 6),
    number("GIVEN UP", 8),
    text("TYPES"),
    text("NODE"),
];
const WAITS: [Column; 4] = [text("WHO"), text("WHY"), text("ON"), text("NODE")];

/// By what a cell is sorted.
#[derive(Clone, Debug)]
enum Order {
    Number(f64),
    Text,
}

/// What stands in one place of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    order: Order,
}

/// How a row is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Plain,
    Warning,
    Problem,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The same from survey to survey.
    pub(crate) key: String,
    pub(crate) cells: Vec<Cell>,
    pub(crate) level: Level,
}

/// One table, sorted and filtered.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Row>,
}

/// How a table is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) column: usize,
    pub(crate) is_reversed: bool,
}

fn name(text: &str) -> Cell {
    Cell {
        text: shown(text).into_owned(),
        order: Order::Text,
    }
}

fn of(order: f64, text: String) -> Cell {
    Cell {
        text,
        order: Order::Number(order),
    }
}

fn many(n: u64) -> Cell {
    of(n as f64, count(n))
}

/// A number that is not known yet is a dash, and comes last.
fn known(number: Option<f64>, text: impl Fn(f64) -> String) -> Cell {
    match number {
        Some(number) => of(number, text(number)),
        None => of(-1.0, "-".to_owned()),
    }
}

fn load(share: Option<f64>) -> Cell {
    known(share, |share| format!("{:.1}%", share * 100.0))
}

fn often(per_second: Option<f64>) -> Cell {
    known(per_second, |n| match n {
        n if n > 0.0 && n < 99.95 => format!("{n:.1}"),
        n => count(n.round() as u64),
    })
}

fn time(ns: Option<u64>) -> Cell {
    known(ns.map(|ns| ns as f64), |ns| match ns as u64 {
        0 => "-".to_owned(),
        ns => duration(Duration::from_nanos(ns)),
    })
}

/// How full: by the share that is taken, and among empty ones none is before another.
fn queue(queued: u64, capacity: Option<u64>) -> Cell {
    let text = match capacity {
        Some(capacity) => format!("{}/{}", count(queued), count(capacity)),
        None => count(queued),
    };
    of(
        queued as f64 / capacity.unwrap_or(u64::MAX).max(1) as f64,
        text,
    )
}

/// `3 nodes` in one cell: the first, and how many more.
fn first_of(names: &[String]) -> Cell {
    match names {
        [] => name("-"),
        [one] => name(one),
        [first, rest @ ..] => name(&format!("{first} +{}", rest.len())),
    }
}

fn processors(figures: &Figures) -> Vec<Row> {
    let rows = figures.processors.iter().map(|p| {
        let is_full = p.capacity.is_some_and(|capacity| p.queued >= capacity);
        let level = match p.state {
            State::Ended | State::Restarting => Level::Problem,
            State::Handling if p.handling_ns.is_some_and(|ns| ns > 1_000_000_000) => Level::Problem,
            State::Stalled => Level::Warning,
            _ if is_full => Level::Warning,
            _ => Level::Plain,
        };
        Row {
            key: p.key.clone(),
            cells: vec![
                name(&p.name),
                load(p.load),
                often(p.handled_per_s),
                queue(p.queued, p.capacity),
                many(p.high_water),
                time(Some(p.longest_handler_ns)),
                many(p.drops),
                name(&p.doing()),
                name(&p.node),
                name(&p.driver),
            ],
            level,
        }
    });
    rows.collect()
}

fn topics(figures: &Figures) -> Vec<Row> {
    let rows = figures.topics.iter().map(|t| {
        let level = match t.capacity > 0 && t.queued >= t.capacity {
            true => Level::Warning,
            false => Level::Plain,
        };
        let queue = match t.subscriptions.is_empty() {
            true => of(-1.0, "-".to_owned()),
            false => queue(t.queued, Some(t.capacity)),
        };
        Row {
            key: t.name.clone(),
            cells: vec![
                name(&t.name),
                often(t.published_per_s),
                many(t.publishers.len() as u64),
                many(t.subscriptions.len() as u64),
                queue,
                many(t.high_water),
                many(t.drops),
                time(t.held_ns_max),
                name(&short_type(&t.type_name)),
            ],
            level,
        }
    });
    rows.collect()
}

fn drivers(figures: &Figures) -> Vec<Row> {
    let rows = figures.drivers.iter().map(|d| Row {
        key: d.key.clone(),
        cells: vec![
            name(&d.name),
            name(&d.kind),
            load(d.load),
            many(d.members),
            often(d.turns_per_s),
            often(d.parks_per_s),
            often(d.steals_per_s),
            many(d.threads),
            many(d.blocked),
            many(d.exhausted),
            name(&d.node),
        ],
        level: match d.blocked > 0 && d.blocked >= d.threads {
            true => Level::Warning,
            false => Level::Plain,
        },
    });
    rows.collect()
}

fn services(figures: &Figures) -> Vec<Row> {
    let rows = figures.services.iter().map(|s| {
        let types = match s.request_type.is_empty() {
            true => "-".to_owned(),
            false => format!(
                "{} -> {}",
                short_type(&s.request_type),
                short_type(&s.reply_type)
            ),
        };
        Row {
            key: s.name.clone(),
            cells: vec![
                name(&s.name),
                often(s.calls_per_s),
                many(s.servers),
                many(s.calls),
                many(s.failed),
                many(s.cancelled),
                name(&types),
                first_of(&s.nodes),
            ],
            level: match s.servers {
                0 => Level::Warning,
                _ => Level::Plain,
            },
        }
    });
    rows.collect()
}

/// Who waits for whom, and the nodes that do not answer: for them the command waits.
fn waits(figures: &Figures) -> Vec<Row> {
    let silent = figures.silent.iter().map(|silent| Row {
        key: format!("silent/{}", silent.id),
        cells: vec![
            name(&format!("process {}", silent.pid)),
            name("no answer"),
            name(&silent.why),
            name(&silent.id.chars().take(8).collect::<String>()),
        ],
        level: Level::Problem,
    });
    let waits = figures.waits.iter().map(|wait| Row {
        key: format!("{}/{}", wait.node, wait.who),
        cells: vec![
            name(&wait.who),
            name(&wait.why),
            name(&wait.on.join(", ")),
            name(&wait.node),
        ],
        level: Level::Plain,
    });
    silent.chain(waits).collect()
}

fn compare(a: &Cell, b: &Cell) -> Ordering {
    match (&a.order, &b.order) {
        // The greatest first.
        (Order::Number(a), Order::Number(b)) => b.total_cmp(a),
        _ => a.text.cmp(&b.text),
    }
}

pub(crate) fn columns(tab: Tab) -> &'static [Column] {
    match tab {
        Tab::Processors => &PROCESSORS,
        Tab::Topics => &TOPICS,
        Tab::Drivers => &DRIVERS,
        Tab::Services => &SERVICES,
        Tab::Waits => &WAITS,
    }
}

impl Grid {
    /// The rows that have `filter` in one of their cells, whatever its case. Rows that are equal by `sort` stand by name.
    pub(crate) fn new(figures: &Figures, tab: Tab, sort: Sort, filter: &str) -> Self {
        let mut rows = match tab {
            Tab::Processors => processors(figures),
            Tab::Topics => topics(figures),
            Tab::Drivers => drivers(figures),
            Tab::Services => services(figures),
            Tab::Waits => waits(figures),
        };
        if !filter.is_empty() {
            let filter = filter.to_lowercase();
            rows.retain(|row| {
                row.cells
                    .iter()
                    .any(|cell| cell.text.to_lowercase().contains(&filter))
            });
        }
        rows.sort_by(|a, b| {
            let by = match (a.cells.get(sort.column), b.cells.get(sort.column)) {
                (Some(a), Some(b)) => compare(a, b),
                _ => Ordering::Equal,
            };
            let by = if sort.is_reversed { by.reverse() } else { by };
            by.then_with(|| a.cells[0].text.cmp(&b.cells[0].text))
                .then_with(|| a.key.cmp(&b.key))
        });
        Self {
            columns: columns(tab),
            rows,
        }
    }

    /// The same as plain text.
    pub(crate) fn table(&self) -> Table {
        let titles: Vec<_> = self
            .columns
            .iter()
            .map(|column| match column.is_number {
                true => format!(">{}", column.title),
                false => column.title.to_owned(),
            })
            .collect();
        let titles: Vec<_> = titles.iter().map(String::as_str).collect();
        let mut table = Table::new(&titles);
        for row in &self.rows {
            table.row(row.cells.iter().map(|cell| cell.text.clone()));
        }
        table
    }
}

/// All that is known of one row: what `--json` has of it, a line for each.
pub(crate) fn details(figures: &Figures, tab: Tab, key: &str) -> Vec<String> {
    let value = match tab {
        Tab::Processors => figures
            .processors
            .iter()
            .find(|row| row.key == key)
            .map(serde_json::to_value),
        Tab::Topics => figures
            .topics
            .iter()
            .find(|row| row.name == key)
            .map(serde_json::to_value),
        Tab::Drivers => figures
            .drivers
            .iter()
            .find(|row| row.key == key)
            .map(serde_json::to_value),
        Tab::Services => figures
            .services
            .iter()
            .find(|row| row.name == key)
            .map(serde_json::to_value),
        Tab::Waits => {
            let wait = figures
                .waits
                .iter()
                .find(|row| format!("{}/{}", row.node, row.who) == key);
            let silent = figures
                .silent
                .iter()
                .find(|row| format!("silent/{}", row.id) == key);
            wait.map(serde_json::to_value)
                .or(silent.map(serde_json::to_value))
        }
    };
    let Some(Ok(Value::Object(fields))) = value else {
        return vec!["it is not there any more".to_owned()];
    };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (field, value) in &fields {
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                lines.push(format!("{field}:"));
                for item in items {
                    lines.push(format!("  {}", item_line(item)));
                }
            }
            value => lines.push(format!("{field:width$}  {}", scalar(field, value))),
        }
    }
    lines
}

/// One of several on one line; what is 0, false or not known is left out.
fn item_line(item: &Value) -> String {
    let Value::Object(fields) = item else {
        return scalar("", item);
    };
    let said = fields.iter().filter(|(_, value)| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    });
    let parts: Vec<_> = said
        .map(|(field, value)| format!("{field} {}", scalar(field, value)))
        .collect();
    parts.join(", ")
}

fn scalar(field: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown(text).into_owned(),
        Value::Number(n) => match (n.as_u64(), n.as_f64()) {
            (Some(ns), _) if field.ends_with("_ns") || field == "held_ns_max" => {
                duration(Duration::from_nanos(ns))
            }
            (Some(n), _) => n.to_string(),
            (None, Some(share)) if field == "load" => format!("{:.1}%", share * 100.0),
            (None, Some(n)) => format!("{n:.1}"),
            (None, None) => n.to_string(),
        },
        Value::Array(items) => {
            let parts: Vec<_> = items.iter().map(|item| scalar("", item)).collect();
            match parts.is_empty() {
                true => "-".to_owned(),
                false => parts.join(", "),
            }
        }
        Value::Object(map) if map.is_empty() => "-".to_owned(),
        Value::Object(map) => {
            let parts: Vec<_> = map
                .iter()
                .map(|(cause, n)| format!("{} {}", shown(cause).replace('_', " "), scalar("", n)))
                .collect();
            parts.join(", ")
        }
        Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
    }
}
