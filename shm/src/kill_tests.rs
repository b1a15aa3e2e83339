//! Processes that are killed at named points, as subscriber, as publisher and as ringer. The child is this test binary again;
//! both sides map each other's memory through `/proc/<pid>/fd`.
//!
//! After each kill: what the survivors hold is whole, order is kept, gaps are exact, and all slots are accounted for.

use crate::bell::{BellPage, PeerBells};
use crate::endpoint::{AttachError, Endpoint, EndpointOptions, LoanError};
use crate::fan_out::{Queued, SlotCounts};
use crate::lease::{Lease, SubscriberLink, Taken};
use crate::link::tests::{NODE, POLICIES, Peer, filled, message_of, options, publish};
use crate::link::{LinkEnd, LinkGeometry, WhenFull};
use crate::loan::{Filled, Loan};
use crate::points;
use crate::segment::DataGeometry;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

const ROLE: &str = "MPROC_SHM_KILL_ROLE";
const BYTES: usize = 400;
/// Only to end a test that hangs.
const LIMIT: Duration = Duration::from_secs(60);

fn options_16() -> EndpointOptions {
    EndpointOptions {
        slots_max: 16,
        ..options(1 << 20)
    }
}

/// A child, and the lines that it says.
struct Other {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Other {
    fn start(role: &str, words: &[String]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kill_tests::child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, format!("{role} {}", words.join(" ")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let ours = ["at ", "link ", "data ", "done"];
                if ours.iter().any(|word| line.starts_with(word)) && say.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            input,
            lines,
        }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("the child says it")
    }

    /// True once it has reached the point where it waits for its end.
    fn is_there(&self, point: &str) -> bool {
        match self.lines.try_recv() {
            Ok(line) => {
                assert_eq!(line, format!("at {point}"));
                true
            }
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => panic!("the child ended by itself"),
        }
    }

    /// SIGKILL, and the end of all its threads.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _ended_before = self.child.wait();
    }
}

/// A descriptor of another process, opened again.
fn descriptor(pid: u32, fd: &str) -> File {
    let path = format!("/proc/{pid}/fd/{fd}");
    let file = File::options().read(true).write(true).open(&path);
    file.unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn link_words(fd: &impl AsRawFd, geometry: LinkGeometry) -> Vec<String> {
    let policy = POLICIES.iter().position(|p| *p == geometry.when_full);
    let numbers = [
        fd.as_raw_fd() as u32,
        geometry.depth,
        geometry.slots,
        geometry.leases_max,
        policy.unwrap() as u32,
    ];
    numbers.map(|n| n.to_string()).to_vec()
}

fn open_link(pid: u32, words: &[&str]) -> SubscriberLink {
    let number = |i: usize| words[i].parse::<u32>().unwrap();
    let geometry = LinkGeometry {
        depth: number(1),
        slots: number(2),
        leases_max: number(3),
        when_full: POLICIES[number(4) as usize],
    };
    SubscriberLink::open(descriptor(pid, words[0]).as_fd(), geometry).unwrap()
}

fn data_words(endpoint: &Endpoint) -> Vec<String> {
    let [segment] = endpoint.segments() else {
        panic!("all slots are in one segment");
    };
    let geometry = segment.geometry();
    let numbers = [
        segment.as_fd().as_raw_fd() as u32,
        geometry.first_slot,
        geometry.slots,
        geometry.payload_bytes,
    ];
    numbers.map(|n| n.to_string()).to_vec()
}

fn add_data(link: &mut SubscriberLink, pid: u32, words: &[&str]) {
    let number = |i: usize| words[i].parse::<u32>().unwrap();
    let geometry = DataGeometry {
        first_slot: number(1),
        slots: number(2),
        payload_bytes: number(3),
    };
    let fd = descriptor(pid, words[0]);
    link.add_segment(fd.as_fd(), geometry).unwrap();
}

fn say(line: String) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{line}")
        .and_then(|()| out.flush())
        .unwrap();
}

