//! What an actor does: one line is one command, and is answered by one line that begins with `@ `.

use super::*;
use std::sync::mpsc::Sender;

/// A process with one node, and what it was told to have.
struct Acting {
    node: Option<Node>,
    subscription: Option<Watched>,
    held: Vec<Sample<[u8]>>,
    handlers: Vec<mproc::CallbackSubscription<mproc::Closure<(), ()>>>,
    /// Lets handlers return that wait for it.
    go: Option<Sender<()>>,
    publisher: Option<Publisher<[u8]>>,
    next: u64,
    loan: Option<mproc::Loan<[u8]>>,
}

fn say(line: &str) {
    println!("@ {line}");
}

pub(crate) fn act(domain: &str, base: &Path) {
    let domain = DomainOptions::new(domain).unwrap().directory(base);
    let mut acting = Acting {
        node: Some(
            Node::builder()
                .options(mproc::Options::default().call_limit(LONG).send_limit(LONG))
                .domain_with(domain)
                .build()
                .unwrap(),
        ),
        subscription: None,
        held: Vec::new(),
        handlers: Vec::new(),
        go: None,
        publisher: None,
        next: 0,
        loan: None,
    };
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        acting.does(&words);
    }
}

fn policy(word: &str) -> WhenFull {
    let mut all = WhenFull::ALL.into_iter();
    all.find(|policy| format!("{policy:?}") == word).unwrap()
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

impl Acting {
    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn does(&mut self, words: &[&str]) {
        match *words {
            ["subscribe", when_full, capacity, leases] => {
                let options = options(number(capacity) as usize, policy(when_full))
                    .max_leases(number(leases) as usize);
                let subscription = self.node().subscription_with(&FRAMES, options).unwrap();
                self.subscription = Some(Watched {
                    subscription,
                    order: Order::default(),
                });
                say("subscribed");
            }
            // Each call of the handler says so, and waits until it is told to go on.
            ["handle"] => {
                let (go, gone_on) = channel();
                self.go = Some(go);
                self.handler(move |sample| {
                    let (_, sequence) = payload::check(&sample).unwrap();
                    say(&format!("in handler {sequence}"));
                    if gone_on.recv().is_ok() {
                        payload::check(&sample).unwrap();
                        say(&format!("returns {sequence}"));
                    }
                });
            }
            ["handle", "panic"] => {
                self.handler(|sample| panic!("of {:?}", payload::check(&sample).unwrap()));
            }
            ["go"] => self.go.as_ref().unwrap().send(()).unwrap(),
            ["take", count] => {
                let subscription = self.subscription.as_mut().unwrap();
                let (mut gaps, mut numbers) = (0, Vec::new());
                for _ in 0..number(count) {
                    let sample = subscription.recv();
                    gaps += sample.gap();
                    numbers.push(payload::check(&sample).unwrap().1);
                    self.held.push(sample);
                }
                let [first, last] = [numbers[0], numbers[numbers.len() - 1]];
                say(&format!("took {first} {last} {gaps}"));
            }
            ["try"] => {
                let subscription = &self.subscription.as_ref().unwrap().subscription;
                match subscription.try_recv() {
                    Ok(sample) => {
                        say(&format!("has {}", payload::check(&sample).unwrap().1));
                        self.held.push(sample);
                    }
                    Err(error) => say(&format!("has {error:?}")),
                }
            }
            ["check"] => {
                for sample in &self.held {
                    payload::check(sample).unwrap();
                }
                say(&format!("whole {}", self.held.len()));
            }
            ["drop"] => {
                self.held.clear();
                say("dropped");
            }
            ["leak"] => {
                self.held.drain(..).for_each(std::mem::forget);
                let subscription = &self.subscription.as_ref().unwrap().subscription;
                say(&format!("leaked {}", subscription.snapshot().held));
            }
            ["unsubscribe"] => {
                self.subscription = None;
                say("unsubscribed");
            }
            ["declare", subscribers] => {
                let publisher = self.node().publisher(&FRAMES).unwrap();
                let subscribers = number(subscribers) as usize;
                publisher.wait_for_subscribers(subscribers, LONG).unwrap();
                self.publisher = Some(publisher);
                say("declared");
            }
            ["publish", count, bytes] => {
                for _ in 0..number(count) {
                    self.publish(number(bytes) as usize);
                }
                say(&format!("published {}", self.next));
            }
            ["publish", "forever"] => {
                for n in 0.. {
                    self.publish([100, 5_000, 60_000][n % 3]);
                    if n == 100 {
                        say("publishes");
                    }
                }
            }
            ["fill"] => {
                while self.loaned(1000).try_publish().is_ok() {
                    self.next += 1;
                }
                say(&format!("full {}", self.next));
            }
            ["block"] => {
                let loan = self.loaned(1000);
                thread::spawn(move || {
                    let done = loan.publish();
                    say(&format!("unblocked {}", done.is_ok()));
                });
                say("blocks");
            }
            ["loan", bytes] => {
                let publisher = self.publisher.as_ref().unwrap();
                let mut loan = publisher.loan(number(bytes) as usize).unwrap();
                let half = loan.len() / 2;
                loan[..half].fill(7);
                self.loan = Some(loan);
                say("loaned");
            }
            ["abort"] => std::process::abort(),
            ["leave"] => {
                self.loan = None;
                self.held.clear();
                self.handlers.clear();
                (self.subscription, self.publisher) = (None, None);
                end(self.node.take().unwrap());
                say("left");
                std::process::exit(0);
            }
            _ => panic!("{words:?}"),
        }
    }

    fn handler(&mut self, call: impl FnMut(Sample<[u8]>) + Send + 'static) {
        let handler = self.node().subscribe(&FRAMES, call).unwrap();
        self.handlers.push(handler);
        say("subscribed");
    }

    fn loaned(&self, bytes: usize) -> mproc::Loan<[u8]> {
        let writer = u64::from(std::process::id());
        let mut loan = self.publisher.as_ref().unwrap().loan(bytes).unwrap();
        payload::fill(&mut loan, writer, self.next);
        loan
    }

    fn publish(&mut self, bytes: usize) {
        let published = self.loaned(bytes).publish();
        published.map_err(|error| format!("{error:?}")).unwrap();
        self.next += 1;
    }
}
