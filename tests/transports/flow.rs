//! Handlers: samples come to the driver that runs them, and are leased until they have returned.

use super::*;
use mproc::{Closure, Cx, Fault, PublisherOptions, Spun, Topics};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::ThreadId;

const NUMBERS: Topic<u64> = Topic::new("numbers");
const ANSWERS: Topic<u64> = Topic::new("answers");
const FRAMES: Topic<[u8]> = Topic::slices("frames");

/// Tells what it hears, and on which thread.
struct Listener(Sender<(u64, ThreadId)>);

impl Processor for Listener {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe(&NUMBERS).samples()?;
        Ok(())
    }
}

impl Handle<Sample<u64>> for Listener {
    type Reply = ();
    fn handle(&mut self, n: Sample<u64>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.send((*n, std::thread::current().id()))?;
        Ok(())
    }
}

fn hear(heard: &Receiver<(u64, ThreadId)>, n: u64) -> ThreadId {
    let (value, thread) = heard.recv_timeout(LONG).unwrap();
    assert_eq!(value, n);
    thread
}

#[test]
fn a_handler_runs_on_its_own_driver() {
    both(|pair| {
        let (tell, heard) = channel();
        let own = pair.subscribe.spawn_thread("own", Listener(tell)).unwrap();
        let io = pair.subscribe.driver("io").unwrap();
        let (tell_a, a) = channel();
        let (tell_b, b) = channel();
        io.spawn("a", Listener(tell_a)).unwrap();
        io.spawn("b", Listener(tell_b)).unwrap();
        let numbers = pair.publisher(&NUMBERS, 3);
        let mut threads = Vec::new();
        for n in 0..100 {
            numbers.publish(n).unwrap();
            threads.push((hear(&heard, n), hear(&a, n), hear(&b, n)));
        }
        let (own_thread, a_thread, b_thread) = threads[0];
        assert!(threads.iter().all(|t| *t == threads[0]));
        assert_eq!(a_thread, b_thread);
        assert_ne!(own_thread, a_thread);
        drop(own);
    });
}

#[test]
fn a_script_hears_while_it_spins() {
    both(|pair| {
        let mut script = pair.subscribe.script().unwrap().with(Vec::new());
        script.on(&NUMBERS, |seen, n, _| seen.push(*n)).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Idle);
        let publisher = std::thread::spawn(move || {
            for n in 0..500 {
                numbers.publish(n).unwrap();
            }
        });
        let mut ran = 0;
        while ran < 500 {
            // Exactly one callback each time.
            assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
            ran += 1;
            assert_eq!(script.state(|seen| seen.len()).unwrap(), ran);
        }
        publisher.join().unwrap();
        let seen = script.state(|seen| seen.clone()).unwrap();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn a_lease_lasts_until_the_handler_has_returned() {
    both(|pair| {
        let (entered, is_in) = channel();
        let (go, may_return) = channel::<()>();
        let _subscriber = pair
            .subscribe
            .subscribe(&FRAMES, move |frame| {
                entered.send(frame[0]).unwrap();
                may_return.recv().unwrap();
                assert!(frame.iter().all(|byte| *byte == frame[0]));
            })
            .unwrap();
        let options = PublisherOptions::new().in_flight(1);
        let frames = pair.publish.publisher_with(&FRAMES, options).unwrap();
        pair.joined(&frames, 1);
        let publish = |n| {
            let mut loan = frames.loan(4096).unwrap();
            loan.fill(n);
            loan.try_publish()
        };
        publish(1).unwrap();
        assert_eq!(is_in.recv_timeout(LONG).unwrap(), 1);
        assert!(publish(2).is_err());
        assert!(frames.flush(Duration::from_millis(1)).is_err());
        go.send(()).unwrap();
        frames.flush(LONG).unwrap();
        publish(3).unwrap();
        assert_eq!(is_in.recv_timeout(LONG).unwrap(), 3);
        go.send(()).unwrap();
    });
}

/// Panics at the first sample, with a lease in its hands.
struct Clumsy(Sender<u64>);

impl Processor for Clumsy {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe(&NUMBERS).samples()?;
        Ok(())
    }

    fn on_panic(&mut self, _: &str) -> mproc::AfterPanic {
        mproc::AfterPanic::GoOn
    }
}

impl Handle<Sample<u64>> for Clumsy {
    type Reply = ();
    fn handle(&mut self, n: Sample<u64>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.send(*n)?;
        assert_ne!(*n, 1, "the first one");
        Ok(())
    }
}

#[test]
fn a_handler_that_panics_gives_its_lease_back() {
    both(|pair| {
        let (tell, heard) = channel();
        let _clumsy = pair.subscribe.spawn_thread("clumsy", Clumsy(tell)).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        numbers.publish(2).unwrap();
        assert_eq!(heard.recv_timeout(LONG), Ok(1));
        assert_eq!(heard.recv_timeout(LONG), Ok(2));
        numbers.flush(LONG).unwrap();
    });
}

/// Answers each number with its square, from its handler.
struct Squarer;

impl Processor for Squarer {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe(&NUMBERS).capacity(2).samples()?;
        cx.publisher(&ANSWERS)?;
        Ok(())
    }
}

