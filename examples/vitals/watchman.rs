//! The processor around [`Alarms`].

use std::time::{Duration, Instant};

use mproc::{Fault, PublisherOptions, TimerId, prelude::*};

use crate::{
    alarms::{AlarmEvent, Alarms, Threshold},
    rates::Rates,
    topics::{ALARMS, Count, Finish, Ledger, RATES},
};

/// Raises and clears alarms.
pub(crate) struct Watchman {
    alarms: Alarms,
    start: Instant,
    timer: Option<TimerId>,
    ledger: Ledger,
}

struct Expire;

const ALARMS_KEPT: usize = 16;

impl Watchman {
    pub(crate) fn new(thresholds: Vec<Threshold>, start: Instant) -> Self {
        Self {
            alarms: Alarms::new(thresholds, Duration::from_secs(3)),
            start,
            timer: None,
            ledger: Ledger::default(),
        }
    }

    fn tell(&mut self, events: Vec<AlarmEvent>, cx: &mut Cx<'_, Self>) {
        for event in events {
            self.ledger.publish(cx, &ALARMS, event);
        }
    }
}

impl Processor for Watchman {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.subscribed(&RATES);
        // An alarm that is missed is worse than rates that are late: wait.
        cx.subscribe(&RATES).when_full(WhenFull::Wait).samples()?;
        // A display of another process may come, or come again, after an alarm was raised.
        cx.publisher_with(&ALARMS, PublisherOptions::new().history(ALARMS_KEPT))?;
        self.timer = Some(cx.every(Duration::from_secs(1), |_| Expire));
        Ok(())
    }

    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.ledger.undelivered(&ALARMS, &fault);
    }
}

impl Handle<Sample<Rates>> for Watchman {
    type Reply = ();

    fn handle(&mut self, rates: Sample<Rates>, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.handled(&RATES);
        let events = self.alarms.update(&rates);
        self.tell(events, cx);
        Ok(())
    }
}

impl Handle<Expire> for Watchman {
    type Reply = ();

    fn handle(&mut self, _: Expire, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let now = cx.now().saturating_duration_since(self.start);
        let events = self.alarms.expire(now);
        self.tell(events, cx);
        Ok(())
    }
}

impl Handle<Finish> for Watchman {
    type Reply = ();

    fn handle(&mut self, _: Finish, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        Ok(())
    }
}

impl Handle<Count> for Watchman {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}