/// What the children run. It does nothing when it is not one.
#[test]
fn child() {
    let Ok(words) = std::env::var(ROLE) else {
        return;
    };
    let words: Vec<&str> = words.split(' ').collect();
    match words[0] {
        "subscriber" => child_subscriber(&words[1..]),
        "publisher" => child_publisher(&words[1..]),
        "ringer" => child_ringer(&words[1..]),
        "limited" => child_limited(),
        "tidy" => child_tidy(),
        "forker" => child_forker(),
        other => panic!("{other}"),
    }
}

/// Words of a point have `_` for spaces.
fn stop_at(words: &[&str]) {
    points::stop_at(words[0].replace('_', " "), words[1].parse().unwrap());
}

fn point_words(point: &str, passes: u32) -> [String; 2] {
    [point.replace(' ', "_"), passes.to_string()]
}

/// Takes for ever, holds two samples at a time and gives them back out of order.
fn child_subscriber(words: &[&str]) {
    let parent: u32 = words[2].parse().unwrap();
    let mut link = open_link(parent, &words[3..]);
    add_data(&mut link, parent, &words[8..]);
    stop_at(words);
    let mut held: Vec<Lease> = Vec::new();
    loop {
        match link.take().unwrap() {
            Taken::Sample(lease) => {
                message_of(lease.payload());
                held.push(lease);
                if held.len() > 2 {
                    held.remove(1);
                }
            }
            Taken::End(_) => held.clear(),
            _ => std::thread::yield_now(),
        }
    }
}

/// Publishes for ever to two links.
fn child_publisher(words: &[&str]) {
    let policy = POLICIES[words[2].parse::<usize>().unwrap()];
    let mut endpoint = Endpoint::new(options_16());
    drop(endpoint.loan(BYTES).unwrap());
    let links = [policy, WhenFull::DropOldest].map(|policy| {
        let attached = endpoint.attach(3, 3, policy, None).unwrap();
        say(format!(
            "link {}",
            link_words(&attached.fd, attached.geometry).join(" ")
        ));
        attached
    });
    say(format!("data {}", data_words(&endpoint).join(" ")));
    std::io::stdin().read_line(&mut String::new()).unwrap();
    stop_at(words);
    for message in 1.. {
        while publish(&mut endpoint, message, BYTES).is_none() {
            std::thread::yield_now();
        }
    }
    drop(links);
}

fn child_ringer(words: &[&str]) {
    let parent: u32 = words[2].parse().unwrap();
    let peers = PeerBells::open(descriptor(parent, words[3]).as_fd()).unwrap();
    let ringer = peers.ringer(0).unwrap();
    stop_at(words);
    loop {
        ringer.ring();
        std::thread::yield_now();
    }
}

fn child_limited() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit {
        current: Some(8192),
        maximum: Some(8192),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let mut endpoint = Endpoint::new(options(1 << 20));
    let refused = endpoint.loan(100_000).unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert_eq!(why, "cannot create data segment: out of shared memory");
    assert_eq!(endpoint.counts(), SlotCounts::default());
    say("done".to_owned());
}

#[test]
fn a_process_without_room_for_memory_gets_an_error_and_no_signal() {
    let child = Other::start("limited", &[]);
    assert_eq!(child.line(), "done");
}

/// Alone in its process, so that what others open and map does not count.
fn child_tidy() {
    let open = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        (fds, maps.lines().filter(|m| m.contains("memfd:")).count())
    };
    // What the first handle of a process opens for its children stays.
    crate::fork::Origin::here().unwrap();
    let before = open();
    assert_eq!(before.1, 0);
    for round in 0..50 {
        let page = BellPage::create(NODE).unwrap();
        let ringer = PeerBells::open(page.as_fd()).unwrap().ringer(0).unwrap();
        let mut endpoint = Endpoint::new(options_16());
        let attached = endpoint.attach(4, 4, WhenFull::Wait, Some(ringer)).unwrap();
        let mut peer = Peer::open(attached);
        publish(&mut endpoint, 1, BYTES).unwrap();
        let lease = peer.lease(&endpoint);
        publish(&mut endpoint, 2, BYTES).unwrap();
        // One descriptor for the page and one for the segment; the link's was closed when both sides had mapped it.
        let fds = open().0 - before.0;
        assert_eq!(fds, 2);
        match round % 3 {
            0 => endpoint.detach(peer.id),
            1 => drop(endpoint.reap(peer.id)),
            _ => {}
        }
        drop(endpoint);
        drop((peer, page));
        assert_eq!(open().1, 2, "the lease keeps its segment and its link");
        drop(lease);
        assert_eq!(open(), before);
    }
    say("done".to_owned());
}