impl Handle<Sample<u64>> for Squarer {
    type Reply = ();
    fn handle(&mut self, n: Sample<u64>, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.publish(&ANSWERS, *n * *n)?;
        Ok(())
    }
}

#[test]
fn a_full_subscriber_holds_back_a_handler_that_publishes() {
    both(|pair| {
        let _squarer = pair.subscribe.spawn_thread("squarer", Squarer).unwrap();
        let answers = pair
            .publish
            .subscription_with(&ANSWERS, options(1, WhenFull::Wait))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        answers.wait_for_publishers(1, LONG).unwrap();
        // Until the answers have a way, they would go nowhere.
        until("the answers have a way", || {
            let topics = pair.subscribe.snapshot().topics;
            let answers = topics.iter().find(|t| t.name == "answers");
            answers.is_some_and(|t| !t.subscriptions.is_empty())
        });
        let asks = std::thread::spawn(move || {
            for n in 0..300 {
                numbers.publish(n).unwrap();
            }
        });
        for n in 0..300 {
            assert_eq!(*recv(&answers), n * n);
        }
        asks.join().unwrap();
    });
}

#[test]
fn silence_is_told_and_ends() {
    struct Patient(Sender<&'static str>);
    struct Quiet;
    impl Processor for Patient {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.subscribe(&NUMBERS)
                .silence(Duration::from_millis(20), || Quiet)
                .samples()?;
            Ok(())
        }
    }
    impl Handle<Quiet> for Patient {
        type Reply = ();
        fn handle(&mut self, _: Quiet, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.send("quiet")?;
            Ok(())
        }
    }
    impl Handle<Sample<u64>> for Patient {
        type Reply = ();
        fn handle(&mut self, _: Sample<u64>, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.send("a number")?;
            Ok(())
        }
    }
    both(|pair| {
        let (tell, heard) = channel();
        let _patient = pair
            .subscribe
            .spawn_thread("patient", Patient(tell))
            .unwrap();
        assert_eq!(heard.recv_timeout(LONG), Ok("quiet"));
        pair.publisher(&NUMBERS, 1).publish(1).unwrap();
        assert_eq!(heard.recv_timeout(LONG), Ok("a number"));
        assert_eq!(heard.recv_timeout(LONG), Ok("quiet"));
    });
}

#[test]
fn a_processor_that_stops_leaves_its_topics() {
    both(|pair| {
        let (tell, heard) = channel();
        let listener = pair.subscribe.spawn_thread("one", Listener(tell)).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        hear(&heard, 1);
        listener.stop();
        until("it has left", || numbers.subscriber_count() == 0);
        assert_eq!(numbers.publish(2).unwrap().count, 0);
    });
}

#[test]
fn a_fault_of_a_callback_is_not_lost() {
    both(|pair| {
        let mut script = pair.subscribe.script().unwrap();
        script
            .on(&NUMBERS, |_, _, _| Err::<(), _>(Fault::new("no")))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
        numbers.flush(LONG).unwrap();
    });
}

#[test]
fn a_driver_in_order_of_arrival_serves_what_comes_from_elsewhere() {
    both(|pair| {
        let io = pair.subscribe.driver("io").unwrap().arrival_order();
        let (tell, heard) = channel();
        io.spawn("listener", Listener(tell)).unwrap();
        let (told, direct) = channel();
        let closure: Closure<u64, ()> = mproc::closure(move |n: u64, _: &mut _| {
            let _ = told.send(n);
        });
        let direct_to = io.spawn("direct", closure).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        for n in 0..50 {
            numbers.publish(n).unwrap();
            direct_to.send(n).unwrap();
        }
        for n in 0..50 {
            hear(&heard, n);
            assert_eq!(direct.recv_timeout(LONG), Ok(n));
        }
    });
}
