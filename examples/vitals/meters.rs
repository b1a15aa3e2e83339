//! The processor around [`Meter`].

use std::time::Instant;

use mproc::{Fault, TimerId, prelude::*};

use crate::{
    figures::{Cpu, Disk, Memory, Net, Processes, Reading},
    meter::Meter,
    rates::Rates,
    topics::{
        CPU, Count, DISK, Finish, Ledger, MEMORY, NET, PROCESS, RATES, SPAN, SUMMARIES,
        SUMMARIES_EVERY, Summaries, WINDOW,
    },
};

/// Turns readings into rates, and rates into percentiles.
pub(crate) struct Meters {
    meter: Meter,
    start: Instant,
    timer: Option<TimerId>,
    ledger: Ledger,
}

struct Summarize;

impl Meters {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            meter: Meter::new(SPAN, WINDOW),
            start,
            timer: None,
            ledger: Ledger::default(),
        }
    }

    /// A sampler must never wait for the rates, so the oldest readings go first should this fall behind.
    fn follow<T: Send + Sync + 'static>(
        &mut self,
        topic: &Topic<Reading<T>>,
        cx: &mut Cx<'_, Self>,
    ) -> Outcome<()>
    where
        Self: Handle<Sample<Reading<T>>>,
    {
        self.ledger.subscribed(topic);
        cx.subscribe(topic)
            .when_full(WhenFull::DropOldest)
            .samples()?;
        Ok(())
    }

    fn measured<T>(&mut self, topic: &Topic<Reading<T>>, rates: Rates, cx: &mut Cx<'_, Self>) {
        self.ledger.handled(topic);
        // The first readings have nothing to be compared with.
        if !rates.values.is_empty() {
            self.ledger.publish(cx, &RATES, rates);
        }
    }
}

impl Processor for Meters {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.follow(&CPU, cx)?;
        self.follow(&MEMORY, cx)?;
        self.follow(&NET, cx)?;
        self.follow(&DISK, cx)?;
        self.follow(&PROCESS, cx)?;
        self.timer = Some(cx.every(SUMMARIES_EVERY, |_| Summarize));
        Ok(())
    }

    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        // Of what this publishes, only rates have subscribers that are waited for.
        self.ledger.undelivered(&RATES, &fault);
    }
}

/// One handler for each type of reading. They differ in nothing but the topic and the method.
macro_rules! meters_handle {
    ($($figures:ty, $topic:ident, $method:ident;)*) => {$(
        impl Handle<Sample<Reading<$figures>>> for Meters {
            type Reply = ();

            fn handle(&mut self, sample: Sample<Reading<$figures>>, cx: &mut Cx<'_, Self>) -> Outcome<()> {
                let rates = self.meter.$method(sample.into_owned());
                self.measured(&$topic, rates, cx);
                Ok(())
            }
        }
    )*};
}

meters_handle! {
    Cpu, CPU, cpu;
    Memory, MEMORY, memory;
    Net, NET, net;
    Disk, DISK, disk;
    Processes, PROCESS, processes;
}

impl Handle<Summarize> for Meters {
    type Reply = ();

    fn handle(&mut self, _: Summarize, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let now = cx.now().saturating_duration_since(self.start);
        let summaries = Summaries {
            series: self.meter.summaries(now),
            went_back: self.meter.went_back(),
        };
        self.ledger.publish(cx, &SUMMARIES, summaries);
        Ok(())
    }
}

impl Handle<Finish> for Meters {
    type Reply = ();

    fn handle(&mut self, _: Finish, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        Ok(())
    }
}

impl Handle<Count> for Meters {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}
