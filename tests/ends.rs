//! The ends of processors and nodes: what is still delivered, what is counted, and who is told.

use mproc::prelude::*;
use mproc::{Closure, DropCause, Exit, Fault, Options, Spun};
use std::sync::mpsc;

const SECOND: Duration = Duration::from_secs(1);

/// Keeps the thread of a handler, in virtual time.
fn busy<P: Processor, R: 'static>(cx: &Cx<'_, P, R>, time: Duration) {
    let node = cx.runtime();
    let until = node.now() + time;
    while node.now() < until {
        node.park(Some(until));
    }
}

/// Gives back what it is sent, one more.
fn plus_one() -> Closure<u32, u32> {
    closure(|n: u32, _cx| Ok::<_, Fault>(n + 1))
}

/// Forwards all it gets, and tells its faults.
struct Front {
    back: Address<Closure<u32, u32>>,
    faults: mpsc::Sender<String>,
}
impl Processor for Front {
    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.faults.send(fault.to_string()).unwrap();
    }
}
impl Handle<u32> for Front {
    type Reply = u32;
    fn handle(&mut self, n: u32, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        let back = self.back.clone();
        cx.forward(&back, n)
    }
}

/// Nobody had the message: no dead letter, nobody was told, and it counted as given back.
#[test]
fn a_message_forwarded_to_a_processor_that_has_ended_is_a_dead_letter_and_a_fault() {
    let node = Node::simulated(1);
    let back = node.spawn_thread("back", plus_one()).unwrap();
    back.stop();
    node.settle();
    let (faults, told) = mpsc::channel();
    let front = Front {
        back: back.clone(),
        faults,
    };
    let front = node.spawn_thread("front", front).unwrap();
    front.send(7).unwrap();
    node.settle();
    let letters = node.dead_letters().take();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header.cause, DropCause::TargetEnded);
    let messages = letters
        .into_iter()
        .map(|l| l.into_message::<u32>().unwrap());
    assert_eq!(messages.collect::<Vec<_>>(), [7]);
    let fault = told.try_recv().unwrap();
    assert!(fault.contains("\"back\""), "{fault}");
    assert_eq!(back.snapshot().returned, 0);
}

/// Sends two messages when it ends.
struct Farewell(Address<Closure<u32, u32>>);
impl Processor for Farewell {
    fn stopped(&mut self, _: &Exit, _: &mut Cx<'_, Self>) {
        (0..2).for_each(|n| self.0.send(n).unwrap());
    }
}

/// What found no room was given up at once, although the end was an orderly one.
#[test]
fn what_stopped_sends_is_delivered_though_its_target_is_full() {
    for end in [Address::stop as fn(&Address<_>), Address::drain] {
        let node = Node::simulated(3);
        let one = MailboxOptions::bounded(1);
        let target = node.spawn_thread_with("target", one, plus_one()).unwrap();
        let leaves = Farewell(target.clone());
        let leaves = node.spawn_thread("leaves", leaves).unwrap();
        end(&leaves);
        node.settle();
        assert!(matches!(leaves.exit(), Some(Exit::Stopped)));
        assert_eq!(target.snapshot().handled, 2);
        assert_eq!(node.dead_letters().count(), 0);
    }
}

/// A processor that drained dropped what its last messages had begun.
#[test]
fn a_drained_processor_ends_after_the_continuations_of_its_messages() {
    let node = Node::simulated(3);
    let (results, seen) = mpsc::channel();
    let answers = node.spawn_thread("answers", plus_one()).unwrap();
    let asks = closure(move |n: u32, cx: &mut Cx<'_, Closure<u32, ()>>| {
        let results = results.clone();
        answers.call(n).then(cx, move |_, result, _| {
            results.send(result.ok()).unwrap();
            Ok(())
        });
    });
    let asks = node.spawn_thread("asks", asks).unwrap();
    asks.send(1).unwrap();
    asks.drain();
    node.settle();
    assert!(asks.is_closed());
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [Some(2)]);
}

