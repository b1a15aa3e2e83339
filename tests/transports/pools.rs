//! Processors on a pool: samples come to whichever thread runs them, in order, and are leased until the handler has returned.

use super::*;
use mproc::{Cx, ErrorKind, Fault, PublisherOptions, Topics};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};

const NUMBERS: Topic<u64> = Topic::new("numbers");
const ANSWERS: Topic<u64> = Topic::new("answers");
const FRAMES: Topic<[u8]> = Topic::slices("frames");

/// Tells what it hears, and answers its square.
struct Squarer(u64, Sender<(u64, u64)>);

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
        if self.0 == 0 {
            cx.publish(&ANSWERS, *n * *n)?;
        }
        self.1.send((self.0, *n))?;
        Ok(())
    }
}

/// One of them publishes to somebody who is slow, on a queue of one: it is held back, and with it, by their full queues, the
/// others. Nobody misses anything.
#[test]
fn processors_on_a_pool_hear_in_order_and_are_held_back() {
    both(|pair| {
        let pool = pair.subscribe.pool("pool", 2).unwrap();
        let (tell, heard) = channel();
        for n in 0..3 {
            let squarer = Squarer(n, tell.clone());
            pool.spawn(&format!("squarer {n}"), squarer).unwrap();
        }
        let answers = pair
            .publish
            .subscription_with(&ANSWERS, options(1, WhenFull::Wait))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 3);
        answers.wait_for_publishers(1, LONG).unwrap();
        until("the answers have a way", || {
            let topics = pair.subscribe.snapshot().topics;
            let answers = topics.iter().find(|t| t.name == "answers");
            answers.is_some_and(|t| !t.subscriptions.is_empty())
        });
        let publisher = std::thread::spawn(move || {
            for n in 0..200 {
                numbers.publish(n).unwrap();
            }
        });
        for n in 0..200 {
            assert_eq!(*recv(&answers), n * n);
        }
        publisher.join().unwrap();
        let mut next = [0; 3];
        for _ in 0..600 {
            let (who, n) = heard.recv_timeout(LONG).unwrap();
            assert_eq!(n, next[who as usize], "{}", pair.what);
            next[who as usize] += 1;
        }
    });
}

/// A lease lasts as long as the handler, on whatever thread that runs; meanwhile the only place in flight is taken.
#[test]
fn a_handler_on_a_pool_holds_its_sample_until_it_has_returned() {
    struct Holds(Sender<u8>, std::sync::mpsc::Receiver<()>);
    impl Processor for Holds {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.subscribe(&FRAMES).samples()?;
            Ok(())
        }
    }
    impl Handle<Sample<[u8]>> for Holds {
        type Reply = ();
        fn handle(&mut self, frame: Sample<[u8]>, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            let first = frame[0];
            self.0.send(first)?;
            cx.block(|| self.1.recv())?;
            assert!(frame.iter().all(|byte| *byte == first));
            Ok(())
        }
    }
    both(|pair| {
        let pool = pair.subscribe.pool("pool", 1).unwrap();
        let (tell, heard) = channel();
        let (go_on, wait) = channel();
        pool.spawn("holds", Holds(tell, wait)).unwrap();
        let echo = closure(|n: u32, _cx| Ok::<_, Fault>(n));
        let echo = pool.spawn("echo", echo).unwrap();
        let one = PublisherOptions::new().in_flight(1);
        let frames = pair.publish.publisher_with(&FRAMES, one).unwrap();
        pair.joined(&frames, 1);
        for n in 0..20 {
            let mut loan = frames.loan(100_000).unwrap();
            loan.fill(n);
            loan.publish().unwrap();
            assert_eq!(heard.recv_timeout(LONG), Ok(n));
            // Its thread waits in the handler, and another serves the rest.
            assert_eq!(echo.call(7).wait().unwrap(), 7);
            go_on.send(()).unwrap();
        }
        drop(go_on);
    });
}

#[test]
fn what_is_not_send_is_not_kept_for_a_subscription_on_a_pool() {
    struct Tries(Vec<String>);
    struct Try;
    impl Processor for Tries {}
    impl Handle<Try> for Tries {
        type Reply = Vec<String>;
        fn handle(&mut self, _: Try, cx: &mut Cx<'_, Self, Vec<String>>) -> Outcome<Vec<String>> {
            let kept = Rc::new(());
            let called = cx.subscribe(&NUMBERS).call_local(move |_, _, _| {
                let _ = &kept;
                Ok(())
            });
            let error = called.err().ok_or_else(|| Fault::new("it was kept"))?;
            assert_eq!(error.kind(), ErrorKind::Refused);
            self.0.push(error.to_string());
            Ok(std::mem::take(&mut self.0))
        }
    }
    let node = Pair::here().subscribe;
    let pool = node.pool("pool", 1).unwrap();
    let tries = pool.spawn("tries", Tries(Vec::new())).unwrap();
    let told = tries.call(Try).wait().unwrap();
    let why = "on \"numbers\": processor \"tries\" goes from thread to thread on pool \"pool\", so it keeps only what is `Send`: use \
               the method without `_local`";
    assert!(
        told[0].starts_with("cannot keep subscription ") && told[0].ends_with(why),
        "{told:?}"
    );
    let numbers = node.publisher(&NUMBERS).unwrap();
    assert_eq!(numbers.subscriber_count(), 0);
}