unsafe extern "C" {
    /// POSIX. A child of 0 is the child itself.
    fn fork() -> i32;
    /// POSIX. Ends the process at once.
    fn _exit(code: i32) -> !;
}

/// One of each handle, in a process of its own that forks.
struct Handles {
    page: BellPage,
    endpoint: Endpoint,
    peer: Peer,
    lease: Lease,
    loan: Loan,
    filled: Filled,
    queued: Filled,
}

fn child_forker() {
    let page = BellPage::create(NODE).unwrap();
    let ringer = PeerBells::open(page.as_fd()).unwrap().ringer(0).unwrap();
    let mut endpoint = Endpoint::new(options_16());
    let attached = endpoint.attach(4, 1, WhenFull::Wait, Some(ringer)).unwrap();
    let mut peer = Peer::open(attached);
    peer.link.ring_on_return(page.bell(1).ringer());
    publish(&mut endpoint, 1, BYTES).unwrap();
    let lease = peer.lease(&endpoint);
    publish(&mut endpoint, 2, BYTES).unwrap();
    endpoint.watch_all(true);
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    endpoint.on_local_return({
        let calls = calls.clone();
        std::sync::Arc::new(move || {
            calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        })
    });
    endpoint.watch_local(true);
    let queued = filled(&mut endpoint, 4, BYTES);
    let filled = filled(&mut endpoint, 3, BYTES);
    let got = endpoint.queue(peer.id, &queued, &crate::SlotHeader::default(), None);
    assert_eq!(got, Queued::Queued { evicted: false });
    let loan = endpoint.loan(BYTES).unwrap();
    let handles = Handles {
        page,
        endpoint,
        peer,
        lease,
        loan,
        filled,
        queued,
    };
    // SAFETY: This process has one more thread, the test harness's, which holds no lock that the child takes: it prints
    // nothing and ends by `_exit`. The C library mends its allocator in a child.
    let pid = match unsafe { fork() } {
        0 => {
            let code = in_child(handles);
            let called = calls.load(std::sync::atomic::Ordering::Relaxed) != 0;
            // SAFETY: Ends this process, without the destructors and buffers of its parent.
            unsafe { _exit(if called { 99 } else { code }) }
        }
        pid => rustix::process::Pid::from_raw(pid).unwrap(),
    };
    let waited = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    let (_, status) = waited.unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0), "{status:?}");
    // Nothing has changed here.
    let Handles {
        mut endpoint,
        mut peer,
        lease,
        ..
    } = handles;
    assert_eq!(message_of(lease.payload()), 1);
    assert_eq!(message_of(handles.filled.payload()), 3);
    let counts = endpoint.counts();
    assert_eq!((counts.queued, counts.leased, counts.loaned), (1, 2, 2));
    drop(lease);
    assert_eq!(message_of(peer.lease(&endpoint).payload()), 2);
    assert_eq!(message_of(peer.lease(&endpoint).payload()), 4);
    drop((handles.loan, handles.filled, handles.queued));
    let counts = endpoint.counts();
    assert_eq!(counts.free, counts.slots);
    say("done".to_owned());
}

