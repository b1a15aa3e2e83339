//! A command's place in the domain: it joins, looks around, and ends with Ctrl-C.

use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::world::World;
use mproc::{Node, Options, Script, SurveyOptions};
use std::ops::Deref;
use std::time::Duration;

/// A script in the domain. What waits on this thread is given up at Ctrl-C: the wait returns `Interrupted`, and
/// [`is_ending`](mproc::Runtime::is_ending) is true from then on.
#[derive(Debug)]
pub(crate) struct Session {
    script: Script<()>,
    look_limit: Duration,
}

impl Session {
    /// Joins the domain.
    pub(crate) fn join(arguments: &Arguments) -> Outcome<Self> {
        let builder = Node::builder().options(Options::default());
        let script = builder
            .domain(&arguments.domain)
            .and_then(mproc::NodeBuilder::init)
            .map_err(|error| Failure::from(error).hint("mproc doctor"))?;
        let look_limit = arguments.look_limit();
        Ok(Self { script, look_limit })
    }

    /// What all programs of the domain say of themselves now. Those that do not answer in time are in it, too.
    pub(crate) fn look(&self) -> Outcome<World> {
        self.look_for(self.look_limit)
    }

    /// How long programs may take to answer.
    pub(crate) fn look_limit(&self) -> Duration {
        self.look_limit
    }

    /// As [`look`](Self::look), with this limit.
    pub(crate) fn look_for(&self, limit: Duration) -> Outcome<World> {
        self.look_with(SurveyOptions::new().limit(limit))
    }

    pub(crate) fn look_with(&self, options: SurveyOptions) -> Outcome<World> {
        let survey = self.script.survey_with(options).wait();
        Ok(World::new(survey.map_err(Failure::from)?))
    }
}

impl Deref for Session {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.script
    }
}
