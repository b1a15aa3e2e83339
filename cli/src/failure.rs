//! Why a command fails, what to try, and exit codes.

use crate::output::safe;
use mproc::{Error, ErrorKind};
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Which exit code a failure has. 2, for wrong arguments, is clap's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Nothing failed, and there is no more to do.
    Done = 0,
    Failed = 1,
    /// Values in arguments that can only be judged by what the domain has.
    Usage = 2,
    NotFound = 3,
    TimeLimit = 4,
    /// `doctor` has found something.
    Problems = 5,
}

/// What was wrong, and what to try. It is printed once, by `main`.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    /// Lower case, without a full stop.
    text: String,
    /// What to try, as a sentence without a full stop.
    hint: Option<String>,
    /// Nothing is printed: whoever reads the output has gone, or all was said already.
    is_silent: bool,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            hint: None,
            is_silent: false,
        }
    }

    /// Something that the domain does not have.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(Code::NotFound, text)
    }

    /// Ends with this code and says nothing more.
    pub(crate) fn silent(code: Code) -> Self {
        Self {
            is_silent: true,
            ..Self::new(code, "")
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What was being done when it came about.
    pub(crate) fn while_doing(mut self, what: impl Display) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }

    /// Prints it to standard error, and returns its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.is_silent {
            // Nobody may be there to read it.
            let mut err = anstream::stderr();
            let _nobody_reads_it = writeln!(err, "mproc: {}", safe(&self.text));
            if let Some(hint) = &self.hint {
                let _nobody_reads_it = writeln!(err, "  try: {}", safe(hint));
            }
        }
        ExitCode::from(self.code as u8)
    }
}

impl From<Error> for Failure {
    /// Ctrl-C is nothing that must be said.
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Interrupted => return Self::silent(Code::Failed),
            ErrorKind::Timeout => Code::TimeLimit,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<io::Error> for Failure {
    /// Whoever reads the output may go when it has seen enough, as `head` does: that is no failure of ours.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Code::Done);
        }
        Self::new(Code::Failed, error.to_string())
    }
}

/// The names that are nearest to one that does not exist, for a hint.
pub(crate) fn nearest<'a>(
    wanted: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let scored = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name));
    scored
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