/// What each handle says in a forked child: the number of the first that says something else, or 0. Were one to touch the
/// memory, which is not there, the child would die of a signal.
fn in_child(mut handles: Handles) -> i32 {
    let Handles {
        page,
        endpoint,
        peer,
        lease,
        loan,
        filled,
        queued,
    } = &mut handles;
    let link = peer.id;
    let guard: crate::Guard = std::sync::Arc::new(());
    let header = crate::SlotHeader::default();
    let mut bell = page.bell(2);
    let mut copy = vec![1];
    lease.copy_into(&mut copy);
    bell.about_to_sleep().wait();
    bell.ring_self();
    endpoint.watch(link, true);
    endpoint.watch_all(false);
    endpoint.sweep(link);
    endpoint.detach(link);
    endpoint.waiter().wait(Some(Duration::ZERO));
    peer.link.publisher_ended();
    peer.link.ring_on_return(bell.ringer());
    let answers = [
        matches!(endpoint.loan(BYTES), Err(LoanError::Forked)),
        matches!(
            endpoint.attach(1, 1, WhenFull::Wait, None),
            Err(AttachError::Forked)
        ),
        endpoint.queue(link, filled, &header, Some(guard)) == Queued::Gone { violation: None },
        endpoint.take_released().len() == 1,
        endpoint.queued(link) == 0,
        endpoint.reap(link).is_none(),
        endpoint.link_counts(link).is_none(),
        !endpoint.has_room(),
        endpoint.counts() == SlotCounts::default(),
        matches!(peer.link.take(), Ok(Taken::End(LinkEnd::Forked))),
        !peer.link.has_news() && peer.link.queued() == 0,
        lease.payload().is_empty() && copy.is_empty(),
        loan.buffer().is_empty(),
        filled.payload().is_empty() && queued.payload().is_empty(),
        !bell.ringer().ring(),
    ];
    let Handles {
        page,
        mut endpoint,
        peer,
        lease,
        loan,
        filled,
        queued,
    } = handles;
    let unpublished = endpoint.publish(loan, &header, true);
    let not_published = unpublished.is_err_and(|not| not.full.is_empty());
    drop((lease, filled, queued, peer, endpoint, page));
    let wrong = answers.iter().position(|&answer| !answer);
    match wrong {
        Some(at) => at as i32 + 1,
        None if !not_published => 50,
        None => 0,
    }
}

#[test]
fn in_a_forked_child_handles_say_so_or_do_nothing_and_touch_no_memory() {
    let child = Other::start("forker", &[]);
    assert_eq!(child.line(), "done");
}

#[test]
fn nothing_stays_open_or_mapped() {
    let child = Other::start("tidy", &[]);
    assert_eq!(child.line(), "done");
}

/// Takes what there is and checks it; holds the first sample for ever and a few of the last.
struct Survivor {
    numbers: u64,
    last: u64,
    first: Option<(Lease, u64)>,
    held: VecDeque<(Lease, u64)>,
}

impl Survivor {
    fn new() -> Self {
        Self {
            numbers: 0,
            last: 0,
            first: None,
            held: VecDeque::new(),
        }
    }

    /// Takes one. False if there is none.
    fn take(&mut self, link: &mut SubscriberLink) -> bool {
        match link.take().unwrap() {
            Taken::Sample(lease) => {
                let message = message_of(lease.payload());
                assert!(message > self.last, "{message} came after {}", self.last);
                self.last = message;
                self.numbers += lease.gap() + 1;
                assert_eq!(self.numbers, message, "the gap is exact");
                if self.first.is_none() {
                    self.first = Some((lease, message));
                } else {
                    self.held.push_back((lease, message));
                    if self.held.len() > 1 {
                        self.held.pop_front();
                    }
                }
                true
            }
            Taken::Empty | Taken::End(_) => false,
            other => panic!("{other:?}"),
        }
    }

    fn check(&self) {
        for (lease, message) in self.first.iter().chain(&self.held) {
            assert_eq!(message_of(lease.payload()), *message);
        }
    }

    fn leases(&self) -> usize {
        self.held.len() + usize::from(self.first.is_some())
    }
}

