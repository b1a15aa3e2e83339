//! What the parts share: the topics, the periods, and the [`Ledger`] that each part counts in.

use std::{collections::BTreeMap, time::Duration};

use mproc::{Delivered, Fault, prelude::*};
use serde::{Deserialize, Serialize};

use crate::{
    alarms::AlarmEvent,
    figures::{Cpu, Disk, Memory, Net, Processes, Reading},
    meter::Summary,
    rates::Rates,
};

pub(crate) const CPU: Topic<Reading<Cpu>> = Topic::new("host/cpu");
pub(crate) const MEMORY: Topic<Reading<Memory>> = Topic::new("host/memory");
pub(crate) const NET: Topic<Reading<Net>> = Topic::new("host/net");
pub(crate) const DISK: Topic<Reading<Disk>> = Topic::new("host/disk");
pub(crate) const PROCESS: Topic<Reading<Processes>> = Topic::new("host/process");
pub(crate) const ERRORS: Topic<String> = Topic::new("host/errors");
pub(crate) const RATES: Topic<Rates> = Topic::new("host/rates");
pub(crate) const SUMMARIES: Topic<Summaries> = Topic::new("host/summaries");
pub(crate) const ALARMS: Topic<AlarmEvent> = Topic::new("host/alarms");
/// What the relay passes on of `host/cpu`.
pub(crate) const RELAYED: Topic<Reading<Cpu>> = Topic::new("slow/relayed");

/// 50 times a second.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// Rates compare readings this far apart; percentiles are over the window.
pub(crate) const SPAN: Duration = Duration::from_millis(500);
pub(crate) const WINDOW: Duration = Duration::from_secs(30);
pub(crate) const SUMMARIES_EVERY: Duration = Duration::from_millis(250);
/// How long anything at the end may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// The percentiles of all series, as the display wants them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summaries {
    pub(crate) series: Vec<Summary>,
    pub(crate) went_back: u64,
}

/// What a processor counts itself, by topic. The accounts compare it with what the node counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// A topic is in here from the subscription on.
    pub(crate) handled: BTreeMap<&'static str, u64>,
    pub(crate) published: BTreeMap<&'static str, u64>,
    /// How many had been published when this subscriber was last refused one, the refused one included.
    pub(crate) last_refused: BTreeMap<String, u64>,
    /// The last publish that failed, and why.
    pub(crate) failed: Option<String>,
}

impl Ledger {
    pub(crate) fn subscribed<T: ?Sized>(&mut self, topic: &Topic<T>) {
        self.handled.insert(topic.name(), 0);
    }

    pub(crate) fn handled<T: ?Sized>(&mut self, topic: &Topic<T>) {
        *self.handled.entry(topic.name()).or_default() += 1;
    }

    pub(crate) fn publish<P: Processor, R: 'static, T: Send + Sync + 'static>(
        &mut self,
        cx: &mut Cx<'_, P, R>,
        topic: &Topic<T>,
        value: T,
    ) {
        match cx.publish(topic, value) {
            Ok(Delivered { refused, .. }) => {
                let published = self.published.entry(topic.name()).or_default();
                *published += 1;
                for who in refused {
                    self.last_refused.insert(who.label, *published);
                }
            }
            Err(error) => self.failed = Some(format!("{}: {error}", topic.name())),
        }
    }

    /// Takes back a publish that stood in the outbox and was given up there: nobody got it.
    pub(crate) fn undelivered<T: ?Sized>(&mut self, topic: &Topic<T>, fault: &Fault) {
        if let Some(published) = self.published.get_mut(topic.name()) {
            *published = published.saturating_sub(1);
        }
        self.failed = Some(format!("{}: {fault}", topic.name()));
    }
}

/// Asks a processor for its ledger. An answer also says that it has started, and so has subscribed.
pub(crate) struct Count;

/// Tells a processor to begin nothing new. It still handles what comes.
pub(crate) struct Finish;
