//! `mproc doctor`
//!
//! | file | idea |
//! |---|---|
//! | `facts.rs` | what is judged, gathered in one place |
//! | `probes.rs` | what is found out by trying it |
//! | `finding.rs` | what a check says |
//! | `system.rs` | checks of this machine |
//! | `programs.rs` | checks of the programs of the domain |

mod facts;
mod finding;
mod probes;
mod programs;
mod system;
#[cfg(test)]
mod tests;

use crate::arguments::Arguments as Global;
use crate::commands::top::text::shown;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{json, standard};
use anstyle::{AnsiColor, Style};
use clap::Args;
use facts::Facts;
use finding::{Finding, Severity};
use serde::Serialize;
use std::io::Write;

/// Looks for what is wrong, and says what to do.
///
/// It looks at the domain's directory, this machine's limits, and at what all programs of the domain report of themselves. It works
/// also when the domain cannot be joined. It changes nothing, but like all that join it removes sockets of dead processes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc doctor                 what is wrong, and what to do
  mproc doctor --all           also what is well
  mproc doctor --strict        for scripts: ends with 5 for warnings, too
  mproc doctor --json          the same for programs

It ends with 5 if there is a problem, with --strict also if there is a warning. With --strict a topic of which there is one side only is a warning.

JSON: an object with domain, problems, warnings, notes, and findings: each has severity (ok, note, warning, problem), check, what, advice.")]
pub(crate) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Warnings count as problems, and topics with one side only as warnings.
    #[arg(long)]
    strict: bool,
    /// Show also what is well.
    #[arg(long, short)]
    all: bool,
}

type Check = fn(&Facts) -> Vec<Finding>;

/// In the order in which they are shown: what explains others comes first.
const CHECKS: [Check; 19] = [
    system::directory,
    system::file_system,
    system::sockets,
    system::other_domains,
    system::kernel,
    system::limits,
    system::memory,
    programs::nodes_answer,
    programs::versions,
    programs::types,
    programs::topics,
    programs::circles,
    programs::handlers,
    programs::queues,
    programs::leases,
    programs::drops,
    programs::faults,
    programs::pools,
    programs::peers,
];

/// All that was found, as JSON has it.
#[derive(Debug, Serialize)]
struct Report {
    domain: String,
    problems: usize,
    warnings: usize,
    notes: usize,
    findings: Vec<Finding>,
}

impl Report {
    fn new(facts: &Facts, is_strict: bool) -> Self {
        // Without programs there is nothing to say of them: why there are none was said.
        let has_programs = facts
            .world
            .as_ref()
            .is_ok_and(|world| !world.nodes.is_empty());
        let checks = CHECKS.iter().enumerate();
        let checks = checks.filter(|(at, _)| has_programs || *at <= 7);
        let mut findings: Vec<_> = checks.flat_map(|(_, check)| check(facts)).collect();
        if is_strict {
            for finding in &mut findings {
                if finding.check == "topics" && finding.severity == Severity::Note {
                    finding.severity = Severity::Warning;
                }
            }
        }
        let count = |severity| {
            let of_this = findings.iter().filter(|f| f.severity == severity);
            of_this.count()
        };
        Self {
            domain: facts.domain.clone(),
            problems: count(Severity::Problem),
            warnings: count(Severity::Warning),
            notes: count(Severity::Note),
            findings,
        }
    }
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let facts = Facts::gather(global)?;
    let report = Report::new(&facts, arguments.strict);
    if arguments.json {
        json(&report)?;
    } else {
        let mut out = standard();
        write(&mut out, &report, arguments.all)?;
        out.flush()?;
    }
    if report.problems > 0 || arguments.strict && report.warnings > 0 {
        return Err(Failure::silent(Code::Problems));
    }
    Ok(())
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Ok => AnsiColor::Green.on_default(),
        Severity::Note => Style::new(),
        Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::Problem => AnsiColor::Red.on_default().bold(),
    }
}

fn write(out: &mut impl Write, report: &Report, with_all: bool) -> std::io::Result<()> {
    let width = report
        .findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or(0);
    for finding in &report.findings {
        if finding.severity == Severity::Ok && !with_all {
            continue;
        }
        let style = style(finding.severity);
        writeln!(
            out,
            "{style}{:8}{style:#}  {:width$}  {}",
            finding.severity.as_str(),
            finding.check,
            shown(&finding.what)
        )?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "{:8}  {:width$}  -> {}", "", "", shown(advice))?;
        }
    }
    let ok = report.findings.len() - report.problems - report.warnings - report.notes;
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    writeln!(
        out,
        "domain {}: {}, {}, {}; {ok} ok",
        report.domain,
        plural(report.problems, "problem"),
        plural(report.warnings, "warning"),
        plural(report.notes, "note")
    )
}