fn kill_a_subscriber(point: &str, passes: u32, policy: WhenFull) {
    let mut endpoint = Endpoint::new(options_16());
    drop(endpoint.loan(BYTES).unwrap());
    let attached = endpoint.attach(3, 3, policy, None).unwrap();
    let dying = attached.id;
    let mut words = point_words(point, passes).to_vec();
    words.push(std::process::id().to_string());
    words.extend(link_words(&attached.fd, attached.geometry));
    words.extend(data_words(&endpoint));
    let mut living = Peer::attach(&mut endpoint, 3, 3, WhenFull::DropOldest);
    living.announce(&endpoint);
    let mut survivor = Survivor::new();
    let mut child = Other::start("subscriber", &words);
    let mut message = 0;
    let mut next = |endpoint: &mut Endpoint, limit| {
        if publish(endpoint, message + 1, BYTES).is_some() {
            message += 1;
        } else {
            let waiter = endpoint.waiter();
            if !endpoint.has_room() {
                waiter.wait(Some(limit));
            }
        }
    };
    let begin = Instant::now();
    // A link that is closed when it is full gets no more than it has room for, until it is clear that the child takes.
    let mut room = 3_u32;
    while !child.is_there(point) {
        assert!(begin.elapsed() < LIMIT, "the child does not get to {point}");
        if policy == WhenFull::Disconnect {
            let queued = endpoint.link_counts(dying).unwrap().0 as u32;
            room = 3 - queued;
        }
        if room > 0 {
            next(&mut endpoint, Duration::from_millis(20));
        }
        survivor.take(&mut living.link);
    }
    // As long as it lives, it keeps what it has, and others go on.
    for _ in 0..if policy == WhenFull::DropOldest {
        20
    } else {
        0
    } {
        next(&mut endpoint, Duration::ZERO);
        survivor.take(&mut living.link);
    }
    let (queued, leased) = endpoint.link_counts(dying).unwrap();
    assert!(leased <= 3 && queued <= 3);
    if point == "subscriber: leased" {
        assert!(leased > 0);
    }
    child.kill();
    let again = endpoint.link_counts(dying).unwrap();
    assert_eq!(again, (queued, leased), "a kill alone takes nothing back");
    let reaped = endpoint.reap(dying).unwrap();
    assert_eq!(
        (reaped.queued, reaped.leased, reaped.returned),
        (queued, leased, 0)
    );
    assert_eq!(endpoint.reap(dying), None);
    survivor.check();
    for _ in 0..100 {
        next(&mut endpoint, Duration::ZERO);
        survivor.take(&mut living.link);
    }
    while survivor.take(&mut living.link) {}
    assert_eq!(survivor.last, message, "the last one came through");
    survivor.check();
    let counts = endpoint.counts();
    assert_eq!(counts.leased, survivor.leases());
    assert_eq!(counts.free + counts.leased, counts.slots);
}

fn every_policy(kill: impl Fn(u32, WhenFull)) {
    for policy in POLICIES {
        for passes in [0, 4] {
            kill(passes, policy);
        }
    }
}

#[test]
fn subscriber_killed_when_it_has_just_taken() {
    every_policy(|passes, policy| kill_a_subscriber("subscriber: leased", passes, policy));
}

#[test]
fn subscriber_killed_when_it_has_given_back_and_not_said_so() {
    every_policy(|passes, policy| kill_a_subscriber("subscriber: done stored", passes, policy));
}

#[test]
fn subscriber_killed_between_the_change_of_space_and_the_wake() {
    for passes in [0, 4] {
        kill_a_subscriber("subscriber: space bumped", passes, WhenFull::Wait);
    }
}

#[test]
fn a_publisher_that_waits_for_a_killed_subscriber_goes_on_when_it_is_reaped() {
    let mut endpoint = Endpoint::new(options_16());
    drop(endpoint.loan(BYTES).unwrap());
    let attached = endpoint.attach(1, 1, WhenFull::Wait, None).unwrap();
    let mut words = point_words("subscriber: leased", 0).to_vec();
    words.push(std::process::id().to_string());
    words.extend(link_words(&attached.fd, attached.geometry));
    words.extend(data_words(&endpoint));
    let mut child = Other::start("subscriber", &words);
    publish(&mut endpoint, 1, BYTES).unwrap();
    assert_eq!(child.line(), "at subscriber: leased");
    publish(&mut endpoint, 2, BYTES).unwrap();
    let endpoint = Mutex::new(endpoint);
    let (waits, is_waiting) = channel();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            loop {
                let mut locked = endpoint.lock();
                let waiter = locked.waiter();
                if publish(&mut locked, 3, BYTES).is_some() {
                    return Instant::now();
                }
                drop(locked);
                waits.send(()).unwrap();
                waiter.wait(Some(LIMIT));
            }
        });
        is_waiting.recv_timeout(LIMIT).unwrap();
        child.kill();
        let killed = Instant::now();
        endpoint.lock().reap(attached.id).unwrap();
        let went_on = publisher.join().unwrap();
        let after = went_on.duration_since(killed);
        assert!(
            after < LIMIT / 2,
            "it was woken, not its limit over: {after:?}"
        );
    });
    let counts = endpoint.lock().counts();
    assert_eq!(counts.free, counts.slots);
}

