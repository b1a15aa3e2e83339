//! What a check says.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    Ok,
    /// Worth knowing.
    Note,
    /// It may become a problem, or has been one.
    Warning,
    Problem,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at. Its names are those of the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// Which check says it.
    pub(crate) check: &'static str,
    pub(crate) what: String,
    /// What to do, if anything can be done.
    pub(crate) advice: Option<String>,
}

impl Finding {
    pub(crate) fn new(severity: Severity, check: &'static str, what: impl Into<String>) -> Self {
        Self {
            severity,
            check,
            what: what.into(),
            advice: None,
        }
    }

    pub(crate) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Ok, check, what)
    }

    pub(crate) fn note(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Note, check, what)
    }

    pub(crate) fn warning(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, check, what)
    }

    pub(crate) fn problem(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Problem, check, what)
    }

    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// `1 sample`, `2 samples`.
pub(crate) fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What was found, or that nothing was.
pub(crate) fn or_ok(
    findings: Vec<Finding>,
    check: &'static str,
    what: impl Into<String>,
) -> Vec<Finding> {
    match findings.is_empty() {
        true => vec![Finding::ok(check, what)],
        false => findings,
    }
}
