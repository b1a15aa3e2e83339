//! A peer that writes whatever it likes wherever it can.
//!
//! It attaches honestly, as a subscriber and as a publisher, and then writes random words over its links, over its own bells and
//! those of its victim, and sends random bytes and random frames. (It leaves its data segment alone: that who publishes does not
//! rewrite what is leased is the first premise of `mproc_shm`.) Meanwhile the victim publishes to an honest node and receives
//! from it: nothing is lost or wrong there.

use super::*;
use crate::actor::{orders, say, start, topic};
use crate::raw::{Chance, Line, OwnTopic, Raw, Said};
use mproc::{PublishError, PublisherOptions};
use mproc_shm::{
    Accept, Announce, Attach, BellPage, Detach, DetachReason, Endpoint, EndpointOptions, Frame,
    Refuse, RefuseReason, Segment, SlotHeader, Withdraw,
};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

/// Values of an honest node begin so; the corrupt one's do not.
const HONEST: u8 = 0x71;
const CORRUPT: u8 = 0x40;

fn seconds() -> u64 {
    let text = env::var("MPROC_CORRUPT_SECONDS");
    text.map_or(3, |text| text.parse().unwrap())
}

/// A value whose every byte follows from its number.
fn value(tag: u8, n: u64) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(n.to_le_bytes());
    let length = 20 + (n % 700) as usize;
    bytes.extend((0..length).map(|i| (n as usize * 31 + i) as u8 & 0x7F));
    bytes
}

/// The number of an honest value. The error: it is wrong.
fn number(bytes: &[u8], tag: u8) -> Result<u64, String> {
    let n = bytes
        .get(1..9)
        .map(|n| u64::from_le_bytes(n.try_into().unwrap()));
    let n = n.ok_or("it is cut off")?;
    if bytes == value(tag, n) {
        Ok(n)
    } else {
        Err(format!("{n}: {bytes:?}"))
    }
}

// ----------------------------------------------------------------------------------------------------- the victim

/// Publishes `up`, and subscribes to `down`.
pub(crate) fn act_victim(base: &Path) {
    let node = node(base).unwrap();
    // A peer that lies about bells may put a publisher to sleep until its limit.
    let limit = PublisherOptions::new().limit(Duration::from_millis(20));
    let up = node.publisher_with(&topic("up"), limit).unwrap();
    let down = node
        .subscription_with(
            &topic("down"),
            SubscriptionOptions::new().when_full(WhenFull::DropOldest),
        )
        .unwrap();
    say("made");
    let mut lines = orders();
    lines.next();
    up.wait_for_subscribers(1, LONG).unwrap();
    // The friend: nobody else is there.
    say("linked");
    let stop = Arc::new(AtomicBool::new(false));
    let received = Arc::new(AtomicU64::new(0));
    let (its_stop, its_received) = (stop.clone(), received.clone());
    let publisher = thread::spawn(move || {
        let mut n = 0;
        let mut next = value(HONEST, n);
        while !its_stop.load(SeqCst) {
            match up.publish(next) {
                Ok(_) => {
                    n += 1;
                    next = value(HONEST, n);
                }
                Err(PublishError::Timeout { value, .. }) => next = value,
                Err(error) => panic!("{error}"),
            }
        }
        (n, up)
    });
    let receiver = thread::spawn({
        let stop = stop.clone();
        move || {
            let mut last = None;
            while !stop.load(SeqCst) {
                // Short, because the same peer may put a receiver to sleep, too.
                let Ok(sample) = down.recv_timeout(Duration::from_millis(20)) else {
                    continue;
                };
                if sample.first() == Some(&HONEST) {
                    let n = number(&sample, HONEST).unwrap();
                    assert!(last < Some(n), "{last:?} comes before {n}");
                    last = Some(n);
                    its_received.fetch_add(1, SeqCst);
                }
            }
            down
        }
    });
    lines.next();
    stop.store(true, SeqCst);
    let (published, up) = publisher.join().unwrap();
    let down = receiver.join().unwrap();
    say(&format!("published {published}"));
    say(&format!("received {}", received.load(SeqCst)));
    lines.next();
    drop((up, down, node));
    say("over");
}

