//! What panics at odd moments ends or hurts its own processor only: the others on its driver go on.

use mproc::prelude::*;
use mproc::{AfterPanic, Driver, Fault, Options, SendError, Topics};

const NUMBERS: Topic<u32> = Topic::new("numbers");
const SECOND: Duration = Duration::from_secs(1);

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // Twice at once would end the process.
        if !std::thread::panicking() {
            panic!("wanted");
        }
    }
}

/// A driver, and a neighbour on it.
fn shared(node: &Node) -> (Driver, Address<mproc::Closure<u32, u32>>) {
    let driver = node.driver("shared").unwrap();
    let neighbour = closure(|n: u32, _cx| Ok::<_, Fault>(2 * n));
    let neighbour = driver.spawn("neighbour", neighbour).unwrap();
    (driver, neighbour)
}

/// A message whose drop panicked at the end of its receiver took along the driver and all that lived on it.
#[test]
fn a_queued_message_whose_drop_panics_does_not_end_the_driver() {
    let node = Node::simulated_with(1, Options::default().dead_letters(0));
    let (driver, neighbour) = shared(&node);
    let victim = closure(|bomb: Bomb, _cx| std::mem::forget(bomb));
    let victim = driver.spawn("victim", victim).unwrap();
    victim.send(Bomb).unwrap();
    victim.kill();
    node.settle();
    assert!(victim.is_closed());
    assert_eq!(neighbour.call(4).wait().unwrap(), 8);
}

/// The same for the letter that has to leave the full list of dead letters: it hit whoever added one.
#[test]
fn a_dead_letter_whose_drop_panics_does_not_end_the_driver_that_pushes_it_out() {
    let node = Node::simulated_with(1, Options::default().dead_letters(1));
    let (driver, neighbour) = shared(&node);
    let bombs = closure(|bomb: Bomb, _cx| std::mem::forget(bomb));
    let bombs = node.spawn_thread("bombs", bombs).unwrap();
    bombs.send(Bomb).unwrap();
    bombs.kill();
    node.settle();
    assert_eq!(node.dead_letters().count(), 1);
    let victim = driver.spawn("victim", closure(|_: u32, _cx| ())).unwrap();
    victim.send(1).unwrap();
    victim.kill();
    node.settle();
    assert_eq!(node.dead_letters().count(), 2);
    assert_eq!(neighbour.call(4).wait().unwrap(), 8);
}

/// The same for a message that stood in the outbox of a processor that was killed.
#[test]
fn an_undelivered_message_whose_drop_panics_does_not_end_the_driver() {
    let node = Node::simulated_with(1, Options::default().dead_letters(0));
    let (driver, neighbour) = shared(&node);
    let full = closure(|bomb: Bomb, cx: &mut Cx<'_, _>| {
        std::mem::forget(bomb);
        let node = cx.runtime();
        let until = node.now() + SECOND;
        while node.now() < until {
            node.park(Some(until));
        }
    });
    let one = MailboxOptions::bounded(1);
    let full = node.spawn_thread_with("full", one, full).unwrap();
    let sends = closure(move |(): (), _cx| {
        (0..4).try_for_each(|_| full.send(Bomb))?;
        Ok::<_, SendError<Bomb>>(())
    });
    let sends = driver.spawn("sends", sends).unwrap();
    sends.send(()).unwrap();
    node.settle();
    assert!(sends.snapshot().stalled);
    sends.kill();
    node.settle();
    assert!(sends.is_closed());
    assert_eq!(neighbour.call(4).wait().unwrap(), 8);
}

/// Where a processor keeps what panics when it is dropped.
#[derive(Clone, Copy, Debug)]
enum Kept {
    State,
    Timer,
    Subscription,
    Continuation,
}

struct Keeper(Kept, Option<Bomb>);
impl Processor for Keeper {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let Some(bomb) = self.1.take() else {
            return Ok(());
        };
        match self.0 {
            Kept::State => self.1 = Some(bomb),
            Kept::Timer => {
                cx.every_with(60 * SECOND, move |_, _, _| {
                    let _kept = &bomb;
                });
            }
            Kept::Subscription => {
                let call = move |_: &mut Self, _: Sample<u32>, _: &mut Cx<'_, Self>| {
                    let _kept = &bomb;
                    Ok(())
                };
                cx.subscribe(&NUMBERS).call(call)?;
            }
            Kept::Continuation => {
                let ended = cx.me().ended().limit(60 * SECOND);
                ended.then(cx, move |_, _, _| {
                    drop(bomb);
                    Ok(())
                });
            }
        }
        Ok(())
    }
}

/// What a processor leaves is dropped at its end. A panic in that took along the driver and all that lived on it.
#[test]
fn what_a_processor_leaves_may_panic_in_its_drop_without_ending_the_driver() {
    for kept in [
        Kept::State,
        Kept::Timer,
        Kept::Subscription,
        Kept::Continuation,
    ] {
        let node = Node::simulated(1);
        let (driver, neighbour) = shared(&node);
        let keeper = driver.spawn("keeper", Keeper(kept, Some(Bomb))).unwrap();
        node.settle();
        keeper.kill();
        node.settle();
        assert!(keeper.is_closed(), "{kept:?}");
        assert_eq!(neighbour.call(4).wait().unwrap(), 8, "{kept:?}");
    }
}

/// Forwards to a processor that has ended, which is a fault once the handler is over, and panics.
struct Touchy(Address<mproc::Closure<u32, ()>>);
impl Processor for Touchy {
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
    fn on_error(&mut self, _: Fault, _: &mut Cx<'_, Self>) {
        panic!("wanted, too");
    }
}
impl Handle<u32> for Touchy {
    type Reply = ();
    fn handle(&mut self, n: u32, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let _forwarded = cx.forward(&self.0, n);
        panic!("wanted");
    }
}

/// A second panic, in `on_error`, while the first was being survived was caught by nobody.
#[test]
fn a_panic_in_on_error_while_another_is_survived_ends_its_processor_only() {
    let node = Node::simulated(1);
    let (driver, neighbour) = shared(&node);
    let gone = node.spawn_thread("gone", closure(|_: u32, _cx| ()));
    let gone = gone.unwrap();
    gone.stop();
    node.settle();
    let touchy = driver.spawn("touchy", Touchy(gone)).unwrap();
    touchy.send(1).unwrap();
    node.settle();
    assert!(matches!(touchy.exit(), Some(mproc::Exit::Panicked(_))));
    assert_eq!(neighbour.call(4).wait().unwrap(), 8);
}

/// What tells of a silence is taken out while it is called, and was to be there again after a panic.
#[test]
fn a_silence_that_panicked_once_is_told_the_next_time() {
    let node = Node::simulated_with(1, Options::default());
    let (tell, told) = std::sync::mpsc::channel();
    let listener = closure(move |is_silent: bool, cx: &mut Cx<'_, _>| {
        if is_silent {
            tell.send(())?;
        } else {
            let mut first = true;
            let silent = move || {
                assert!(!std::mem::take(&mut first), "wanted");
                true
            };
            cx.subscribe(&NUMBERS)
                .silence(SECOND, silent)
                .call(|_, _, _| Ok(()))?;
        }
        Ok::<_, Fault>(())
    });
    let listener = node.spawn_thread("listener", listener).unwrap();
    listener.send(false).unwrap();
    node.advance(SECOND * 5);
    assert_eq!(told.try_iter().count(), 0);
    node.publisher(&NUMBERS).unwrap().publish(1).unwrap();
    node.advance(SECOND * 5);
    assert_eq!(told.try_iter().count(), 1);
}
