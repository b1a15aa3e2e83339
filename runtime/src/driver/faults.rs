//! Faults that a simulated world makes on purpose, drawn from its seed.
//!
//! They are those that a correct system may make at any time: a thread that could run is not run for a while, a wake reaches its
//! sleeper late, a sleeper wakes for nothing; and one that programs make: a handler panics. None takes a promise back. A wake that
//! never comes would be the system's failure, and nothing could be said of a program under it.
//!
//! `simulated.rs` asks here at three points: when somebody is woken, when the baton is passed on, and when a message is
//! about to be handled.

use super::simulated::Random;
use std::time::Duration;

/// Of a thousand chances to wake somebody for nothing at most so many are taken. More, and time would hardly go on.
const SPURIOUS_MOST: u32 = 500;

/// What a simulated node does wrong on purpose; see [`Runtime::simulated_with_faults`](crate::Runtime::simulated_with_faults).
///
/// Nothing, unless told otherwise. Rates are per mille, of a thousand occasions; what is above 1000 counts as 1000.
///
/// # Examples
///
/// Calls are answered whatever the machine does, only later:
///
/// ```
/// # use mproc_runtime::{CallError, Faults, Options, Runtime, closure};
/// # use std::time::Duration;
/// let faults = Faults::new()
///     .late_wakes(200, Duration::from_millis(50))
///     .spurious_wakes(100)
///     .delays(200, Duration::from_millis(50))
///     .panic_of("sum", 3);
/// let node = Runtime::simulated_with_faults(1, Options::default(), faults);
/// let mut total = 0;
/// let sum = node.spawn_thread("sum", closure(move |n: u32, _cx| {
///     total += n;
///     Ok::<_, std::fmt::Error>(total)
/// }))?;
/// assert_eq!(sum.call(1).wait()?, 1);
/// assert_eq!(sum.call(2).wait()?, 3);
/// // The handler is not entered: a fault in its place.
/// assert!(matches!(sum.call(3).wait(), Err(CallError::Panicked(_))));
/// assert_eq!(sum.call(4).wait()?, 7);
/// assert_eq!(node.fault_counts().map(|counts| counts.panics), Some(1));
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults {
    late_wakes: Late,
    spurious_wakes: u32,
    delays: Late,
    panics: Vec<PanicAt>,
}

/// How often, and by how much at most.
#[derive(Clone, Copy, Debug, Default)]
struct Late {
    per_mille: u32,
    up_to: Duration,
}

#[derive(Clone, Debug)]
struct PanicAt {
    /// Of which processor; of any, if there is no name.
    of: Option<String>,
    /// So many are still to be handled before it.
    left: u64,
}

/// How many faults a simulated node has made so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Wakes that came late.
    pub late_wakes: u64,
    /// Sleepers that were woken for nothing.
    pub spurious_wakes: u64,
    /// Threads that could run, and were not run for a while.
    pub delays: u64,
    /// Handlers that panicked.
    pub panics: u64,
}

impl Faults {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many of a thousand wakes are lost on their way to a sleeping thread, which wakes by itself up to `up_to` later. Its
    /// own deadline ends its sleep earlier all the same.
    pub fn late_wakes(mut self, per_mille: u32, up_to: Duration) -> Self {
        self.late_wakes = Late { per_mille, up_to };
        self
    }

    /// So many of a thousand times that another thread gets its turn, some sleeping thread is woken for no reason. At most 500.
    pub fn spurious_wakes(mut self, per_mille: u32) -> Self {
        self.spurious_wakes = per_mille.min(SPURIOUS_MOST);
        self
    }

    /// So many of a thousand times that a thread gets its turn, it gets it up to `up_to` later: the others go on, and time does
    /// if there are none. The thread that made the node is never delayed, so that the test is in time with itself.
    pub fn delays(mut self, per_mille: u32, up_to: Duration) -> Self {
        self.delays = Late { per_mille, up_to };
        self
    }

    /// The handler that is given the node's `n`-th message, counted from 1, panics before it has begun. Messages that were
    /// sent, called or forwarded count, and those that tell of an end; timers, continuations and subscriptions do not. May be
    /// said several times.
    pub fn panic_at(self, n: u64) -> Self {
        self.panics_at(None, n)
    }

    /// As [`panic_at`](Self::panic_at), counting only the messages of the processor called `name`.
    pub fn panic_of(self, name: &str, n: u64) -> Self {
        self.panics_at(Some(name.to_owned()), n)
    }

    fn panics_at(mut self, of: Option<String>, n: u64) -> Self {
        self.panics.push(PanicAt { of, left: n });
        self
    }

    pub(super) fn has_panics(&self) -> bool {
        !self.panics.is_empty()
    }

    /// By how much a wake comes late, if it does.
    pub(super) fn late_wake(&self, random: &mut Random) -> Option<Duration> {
        self.late_wakes.draw(random)
    }

    /// By how much a turn comes late, if it does.
    pub(super) fn delay(&self, random: &mut Random) -> Option<Duration> {
        self.delays.draw(random)
    }

    pub(super) fn delays_anybody(&self) -> bool {
        self.delays.per_mille > 0
    }

    /// True if somebody is to be woken for nothing.
    pub(super) fn is_spurious(&self, random: &mut Random) -> bool {
        hits(self.spurious_wakes, random)
    }

    /// A message is about to be handled. True if its handler is to panic.
    pub(super) fn message(&mut self, name: &str) -> bool {
        let mut panics = false;
        for at in &mut self.panics {
            if at.left > 0 && at.of.as_ref().is_none_or(|of| of == name) {
                at.left -= 1;
                panics |= at.left == 0;
            }
        }
        panics
    }
}