/// Subscribes to `up` without loss, and publishes `down`.
pub(crate) fn act_friend(base: &Path) {
    let node = node(base).unwrap();
    let up = node
        .subscription_with(&topic("up"), SubscriptionOptions::new().capacity(16))
        .unwrap();
    let down = node.publisher(&topic("down")).unwrap();
    say("made");
    let mut lines = orders();
    lines.next();
    // The victim; the corrupt one may subscribe, too, under whatever name.
    down.wait_for_subscribers(1, LONG).unwrap();
    let expected = Arc::new(AtomicU64::new(u64::MAX));
    let its_expected = expected.clone();
    let receiver = thread::spawn(move || {
        let mut n = 0;
        while n < its_expected.load(SeqCst) {
            let Ok(sample) = up.recv_timeout(Duration::from_millis(20)) else {
                continue;
            };
            assert_eq!(number(&sample, HONEST), Ok(n));
            assert_eq!(sample.gap(), 0);
            n += 1;
            down.publish(value(HONEST, n)).unwrap();
        }
        assert_eq!(n, its_expected.load(SeqCst));
    });
    let count = lines.next().unwrap();
    expected.store(count.parse().unwrap(), SeqCst);
    receiver.join().unwrap();
    say("all");
    lines.next();
}

// ------------------------------------------------------------------------------------------------ the corrupt peer

struct Corrupt {
    chance: Chance,
    bells: BellPage,
    /// What of it was found out, as far as it was told.
    found: u64,
    /// How many links were given.
    links: u64,
    connections: u64,
}

pub(crate) fn act(base: &Path) {
    let victim: u32 = env::var("LIMITS_VICTIM").unwrap().parse().unwrap();
    let end = Instant::now() + Duration::from_secs(seconds());
    let mut raw = Raw::join(base);
    let mut this = Corrupt {
        chance: Chance(0x9E37_79B9_7F4A_7C15),
        bells: BellPage::create([0; 16]).unwrap(),
        found: 0,
        links: 0,
        connections: 0,
    };
    // On a slow machine it goes on until it has shown something.
    let shows = |this: &Corrupt| this.links > this.connections && this.found > 0;
    while Instant::now() < end || (!shows(&this) && Instant::now() < end + LONG) {
        let mut line = raw.meet(victim);
        this.connections += 1;
        this.visit(&mut line);
        raw.hang_up(line);
    }
    say(&format!("found {}", this.found));
    say(&format!("links {}", this.links));
    say(&format!("connections {}", this.connections));
}

impl Corrupt {
    /// One connection: honest requests, words over everything that was given, and at last nonsense on the socket.
    fn visit(&mut self, line: &mut Line) {
        let mut endpoint = Endpoint::new(EndpointOptions {
            bytes_max: 1 << 20,
            slots_max: 64,
            history: 0,
            node: [0; 16],
        });
        let mut up: Option<OwnTopic> = None;
        let mut files: Vec<File> = Vec::new();
        let (mut request, mut number, mut own_links) = (0, 0, 0_u32);
        // Longer each time, so that a slow machine gets as far as links.
        let lasts = Duration::from_millis(300 + 10 * self.connections);
        let visit_end = Instant::now() + lasts;
        while Instant::now() < visit_end && !line.is_over {
            let mut got = Vec::new();
            line.receive(|said, descriptors| got.push((said.clone(), descriptors)));
            for (said, descriptors) in got {
                match said {
                    Said::Announce(topic) if topic.name == "up" => up = Some(topic),
                    Said::Accept => {
                        self.links += 1;
                        // Its link, and the victim's bells.
                        files.extend(descriptors.into_iter().map(File::from));
                    }
                    Said::Attach { topic, .. } if topic != TopicId::from_name("down").get() => {}
                    attach @ Said::Attach { .. } => {
                        own_links += 1;
                        let file = self.accept(line, &mut endpoint, &attach, own_links * 2);
                        files.push(file);
                    }
                    Said::Detach { is_nonsense: true } => self.found += 1,
                    _ => {}
                }
            }
            if let Some(up) = &up
                && self.chance.below(40) == 0
                && request < 20
            {
                let attach = Attach {
                    request,
                    depth: 8,
                    leases_max: 2,
                    history: 0,
                    bell: self.chance.below(15) as u32,
                    when_full: 1 + self.chance.below(5) as u8,
                    topic: up.borrow(),
                };
                request += 1;
                let page = self.bells.as_fd().try_clone_to_owned().unwrap();
                line.send(&Frame::Attach(attach), &[page.as_fd()]);
                let down = up.renamed("down");
                let (roles, topic) = (Announce::PUBLISHES, down.borrow());
                line.send(&Frame::Announce(Announce { roles, topic }), &[]);
            }
            number += 1;
            self.publish(line, &mut endpoint, number, own_links);
            // A few honest moments, so that there is something to spoil.
            if self.chance.below(4) == 0 {
                self.spoil(&files);
            }
        }
        for _ in 0..self.chance.below(50) {
            if self.chance.below(10) == 0 {
                let length = 1 + self.chance.below(400);
                let bytes = self.chance.bytes(length);
                line.send_bytes(&bytes, &[]);
            } else {
                self.send_frame(line, up.as_ref());
            }
            line.receive(|said, _| {
                if let Said::Detach { is_nonsense: true } = said {
                    self.found += 1;
                }
            });
        }
    }

