//! The processor around [`csv::Series`].

use std::{fs::File, io};

use mproc::prelude::*;

use crate::{
    csv,
    rates::Rates,
    topics::{Count, Finish, Ledger, RATES},
};

/// Writes the file. On a thread of its own, because a disk may take its time.
pub(crate) struct Recorder {
    series: Option<csv::Series<File>>,
    failed: Option<io::Error>,
    ledger: Ledger,
}

impl Recorder {
    pub(crate) fn new(series: csv::Series<File>) -> Self {
        Self {
            series: Some(series),
            failed: None,
            ledger: Ledger::default(),
        }
    }
}

impl Processor for Recorder {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.subscribed(&RATES);
        // The file is to have no holes. If the disk is slow for long, readings are dropped before the rates, and counted.
        cx.subscribe(&RATES)
            .capacity(1024)
            .when_full(WhenFull::Wait)
            .samples()?;
        Ok(())
    }
}

impl Handle<Sample<Rates>> for Recorder {
    type Reply = ();

    fn handle(&mut self, rates: Sample<Rates>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.handled(&RATES);
        if let Some(series) = &mut self.series
            && let Err(error) = series.write(&rates)
        {
            // The rest would have a hole before it. The end of the program reports this.
            self.series = None;
            self.failed = Some(error);
        }
        Ok(())
    }
}

impl Handle<Finish> for Recorder {
    type Reply = io::Result<u64>;

    fn handle(
        &mut self,
        _: Finish,
        _: &mut Cx<'_, Self, io::Result<u64>>,
    ) -> Outcome<io::Result<u64>> {
        Ok(match (self.series.take(), self.failed.take()) {
            (_, Some(error)) => Err(error),
            (Some(series), None) => series.finish(),
            (None, None) => Ok(0),
        })
    }
}

impl Handle<Count> for Recorder {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}
