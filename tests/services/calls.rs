//! A call and what becomes of it.

use super::*;
use mproc::{Cx, Event, Fault, Handle, MailboxOptions, Outcome, Processor, ServeOptions, WhenFull};
use serde::Deserialize;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Add {
    pub(crate) a: i64,
    pub(crate) b: i64,
}

pub(crate) fn add(a: i64, b: i64) -> Add {
    Add { a, b }
}

/// Answers `request + 1`, each after it was let go on; tells when it begins.
pub(crate) struct Gated {
    pub(crate) begins: Receiver<u32>,
    pub(crate) go: Sender<()>,
    pub(crate) server: mproc::Server<u32, u32>,
}

pub(crate) fn gated(node: &Node, name: &str, options: ServeOptions) -> Gated {
    let (told, begins) = channel();
    let (go, may_go) = channel::<()>();
    let served = node.serve_with(name, options, move |n: u32, _| {
        let _ = told.send(n);
        // Whoever has gone lets it go, too.
        let _ = may_go.recv();
        Ok(n + 1)
    });
    Gated {
        begins,
        go,
        server: served.unwrap(),
    }
}

#[test]
fn a_call_gets_its_reply() {
    both(|pair| {
        let _server = pair
            .serve
            .serve("add", |add: Add| Ok(add.a + add.b))
            .unwrap();
        let client = pair.client::<Add, i64>("add", 1);
        assert_eq!(get(client.call(add(2, 3))), Ok(5));
        assert_eq!(client.call(add(2, -3)).wait(), Ok(-1));
        let called = pair.called("add");
        assert_eq!((called.calls, called.answered, called.failed), (2, 2, 0));
        if pair.is_between() {
            until("replies are counted", || pair.served("add").replies == 2);
            assert_eq!(pair.served("add").requests, 2);
        }
    });
}

#[test]
fn a_fault_and_a_panic_are_the_callers_error_and_the_server_goes_on() {
    both(|pair| {
        let serve = |n: i32| match n {
            1 => Err(Fault::new("one is too few")),
            2 => panic!("two is too many"),
            n => Ok(n),
        };
        let _server = pair.serve.serve("picky", serve).unwrap();
        let client = pair.client::<i32, i32>("picky", 1);
        let failed = get(client.call(1)).unwrap_err();
        assert_eq!(failed, ServiceError::Failed("one is too few".into()));
        let panicked = get(client.call(2)).unwrap_err();
        assert_eq!(
            panicked,
            ServiceError::Failed("panicked: two is too many".into())
        );
        assert_eq!(get(client.call(3)), Ok(3));
        let called = pair.called("picky");
        assert_eq!((called.calls, called.answered, called.failed), (3, 1, 2));
    });
}

#[test]
fn without_a_server_a_call_fails_at_once_and_a_wait_for_one_ends_when_it_comes() {
    both(|pair| {
        let client = pair.call.client::<u32, u32>("late").unwrap();
        assert_eq!(client.call(1).wait(), Err(ServiceError::NoServer));
        let waits = client.available();
        assert_eq!(
            client.available().wait_timeout(Duration::ZERO),
            Err(ServiceError::Timeout)
        );
        let error = client.wait_for_service(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), mproc::ErrorKind::Timeout);
        let serve = pair.serve.clone();
        let server = std::thread::spawn(move || serve.serve("late", |n: u32| Ok(n * 2)).unwrap());
        waits.wait_timeout(LONG).unwrap();
        let _server = server.join().unwrap();
        assert_eq!(get(client.call(4)), Ok(8));
    });
}

#[test]
fn availability_is_an_event_that_names_the_service_and_counts() {
    both(|pair| {
        let events = pair.call.events().unwrap();
        let _client = pair.call.client::<u32, u32>("seen").unwrap();
        let next = || loop {
            let event = (*events.recv_timeout(LONG).unwrap()).clone();
            if event.topic() == "seen" {
                return event;
            }
        };
        let server = pair.serve.serve("seen", |n: u32| Ok(n)).unwrap();
        let service = || "seen".to_owned();
        let matched = Event::ServerMatched {
            service: service(),
            servers: 1,
        };
        assert_eq!(next(), matched);
        drop(server);
        let unmatched = Event::ServerUnmatched {
            service: service(),
            servers: 0,
        };
        assert_eq!(next(), unmatched);
    });
}

