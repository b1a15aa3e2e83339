//! Servers and callers on every kind of driver, and circles of calls.

use super::calls::{Add, add};
use super::*;
use mproc::{
    AsyncProcessor, Cx, Handle, HandleAsync, Outcome, PoolOptions, Processor, ServeOptions,
};
use std::sync::mpsc::channel;

/// Serves by a handler of its own.
struct Adder {
    name: &'static str,
}

impl Processor for Adder {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.serve::<Add, i64>(self.name)?;
        Ok(())
    }
}

impl Handle<Add> for Adder {
    type Reply = i64;
    fn handle(&mut self, Add { a, b }: Add, _: &mut Cx<'_, Self, i64>) -> Outcome<i64> {
        Ok(a + b)
    }
}

#[test]
fn a_processor_serves_on_every_driver_until_it_ends() {
    both(|pair| {
        let node = &pair.serve;
        let shared = node.driver("shared").unwrap();
        let pool = node.pool_with("pool", PoolOptions::threads(2)).unwrap();
        let adders = [
            (
                "own",
                node.spawn_thread("own", Adder { name: "own" }).unwrap(),
            ),
            (
                "shared",
                shared.spawn("s", Adder { name: "shared" }).unwrap(),
            ),
            ("pool", pool.spawn("p", Adder { name: "pool" }).unwrap()),
        ];
        for (name, address) in adders {
            let client = pair.client::<Add, i64>(name, 1);
            for n in 0..100 {
                assert_eq!(get(client.call(add(n, 1))), Ok(n + 1), "{name}");
            }
            address.stop();
            until("its end is known", || client.server_count() == 0);
        }
    });
}

#[test]
fn a_script_serves_with_its_state_while_it_spins() {
    both(|pair| {
        let mut script = pair.serve.script().unwrap().with(10);
        let served = script.serve("total", |total, n: i64, _cx| {
            *total += n;
            Ok(*total)
        });
        let served = served.unwrap();
        let client = pair.client::<i64, i64>("total", 1);
        let (told, replies) = channel();
        let caller = std::thread::spawn(move || {
            for n in [1, 2] {
                told.send(get(client.call(n))).unwrap();
            }
            client
        });
        let mut seen = Vec::new();
        while seen.len() < 2 {
            script.spin_once(LONG).unwrap();
            seen.extend(replies.try_iter());
            // The reply of the last may be on its way when the script has nothing left to do.
            if script.state(|total| *total).unwrap() == 13 {
                seen.extend(replies.iter());
            }
        }
        assert_eq!(seen, [Ok(11), Ok(13)]);
        let client = caller.join().unwrap();
        assert!(served.unserve() && !served.is_serving());
        until("nobody serves it", || client.server_count() == 0);
    });
}

#[test]
fn a_script_calls_itself_by_spinning_and_is_refused_to_wait() {
    let node = Node::with_options(Options::default());
    let mut script = node.script().unwrap().with(());
    script.serve("self", |(), n: i64, _cx| Ok(n + 1)).unwrap();
    let client = node.client::<i64, i64>("self").unwrap();
    assert!(matches!(
        client.call(1).wait(),
        Err(ServiceError::Deadlock(_))
    ));
    let mut call = client.call(1);
    assert_eq!(script.spin_until(&mut call, LONG).unwrap(), 2);
}

#[test]
fn a_circle_of_calls_in_one_process_is_refused_with_the_names() {
    struct Asks {
        serves: &'static str,
        asks: &'static str,
    }
    impl Processor for Asks {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.serve::<u32, u32>(self.serves)?;
            Ok(())
        }
    }
    impl Handle<u32> for Asks {
        type Reply = u32;
        fn handle(&mut self, depth: u32, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
            if depth == 0 {
                return Ok(0);
            }
            Ok(cx.client::<u32, u32>(self.asks)?.call(depth - 1).wait()? + 1)
        }
    }
    let node = Node::simulated_with(3, Options::default());
    let of = |serves, asks| Asks { serves, asks };
    node.spawn_thread("left", of("a", "b")).unwrap();
    node.spawn_thread("right", of("b", "a")).unwrap();
    node.settle();
    let client = node.client::<u32, u32>("a").unwrap();
    assert_eq!(client.call(1).wait(), Ok(1));
    let refused = client.call(2).wait().unwrap_err();
    let ServiceError::Failed(text) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("left") && text.contains("right"), "{text}");
    assert_eq!(client.call(1).wait(), Ok(1), "they go on");
}

