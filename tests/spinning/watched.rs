//! Descriptors of others, watched for a processor.

use super::*;
use mproc::{Closure, ErrorKind, Fault, Interest, Spun, closure, local_closure};
use std::io::{ErrorKind as IoKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

fn pair() -> (Arc<UnixStream>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (Arc::new(near), far)
}

/// One byte, if there is one.
fn read(socket: &UnixStream) -> Option<u8> {
    let mut byte = [0];
    match { socket }.read(&mut byte) {
        Ok(0) => None,
        Ok(_) => Some(byte[0]),
        Err(error) => {
            assert_eq!(error.kind(), IoKind::WouldBlock);
            None
        }
    }
}

/// Reads one byte for each message.
struct Reader {
    socket: Arc<UnixStream>,
    heard: Sender<u8>,
}

struct Readable(Interest);

impl Processor for Reader {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.watch_fd(self.socket.clone(), Interest::READ, Readable)?;
        Ok(())
    }
}

impl Handle<Readable> for Reader {
    type Reply = ();
    fn handle(&mut self, Readable(ready): Readable, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        assert_eq!(ready, Interest::READ);
        match read(&self.socket) {
            Some(byte) => self.heard.send(byte)?,
            None => cx.stop(),
        }
        Ok(())
    }
}

fn take(heard: &Receiver<u8>, count: usize) -> Vec<u8> {
    (0..count)
        .map(|_| heard.recv_timeout(LONG).unwrap())
        .collect()
}

/// By level: a handler that reads one byte of five is told again until all are read.
#[test]
fn each_driver_gets_one_message_per_readiness_until_all_is_read() {
    let node = real();
    let driver = node.driver("driver").unwrap();
    let pool = node.pool("pool", 2).unwrap();
    let spawn: [&dyn Fn(Reader) -> mproc::Address<Reader>; 3] = [
        &|reader| node.spawn_thread("own", reader).unwrap(),
        &|reader| driver.spawn("shared", reader).unwrap(),
        &|reader| pool.spawn("pool's", reader).unwrap(),
    ];
    for spawn in spawn {
        let (near, mut far) = pair();
        let (heard, hears) = channel();
        let reader = spawn(Reader {
            socket: near,
            heard,
        });
        far.write_all(b"hello").unwrap();
        assert_eq!(take(&hears, 5), b"hello");
        far.write_all(b"again").unwrap();
        assert_eq!(take(&hears, 5), b"again");
        drop(far);
        // A hang-up is a readiness, too.
        let down = reader.ended().limit(LONG).wait().unwrap();
        assert!(down.exit.is_orderly());
    }
}

#[test]
fn a_script_is_called_while_it_spins_and_its_descriptor_is_readable_for_that() {
    let mut script = real().script().unwrap().with(Vec::new());
    let (near, mut far) = pair();
    let socket = near.clone();
    let watch = script
        .watch_fd(near, Interest::READ, move |seen, ready, _| {
            assert!(ready.is_readable() && !ready.is_writable());
            seen.extend(read(&socket));
        })
        .unwrap();
    for text in ["a", "bc", "d"] {
        far.write_all(text.as_bytes()).unwrap();
        for count in 1..=text.len() {
            assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
            let heard = script.state(|seen: &mut Vec<u8>| seen.len()).unwrap();
            assert_eq!(heard, count);
        }
        assert_eq!(script.state(std::mem::take).unwrap(), text.as_bytes());
    }
    far.write_all(b"never").unwrap();
    script.unwatch_fd(watch).unwrap();
    script.unwatch_fd(watch).unwrap();
    assert_eq!(handled(script.spin_some(10)), 0);
}

#[test]
fn room_to_write_is_a_readiness() {
    let mut script = real().script().unwrap().with(0);
    let (near, mut far) = pair();
    let mut all = 0;
    while { &*near }.write(&[0; 4096]).is_ok_and(|n| {
        all += n;
        true
    }) {}
    let both = Interest::READ | Interest::WRITE;
    script
        .watch_fd(near, both, |count, ready, _| {
            assert_eq!(ready, Interest::WRITE);
            *count += 1;
        })
        .unwrap();
    assert_eq!(handled(script.spin_some(10)), 0);
    far.read_exact(&mut vec![0; all]).unwrap();
    assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
}