/// Calls what it holds when it is dropped.
struct OnDrop<F: FnMut() + Send + 'static>(F);
impl<F: FnMut() + Send + 'static> Processor for OnDrop<F> {}
impl<F: FnMut() + Send + 'static> Handle<()> for OnDrop<F> {
    type Reply = ();
    fn handle(&mut self, (): (), _: &mut Cx<'_, Self>) -> Outcome<()> {
        Ok(())
    }
}
impl<F: FnMut() + Send + 'static> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A processor that was about to end was neither among the living nor in the sums of those that have ended.
#[test]
fn sums_of_a_node_never_go_backwards_while_a_processor_ends() {
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    let inner = node.without_guard();
    let looks = OnDrop(move || {
        let totals = inner.snapshot().totals;
        tell.send((totals.received, totals.handled)).unwrap();
    });
    let looks = node.spawn_thread("looks", looks).unwrap();
    looks.send(()).unwrap();
    node.settle();
    let totals = &node.snapshot().totals;
    assert_eq!((totals.received, totals.handled), (1, 1));
    looks.stop();
    node.settle();
    assert_eq!(told.try_recv().unwrap(), (1, 1));
    let totals = &node.snapshot().totals;
    assert_eq!((totals.received, totals.handled, totals.ended), (1, 1, 1));
}

/// Waits when it starts.
struct Waits(Address<Closure<(), ()>>);
impl Processor for Waits {
    fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.call(()).wait()?;
        Ok(())
    }
}

/// The wake-up by the shutdown was taken by whatever a callback waited for, and the script went to sleep all the same.
#[test]
fn a_shutdown_during_a_wait_in_a_callback_is_not_slept_over() {
    let node = Node::simulated_with(1, Options::default());
    let ends = closure(|(): (), cx: &mut Cx<'_, Closure<(), ()>>| {
        // By now the script waits, for twice as long.
        busy(cx, SECOND);
        cx.runtime().request_shutdown();
        busy(cx, SECOND);
    });
    let ends = node.spawn_thread("ends", ends).unwrap();
    let mut script = node.script().unwrap();
    script.spawn("waits", Waits(ends)).unwrap();
    let before = script.now();
    let mut spun = script.spin_once(3600 * SECOND).unwrap();
    if spun == Spun::Ran {
        spun = script.spin_once(3600 * SECOND).unwrap();
    }
    assert_eq!(spun, Spun::Shutdown);
    assert_eq!(script.now() - before, 2 * SECOND);
}

/// Readied by another thread when it ended, it stayed in its seat at the driver until another processor took that.
#[test]
fn a_processor_that_another_thread_ends_is_let_go_of_by_its_driver() {
    let node = Node::simulated(1);
    let driver = node.driver("shared").unwrap();
    let ended = driver.spawn("ended", closure(|(): (), _cx| ())).unwrap();
    ended.send(()).unwrap();
    node.settle();
    ended.stop();
    node.settle();
    let weak = ended.downgrade();
    drop(ended);
    assert!(weak.upgrade().is_none());
}

/// What is left of a processor of a pool that has said its farewell is what it sent there. Control that came for it then kept its
/// worker busy until that had found room.
#[test]
fn a_processor_of_a_pool_that_cannot_say_farewell_yet_sleeps() {
    struct Takes;
    impl Processor for Takes {}
    impl Handle<u32> for Takes {
        type Reply = ();
        fn handle(&mut self, _: u32, _: &mut Cx<'_, Self>) -> Outcome<()> {
            Ok(())
        }
    }
    struct Says(Address<Takes>);
    impl Processor for Says {
        fn stopped(&mut self, _: &mproc::Exit, _: &mut Cx<'_, Self>) {
            self.0.send(1).unwrap();
        }
    }
    let node = Node::simulated_with(1, mproc::Options::default());
    let pool = node.pool("pool", 1).unwrap();
    let full = MailboxOptions::bounded(1);
    let takes = pool.spawn_with("takes", full, Takes).unwrap();
    let permit = takes.reserve().wait().unwrap();
    let says = pool.spawn("says", Says(takes.clone())).unwrap();
    says.stop();
    node.settle();
    assert!(says.exit().is_none());
    says.with_processor(|_, _| {}).unwrap();
    node.settle();
    drop(permit);
    node.settle();
    assert!(says.exit().is_some());
    assert_eq!(takes.snapshot().handled, 1);
}