#[test]
fn a_dropped_reply_is_an_error_at_once() {
    both(|pair| {
        let drops = |_: u32, cx: &mut Cx<'_, mproc::Closure<u32, u32>, u32>| cx.reply_later(drop);
        let options = ServeOptions::new();
        let _server = pair.serve.serve_with("drops", options, drops).unwrap();
        let client = pair.client::<u32, u32>("drops", 1);
        assert_eq!(get(client.call(1)), Err(ServiceError::NoReply));
    });
}

#[test]
fn a_reply_may_come_later_and_in_any_order() {
    both(|pair| {
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let kept = tokens.clone();
        let options = ServeOptions::new();
        let served = pair.serve.serve_with("later", options, move |n: u32, cx| {
            cx.reply_later(|token| kept.lock().unwrap().push((n, token)))
        });
        let _server = served.unwrap();
        let client = pair.client::<u32, u32>("later", 1);
        let calls: Vec<_> = (0..3).map(|n| begun(&client, n)).collect();
        until("all three came", || tokens.lock().unwrap().len() == 3);
        for (n, token) in tokens.lock().unwrap().drain(..).rev() {
            token.send(n * 10);
        }
        let replies: Vec<_> = calls.into_iter().map(|call| get(call).unwrap()).collect();
        assert_eq!(replies, [0, 10, 20]);
    });
}

#[test]
fn a_server_that_ends_tells_those_who_wait_at_once() {
    both(|pair| {
        let gated = gated(&pair.serve, "ends", ServeOptions::new());
        let client = pair.client::<u32, u32>("ends", 1);
        let running = begun(&client, 1);
        let queued = begun(&client, 2);
        assert_eq!(gated.begins.recv_timeout(LONG), Ok(1));
        if pair.is_between() {
            until("both have come", || pair.served("ends").requests == 2);
        }
        // Ends after the request that it handles.
        drop(gated.server);
        drop(gated.go);
        assert_eq!(get(running), Ok(2));
        let gone = get(queued).unwrap_err();
        assert_eq!(gone, ServiceError::Gone("it has stopped".into()));
        until("nobody serves it", || client.server_count() == 0);
        assert_eq!(client.call(3).wait(), Err(ServiceError::NoServer));
    });
}

#[test]
fn requests_that_find_no_room_wait_in_line_and_all_are_handled_in_order() {
    both(|pair| {
        let one = ServeOptions::new().mailbox(MailboxOptions::bounded(1));
        let gated = gated(&pair.serve, "narrow", one);
        let client = pair.client::<u32, u32>("narrow", 1);
        let count = 200;
        let (done, replies) = mpsc::channel();
        let caller = {
            let client = client.clone();
            std::thread::spawn(move || {
                // Awaited one beside the other: each stands in line by its own waker.
                let mut calls: Vec<_> = (0..count).map(|n| Box::pin(client.call(n))).collect();
                let thread = Arc::new(Unparks(std::thread::current()));
                let waker = Waker::from(thread);
                let mut context = Context::from_waker(&waker);
                let mut left: Vec<_> = calls.iter_mut().enumerate().collect();
                while !left.is_empty() {
                    left.retain_mut(|(n, call)| match call.as_mut().poll(&mut context) {
                        Poll::Ready(reply) => {
                            done.send((*n as u32, reply)).unwrap();
                            false
                        }
                        Poll::Pending => true,
                    });
                    if !left.is_empty() {
                        std::thread::park();
                    }
                }
            })
        };
        for n in 0..count {
            assert_eq!(gated.begins.recv_timeout(LONG), Ok(n));
            if n == 3 {
                // One is handled and one is queued, whatever stands in line.
                let queued = || {
                    let snapshot = pair.serve.snapshot();
                    let mut servers = snapshot.processors.iter();
                    servers
                        .find(|p| p.name.starts_with("server-"))
                        .map(|p| p.queued)
                };
                until("one is queued", || queued() == Some(1));
            }
            gated.go.send(()).unwrap();
        }
        caller.join().unwrap();
        let replies: Vec<_> = replies.iter().collect();
        assert_eq!(replies.len(), count as usize);
        assert!(
            replies.iter().all(|(n, reply)| *reply == Ok(n + 1)),
            "{replies:?}"
        );
        let called = pair.called("narrow");
        assert_eq!((called.calls, called.answered), (200, 200));
    });
}

