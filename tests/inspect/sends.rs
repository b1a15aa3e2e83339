//! Surveys that ask who sends to whom. Both nodes are of this process: what it sends is known.

use super::*;
use mproc::SurveyOptions;

const SECOND: Duration = Duration::from_secs(1);

fn watching(time: Duration) -> SurveyOptions {
    SurveyOptions::new().limit(LONG).watch_sends(time)
}

#[test]
fn a_survey_brings_who_sent_to_whom_while_it_watched_and_nothing_if_it_did_not() {
    let place = Place::new();
    let [node, asks] = [(); 2].map(|()| place.node());
    let sink = node
        .spawn_thread("sink", closure(|_: u64, _cx| ()))
        .unwrap();
    let to_sink = sink.clone();
    let hands_on = closure(move |n: u64, _cx| to_sink.send(n));
    let hands_on = node.spawn_thread("hands on", hands_on).unwrap();
    let own = node.watch_sends();
    // A machine that is busy enough may let nothing be sent for so long.
    let sends = loop {
        let mut ticket = asks.survey_with(watching(SECOND / 4)).start();
        while !ticket.is_done() {
            hands_on.send(1).unwrap();
            thread::yield_now();
        }
        let seen = ticket.wait_timeout(LONG).unwrap();
        assert_eq!(seen.silent, []);
        let sends = seen.reports[0].snapshot.sends.clone().unwrap();
        if sends.pairs.len() == 2 {
            break sends;
        }
    };
    assert!(u128::from(sends.window_ns) >= (SECOND / 4).as_nanos());
    assert_eq!(sends.more, 0);
    let ends = |pairs: &[mproc::SendSnapshot]| -> Vec<_> {
        let ends = |send: &mproc::SendSnapshot| (send.from.clone(), send.to.clone());
        pairs.iter().map(ends).collect()
    };
    let wanted = [
        (None, "hands on".to_owned()),
        (Some("hands on".to_owned()), "sink".to_owned()),
    ];
    assert_eq!(ends(&sends.pairs), wanted);
    let all = own.sends();
    assert_eq!(ends(&all), wanted);
    for (during, all) in sends.pairs.iter().zip(&all) {
        assert!(during.count > 0 && during.count <= all.count);
    }
    // Nobody is asked to watch by others.
    assert_eq!(survey(&asks).reports[0].snapshot.sends, None);
    let seen = asks.survey_with(watching(Duration::ZERO)).wait().unwrap();
    assert_eq!(seen.reports[0].snapshot.sends, None);
    assert_eq!(node.snapshot().sends, None);
    end(asks);
    end(node);
}

#[test]
fn whoever_asks_without_a_watch_does_not_wait_for_those_of_others() {
    let place = Place::new();
    let [node, asks, looks] = [(); 3].map(|()| place.node());
    assert_eq!(survey(&looks).reports.len(), 2);
    let watch = asks.survey_with(watching(LONG * 100)).start();
    for _ in 0..20 {
        assert_eq!(survey(&looks).reports.len(), 2);
    }
    // It is under way, and watches for a minute.
    assert!(!watch.is_done());
    drop(watch);
    end(asks);
    assert_eq!(survey(&looks).reports.len(), 1);
    end(looks);
    end(node);
}

#[test]
fn a_node_that_ends_while_it_watches_ends_at_once_and_is_not_waited_for() {
    let place = Place::new();
    let [node, asks, other] = [(); 3].map(|()| place.node());
    assert_eq!(survey(&asks).reports.len(), 2);
    let mut ticket = asks.survey_with(watching(LONG)).start();
    // Its question comes before this one's.
    assert_eq!(survey(&asks).reports.len(), 2);
    end(node);
    end(other);
    let seen = ticket.wait_timeout(LONG).unwrap();
    assert_eq!((seen.reports.len(), seen.silent.len()), (0, 0), "{seen:?}");
    end(asks);
}

/// Each costs every message of the node.
#[test]
fn a_node_watches_for_so_many_at_a_time() {
    let place = Place::new();
    let node = place.node();
    let id = node.info().id;
    let curious: Vec<_> = (0..4).map(|_| place.node()).collect();
    let surveys: Vec<_> = curious
        .iter()
        .flat_map(|asks| (0..2).map(|_| asks.survey_with(watching(LONG)).start()))
        .collect();
    let watches = |asks: &Node| {
        let seen = asks.survey_with(watching(Duration::from_millis(1))).wait();
        let reports = seen.unwrap().reports;
        let report = reports.into_iter().find(|report| report.node.id == id);
        report.unwrap().snapshot.sends.is_some()
    };
    // Questions of one peer are looked at in order: its two watches have begun if there is no third.
    for asks in &curious {
        assert!(!watches(asks));
    }
    let asks = place.node();
    assert!(!watches(&asks));
    drop(surveys);
    curious.into_iter().for_each(end);
    until("it watches again", || watches(&asks));
    end(asks);
    end(node);
}
