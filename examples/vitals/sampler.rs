//! The processor around [`Source`]: one for each kind of figures.

use std::time::{Duration, Instant};

use mproc::{TimerId, prelude::*};

use crate::{
    figures::Reading,
    source::{Source, SourceError},
    topics::{Count, ERRORS, Finish, Ledger, SAMPLE_EVERY},
};

/// What reads figures of one kind.
pub(crate) type Read<T> = fn(&mut Source, Duration) -> Result<Reading<T>, SourceError>;

/// Reads figures of one kind, and publishes them.
pub(crate) struct Sampler<T: 'static> {
    source: Source,
    read: Read<T>,
    topic: Topic<Reading<T>>,
    start: Instant,
    timer: Option<TimerId>,
    ledger: Ledger,
}

struct Due;

impl<T: 'static> Sampler<T> {
    pub(crate) fn new(
        source: Source,
        topic: Topic<Reading<T>>,
        read: Read<T>,
        start: Instant,
    ) -> Self {
        Self {
            source,
            read,
            topic,
            start,
            timer: None,
            ledger: Ledger::default(),
        }
    }
}

impl<T: Send + Sync + 'static> Processor for Sampler<T> {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.timer = Some(cx.every(SAMPLE_EVERY, |_| Due));
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Handle<Due> for Sampler<T> {
    type Reply = ();

    fn handle(&mut self, _: Due, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let at = cx.now().saturating_duration_since(self.start);
        match (self.read)(&mut self.source, at) {
            Ok(reading) => self.ledger.publish(cx, &self.topic, reading),
            Err(error) => self.ledger.publish(cx, &ERRORS, error.to_string()),
        }
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Handle<Finish> for Sampler<T> {
    type Reply = ();

    fn handle(&mut self, _: Finish, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Handle<Count> for Sampler<T> {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}