/// Answers when another service has.
struct Asks {
    other: Client<u32, u32>,
}

impl Processor for Asks {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.serve::<u32, u32>("outer")?;
        Ok(())
    }
}
impl AsyncProcessor for Asks {}
impl HandleAsync<u32> for Asks {
    type Reply = u32;

    fn handle_async(
        &mut self,
        n: u32,
        _: &mut Cx<'_, Self, u32>,
    ) -> impl Future<Output = Outcome<u32>> + Send + 'static {
        let other = self.other.call(n);
        async move { Ok(other.limit(LONG).await? + 1) }
    }
}

#[test]
fn a_handler_that_awaits_serves_and_is_cancelled_with_its_request() {
    both(|pair| {
        let inner = super::calls::gated(&pair.call, "inner", ServeOptions::new());
        let other = pair.serve.client::<u32, u32>("inner").unwrap();
        other.wait_for_service(LONG).unwrap();
        let asks = pair.serve.spawn_thread("asks", Asks { other }).unwrap();
        let client = pair.client::<u32, u32>("outer", 1);
        let call = begun(&client, 1);
        assert_eq!(inner.begins.recv_timeout(LONG), Ok(1));
        inner.go.send(()).unwrap();
        assert_eq!(get(call), Ok(3));
        // Nobody waits for the first; the second still gets its turn.
        let mut given_up = client.call(5).start();
        assert_eq!(inner.begins.recv_timeout(LONG), Ok(5));
        assert!(given_up.cancel());
        let next = begun(&client, 6);
        inner.go.send(()).unwrap();
        inner.go.send(()).unwrap();
        assert_eq!(get(next), Ok(8));
        // The processor ends while its future waits for the other service.
        let left = begun(&client, 7);
        asks.stop();
        asks.kill();
        assert!(get(left).is_err());
        until("its end is known", || client.server_count() == 0);
        drop(inner.go);
    });
}

#[test]
fn a_request_makes_the_descriptor_of_a_script_readable() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    both(|pair| {
        let mut script = pair.serve.script().unwrap().with(0);
        let served = script.serve("loop", |count, n: u32, _cx| {
            *count += 1;
            Ok(n + 1)
        });
        served.unwrap();
        let fd = script.ready_fd().unwrap();
        let is_readable = |limit: Duration| {
            let limit = Timespec::try_from(limit).unwrap();
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            poll(&mut fds, Some(&limit)).unwrap() == 1
        };
        let client = pair.client::<u32, u32>("loop", 1);
        script.spin_some(100).unwrap();
        for n in 0..3 {
            let call = client.call(n).start();
            assert!(is_readable(LONG));
            while !call.is_done() {
                script.spin_some(1).unwrap();
            }
            assert_eq!(call.wait(), Ok(n + 1));
            script.spin_some(100).unwrap();
            assert!(!is_readable(Duration::ZERO));
        }
        // One that is taken back before the script has spun is not handled, whatever the descriptor says.
        let mut call = client.call(9).start();
        assert!(is_readable(LONG));
        assert!(call.cancel());
        until("it is taken back", || {
            pair.called("loop").cancelled == 1
                && (!pair.is_between() || pair.served("loop").requests_cancelled == 1)
        });
        script.spin_some(100).unwrap();
        assert_eq!(script.state(|count| *count).unwrap(), 3);
        assert!(!is_readable(Duration::ZERO));
    });
}