impl Late {
    fn draw(self, random: &mut Random) -> Option<Duration> {
        // At least a nanosecond, or it would not be late.
        let most = u64::try_from(self.up_to.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        hits(self.per_mille, random).then(|| Duration::from_nanos(1 + random.below(most)))
    }
}

/// Draws nothing at a rate of 0, so that a world without faults runs as if there were no kit.
fn hits(per_mille: u32, random: &mut Random) -> bool {
    per_mille > 0 && random.below(1000) < u64::from(per_mille)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::{AfterPanic, CallError, Cx, Exit, Handle, Options, Outcome, Processor, Runtime};
    use std::time::Instant;

    struct Counts(u32);

    impl Processor for Counts {
        fn on_panic(&mut self, _: &str) -> AfterPanic {
            AfterPanic::GoOn
        }
    }

    impl Handle<u32> for Counts {
        type Reply = u32;
        fn handle(&mut self, n: u32, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
            self.0 += n;
            Ok(self.0)
        }
    }

    /// Twenty calls, and what the node says at the end.
    fn calls(seed: u64, faults: Faults) -> (Duration, FaultCounts, (u64, u64)) {
        let node = Runtime::simulated_with_faults(seed, Options::default(), faults);
        let start: Instant = node.now();
        let driver = node.driver("driver").unwrap();
        let counts = driver.spawn("counts", Counts(0)).unwrap();
        for n in 1..=20 {
            assert_eq!(counts.call(1).wait().unwrap(), n);
        }
        let took = node.now() - start;
        (
            took,
            node.fault_counts().unwrap(),
            node.fingerprint().unwrap(),
        )
    }

    #[test]
    fn without_faults_a_world_is_what_it_is_without_the_kit() {
        let node = Runtime::simulated_with(7, Options::default());
        let driver = node.driver("driver").unwrap();
        let counts = driver.spawn("counts", Counts(0)).unwrap();
        for n in 1..=20 {
            assert_eq!(counts.call(1).wait().unwrap(), n);
        }
        let (took, made, fingerprint) = calls(7, Faults::new());
        assert_eq!(Some(fingerprint), node.fingerprint());
        assert_eq!((took, made), (Duration::ZERO, FaultCounts::default()));
    }

    #[test]
    fn late_wakes_let_time_go_by_and_lose_nothing() {
        let up_to = Duration::from_millis(10);
        let (took, made, _) = calls(1, Faults::new().late_wakes(1000, up_to));
        assert!(made.late_wakes >= 20, "{made:?}");
        assert!(took > Duration::ZERO && took <= up_to * made.late_wakes as u32);
    }

    #[test]
    fn delayed_threads_let_time_go_by_and_lose_nothing() {
        let up_to = Duration::from_millis(10);
        let (took, made, _) = calls(1, Faults::new().delays(1000, up_to));
        assert!(made.delays >= 20, "{made:?}");
        assert!(took > Duration::ZERO && took <= up_to * made.delays as u32);
    }

    #[test]
    fn a_sleeper_that_is_woken_for_nothing_sleeps_on() {
        let (took, made, _) = calls(1, Faults::new().spurious_wakes(1000));
        assert!(made.spurious_wakes > 0);
        assert_eq!(took, Duration::ZERO);
    }

    #[test]
    fn equal_seeds_make_equal_faults() {
        let faults = || {
            let up_to = Duration::from_millis(10);
            let faults = Faults::new().late_wakes(300, up_to).delays(300, up_to);
            faults.spurious_wakes(300)
        };
        assert_eq!(calls(3, faults()), calls(3, faults()));
        assert_ne!(calls(3, faults()), calls(4, faults()));
    }

    #[test]
    fn the_nth_message_of_the_node_and_of_a_processor_panics() {
        let faults = Faults::new().panic_at(2).panic_of("b", 3);
        let node = Runtime::simulated_with_faults(1, Options::default(), faults);
        let a = node.spawn_thread("a", Counts(0)).unwrap();
        let b = node.spawn_thread("b", Counts(0)).unwrap();
        assert_eq!(a.call(1).wait().unwrap(), 1);
        assert!(matches!(a.call(1).wait(), Err(CallError::Panicked(_))));
        assert_eq!(a.call(1).wait().unwrap(), 2);
        assert_eq!(b.call(1).wait().unwrap(), 1);
        b.send(1).unwrap();
        assert!(matches!(b.call(1).wait(), Err(CallError::Panicked(_))));
        assert_eq!(b.call(1).wait().unwrap(), 3);
        assert_eq!(node.fault_counts().unwrap().panics, 2);
        assert_eq!((a.snapshot().panics, b.snapshot().panics), (1, 1));
    }

    #[test]
    fn a_fault_ends_a_processor_as_any_panic_does() {
        struct Plain;
        impl Processor for Plain {}
        impl Handle<()> for Plain {
            type Reply = ();
            fn handle(&mut self, (): (), _: &mut Cx<'_, Self>) -> Outcome<()> {
                Ok(())
            }
        }
        let faults = Faults::new().panic_at(1);
        let node = Runtime::simulated_with_faults(1, Options::default(), faults);
        let plain = node.spawn_thread("plain", Plain).unwrap();
        plain.send(()).unwrap();
        let down = plain.ended().wait().unwrap();
        assert!(matches!(down.exit, Exit::Panicked(_)), "{down:?}");
    }

    #[test]
    fn a_real_node_makes_no_faults() {
        let node = Runtime::with_options(Options::default());
        assert_eq!(node.fault_counts(), None);
    }
}
