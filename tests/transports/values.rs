//! Values: each arrives as it was published, once and in order.

use super::*;
use mproc::PublisherOptions;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NUMBERS: Topic<u64> = Topic::new("numbers");
const FRAMES: Topic<[u8]> = Topic::slices("frames");
const POSE: Topic<Pose> = Topic::plain("pose");
const REPORTS: Topic<Report> = Topic::new("reports");

#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Pose {
    x: f64,
    y: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Report {
    Nothing,
    Text {
        lines: Vec<String>,
        level: Option<u8>,
    },
}

#[test]
fn samples_arrive_in_order_each_once() {
    both(|pair| {
        let subscription = pair
            .subscribe
            .subscription_with(&NUMBERS, options(8, WhenFull::Wait))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let publisher = std::thread::spawn(move || {
            for n in 0..2000 {
                assert_eq!(numbers.publish(n).unwrap().count, 1);
            }
            numbers
        });
        for n in 0..2000 {
            let sample = recv(&subscription);
            assert_eq!(
                (*sample, sample.sequence(), sample.number(), sample.gap()),
                (n, n, n, 0)
            );
            assert_eq!(sample.topic(), "numbers");
            assert_eq!(sample.subscription(), subscription.id());
            assert!(sample.received() >= sample.published());
        }
        publisher.join().unwrap();
        assert!(subscription.try_recv().is_err());
    });
}

#[test]
fn every_way_of_travelling_brings_the_same_value() {
    both(|pair| {
        let poses = pair.subscribe.subscription(&POSE).unwrap();
        let reports = pair.subscribe.subscription(&REPORTS).unwrap();
        let frames = pair.subscribe.subscription(&FRAMES).unwrap();
        let pose = Pose { x: 0.5, y: -2.0 };
        pair.publisher(&POSE, 1).publish(pose).unwrap();
        assert_eq!(*recv(&poses), pose);
        let to_reports = pair.publisher(&REPORTS, 1);
        for report in [
            Report::Nothing,
            Report::Text {
                lines: (0..1000).map(|n| format!("line {n}")).collect(),
                level: Some(3),
            },
        ] {
            to_reports.publish(report.clone()).unwrap();
            assert_eq!(recv(&reports).into_owned(), report);
        }
        let to_frames = pair.publisher(&FRAMES, 1);
        // Of every size class, and some that make new memory necessary.
        for len in [0, 1, 127, 300, 70_000, 1 << 20, 5_000_000] {
            let mut loan = to_frames.loan(len).unwrap();
            for (i, byte) in loan.iter_mut().enumerate() {
                *byte = (i ^ len) as u8;
            }
            loan.publish().unwrap();
            let frame = recv(&frames);
            assert_eq!(frame.len(), len);
            assert!(frame.iter().enumerate().all(|(i, b)| *b == (i ^ len) as u8));
        }
    });
}

#[test]
fn what_is_read_in_place_has_no_copy() {
    both(|pair| {
        let a = pair.subscribe.subscription(&FRAMES).unwrap();
        let b = pair.subscribe.subscription(&FRAMES).unwrap();
        let mut loan = pair.publisher(&FRAMES, 2).loan(4096).unwrap();
        loan.fill(7);
        let filled = if pair.is_between() {
            None
        } else {
            Some(loan.as_ptr())
        };
        loan.publish().unwrap();
        let (a, b) = (recv(&a), recv(&b));
        assert!(a.iter().chain(b.iter()).all(|byte| *byte == 7));
        if let Some(filled) = filled {
            assert_eq!([a.as_ptr(), b.as_ptr()], [filled; 2]);
        } else {
            // Each maps the publisher's memory for itself; a lease is a place in there.
            assert!(a.as_ptr().addr().is_multiple_of(128));
            assert!(b.as_ptr().addr().is_multiple_of(128));
        }
    });
}

#[test]
fn what_is_copied_first_is_the_same_and_leased_as_long() {
    both(|pair| {
        let frames = SubscriptionOptions::new().copies_first();
        let frames = pair.subscribe.subscription_with(&FRAMES, frames).unwrap();
        let reports = SubscriptionOptions::new().copies_first();
        let reports = pair.subscribe.subscription_with(&REPORTS, reports).unwrap();
        let to_frames = pair.publisher(&FRAMES, 1);
        for len in [0, 1, 9, 100_000] {
            let mut loan = to_frames.loan(len).unwrap();
            loan.fill(3);
            loan.publish().unwrap();
            let frame = recv(&frames);
            assert_eq!(*frame, vec![3; len]);
            assert!(to_frames.flush(Duration::ZERO).is_err());
            drop(frame);
            to_frames.flush(LONG).unwrap();
        }
        let to_reports = pair.publisher(&REPORTS, 1);
        to_reports
            .publish_with_parts(Report::Nothing, vec![vec![1, 2], vec![3]])
            .unwrap();
        let report = recv(&reports);
        assert_eq!(*report, Report::Nothing);
        assert!(report.parts().eq([&[1, 2][..], &[3]]));
    });
}

