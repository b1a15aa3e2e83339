//! A caller that gives up.

use super::calls::{Gated, gated};
use super::*;
use mproc::ServeOptions;
use std::sync::mpsc::channel;
use std::task::{Wake, Waker};

#[test]
fn a_queued_request_is_taken_back_and_never_handled() {
    both(|pair| {
        let gated = gated(&pair.serve, "queue", ServeOptions::new());
        let client = pair.client::<u32, u32>("queue", 1);
        let running = begun(&client, 1);
        assert_eq!(gated.begins.recv_timeout(LONG), Ok(1));
        let given_up = begun(&client, 2);
        let kept = begun(&client, 3);
        drop(given_up);
        if pair.is_between() {
            until("it was told", || {
                pair.served("queue").requests_cancelled == 1
            });
        }
        gated.go.send(()).unwrap();
        gated.go.send(()).unwrap();
        assert_eq!((get(running), get(kept)), (Ok(2), Ok(4)));
        assert_eq!(gated.begins.try_iter().collect::<Vec<_>>(), [3]);
        let called = pair.called("queue");
        assert_eq!((called.calls, called.answered, called.cancelled), (3, 2, 1));
    });
}

#[test]
fn a_handler_that_runs_sees_that_nobody_waits() {
    both(|pair| {
        let (begun_tell, begins) = channel();
        let (told, seen) = channel();
        let served = pair
            .serve
            .serve_with("long", ServeOptions::new(), move |n: u32, cx| {
                begun_tell.send(cx.is_cancelled())?;
                let start = std::time::Instant::now();
                while !cx.is_cancelled() && start.elapsed() < LONG {
                    std::thread::yield_now();
                }
                told.send((n, cx.is_cancelled()))?;
                Ok(n)
            });
        let _server = served.unwrap();
        let client = pair.client::<u32, u32>("long", 1);
        let call = begun(&client, 7);
        assert_eq!(begins.recv_timeout(LONG), Ok(false));
        drop(call);
        assert_eq!(seen.recv_timeout(LONG), Ok((7, true)));
    });
}

struct Tells(std::sync::Mutex<std::sync::mpsc::Sender<()>>);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().send(());
    }
}

#[test]
fn whoever_has_promised_a_reply_is_told() {
    both(|pair| {
        let (told, is_cancelled) = channel();
        let (keep, kept) = channel();
        let waker = Waker::from(Arc::new(Tells(std::sync::Mutex::new(told))));
        let served = pair
            .serve
            .serve_with("promised", ServeOptions::new(), move |_: u32, cx| {
                cx.reply_later(|token: mproc::ReplyToken<u32>| {
                    token.on_cancel(waker.clone());
                    let _ = keep.send(token);
                })
            });
        let _server = served.unwrap();
        let client = pair.client::<u32, u32>("promised", 1);
        let call = begun(&client, 7);
        let token = kept.recv_timeout(LONG).unwrap();
        assert!(token.is_awaited() && !token.is_cancelled());
        assert!(is_cancelled.try_recv().is_err());
        drop(call);
        is_cancelled.recv_timeout(LONG).unwrap();
        assert!(token.is_cancelled());
        token.send(1); // leads nowhere
        let (told, again) = channel();
        // A later one is told at once.
        let late = begun(&client, 8);
        let token = kept.recv_timeout(LONG).unwrap();
        drop(late);
        is_cancelled.recv_timeout(LONG).unwrap();
        token.on_cancel(Waker::from(Arc::new(Tells(std::sync::Mutex::new(told)))));
        again.recv_timeout(LONG).unwrap();
    });
}

#[test]
fn an_interrupt_cuts_short_what_a_script_waits_for_and_cancels_it() {
    both(|pair| {
        let Gated { begins, go, server } = gated(&pair.serve, "slow", ServeOptions::new());
        let client = pair.client::<u32, u32>("slow", 1);
        let nobody = pair.call.client::<u32, u32>("nobody").unwrap();
        let mut script = pair.call.script().unwrap();
        let interrupts = pair.call.clone();
        let other = std::thread::spawn(move || {
            assert_eq!(begins.recv_timeout(LONG), Ok(1));
            interrupts.interrupt();
        });
        let waited = client.call(1).wait_timeout(LONG);
        assert_eq!(waited, Err(ServiceError::Interrupted));
        other.join().unwrap();
        // What comes before a wait is kept for it, whatever that waits for.
        let ticket = client.call(2).start();
        pair.call.interrupt();
        assert_eq!(ticket.wait(), Err(ServiceError::Interrupted));
        pair.call.interrupt();
        let waited = nobody.available().wait();
        assert_eq!(waited, Err(ServiceError::Interrupted));
        until("both are cancelled", || {
            pair.called("slow").cancelled == 2
                && (!pair.is_between() || pair.served("slow").requests_cancelled == 2)
        });
        // Told once, and nothing is left behind.
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert_eq!(get(client.call(3)), Ok(4));
        assert_eq!(script.spin_some(10).unwrap().handled, 0);
        drop(server);
    });
}
