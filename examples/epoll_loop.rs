//! mproc inside somebody else's event loop: one thread, one `polling` loop, a TCP socket beside a script.
//!
//! The server counts words for whoever connects. Sockets belong to the loop; the count belongs to the script. The loop sleeps in
//! one `wait` for both: the script's descriptor is readable exactly while a spin would run something, also when one of its
//! timers is due.

#[cfg(unix)]
mod server {
    use mproc::prelude::*;
    use mproc::{Trigger, closure};
    use polling::{Event, Events, Poller};
    use std::collections::HashMap;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    const LINES: Topic<String> = Topic::new("lines");

    const MPROC: usize = 0;
    const LISTENER: usize = 1;
    const FIRST_CLIENT: usize = 2;

    /// What the script's callbacks work on.
    #[derive(Default)]
    struct Counts {
        words: usize,
        visitor_has_gone: bool,
    }

    /// A connection, and what of its last line has come.
    struct Client {
        socket: TcpStream,
        partial: Vec<u8>,
    }

    /// Takes what has come. The whole lines of it, and whether the other end is closed.
    fn read_lines(client: &mut Client) -> std::io::Result<(Vec<String>, bool)> {
        let mut bytes = [0; 512];
        let is_closed = loop {
            match client.socket.read(&mut bytes) {
                Ok(0) => break true,
                Ok(n) => client.partial.extend(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        let mut lines = Vec::new();
        while let Some(end) = client.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = client.partial.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim().to_owned());
        }
        Ok((lines, is_closed))
    }

    /// Somebody who uses the server, on a thread of its own, and says when it goes.
    fn visit(address: std::net::SocketAddr, goes: &Trigger) -> std::io::Result<()> {
        let mut server = TcpStream::connect(address)?;
        for line in ["one two three\n", "four\nfive six\n"] {
            server.write_all(line.as_bytes())?;
        }
        let mut answers = String::new();
        server.shutdown(std::net::Shutdown::Write)?;
        server.read_to_string(&mut answers)?;
        print!("{answers}");
        goes.pull();
        Ok(())
    }

    pub(crate) fn run() -> Result<(), Box<dyn std::error::Error>> {
        let mut script = mproc::init()?.with(Counts::default());
        script.on(&LINES, |counts, line: Sample<String>, _cx| {
            counts.words += line.split_whitespace().count();
        })?;
        // Due timers wake the loop, too: this one ends the program.
        script.every(Duration::from_millis(10), |counts, cx| {
            if counts.visitor_has_gone {
                println!("the visitor has gone");
                cx.runtime().request_shutdown();
            }
        })?;
        let lines = script.publisher(&LINES)?;
        // A trigger brings something to this thread from any other.
        let goes = script.trigger(|counts, _cx| counts.visitor_has_gone = true)?;
        let visitor = closure(move |address, _cx| visit(address, &goes));
        let visitor = script.spawn_thread("visitor", visitor)?;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        visitor.send(listener.local_addr()?)?;

        let poller = Poller::new()?;
        let ready = script.ready_fd()?;
        let mut clients = HashMap::new();
        let mut next = FIRST_CLIENT;
        // SAFETY: what is added here is deleted below before it is closed.
        unsafe {
            poller.add(&ready, Event::readable(MPROC))?;
            poller.add(&listener, Event::readable(LISTENER))?;
        }
        let mut events = Events::new();
        loop {
            events.clear();
            poller.wait(&mut events, None)?;
            for event in events.iter() {
                match event.key {
                    MPROC => {
                        // At most 100 callbacks, so that the sockets have their turn; if more is left, it stays readable.
                        if script.spin_some(100)?.is_ending {
                            poller.delete(&ready)?;
                            poller.delete(&listener)?;
                            return Ok(script.spin()?);
                        }
                        poller.modify(&ready, Event::readable(MPROC))?;
                    }
                    LISTENER => {
                        let (socket, _) = listener.accept()?;
                        socket.set_nonblocking(true)?;
                        // SAFETY: as above.
                        unsafe { poller.add(&socket, Event::readable(next))? };
                        let partial = Vec::new();
                        clients.insert(next, Client { socket, partial });
                        next += 1;
                        poller.modify(&listener, Event::readable(LISTENER))?;
                    }
                    key => {
                        let Some(client) = clients.get_mut(&key) else {
                            continue;
                        };
                        let (came, is_closed) = read_lines(client)?;
                        for line in came {
                            lines.publish(line)?;
                            // The script runs on this thread: its answer is there when it has been spun.
                            script.spin_some(100)?;
                            let words = script.state(|counts| counts.words)?;
                            writeln!(client.socket, "{words} words so far")?;
                        }
                        if is_closed {
                            poller.delete(&client.socket)?;
                            clients.remove(&key);
                        } else {
                            poller.modify(&client.socket, Event::readable(key))?;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    server::run()
}

#[cfg(not(unix))]
fn main() {
    println!("this system has no file descriptors; see Script::on_ready");
}
