//! What comes to a subscription from other nodes: whoever receives takes it from the links itself.

use super::{Closed, Delivery};
use crate::codec::CodecError;
use crate::reader::Reader;
use crate::sample::{Body, Item, Sample};
use crate::sources::Arrival;
use crate::subscriber::Subscriber as _;
use crate::transport::Inlet;
use mproc_runtime::{DropCause, hook};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What was fetched from the sources.
pub(super) enum Fetched<T: ?Sized + 'static> {
    Sample(Arc<dyn Body<T>>, u64),
    Nothing,
    LeaseLimit,
}

/// As many leases of one source are held as may be.
pub(crate) struct AtLimit;

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    /// One more source. Gives it back if the subscription has ended.
    pub(crate) fn open(
        &self,
        inlet: Box<dyn Inlet>,
        reader: Arc<dyn Reader<T>>,
    ) -> Result<(), Box<dyn Inlet>> {
        self.sources.open(inlet, reader)
    }

    /// Looks whether a source has news, and tells whoever receives. True if anybody was told.
    ///
    /// Whoever has news looks after them, and whoever stands in line looks after that: so one of the two finds both, under the lock
    /// that the line has.
    pub(crate) fn look_outside(&self) -> bool {
        if !self.sources.any() || self.is_paused() || self.is_ended() || self.is_at_lease_limit() {
            return false;
        }
        let Some(bell) = self.bell.get() else {
            // Only what wakes a receiver is told: news of another kind are dealt with.
            return self.sources.available() > 0 && self.tell_those_who_wait();
        };
        if !self.sources.have_news() {
            return false;
        }
        if let Some(arrival) = bell.next_arrival() {
            // Relaxed: only the lane's driver reads it.
            self.source_arrival.store(arrival, Ordering::Relaxed);
        }
        let was_rung = std::mem::replace(&mut self.state.lock().rung, true);
        if !was_rung {
            bell.ring();
        }
        !was_rung
    }

    /// A receiver stands in line now: it is told of what came before.
    pub(super) fn enlisted(&self) {
        if self.sources.any() {
            self.look_outside();
        }
    }

    /// Takes what the sources have: decodes it, and asks the filter. No lock is held.
    pub(super) fn fetch(&self) -> Fetched<T> {
        loop {
            let undecoded = match self.sources.take() {
                Arrival::Sample(undecoded) => undecoded,
                Arrival::Nothing => return Fetched::Nothing,
                Arrival::LeaseLimit => return Fetched::LeaseLimit,
                Arrival::Overflowed => {
                    self.close(Closed::Full);
                    return Fetched::Nothing;
                }
            };
            let taken = undecoded.decode();
            let (source, gap) = (taken.source, taken.gap);
            match taken.body {
                Ok(body) if self.passes(&body) => return Fetched::Sample(body, gap),
                Ok(_unwanted) => self.sources.carry_gap(source, gap),
                Err(error) => {
                    self.sources.carry_gap(source, gap.saturating_add(1));
                    let is_new = self.sources.is_new_to_report(source, taken.publisher);
                    self.drop_undecodable(is_new, &error);
                }
            }
        }
    }

    fn drop_undecodable(&self, is_new: bool, error: &CodecError) {
        {
            let mut state = self.state.lock();
            state.from_sources += 1;
            state.drops.add(DropCause::Undecodable, 1);
        }
        if is_new {
            hook::remote(&format!("{}: a value is dropped: {error}", self.label()));
        }
        self.dead_letter(DropCause::Undecodable);
    }

    /// The sample of what was fetched.
    pub(super) fn fetched(self: &Arc<Self>, body: Arc<dyn Body<T>>, gap: u64) -> Sample<T> {
        let (number, others_wait, end_is_waited_for) = {
            let mut state = self.state.lock();
            state.from_sources += 1;
            let end_is_waited_for = state.closed.is_some() && state.receivers.end_is_waited_for();
            (
                self.taken.note_gap(gap),
                state.receivers.is_waited_for(),
                end_is_waited_for,
            )
        };
        self.note_received();
        if gap > 0 {
            self.tell_dropped(gap);
        }
        if end_is_waited_for {
            // It may have been the last, and whoever waits is told so.
            self.wake_all_receivers();
        } else if others_wait {
            // There may be more than they were told of.
            self.enlisted();
        }
        let item = Item {
            body,
            number,
            arrival: 0,
            in_flight: None,
        };
        Sample::new(item, self.receipt(gap, self.runtime.now()))
    }

    // ---- for a processor's lane, on its driver's thread

    pub(crate) fn has_sources(&self) -> bool {
        self.sources.any()
    }

    /// Queue and sources were found empty. False if something has come meanwhile: then it is to be looked at again.
    pub(crate) fn found_nothing(&self) -> bool {
        {
            let mut state = self.state.lock();
            if self.is_ended() {
                return true;
            }
            if !state.queue.is_empty() {
                return false;
            }
            state.rung = false;
        }
        if self.is_at_lease_limit() || !self.sources.have_news() {
            return true;
        }
        // Whoever has rung since has seen that: it stands on the processor's list again.
        std::mem::replace(&mut self.state.lock().rung, true)
    }

    pub(crate) fn next_from_sources(self: &Arc<Self>) -> Result<Option<Sample<T>>, AtLimit> {
        if !self.sources.any() {
            return Ok(None);
        }
        match self.fetch() {
            Fetched::Sample(body, gap) => {
                if let Some(bell) = self.bell.get()
                    && let Some(arrival) = bell.next_arrival()
                {
                    self.source_arrival.store(arrival, Ordering::Relaxed);
                }
                Ok(Some(self.fetched(body, gap)))
            }
            Fetched::Nothing => Ok(None),
            Fetched::LeaseLimit => Err(AtLimit),
        }
    }

    /// When what waits at the sources arrived, if anything does.
    pub(crate) fn source_arrival(&self) -> Option<u64> {
        let arrival = self.source_arrival.load(Ordering::Relaxed);
        self.sources.have_news().then_some(arrival)
    }

    /// From now on only what waits at the sources is taken.
    pub(crate) fn drain_sources(&self) {
        self.sources.drain();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{RemoteNodes, Typed};
    use crate::subscription::SubscriptionOptions;
    use crate::topic::Topic;
    use crate::transport::{Ending, Lease, Stamp, Took};
    use mproc_runtime::Runtime;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::task::{Wake, Waker};
    use std::time::Instant;

    const NUMBERS: Topic<u64> = Topic::new("numbers");

    /// A link with one sample, and then its end.
    struct OneSample {
        left: bool,
        over: bool,
    }

    impl Inlet for OneSample {
        fn has_news(&self) -> bool {
            !self.over
        }

        fn take(&mut self) -> Took {
            if std::mem::take(&mut self.left) {
                let lease = Box::new(Bytes(NUMBERS.encode(&7).unwrap()));
                return Took::Sample { lease, gap: 0 };
            }
            self.over = true;
            Took::Ended(Ending::Left(String::new()))
        }

        fn queued(&self) -> usize {
            usize::from(self.left)
        }

        fn settle(&mut self) -> Option<Ending> {
            self.over = true;
            Some(Ending::Left(String::new()))
        }
    }

    struct Bytes(Vec<u8>);

    impl Lease for Bytes {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn copied(&self) -> Vec<u8> {
            self.0.clone()
        }

        fn stamp(&self) -> &Stamp {
            static STAMP: OnceLock<Stamp> = OnceLock::new();
            STAMP.get_or_init(|| Stamp {
                topic: NUMBERS.id(),
                publisher: 1,
                sequence: 0,
                published: Instant::now(),
                has_parts: false,
            })
        }
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// A receiver came while there was no source, after one that had told of its sample without anybody in line. What the next
    /// source told was taken for told already: the receiver slept beside a sample.
    #[test]
    fn receiver_is_woken_by_the_first_news_of_a_source_that_comes_later() {
        let runtime = Runtime::simulated(1);
        let settings = SubscriptionOptions::new().settings(&runtime, NUMBERS.name(), NUMBERS.id());
        let settings = settings.unwrap();
        let delivery = Delivery::new(&runtime, NUMBERS.name(), NUMBERS.id(), settings);
        let from = RemoteNodes::default().get([1; 16]);
        let open = || {
            let from = from.clone();
            let reader = Typed::new(NUMBERS.name(), NUMBERS.id(), NUMBERS.codec_ref(), from);
            let inlet = OneSample {
                left: true,
                over: false,
            };
            let opened = delivery.open(Box::new(inlet), Arc::new(reader));
            assert!(opened.is_ok());
        };
        open();
        // Nobody is in line.
        assert!(!delivery.look_outside());
        assert_eq!(*delivery.try_recv().unwrap().unwrap(), 7);
        assert!(delivery.try_recv().unwrap().is_none());
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut ticket = None;
        assert!(delivery.poll_recv(&mut ticket, &waker).is_pending());
        open();
        assert!(delivery.look_outside());
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(delivery.poll_recv(&mut ticket, &waker).is_ready());
    }

    /// A link with samples, of which the next look alone still sees one that was taken by then.
    #[derive(Clone, Default)]
    struct Stale(Arc<StaleState>);

    #[derive(Default)]
    struct StaleState {
        there: AtomicUsize,
        sees_one_that_is_gone: AtomicBool,
    }

    impl Inlet for Stale {
        fn has_news(&self) -> bool {
            true
        }

        fn take(&mut self) -> Took {
            if self.0.there.load(Ordering::Relaxed) == 0 {
                return Took::Nothing;
            }
            self.0.there.fetch_sub(1, Ordering::Relaxed);
            let lease = Box::new(Bytes(NUMBERS.encode(&7).unwrap()));
            Took::Sample { lease, gap: 0 }
        }

        fn queued(&self) -> usize {
            let gone = self.0.sees_one_that_is_gone.swap(false, Ordering::Relaxed);
            self.0.there.load(Ordering::Relaxed) + usize::from(gone)
        }

        fn settle(&mut self) -> Option<Ending> {
            None
        }
    }

    fn one_with_a_stale_source() -> (Arc<Delivery<u64>>, Stale) {
        one_with_a_filter(|_| true)
    }

    fn one_with_a_filter(
        filter: impl Fn(&u64) -> bool + Send + Sync + 'static,
    ) -> (Arc<Delivery<u64>>, Stale) {
        let runtime = Runtime::simulated(1);
        let options = SubscriptionOptions::new().filter(filter);
        let settings = options.settings(&runtime, NUMBERS.name(), NUMBERS.id());
        let settings = settings.unwrap();
        let delivery = Delivery::new(&runtime, NUMBERS.name(), NUMBERS.id(), settings);
        let from = RemoteNodes::default().get([1; 16]);
        let reader = Typed::new(NUMBERS.name(), NUMBERS.id(), NUMBERS.codec_ref(), from);
        let inlet = Stale::default();
        let opened = delivery.open(Box::new(inlet.clone()), Arc::new(reader));
        assert!(opened.is_ok());
        (delivery, inlet)
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        (woken.clone(), Waker::from(woken))
    }

    /// The thread that looks saw a sample; then the receiver took it, and stood in line again; then that thread said that the
    /// receiver was told. It told it of nothing that came later: two processes that called each other slept for ever, once in some
    /// thousand times a busy machine.
    #[test]
    fn receiver_is_told_of_a_sample_after_one_that_it_took_while_it_was_seen() {
        let (delivery, inlet) = one_with_a_stale_source();
        let (woken, waker) = waker();
        let mut ticket = None;
        assert!(delivery.poll_recv(&mut ticket, &waker).is_pending());
        inlet.0.sees_one_that_is_gone.store(true, Ordering::Relaxed);
        assert!(!delivery.look_outside());
        assert!(!woken.0.load(Ordering::Relaxed));
        inlet.0.there.store(1, Ordering::Relaxed);
        assert!(delivery.look_outside());
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(delivery.poll_recv(&mut ticket, &waker).is_ready());
    }

    /// The same for whoever only wants to know that something is there.
    #[test]
    fn watcher_is_told_of_a_sample_after_one_that_was_taken_while_it_was_seen() {
        let (delivery, inlet) = one_with_a_stale_source();
        let (woken, waker) = waker();
        assert!(!delivery.poll_ready(&waker));
        inlet.0.sees_one_that_is_gone.store(true, Ordering::Relaxed);
        assert!(!delivery.look_outside());
        inlet.0.there.store(1, Ordering::Relaxed);
        assert!(delivery.look_outside());
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(delivery.poll_ready(&waker));
    }

    /// Whoever left the line for whom a sample was kept that is gone: the next in line was told of nothing more.
    #[test]
    fn next_in_line_is_told_after_one_that_left_without_its_sample() {
        let (delivery, inlet) = one_with_a_stale_source();
        let [(first_woken, first), (second_woken, second)] = [waker(), waker()];
        let mut tickets = [None, None];
        assert!(delivery.poll_recv(&mut tickets[0], &first).is_pending());
        assert!(delivery.poll_recv(&mut tickets[1], &second).is_pending());
        inlet.0.there.store(1, Ordering::Relaxed);
        assert!(delivery.look_outside());
        assert!(first_woken.0.load(Ordering::Relaxed));
        inlet.0.there.store(0, Ordering::Relaxed);
        delivery.leave_line(&mut tickets[0]);
        assert!(!second_woken.0.load(Ordering::Relaxed));
        inlet.0.there.store(1, Ordering::Relaxed);
        assert!(delivery.look_outside());
        assert!(second_woken.0.load(Ordering::Relaxed));
        assert!(delivery.poll_recv(&mut tickets[1], &second).is_ready());
    }

    /// The last sample of a subscription that takes no more did not pass the filter of whoever took it: whoever waited for the end
    /// slept until its limit.
    #[test]
    fn end_is_told_when_the_last_sample_is_not_handed_on() {
        let (delivery, inlet) = one_with_a_filter(|_| false);
        inlet.0.there.store(1, Ordering::Relaxed);
        delivery.take_no_more();
        let (woken, waker) = waker();
        assert!(!delivery.poll_drained(&waker));
        assert!(!delivery.try_recv().is_ok_and(|taken| taken.is_some()));
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(delivery.poll_drained(&waker));
    }

    /// A receiver whose filter had panicked stood in no line when it came again.
    #[test]
    fn receiver_is_in_line_again_after_its_filter_has_panicked() {
        let panics = AtomicBool::new(true);
        let (delivery, inlet) = one_with_a_filter(move |_| {
            assert!(!panics.swap(false, Ordering::Relaxed), "on purpose");
            true
        });
        let (_, first) = waker();
        let mut ticket = None;
        assert!(delivery.poll_recv(&mut ticket, &first).is_pending());
        inlet.0.there.store(1, Ordering::Relaxed);
        assert!(delivery.look_outside());
        let poll = std::panic::AssertUnwindSafe(|| delivery.poll_recv(&mut ticket, &first));
        assert!(std::panic::catch_unwind(poll).is_err());
        let (woken, second) = waker();
        assert!(delivery.poll_recv(&mut ticket, &second).is_pending());
        inlet.0.there.store(1, Ordering::Relaxed);
        assert!(delivery.look_outside());
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(delivery.poll_recv(&mut ticket, &second).is_ready());
    }
}