    /// Gives the victim's subscription a link. Returns its words.
    fn accept(
        &mut self,
        line: &mut Line,
        endpoint: &mut Endpoint,
        attach: &Said,
        link: u32,
    ) -> File {
        let Said::Attach {
            request,
            depth,
            leases_max,
            when_full,
            ..
        } = *attach
        else {
            unreachable!("it is a request");
        };
        let policy = match when_full {
            1 => mproc_shm::WhenFull::Wait,
            _ => mproc_shm::WhenFull::DropOldest,
        };
        let attached = endpoint.attach(depth, leases_max, policy, None).unwrap();
        self.links += 1;
        let accept = Accept {
            request,
            link,
            slots: 64,
            depth,
            leases_max,
            bell: 0,
            history: 0,
            publisher: 0,
        };
        let page = self.bells.as_fd().try_clone_to_owned().unwrap();
        line.send(&Frame::Accept(accept), &[attached.fd.as_fd(), page.as_fd()]);
        for segment in endpoint.segments() {
            announce(line, link, segment);
        }
        File::from(attached.fd)
    }

    /// An honest value on all links that are there.
    fn publish(&mut self, line: &mut Line, endpoint: &mut Endpoint, n: u64, links: u32) {
        let before = endpoint.segments().len();
        let bytes = value(CORRUPT, n);
        let mut encoded = vec![0xDC];
        encoded.extend((bytes.len() as u16).to_be_bytes());
        encoded.extend(&bytes);
        let Ok(mut loan) = endpoint.loan(encoded.len()) else {
            return;
        };
        loan.buffer()[..encoded.len()].copy_from_slice(&encoded);
        for segment in &endpoint.segments()[before..] {
            (1..=links).for_each(|link| announce(line, link * 2, segment));
        }
        let header = SlotHeader {
            topic: TopicId::from_name("down").get(),
            publisher: 1,
            sequence: n,
            ..SlotHeader::default()
        };
        let filled = loan.freeze();
        for link in endpoint.links() {
            let _ = endpoint.queue(link, &filled, &header, None);
            if let Some(ringer) = endpoint.ringer(link) {
                ringer.ring();
            }
        }
        drop(endpoint.take_released());
    }

    /// Random words over whatever can be written to.
    fn spoil(&mut self, files: &[File]) {
        let own = File::from(self.bells.as_fd().try_clone_to_owned().unwrap());
        for _ in 0..1 + self.chance.below(20) {
            let file = match self.chance.below(files.len() + 1) {
                0 => &own,
                i => &files[i - 1],
            };
            let length = file.metadata().unwrap().len();
            // The first lines say the most.
            let range = if self.chance.below(2) == 0 {
                length.min(1024)
            } else {
                length
            };
            let at = self.chance.next() % (range / 8) * 8;
            let word = match self.chance.below(4) {
                0 => self.chance.next(),
                1 => self.chance.next() % 256,
                2 => 0,
                _ => u64::MAX,
            };
            file.write_all_at(&word.to_le_bytes(), at).unwrap();
        }
    }

