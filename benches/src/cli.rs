//! The command line: what to ask, of whom, and how to show the answer.

use std::{
    error::Error,
    fmt, fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;

use crate::{
    QUESTIONS,
    harness::{self, Figures, Question, Workload, WrongWork},
    neighbours,
    processes::{self, Side},
    report,
};

/// What a program of this package can answer.
#[derive(Debug)]
pub struct Suite {
    /// All answers.
    pub workloads: Vec<Workload>,
    /// What other processes do for them.
    pub sides: Vec<Side>,
    /// All who answer, in the order in which they are listed.
    pub parties: Vec<Party>,
    /// The file that `all` writes, if this suite writes one.
    pub results: Option<PathBuf>,
}

/// Someone who answers questions.
#[derive(Debug, Clone)]
pub struct Party {
    /// The name on the command line.
    pub name: &'static str,
    /// The version that was measured, or what it is.
    pub version: String,
}

impl Party {
    /// The one party that every suite has.
    pub fn mproc() -> Self {
        Self {
            name: report::MPROC,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The bare programs.
    pub fn limit() -> Self {
        Self {
            name: report::LIMIT,
            version: "bare program".to_owned(),
        }
    }
}

/// Answers a question of speed with checked workloads.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A question, `all` of them, or `list` to see which exist.
    question: String,

    /// Who answers, separated by commas; everyone who can, if left out.
    #[arg(long, value_delimiter = ',')]
    who: Vec<String>,

    /// Measured runs of each workload, after one to warm up.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Operations in a run, instead of what each workload has. It must suit the question: 4 senders share equally, a tree has a
    /// power of 10 leaves.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    n: Option<u64>,

    /// Print one line of JSON for each result instead of tables.
    #[arg(long)]
    json: bool,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// What was asked does not exist. The text lists what does.
    Unknown(String),
    Wrong(WrongWork),
    Output(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => f.write_str(what),
            Self::Wrong(wrong) => write!(f, "wrong work: {wrong}"),
            Self::Output(error) => write!(f, "cannot write the report: {error}"),
        }
    }
}

impl Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Does what the command line of this process says. The exit code is 2 if that makes no sense, and
/// 1 if the work of a workload was wrong.
pub fn main(suite: Suite) -> ExitCode {
    if let Some(exit) = processes::other_side(&suite.sides) {
        return exit;
    }
    let arguments = Arguments::parse();
    match answer(&suite, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            match failure {
                Failure::Unknown(_) => ExitCode::from(2),
                Failure::Wrong(_) | Failure::Output(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn answer(suite: &Suite, arguments: &Arguments) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    check_who(suite, &arguments.who)?;
    if arguments.question == "list" {
        return Ok(write!(out, "{}", list(suite))?);
    }
    let questions = questions(&arguments.question)?;
    let asked: Vec<(&Question, Vec<Workload>)> = questions
        .iter()
        .map(|question| (*question, asked(suite, question, arguments)))
        .filter(|(_, workloads)| !workloads.is_empty())
        .collect();
    if asked.is_empty() {
        return Err(Failure::Unknown(nobody_answers(suite, &questions)));
    }

    let mut tables = Vec::new();
    for (question, workloads) in asked {
        eprintln!(
            "{}: {} workloads, {} runs each",
            question.name,
            workloads.len(),
            arguments.runs
        );
        let runs = usize::try_from(arguments.runs).expect("usize has at least 32 bits");
        let figures = harness::run(&workloads, runs).map_err(Failure::Wrong)?;
        if arguments.json {
            for figure in &figures.figures {
                writeln!(out, "{}", report::json(figure))?;
            }
        } else {
            writeln!(
                out,
                "\n{}: {}\n{}",
                question.name,
                question.about,
                report::table(&figures.figures, &suite.parties)
            )?;
        }
        out.flush()?;
        if let Some(others) = figures
            .others
            .filter(|&share| share > neighbours::SHARE_MAX)
        {
            eprintln!(
                "warning: other programs used {:.0} % of the CPUs meanwhile; these figures are not worth keeping",
                others * 100.0
            );
        }
        tables.push((question, figures));
    }
    write_results(suite, arguments, &tables)
}

/// Writes the file of results, if everything was asked of everyone.
fn write_results(
    suite: &Suite,
    arguments: &Arguments,
    tables: &[(&Question, Figures)],
) -> Result<(), Failure> {
    let Some(path) = &suite.results else {
        return Ok(());
    };
    if arguments.question != "all" || !arguments.who.is_empty() || arguments.n.is_some() {
        return Ok(());
    }
    fs::write(
        path,
        report::results(tables, &suite.parties, arguments.runs),
    )?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn check_who(suite: &Suite, who: &[String]) -> Result<(), Failure> {
    for name in who {
        if !suite.parties.iter().any(|party| party.name == name) {
            let names: Vec<_> = suite.parties.iter().map(|party| party.name).collect();
            return Err(Failure::Unknown(format!(
                "nobody is called \"{name}\" here; there are: {}",
                names.join(", ")
            )));
        }
    }
    Ok(())
}

fn questions(name: &str) -> Result<Vec<&'static Question>, Failure> {
    if name == "all" {
        return Ok(QUESTIONS.to_vec());
    }
    match QUESTIONS.iter().find(|question| question.name == name) {
        Some(question) => Ok(vec![*question]),
        None => {
            let names: Vec<_> = QUESTIONS.iter().map(|question| question.name).collect();
            Err(Failure::Unknown(format!(
                "there is no question \"{name}\"; there are: {}, all, list",
                names.join(", ")
            )))
        }
    }
}

fn asked(suite: &Suite, question: &Question, arguments: &Arguments) -> Vec<Workload> {
    let who = &arguments.who;
    suite
        .workloads
        .iter()
        .filter(|workload| workload.question.name == question.name)
        .filter(|workload| who.is_empty() || who.iter().any(|name| name == workload.who))
        .map(|workload| Workload {
            n: arguments.n.unwrap_or(workload.n),
            ..*workload
        })
        .collect()
}

/// Names those who answer `question`, each once.
fn parties<'a>(suite: &'a Suite, question: &Question) -> Vec<&'a str> {
    suite
        .parties
        .iter()
        .map(|party| party.name)
        .filter(|name| {
            suite
                .workloads
                .iter()
                .any(|w| w.who == *name && w.question.name == question.name)
        })
        .collect()
}

fn nobody_answers(suite: &Suite, questions: &[&Question]) -> String {
    let mut text = "none of those asked has an answer to this; these have:".to_owned();
    for question in questions {
        let names = parties(suite, question);
        let names = if names.is_empty() {
            "nobody".to_owned()
        } else {
            names.join(", ")
        };
        text.push_str(&format!("\n  {}: {names}", question.name));
    }
    text
}

fn list(suite: &Suite) -> String {
    let mut text = "Questions:\n".to_owned();
    for question in QUESTIONS {
        text.push_str(&format!("  {}: {}\n", question.name, question.about));
        text.push_str(&format!("      {}\n", parties(suite, question).join(", ")));
    }
    text.push_str("\nWho:\n");
    for party in &suite.parties {
        text.push_str(&format!("  {} {}\n", party.name, party.version));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{harness::Measured, send::SEND_1};

    fn suite() -> Suite {
        Suite {
            workloads: vec![Workload {
                question: &SEND_1,
                who: report::MPROC,
                variant: "unbounded",
                n: 1,
                run: |_| Ok(Measured::default()),
            }],
            sides: Vec::new(),
            parties: vec![Party::mproc()],
            results: None,
        }
    }

    fn ask(line: &[&str]) -> Result<(), Failure> {
        answer(
            &suite(),
            &Arguments::try_parse_from([&["benches"], line].concat()).unwrap(),
        )
    }

    #[test]
    fn unknown_names_list_what_exists() {
        let text = |line: &[&str]| ask(line).unwrap_err().to_string();
        assert!(text(&["send_2"]).contains("send_1, send_4"));
        assert!(text(&["send_1", "--who", "mproc,nemo"]).contains("mproc"));
        assert!(text(&["fan_out_8", "--who", "mproc"]).contains("fan_out_8: nobody"));
    }

    #[test]
    fn known_question_is_answered() {
        ask(&["send_1", "--runs", "1", "--json"]).unwrap();
        ask(&["list"]).unwrap();
    }

    #[test]
    fn names_of_questions_are_unique() {
        let mut names: Vec<_> = QUESTIONS.iter().map(|question| question.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), QUESTIONS.len());
    }
}
