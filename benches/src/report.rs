//! Shows figures: as a line of JSON, as a table, as the file of all results.

use std::{fs, process::Command, thread};

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    COMPILER,
    cli::Party,
    harness::{Figure, Figures, Question},
};

/// The name under which `mproc` answers. It is no peer of its own.
pub const MPROC: &str = "mproc";

/// The name under which the bare programs answer that do nothing but the hand-over.
pub const LIMIT: &str = "limit";

/// Returns a figure as one line of JSON.
pub fn json(figure: &Figure) -> String {
    serde_json::to_string(figure).expect("a figure has only names and numbers")
}

/// Returns figures of one question as a table, which is also valid Markdown.
pub fn table(figures: &[Figure], parties: &[Party]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let extra = [
        ("bytes", figures.iter().any(|f| f.extra.bytes.is_some())),
        ("p50 ns", figures.iter().any(|f| f.extra.p50.is_some())),
        ("p99 ns", figures.iter().any(|f| f.extra.p99.is_some())),
        (
            "switches/s",
            figures.iter().any(|f| f.extra.switches.is_some()),
        ),
    ];
    let mut header = vec![
        "variant",
        "who",
        "version",
        "n",
        "ns",
        "range",
        "CPU ns",
        "x best peer",
        "x limit",
    ];
    header.extend(extra.iter().filter(|(_, any)| *any).map(|(name, _)| *name));
    table.set_header(header);

    for figure in sorted(figures) {
        let mut row = vec![
            figure.variant.to_owned(),
            figure.who.to_owned(),
            version(figure, parties),
            figure.n.to_string(),
            number(figure.ns),
            format!("{} - {}", number(figure.ns_min), number(figure.ns_max)),
            number(figure.cpu_ns),
            ratio(figure, best_peer(figure, figures)),
            ratio(figure, limit(figure, figures)),
        ];
        let values = [
            figure.extra.bytes,
            figure.extra.p50,
            figure.extra.p99,
            figure.extra.switches,
        ];
        for ((_, any), value) in extra.iter().zip(values) {
            if *any {
                row.push(value.map_or_else(|| "-".to_owned(), number));
            }
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Variants stay together, in the order of their first appearance; the fastest stands first.
fn sorted(figures: &[Figure]) -> Vec<&Figure> {
    let first = |figure: &Figure| {
        figures
            .iter()
            .position(|other| other.variant == figure.variant)
    };
    let mut sorted: Vec<_> = figures.iter().collect();
    sorted.sort_by(|a, b| first(a).cmp(&first(b)).then(a.ns.total_cmp(&b.ns)));
    sorted
}

fn version(figure: &Figure, parties: &[Party]) -> String {
    parties
        .iter()
        .find(|party| party.name == figure.who)
        .map_or_else(String::new, |party| party.version.clone())
}

/// The fastest peer in the same variant.
fn best_peer(figure: &Figure, figures: &[Figure]) -> Option<f64> {
    figures
        .iter()
        .filter(|other| other.variant == figure.variant)
        .filter(|other| other.who != MPROC && other.who != LIMIT)
        .map(|other| other.ns)
        .min_by(f64::total_cmp)
}

/// The limit in the same variant.
fn limit(figure: &Figure, figures: &[Figure]) -> Option<f64> {
    figures
        .iter()
        .find(|other| other.variant == figure.variant && other.who == LIMIT)
        .map(|other| other.ns)
}

fn ratio(figure: &Figure, to: Option<f64>) -> String {
    match to {
        Some(to) if to > 0.0 => format!("{:.2}", figure.ns / to),
        _ => "-".to_owned(),
    }
}

/// Three digits or so: the rest would only be noise.
fn number(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Returns the file of all results.
pub fn results(tables: &[(&Question, Figures)], parties: &[Party], runs: u32) -> String {
    let mut text = format!(
        "# Results\n\n\
         Written by `cargo run --release --manifest-path benches/compare/Cargo.toml -- all`; not edited by hand.\n\
         Each figure is the median of {runs} runs, taken in turn with its peers; README.md says how.\n\
         What counts is the ratio to the peers in the same table: the times belong to this machine on this day.\n\
         `x best peer` and `x limit` compare within a variant.\n\n"
    );
    for (name, value) in [
        ("machine", cpu_model()),
        ("cores", cores()),
        ("kernel", kernel()),
        ("compiler", COMPILER.to_owned()),
        ("commit", commit()),
    ] {
        text.push_str(&format!("- {name}: {value}\n"));
    }
    for (question, figures) in tables {
        text.push_str(&format!(
            "\n## {}\n\n{}\n\n{}\n",
            question.name,
            question.about,
            table(&figures.figures, parties)
        ));
        if let Some(others) = figures.others {
            text.push_str(&format!(
                "\nOther programs used {:.0} % of the CPUs meanwhile.\n",
                others * 100.0
            ));
        }
    }
    text
}

fn cpu_model() -> String {
    let linux = || {
        let info = fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let macos = || output("sysctl", &["-n", "machdep.cpu.brand_string"]);
    linux().or_else(macos).unwrap_or_else(unknown)
}

fn cores() -> String {
    thread::available_parallelism().map_or_else(|_| unknown(), |cores| cores.to_string())
}

fn kernel() -> String {
    let uname = rustix::system::uname();
    format!(
        "{} {}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy()
    )
}

/// The commit of the sources, and whether they differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        output(
            "git",
            &[&["-C", env!("CARGO_MANIFEST_DIR")], arguments].concat(),
        )
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return unknown();
    };
    // Results written earlier are no reason to call the sources changed.
    let changed = git(&["status", "--porcelain", "--", ":/", ":(exclude)RESULTS.md"]);
    match changed {
        None => commit,
        Some(_) => format!("{commit} with changes"),
    }
}

/// What a program prints, if it succeeds and prints anything.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Extra;

    fn figure(who: &'static str, variant: &'static str, ns: f64) -> Figure {
        Figure {
            question: "test",
            who,
            variant,
            n: 10,
            ns,
            ns_min: ns,
            ns_max: ns,
            cpu_ns: ns,
            extra: Extra::default(),
        }
    }

    #[test]
    fn ratios_stay_within_a_variant() {
        let figures = [
            figure("kanal", "parked", 100.0),
            figure("kanal", "spinning", 10.0),
            figure(MPROC, "parked", 50.0),
            figure(LIMIT, "parked", 40.0),
        ];
        let mproc = &figures[2];
        assert_eq!(ratio(mproc, best_peer(mproc, &figures)), "0.50");
        assert_eq!(ratio(mproc, limit(mproc, &figures)), "1.25");
        assert_eq!(ratio(&figures[1], limit(&figures[1], &figures)), "-");
    }

    #[test]
    fn table_shows_a_column_only_if_someone_has_a_value() {
        let mut figures = [figure(MPROC, "one", 1.0)];
        assert!(!table(&figures, &[]).contains("bytes"));
        figures[0].extra.bytes = Some(256.0);
        assert!(table(&figures, &[]).contains("bytes"));
    }
}