    /// A well-formed frame of random numbers, with the right number of descriptors or not.
    fn send_frame(&mut self, line: &mut Line, up: Option<&OwnTopic>) {
        let Some(up) = up else {
            return;
        };
        let names = ["up", "down", "", "mproc/events", "**", "x"];
        let mut topic = up.renamed(names[self.chance.below(names.len())]);
        if self.chance.below(3) == 0 {
            topic.id = self.chance.next();
        }
        let mut few = || self.chance.below(6) as u32;
        let (a, b, c, d) = (few(), few(), few(), few());
        let large = self.chance.next() as u32;
        let text = "what nobody asked for";
        let frame = match self.chance.below(9) {
            0 => Frame::Announce(Announce {
                roles: a as u8,
                topic: topic.borrow(),
            }),
            1 => Frame::Withdraw(Withdraw {
                roles: a as u8,
                topic: topic.id,
            }),
            2 => Frame::Attach(Attach {
                request: a,
                depth: if b == 0 { large } else { b },
                leases_max: if c == 0 { large } else { c },
                history: large,
                bell: d * 4,
                when_full: d as u8,
                topic: topic.borrow(),
            }),
            3 => Frame::Accept(Accept {
                request: a,
                link: b,
                slots: if c == 0 { large } else { 64 },
                depth: 64,
                leases_max: d,
                bell: d * 4,
                history: large,
                publisher: 0,
            }),
            4 => Frame::Refuse(Refuse {
                request: a,
                reason: RefuseReason(b as u16),
                publisher: text,
                subscriber: "",
            }),
            5 => Frame::Segment(Segment {
                link: a,
                segment: b,
                first_slot: if c == 0 { large } else { c },
                slots: if d == 0 { large } else { d },
                payload_bytes: large % 4096,
            }),
            6 => Frame::Detach(Detach {
                link: if a == 0 { Detach::ALL } else { b },
                reason: DetachReason(c as u16),
                text,
            }),
            _ => Frame::Other {
                kind: large as u16,
                body: text.as_bytes(),
            },
        };
        let page: OwnedFd = self.bells.as_fd().try_clone_to_owned().unwrap();
        let null: OwnedFd = File::open("/dev/null").unwrap().into();
        let both: [BorrowedFd<'_>; 2] = [page.as_fd(), null.as_fd()];
        let wanted = match &frame {
            Frame::Attach(_) | Frame::Segment(_) => 1,
            Frame::Accept(_) => 2,
            _ => 0,
        };
        let count = if self.chance.below(8) == 0 {
            self.chance.below(3)
        } else {
            wanted
        };
        line.send(&frame, &both[..count]);
    }
}

fn announce(line: &mut Line, link: u32, segment: &mproc_shm::DataSegment) {
    let geometry = segment.geometry();
    let frame = Frame::Segment(Segment {
        link,
        segment: geometry.first_slot,
        first_slot: geometry.first_slot,
        slots: geometry.slots,
        payload_bytes: geometry.payload_bytes,
    });
    line.send(&frame, &[segment.as_fd()]);
}

/// A subscriber of topic `up` that is made of frames, with its link and the bells of its publisher.
fn raw_subscriber(base: &TempDir, publisher: &actor::Actor) -> (Raw, Line, File, File) {
    let label = publisher.label();
    let pid = label.strip_prefix("process ").unwrap();
    let mut raw = Raw::join(base.path());
    let mut line = raw.meet(pid.parse().unwrap());
    let bells = BellPage::create([0; 16]).unwrap();
    loop {
        let mut got = Vec::new();
        line.receive(|said, descriptors| got.push((said.clone(), descriptors)));
        for (said, descriptors) in got {
            match said {
                Said::Announce(up) if up.name == "up" => {
                    let attach = Attach {
                        request: 0,
                        depth: 2,
                        leases_max: 2,
                        history: 0,
                        bell: 0,
                        when_full: 1,
                        topic: up.borrow(),
                    };
                    line.send(&Frame::Attach(attach), &[bells.as_fd()]);
                }
                Said::Accept => {
                    let [link, page] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
                    return (raw, line, link.into(), page.into());
                }
                _ => {}
            }
        }
        thread::yield_now();
    }
}

fn overwrite(file: &File, byte: u8) {
    let length = file.metadata().unwrap().len() as usize;
    file.write_all_at(&vec![byte; length], 0).unwrap();
}

/// Who lies about the bells of a process can put it to sleep through the news of its peers. Its own end it hears all the same.
#[test]
fn peer_that_lies_about_bells_does_not_keep_a_node_from_its_end() {
    let base = base();
    let mut victim = actor::ordinary(&base);
    victim.ask("publisher up", "made");
    let (_raw, _line, _link, page) = raw_subscriber(&base, &victim);
    victim.ask("joined up 1", "joined");
    // A sleep: what it waits for is that nothing happens, all threads of the victim asleep.
    thread::sleep(Duration::from_millis(200));
    overwrite(&page, 0);
    victim.end();
    victim.wait_for("over");
    victim.leave();
}

/// A publisher that waits for room looks at its links as well as one that has room.
#[test]
fn subscriber_that_writes_nonsense_while_its_queue_is_full_is_found_out() {
    let base = base();
    let mut publisher = actor::ordinary(&base);
    publisher.ask("publisher up", "made");
    publisher.ask("subscribe up", "subscribed");
    let (_raw, _line, link, _page) = raw_subscriber(&base, &publisher);
    publisher.ask("joined up 2", "joined");
    for n in 0..2 {
        assert_eq!(
            publisher.ask(&format!("publish up 5 {n}"), "published"),
            "2"
        );
    }
    overwrite(&link, 0xFF);
    // It waits until it is found out, or until its limit.
    publisher.tell("publish up 5 2");
    publisher.wait_for("told process");
    publisher.ask("left up 1", "left");
    publisher.ask("publish up 5 3", "published");
}

/// What a pulled subscription is told of are samples; nonsense was none, and so nobody looked at it.
#[test]
fn publisher_that_writes_nonsense_is_found_out_by_a_subscription_that_waits() {
    let base = base();
    let mut subscriber = actor::ordinary(&base);
    // So that its description comes.
    subscriber.ask("publisher up", "made");
    subscriber.ask("subscribe down", "subscribed");
    let label = subscriber.label();
    let pid = label.strip_prefix("process ").unwrap();
    let mut raw = Raw::join(base.path());
    let mut line = raw.meet(pid.parse().unwrap());
    let mut endpoint = Endpoint::new(EndpointOptions {
        bytes_max: 1 << 20,
        slots_max: 64,
        history: 0,
        node: [0; 16],
    });
    let mut this = Corrupt {
        chance: Chance(1),
        bells: BellPage::create([0; 16]).unwrap(),
        found: 0,
        links: 0,
        connections: 0,
    };
    let mut link = None;
    while link.is_none() {
        let mut got = Vec::new();
        line.receive(|said, _| got.push(said.clone()));
        for said in got {
            match said {
                Said::Announce(up) => {
                    let down = up.renamed("down");
                    let (roles, topic) = (Announce::PUBLISHES, down.borrow());
                    line.send(&Frame::Announce(Announce { roles, topic }), &[]);
                }
                attach @ Said::Attach { .. } => {
                    link = Some(this.accept(&mut line, &mut endpoint, &attach, 2));
                }
                _ => {}
            }
        }
        thread::yield_now();
    }
    this.publish(&mut line, &mut endpoint, 1, 1);
    assert!(
        subscriber
            .ask("take down", "took")
            .ends_with(&CORRUPT.to_string())
    );
    overwrite(&link.unwrap(), 0xFF);
    assert_eq!(subscriber.ask("take-soon down", "took"), "nothing");
    subscriber.wait_for("told process");
}

#[test]
fn corrupt_peer_loses_its_links_and_nobody_else_loses_anything() {
    let base = base();
    let mut victim = start("victim", base.path(), &[]);
    victim.wait_for("made");
    let mut friend = start("friend", base.path(), &[]);
    friend.wait_for("made");
    victim.tell("go");
    friend.tell("go");
    victim.wait_for("linked");
    let label = victim.label();
    let pid = label.strip_prefix("process ").unwrap();
    let lasts = Duration::from_secs(seconds());
    let mut corrupt = start("corrupt", base.path(), &[("LIMITS_VICTIM", pid.as_ref())]);
    let [found, links, connections] = ["found", "links", "connections"]
        .map(|what| corrupt.wait_for_within(what, lasts + LONG * 2))
        .map(|count| count.parse::<usize>().unwrap());
    victim.tell("stop");
    let published: u64 = victim.wait_for("published").parse().unwrap();
    let received: u64 = victim.wait_for("received").parse().unwrap();
    assert_eq!(friend.ask(&published.to_string(), "all"), "");
    println!("published {published}, received {received}");
    println!("links {links}, told of {found}, connections {connections}");
    let reports = victim.reports();
    let of_links = reports
        .iter()
        .filter(|text| text.contains("on a link of topic"));
    let of_links: Vec<_> = of_links.collect();
    println!("{} reports, {} of links", reports.len(), of_links.len());
    assert!(published > 0 && received > 0, "{reports:#?}");
    assert!(links > connections, "it has got as far as links");
    assert!(!of_links.is_empty(), "{reports:#?}");
    // Each link is told of once.
    assert!(of_links.len() <= links, "{reports:#?}");
    assert!(of_links.iter().all(|text| text.contains(&corrupt.label())));
    assert!(
        !reports.iter().any(|text| text.contains("panicked")),
        "{reports:#?}"
    );
    // And it can leave, whatever its bells say.
    victim.tell("leave");
    victim.wait_for("over");
    victim.leave();
    friend.leave();
    corrupt.leave();
}
