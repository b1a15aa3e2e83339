//! Reads the text format as a scraper does, and refuses whatever its rules do not allow.

use std::collections::{BTreeMap, BTreeSet};

/// A line with a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) series: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// What belongs to one name.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) lines: Vec<Line>,
}

impl Family {
    /// The name that its lines have.
    pub(crate) fn series(&self) -> String {
        let suffix = match self.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        format!("{}{suffix}", self.name)
    }
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The families of a whole text. Panics where it breaks a rule.
pub(crate) fn parse(text: &str) -> Vec<Family> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut families: Vec<Family> = Vec::new();
    let (mut helped, mut names) = (None, BTreeSet::new());
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("help has words");
            assert!(is_name(name) && !words.is_empty(), "{line}");
            assert!(names.insert(name.to_owned()), "twice: {line}");
            helped = Some(name.to_owned());
        } else if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').expect("a type");
            assert_eq!(helped.take().as_deref(), Some(name), "{line}");
            assert!(["counter", "gauge", "info"].contains(&kind), "{line}");
            families.push(Family {
                name: name.to_owned(),
                kind: kind.to_owned(),
                lines: Vec::new(),
            });
        } else if let Some(about) = line.strip_prefix("# UNIT ") {
            let (name, unit) = about.split_once(' ').expect("a unit");
            let family = families.last().expect("a unit belongs to a name");
            assert!(family.name == name && family.lines.is_empty(), "{line}");
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let family = families.last_mut().expect("a value belongs to a name");
            let line = parse_line(line);
            assert_eq!(line.series, family.series());
            assert!(family.kind == "gauge" || line.value >= 0.0, "{line:?}");
            let same = |other: &Line| other.labels == line.labels;
            assert!(!family.lines.iter().any(same), "twice: {line:?}");
            family.lines.push(line);
        }
    }
    families
}

fn parse_line(line: &str) -> Line {
    let name_ends = line
        .find(['{', ' '])
        .expect("a name, then labels or a value");
    let (series, mut rest) = line.split_at(name_ends);
    assert!(is_name(series), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let (value, after) = unquote(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            if let Some(after) = after.strip_prefix(',') {
                rest = after;
            } else {
                rest = after.strip_prefix('}').expect("labels end");
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a value");
    Line {
        series: series.to_owned(),
        labels,
        value: value.parse().unwrap_or_else(|_| panic!("a number: {line}")),
    }
}

/// Up to the closing quote, and what is behind it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                other => panic!("escaped {other:?} in {text}"),
            },
            '\n' => panic!("a line ends inside of a value: {text}"),
            c => value.push(c),
        }
    }
    panic!("no closing quote: {text}");
}

#[test]
fn lines_of_every_form_are_read() {
    let text = "# HELP a_seconds words here\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                a_seconds_total{x=\"q\\\"b\\\\n\\n\",y=\"\"} 0.5\n# HELP b c\n# TYPE b gauge\nb 7\n# EOF\n";
    let families = parse(text);
    assert_eq!(families[0].lines[0].labels["x"], "q\"b\\n\n");
    assert_eq!(families[0].lines[0].labels["y"], "");
    assert_eq!(
        (families[0].lines[0].value, families[1].lines[0].value),
        (0.5, 7.0)
    );
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let head = "# HELP a b\n# TYPE a counter\n";
    for wrong in [
        "a 1\n# EOF\n",
        "a_total{x=\"1} 1\n# EOF\n",
        "a_total{x=\"\\t\"} 1\n# EOF\n",
        "a_total one\n# EOF\n",
        "a_total 1\na_total 2\n# EOF\n",
        "a_total -1\n# EOF\n",
        "a_total 1\n",
    ] {
        let text = format!("{head}{wrong}");
        assert!(std::panic::catch_unwind(|| parse(&text)).is_err(), "{text}");
    }
}
