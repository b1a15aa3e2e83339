//! The other processes: one line is one command, and is answered by one line that begins with `@ `.

use super::*;
use mproc::{Address, Client, Closure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

// ---------------------------------------------------------------------------------------------- inside

pub(super) const WORDS: Topic<String> = Topic::new("words");

fn say(line: &str) {
    println!("@ {line}");
}

struct Publish;

struct Publishes;

impl Processor for Publishes {}

impl Handle<Publish> for Publishes {
    type Reply = ();
    fn handle(&mut self, _: Publish, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.publish(&WORDS, "said".into())?;
        Ok(())
    }
}

struct Wait(Receiver<()>);

pub(super) fn act(base: &Path) {
    let node = node(base);
    let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
    let mut publishes: Option<Address<Publishes>> = None;
    let mut go: Option<Sender<()>> = None;
    say(&node.info().id);
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let (order, name) = line.split_once(' ').unwrap_or((&line, ""));
        match order {
            "processor" => {
                let made = node.spawn_thread(name, closure(|(): (), _cx| ())).unwrap();
                kept.push(Box::new(made));
            }
            "publisher" => {
                let made = node.spawn_thread(name, Publishes).unwrap();
                made.call(Publish).wait().unwrap();
                publishes = Some(made);
            }
            "publish" => publishes.as_ref().unwrap().call(Publish).wait().unwrap(),
            "subscribe" => kept.push(Box::new(node.subscription(&WORDS).unwrap())),
            "serve" => kept.push(Box::new(node.serve(name, |n: u32| Ok(n + 1)).unwrap())),
            "client" => {
                let client: Client<u32, u32> = node.client(name).unwrap();
                client.wait_for_service(LONG).unwrap();
                kept.push(Box::new(client));
            }
            // The one driver is in a handler, and does not come back; another thread calls into it.
            "block" => {
                let driver = node.driver("only").unwrap();
                let (begun, has_begun) = channel();
                let blocks = closure(move |Wait(goes_on): Wait, _cx| {
                    begun.send(()).unwrap();
                    let _go_or_gone = goes_on.recv();
                });
                let blocks: Address<Closure<_, _>> = driver.spawn("blocks", blocks).unwrap();
                let asked = blocks.clone();
                let calls = closure(move |(): (), _cx| {
                    let (_, returns_at_once) = channel();
                    let _ended = asked.call(Wait(returns_at_once)).limit(LONG).wait();
                });
                let calls = node.spawn_thread("calls", calls).unwrap();
                let (tell, told) = channel();
                blocks.send(Wait(told)).unwrap();
                has_begun.recv().unwrap();
                calls.send(()).unwrap();
                until("the call waits", || !node.snapshot().waits.is_empty());
                go = Some(tell);
                kept.push(Box::new((driver, blocks, calls, has_begun)));
            }
            "unblock" => go.take().unwrap().send(()).unwrap(),
            "supervised" => {
                let child = mproc::Child::new("watched", || closure(|(): (), _cx| ()));
                kept.push(Box::new(
                    node.supervisor(name).child(child).start().unwrap(),
                ));
            }
            "many" => {
                let pool = node.pool("pool", 2).unwrap();
                for n in 0..name.parse::<u32>().unwrap() {
                    let made = pool.spawn(&format!("member {n}"), closure(|(): (), _cx| ()));
                    kept.push(Box::new(made.unwrap()));
                }
            }
            "threads" => {
                say(&threads(name).to_string());
                continue;
            }
            "leave" => {
                kept.clear();
                drop(publishes);
                end(node);
                say("left");
                return;
            }
            other => panic!("no such order: {other}"),
        }
        say("done");
    }
}

// ---------------------------------------------------------------------------------------------- from outside

/// A process with one node, which does what it is told.
pub(super) struct Actor {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    pub(super) id: String,
}

impl Actor {
    pub(super) fn start(base: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "role", "--nocapture", "--test-threads=1"])
            .env("INSPECT_BASE", base)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = child.stdout.take().unwrap();
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The harness writes lines of its own, and may begin one of ours.
                if let Some((_, ours)) = line.split_once("@ ")
                    && tell.send(ours.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        let id = lines.recv_timeout(LONG).unwrap();
        Self {
            child,
            input,
            lines,
            id,
        }
    }

    pub(super) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub(super) fn hear(&mut self) -> String {
        self.lines.recv_timeout(LONG).unwrap()
    }

    /// Has it carried out.
    pub(super) fn does(&mut self, line: &str) {
        self.tell(line);
        assert_eq!(self.hear(), "done");
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the kernel says that it is stopped.
    pub(super) fn stop(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
    }

    pub(super) fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// SIGKILL, and the end of all its threads.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// It leaves in order.
    pub(super) fn leave(mut self) {
        self.tell("leave");
        assert_eq!(self.hear(), "left");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _ended_before = self.child.wait();
    }
}
