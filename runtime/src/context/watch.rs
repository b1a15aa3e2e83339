//! Being told when another processor ends.

use super::Cx;
use crate::address::{Address, Told};
use crate::exit::Down;
use crate::hook::Cause;
use crate::parcel::Envelope;
use crate::processor::{Handle, Processor};
use std::sync::Arc;

/// Which watch, to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(u64);

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Sends the processor itself one [`Down`] when the other ends, or at once if it has ended.
    ///
    /// A restart by a supervisor is no end: `Down` comes when the other ends for good. If the watching processor is
    /// restarted, its watches end, and [`started`](Processor::started) makes them again.
    pub fn watch<Q: Processor>(&mut self, other: &Address<Q>) -> WatchId
    where
        P: Handle<Down>,
    {
        let me = Arc::downgrade(self.cell);
        let number = crate::ended::next_watch();
        let incarnation = self.cell.note_watch(other.cell(), number);
        other.watch_with(
            number,
            Box::new(move |down| {
                if let Some(me) = me.upgrade() {
                    // A watcher that has ended, or was restarted since, need not know.
                    me.notice(
                        incarnation,
                        number,
                        Envelope::new(Told(down, Cause::none())),
                    );
                }
            }),
        );
        WatchId(number)
    }

    /// Ends a watch: no `Down` comes of it any more, unless it is on its way already.
    pub fn unwatch<Q: Processor>(&mut self, other: &Address<Q>, watch: WatchId) {
        self.cell.forget_watch(watch.0);
        other.unwatch(watch.0);
    }
}