#[test]
fn a_value_is_decoded_once_in_each_process() {
    both(|pair| {
        let a = pair.subscribe.subscription(&REPORTS).unwrap();
        let b = pair.subscribe.subscription(&REPORTS).unwrap();
        let reports = pair.publisher(&REPORTS, 2);
        reports.publish(Report::Nothing).unwrap();
        let (a, b) = (recv(&a), recv(&b));
        assert!(std::ptr::eq::<Report>(&*a, &*b));
        assert_eq!(a.publisher(), b.publisher());
    });
}

#[test]
fn parts_travel_with_their_value() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&REPORTS).unwrap();
        let reports = pair.publisher(&REPORTS, 1);
        let parts = vec![vec![1, 2, 3], Vec::new(), vec![9; 100_000]];
        reports
            .publish_with_parts(Report::Nothing, parts.clone())
            .unwrap();
        let sample = recv(&subscription);
        assert_eq!(*sample, Report::Nothing);
        assert!(sample.parts().eq(parts.iter().map(Vec::as_slice)));
    });
}

#[test]
fn the_bytes_of_a_value_are_those_of_its_topic() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&REPORTS).unwrap();
        pair.publisher(&REPORTS, 1)
            .publish(Report::Nothing)
            .unwrap();
        let sample = recv(&subscription);
        let bytes = REPORTS.encode(&Report::Nothing).unwrap();
        assert_eq!(sample.encoded().unwrap(), bytes);
    });
}

#[test]
fn several_publishers_keep_their_own_order() {
    both(|pair| {
        let subscription = pair
            .subscribe
            .subscription_with(&NUMBERS, options(4, WhenFull::Wait))
            .unwrap();
        let threads: Vec<_> = (0..3)
            .map(|k| {
                let numbers = pair.publisher(&NUMBERS, 1);
                std::thread::spawn(move || {
                    for n in 0..300 {
                        numbers.publish(k * 1000 + n).unwrap();
                    }
                })
            })
            .collect();
        let mut next = [0; 3];
        let mut publishers = [None; 3];
        for number in 0..900 {
            let sample = recv(&subscription);
            let (k, n) = ((*sample / 1000) as usize, *sample % 1000);
            assert_eq!((n, sample.sequence()), (next[k], next[k]));
            assert_eq!((sample.number(), sample.gap()), (number, 0));
            assert_eq!(
                *publishers[k].get_or_insert(sample.publisher()),
                sample.publisher()
            );
            next[k] += 1;
        }
        assert_eq!(next, [300; 3]);
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn nodes_publish_to_each_other_on_one_topic() {
    both(|pair| {
        let there = pair.subscribe.subscription(&NUMBERS).unwrap();
        let here = pair.publish.subscription(&NUMBERS).unwrap();
        let from_here = pair.publisher(&NUMBERS, 2);
        let from_there = pair.subscribe.publisher(&NUMBERS).unwrap();
        pair.joined(&from_there, 2);
        from_here.publish(1).unwrap();
        from_there.publish(2).unwrap();
        for subscription in [&here, &there] {
            let mut got = take_all(subscription, 2);
            got.sort();
            assert_eq!(got, [1, 2]);
        }
    });
}

#[test]
fn late_subscribers_get_the_last_values_then_all() {
    both(|pair| {
        let options = PublisherOptions::new().history(3);
        let numbers = pair.publish.publisher_with(&NUMBERS, options).unwrap();
        for n in 0..10 {
            numbers.publish(n).unwrap();
        }
        let late = pair.subscribe.subscription(&NUMBERS).unwrap();
        pair.joined(&numbers, 1);
        for n in 10..13 {
            numbers.publish(n).unwrap();
        }
        assert_eq!(take_all(&late, 6), [7, 8, 9, 10, 11, 12]);
        let latest = super::options(1, WhenFull::Latest);
        let latest = pair.subscribe.subscription_with(&NUMBERS, latest).unwrap();
        pair.joined(&numbers, 2);
        assert_eq!(*recv(&latest), 12);
    });
}

#[test]
fn history_and_live_values_meet_without_a_gap() {
    both(|pair| {
        let options = PublisherOptions::new().history(1000);
        let numbers = pair.publish.publisher_with(&NUMBERS, options).unwrap();
        numbers.publish(0).unwrap();
        let publisher = std::thread::spawn(move || {
            for n in 1..400 {
                numbers.publish(n).unwrap();
            }
            numbers
        });
        let lates: Vec<_> = (0..3)
            .map(|_| {
                let roomy = super::options(1000, WhenFull::Wait);
                pair.subscribe.subscription_with(&NUMBERS, roomy).unwrap()
            })
            .collect();
        for late in &lates {
            assert_eq!(take_all(late, 400), (0..400).collect::<Vec<_>>());
        }
        publisher.join().unwrap();
    });
}