/// Each has watches of its own on one and the same descriptor.
#[test]
fn two_can_watch_one_descriptor() {
    let node = real();
    let (near, mut far) = pair();
    let (tell, told) = channel();
    for name in ["first", "second"] {
        let (socket, tell) = (near.clone(), tell.clone());
        let watcher = closure(|(): (), _: &mut Cx<'_, Closure<(), ()>>| ());
        let watcher = node.spawn_thread(name, watcher).unwrap();
        let watched = watcher.with_processor(move |_, cx| {
            let mut told = false;
            let call = move |_: &mut _, _, cx: &mut Cx<'_, _>| {
                if !std::mem::replace(&mut told, true) {
                    tell.send(name).unwrap();
                    cx.stop();
                }
            };
            cx.watch_fd_with(socket, Interest::READ, call).unwrap();
        });
        watched.unwrap();
    }
    far.write_all(b"x").unwrap();
    let mut names = [(); 2].map(|()| told.recv_timeout(LONG).unwrap());
    names.sort_unstable();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn a_panic_in_the_handler_leaves_the_watch_as_it_is() {
    let mut script = real().script().unwrap().with(Vec::new());
    let (near, mut far) = pair();
    let socket = near.clone();
    script
        .watch_fd(near, Interest::READ, move |seen: &mut Vec<u8>, _, _| {
            let byte = read(&socket).unwrap();
            assert_ne!(byte, b'b', "wanted");
            seen.push(byte);
        })
        .unwrap();
    far.write_all(b"abc").unwrap();
    for _ in 0..3 {
        assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
    }
    assert_eq!(script.state(std::mem::take).unwrap(), b"ac");
}

/// The other end is told when the last owner is gone.
#[test]
fn the_end_of_the_processor_ends_the_watch_and_closes_the_descriptor() {
    let node = real();
    let (near, mut far) = pair();
    let (heard, hears) = channel();
    let reader = Reader {
        socket: near,
        heard,
    };
    let reader = node.spawn_thread("reader", reader).unwrap();
    far.write_all(b"a").unwrap();
    assert_eq!(take(&hears, 1), b"a");
    reader.stop();
    reader.ended().limit(LONG).wait().unwrap();
    far.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
    assert!(hears.recv().is_err());
}

#[test]
fn the_end_of_the_node_ends_the_watch() {
    let node = real();
    let (near, mut far) = pair();
    let (heard, _hears) = channel();
    let reader = Reader {
        socket: near,
        heard,
    };
    node.spawn_thread("reader", reader).unwrap();
    assert!(node.shutdown(LONG).is_clean());
    drop(node);
    far.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_simulated_node_and_one_that_ends_refuse() {
    let watch = |script: &mut Script<()>| {
        let (near, _far) = pair();
        let watched = script.watch_fd(near, Interest::READ, |(), _, _| ());
        watched.unwrap_err().kind()
    };
    let mut script = simulated().script().unwrap();
    assert_eq!(watch(&mut script), ErrorKind::Refused);
    let mut script = real().script().unwrap();
    script.request_shutdown();
    assert_eq!(watch(&mut script), ErrorKind::Closed);
}

/// What is not `Send` may watch on a driver of one thread; a pool refuses it.
#[test]
fn a_closure_that_stays_on_its_thread_is_refused_on_a_pool() {
    let node = real();
    let (heard, hears) = channel();
    let pool = node.pool("pool", 2).unwrap();
    let watcher = closure(move |(): (), cx: &mut Cx<'_, Closure<(), ()>>| {
        let (near, _far) = pair();
        let watched = cx.watch_fd_with_local(near, Interest::READ, |_, _, _| ());
        heard.send(watched.unwrap_err().kind()).unwrap();
    });
    let watcher = pool.spawn("watcher", watcher).unwrap();
    watcher.call(()).wait().unwrap();
    assert_eq!(hears.recv().unwrap(), ErrorKind::Refused);

    let mut script = node.script().unwrap();
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let (near, mut far) = pair();
    far.write_all(b"x").unwrap();
    let theirs = count.clone();
    let local = local_closure(move |(): (), cx: &mut Cx<'_, _>| {
        let (count, socket) = (theirs.clone(), near.clone());
        let call = move |_: &mut _, _, _: &mut Cx<'_, _>| {
            read(&socket);
            count.set(count.get() + 1);
        };
        cx.watch_fd_with_local(near.clone(), Interest::READ, call)?;
        Ok::<_, Fault>(())
    });
    let local = script.spawn("local", local).unwrap();
    local.send(()).unwrap();
    while count.get() == 0 {
        assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
    }
}
