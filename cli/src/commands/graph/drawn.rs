//! The graph for programs that draw: Mermaid and Graphviz.
//!
//! Everything has a name of ours (`p0`, `t0`); what it is called stands in quotes, with what each format would understand written
//! otherwise.

use super::{Edge, End, Graph, Kind};
use crate::output::{rate, safe};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Our names for all ends: of processors by their nodes, topics, services.
struct Names<'a> {
    names: BTreeMap<End, String>,
    graph: &'a Graph,
}

impl<'a> Names<'a> {
    fn of(graph: &'a Graph) -> Self {
        let mut names = BTreeMap::new();
        let mut processors = 0;
        for node in &graph.nodes {
            for name in node.processors.iter().cloned().map(Some).chain([None]) {
                let end = End::Of {
                    node: node.id.clone(),
                    processor: name,
                };
                names.insert(end, format!("p{processors}"));
                processors += 1;
            }
        }
        for (n, topic) in graph.topics.iter().enumerate() {
            let topic = topic.name.clone();
            names.insert(End::Topic { topic }, format!("t{n}"));
        }
        for (n, service) in graph.services.iter().enumerate() {
            let service = service.name.clone();
            names.insert(End::Service { service }, format!("s{n}"));
        }
        Self { names, graph }
    }

    fn get(&self, end: &End) -> &str {
        self.names.get(end).map_or("unknown", String::as_str)
    }

    /// What stands inside of each node: our name, and what it is called.
    fn inside(&self, id: &str) -> Vec<(&str, String)> {
        let all = self.names.iter().filter_map(|(end, name)| match end {
            End::Of { node, processor } if node == id => {
                let is_used = |edge: &Edge| edge.from == *end || edge.to == *end;
                let called = match processor {
                    Some(processor) => processor.clone(),
                    // Only if it does something.
                    None if self.graph.edges.iter().any(is_used) => "program".to_owned(),
                    None => return None,
                };
                Some((name.as_str(), called))
            }
            _ => None,
        });
        all.collect()
    }
}

/// How often something was sent, of digits and letters.
fn often(edge: &Edge) -> String {
    let sent = edge.sent.map(|sent| rate(sent.per_second()));
    sent.unwrap_or_default()
}

fn for_mermaid(text: &str) -> String {
    let mut shown = String::new();
    for c in safe(text).chars() {
        match c {
            // What begins one of its entities, ends its text, or is HTML or Markdown to it.
            '#' | '"' | '<' | '>' | '&' | '\\' | '`' | '*' | '_' => {
                let _never_fails = write!(shown, "#{};", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

fn for_dot(text: &str) -> String {
    safe(text).replace('\\', "\\\\").replace('"', "\\\"")
}

pub(super) fn mermaid(graph: &Graph) -> String {
    let names = Names::of(graph);
    let mut text = "flowchart LR\n".to_owned();
    let mut line = |line: String| {
        let _never_fails = writeln!(text, "  {line}");
    };
    for (n, node) in graph.nodes.iter().enumerate() {
        line(format!("subgraph n{n}[\"{}\"]", for_mermaid(&node.label)));
        for (name, called) in names.inside(&node.id) {
            line(format!("  {name}[\"{}\"]", for_mermaid(&called)));
        }
        line("end".to_owned());
    }
    for (n, topic) in graph.topics.iter().enumerate() {
        line(format!("t{n}([\"{}\"])", for_mermaid(&topic.name)));
    }
    for (n, service) in graph.services.iter().enumerate() {
        line(format!("s{n}{{{{\"{}\"}}}}", for_mermaid(&service.name)));
    }
    for edge in &graph.edges {
        let arrow = match edge.kind {
            Kind::Publishes | Kind::Subscribes => "-->",
            Kind::Serves | Kind::Calls => "==>",
            Kind::Sends => &format!("-->|{}|", often(edge)),
            Kind::Supervises => "-. supervises .->",
            Kind::Waits => "-. waits for .->",
        };
        line(format!(
            "{} {arrow} {}",
            names.get(&edge.from),
            names.get(&edge.to)
        ));
    }
    text
}

pub(super) fn dot(graph: &Graph) -> String {
    let names = Names::of(graph);
    let mut text = "digraph mproc {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    let mut line = |line: String| {
        let _never_fails = writeln!(text, "  {line}");
    };
    for (n, node) in graph.nodes.iter().enumerate() {
        line(format!("subgraph cluster_{n} {{"));
        line(format!("  label=\"{}\";", for_dot(&node.label)));
        for (name, called) in names.inside(&node.id) {
            line(format!("  {name} [label=\"{}\"];", for_dot(&called)));
        }
        line("}".to_owned());
    }
    for (n, topic) in graph.topics.iter().enumerate() {
        let label = for_dot(&topic.name);
        line(format!("t{n} [label=\"{label}\", shape=ellipse];"));
    }
    for (n, service) in graph.services.iter().enumerate() {
        let label = for_dot(&service.name);
        line(format!("s{n} [label=\"{label}\", shape=hexagon];"));
    }
    for edge in &graph.edges {
        let style = match edge.kind {
            Kind::Publishes | Kind::Subscribes => "",
            Kind::Serves | Kind::Calls => " [style=bold]",
            Kind::Sends => &format!(" [color=blue, label=\"{}\"]", often(edge)),
            Kind::Supervises => " [style=dashed, label=\"supervises\"]",
            Kind::Waits => " [style=dashed, color=red, label=\"waits for\"]",
        };
        line(format!(
            "{} -> {}{style};",
            names.get(&edge.from),
            names.get(&edge.to)
        ));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::odd;
    use super::*;

    #[test]
    fn names_cannot_break_out_of_mermaid() {
        let wanted = r##"flowchart LR
  subgraph n0["left[1]"]
    p0["end"]
    p1["größe"]
  end
  subgraph n1["right[2]"]
    p4["program"]
    p3["sink"]
  end
  t0(["a #34;b#34;; #60;c#62; #92; #35;1 | {d}"])
  s0{{"add"}}
  p0 --> t0
  t0 --> p1
  t0 --> p4
  s0 ==> p0
  p4 ==> s0
  p4 -->|2.50 Hz| p3
  p0 -->|12.5 kHz| p1
  p0 -. supervises .-> p1
  p1 -. waits for .-> p0
"##;
        assert_eq!(mermaid(&odd()), wanted);
    }

    #[test]
    fn names_cannot_break_out_of_graphviz() {
        let text = dot(&odd());
        assert!(
            text.contains(r#"t0 [label="a \"b\"; <c> \\ #1 | {d}", shape=ellipse];"#),
            "{text}"
        );
        assert!(
            text.contains("  p1 -> p0 [style=dashed, color=red, label=\"waits for\"];"),
            "{text}"
        );
        assert!(
            text.contains("  p0 -> p1 [color=blue, label=\"12.5 kHz\"];"),
            "{text}"
        );
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        // Outside of its quotes there are only words of the language and names of ours.
        let mut is_inside = false;
        let mut is_escaped = false;
        let outside: String = text
            .chars()
            .filter(|c| {
                let quote = *c == '"' && !is_escaped;
                is_escaped = *c == '\\' && !is_escaped;
                is_inside ^= quote;
                !is_inside && !quote
            })
            .collect();
        assert!(!is_inside);
        let is_known = |c: char| c.is_ascii_alphanumeric() || " \n{}[];=,->_".contains(c);
        assert!(outside.chars().all(is_known), "{outside}");
    }
}
