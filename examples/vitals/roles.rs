//! What a process is for when each part has a process of its own.

use std::fmt;

use clap::ValueEnum;

/// Parts that can stand alone. They find each other by topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    Sampler,
    Rates,
    Alarms,
    /// The relay and the slow subscribers.
    Policies,
    Display,
}

impl Role {
    /// Who publishes stands before who subscribes: they start in the opposite order, and end in this one.
    pub(crate) const ALL: [Self; 5] = [
        Self::Sampler,
        Self::Rates,
        Self::Alarms,
        Self::Policies,
        Self::Display,
    ];

    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sampler => "sampler",
            Self::Rates => "rates",
            Self::Alarms => "alarms",
            Self::Policies => "policies",
            Self::Display => "display",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