fn kill_a_publisher(point: &str, passes: u32, policy: WhenFull) {
    let mut words = point_words(point, passes).to_vec();
    let index = POLICIES.iter().position(|p| *p == policy).unwrap();
    words.push(index.to_string());
    let mut child = Other::start("publisher", &words);
    let pid = child.child.id();
    let mut links = Vec::new();
    for _ in 0..2 {
        let line = child.line();
        let words: Vec<_> = line.split(' ').collect();
        links.push((open_link(pid, &words[1..]), Survivor::new()));
    }
    let line = child.line();
    let words: Vec<_> = line.split(' ').collect();
    for (link, _) in &mut links {
        add_data(link, pid, &words[1..]);
    }
    writeln!(child.input, "go").unwrap();
    let begin = Instant::now();
    loop {
        match child.lines.recv_timeout(Duration::ZERO) {
            Ok(line) => break assert_eq!(line, format!("at {point}")),
            Err(RecvTimeoutError::Timeout) => {}
            Err(e) => panic!("the child ended by itself: {e}"),
        }
        assert!(begin.elapsed() < LIMIT, "the child does not get to {point}");
        // Slower than the publisher, so that queues are full.
        for (link, survivor) in &mut links {
            survivor.take(link);
        }
        std::thread::yield_now();
    }
    child.kill();
    // What was committed before is there, nothing else, and what is held stays.
    for (link, survivor) in &mut links {
        survivor.check();
        let mut left = 0;
        while survivor.take(link) {
            left += 1;
        }
        assert!(left <= 3, "the queue has three places");
        survivor.check();
        assert!(!survivor.take(link));
    }
    let last = links.iter().map(|(_, survivor)| survivor.last);
    let (least, most) = (last.clone().min().unwrap(), last.max().unwrap());
    if policy == WhenFull::Wait || policy == WhenFull::DropOldest {
        assert!(most - least <= 1, "only the last publish may be half done");
    }
}

#[test]
fn publisher_killed_when_it_has_filled_a_slot() {
    every_policy(|passes, policy| kill_a_publisher("publisher: filled", passes, policy));
}

#[test]
fn publisher_killed_when_it_has_stored_the_cell() {
    every_policy(|passes, policy| kill_a_publisher("publisher: cell stored", passes, policy));
}

#[test]
fn publisher_killed_when_it_has_stored_the_entry() {
    every_policy(|passes, policy| kill_a_publisher("publisher: entry stored", passes, policy));
}

#[test]
fn publisher_killed_when_it_has_stored_the_tail() {
    every_policy(|passes, policy| kill_a_publisher("publisher: tail stored", passes, policy));
}

#[test]
fn publisher_killed_when_it_has_revoked_an_old_sample() {
    for policy in POLICIES {
        kill_a_publisher("publisher: revoked", 2, policy);
    }
}

#[test]
fn a_ringer_killed_at_any_point_hides_nothing_of_the_others() {
    for point in [
        "ringer: saw a sleeper",
        "ringer: bell changed",
        "ringer: woke",
    ] {
        let page = BellPage::create(NODE).unwrap();
        let mut bell = page.bell(0);
        let mine = bell.ringer();
        let mut words = point_words(point, 0).to_vec();
        words.push(std::process::id().to_string());
        words.push(page.as_fd().as_raw_fd().to_string());
        let news = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while !news.load(std::sync::atomic::Ordering::Relaxed) {
                    let drowsy = bell.about_to_sleep();
                    if !news.load(std::sync::atomic::Ordering::Relaxed) {
                        drowsy.wait();
                    }
                }
            });
            let mut child = Other::start("ringer", &words);
            assert_eq!(child.line(), format!("at {point}"));
            child.kill();
            news.store(true, std::sync::atomic::Ordering::Relaxed);
            mine.ring();
            // Were it lost, this would not return.
            sleeper.join().unwrap();
        });
    }
}