struct Unparks(std::thread::Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_call_is_waited_for_in_every_way() {
    struct Asks(Client<Add, i64>, Sender<i64>);
    struct Ask;
    impl Processor for Asks {}
    impl Handle<Ask> for Asks {
        type Reply = ();
        fn handle(&mut self, _: Ask, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.call(add(1, 1)).then(cx, |me, sum, _| {
                me.1.send(sum?)?;
                Ok(())
            });
            let waited = self.0.call(add(2, 2)).wait()?;
            self.1.send(waited)?;
            Ok(())
        }
    }
    both(|pair| {
        let _server = pair
            .serve
            .serve("add", |add: Add| Ok(add.a + add.b))
            .unwrap();
        let client = pair.client::<Add, i64>("add", 1);
        assert_eq!(block_on(client.call(add(4, 5))), Ok(9));
        let (told, sums) = channel();
        let asks = pair.call.spawn_thread("asks", Asks(client, told)).unwrap();
        asks.send(Ask).unwrap();
        let mut two = [
            sums.recv_timeout(LONG).unwrap(),
            sums.recv_timeout(LONG).unwrap(),
        ];
        two.sort_unstable();
        assert_eq!(two, [2, 4]);
    });
}

#[test]
fn a_full_mailbox_that_does_not_wait_refuses() {
    both(|pair| {
        let fails = MailboxOptions::bounded(1).when_full(WhenFull::Fail);
        let gated = gated(&pair.serve, "full", ServeOptions::new().mailbox(fails));
        let client = pair.client::<u32, u32>("full", 1);
        let running = begun(&client, 1);
        assert_eq!(gated.begins.recv_timeout(LONG), Ok(1));
        let queued = begun(&client, 2);
        assert_eq!(get(client.call(3)), Err(ServiceError::Full));
        gated.go.send(()).unwrap();
        gated.go.send(()).unwrap();
        assert_eq!((get(running), get(queued)), (Ok(2), Ok(3)));
    });
}

#[test]
fn a_limit_that_passes_is_a_timeout_and_tells_the_server() {
    both(|pair| {
        let gated = gated(&pair.serve, "slow", ServeOptions::new());
        let client = pair.client::<u32, u32>("slow", 1);
        let running = begun(&client, 1);
        assert_eq!(gated.begins.recv_timeout(LONG), Ok(1));
        let late = client.call(2).wait_timeout(Duration::from_millis(1));
        assert_eq!(late, Err(ServiceError::Timeout));
        assert_eq!(pair.called("slow").cancelled, 1);
        if pair.is_between() {
            until("it was told", || {
                pair.served("slow").requests_cancelled == 1
            });
        }
        gated.go.send(()).unwrap();
        assert_eq!(get(running), Ok(2));
        // The second was taken back: the next one to begin is the third.
        gated.go.send(()).unwrap();
        assert_eq!(get(client.call(3)), Ok(4));
        assert_eq!(gated.begins.recv_timeout(LONG), Ok(3));
    });
}

// It waited to be asked again, and `is_done` knew of servers alone.
#[test]
fn a_started_wait_for_a_service_is_done_when_the_node_ends() {
    both(|pair| {
        let client = pair.call.client::<u32, u32>("never").unwrap();
        let ticket = client.available().start();
        assert!(!ticket.is_done());
        assert!(pair.call.shutdown(LONG).is_clean());
        until("it is done", || ticket.is_done());
        assert_eq!(ticket.wait(), Err(ServiceError::Closed));
    });
}
