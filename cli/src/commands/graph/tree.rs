//! The graph as text: for each node its processors, and what each does.

use super::{Edge, End, Graph, Kind};
use crate::output::{rate, safe};
use std::fmt::Write as _;

/// What one end of a node does: a line each.
fn deeds(graph: &Graph, me: &End) -> Vec<String> {
    let names = |kind: Kind, wanted: &dyn Fn(&Edge) -> Option<String>| {
        let edges = graph.edges.iter().filter(|edge| edge.kind == kind);
        let names: Vec<String> = edges.filter_map(wanted).collect();
        names.join(", ")
    };
    // Who is at the other side of a topic or a service.
    let after = |kind, end: &End| names(kind, &|e| (e.from == *end).then(|| graph.name(&e.to)));
    let before = |kind, end: &End| names(kind, &|e| (e.to == *end).then(|| graph.name(&e.from)));
    let arrow = |sign: &str, names: String| match names.is_empty() {
        true => String::new(),
        false => format!("  {sign} {names}"),
    };
    let mut lines = Vec::new();
    for edge in &graph.edges {
        let (from, to) = (graph.name(&edge.from), graph.name(&edge.to));
        let is_from = edge.from == *me;
        let line = match edge.kind {
            Kind::Publishes if is_from => {
                format!(
                    "publishes {to}{}",
                    arrow("->", after(Kind::Subscribes, &edge.to))
                )
            }
            Kind::Subscribes if edge.to == *me => {
                format!(
                    "subscribes {from}{}",
                    arrow("<-", before(Kind::Publishes, &edge.from))
                )
            }
            Kind::Serves if edge.to == *me => {
                format!(
                    "serves {from}{}",
                    arrow("<-", before(Kind::Calls, &edge.from))
                )
            }
            Kind::Calls if is_from => {
                format!("calls {to}{}", arrow("->", after(Kind::Serves, &edge.to)))
            }
            Kind::Sends if is_from => {
                let often = edge.sent.map(|sent| rate(sent.per_second()));
                format!("sends to {to}  {}", often.unwrap_or_default())
            }
            Kind::Supervises if is_from => format!("supervises {to}"),
            Kind::Waits if is_from => format!("WAITS for {to}"),
            _ => continue,
        };
        lines.push(safe(&line).into_owned());
    }
    lines
}

pub(super) fn text(graph: &Graph) -> String {
    let mut text = String::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        let _never_fails = writeln!(text, "{}", safe(&node.label));
        let end = |processor| End::Of {
            node: node.id.clone(),
            processor,
        };
        let processors = node.processors.iter().map(|name| {
            let does = deeds(graph, &end(Some(name.clone())));
            (safe(name).into_owned(), does)
        });
        let mut branches: Vec<(String, Vec<String>)> = processors.collect();
        let program = deeds(graph, &end(None));
        if !program.is_empty() {
            branches.push(("program".to_owned(), program));
        }
        let last = branches.len().saturating_sub(1);
        for (n, (name, does)) in branches.iter().enumerate() {
            let (branch, below) = if n == last {
                ("└─", "  ")
            } else {
                ("├─", "│ ")
            };
            let _never_fails = writeln!(text, "{branch} {name}");
            for (n, line) in does.iter().enumerate() {
                let branch = if n + 1 == does.len() {
                    "└─"
                } else {
                    "├─"
                };
                let _never_fails = writeln!(text, "{below} {branch} {line}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::odd;

    #[test]
    fn a_tree_says_what_each_does_and_with_whom() {
        let wanted = r##"left[1]
├─ end
│  ├─ publishes a "b"; <c> \ #1 | {d}  -> left[1]/größe, right[2]/program
│  ├─ serves add  <- right[2]/program
│  ├─ sends to left[1]/größe  12.5 kHz
│  └─ supervises left[1]/größe
└─ größe
   ├─ subscribes a "b"; <c> \ #1 | {d}  <- left[1]/end
   └─ WAITS for left[1]/end

right[2]
├─ sink
└─ program
   ├─ subscribes a "b"; <c> \ #1 | {d}  <- left[1]/end
   ├─ calls add  -> left[1]/end
   └─ sends to right[2]/sink  2.50 Hz
"##;
        assert_eq!(super::text(&odd()), wanted);
    }
}
