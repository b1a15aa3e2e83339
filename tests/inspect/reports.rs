//! How surveys are written down.

use super::*;

#[test]
fn a_survey_survives_being_written_and_read() {
    let place = Place::new();
    let [mut one, mut two] = [place.actor(), place.actor()];
    one.does("publisher writer");
    two.does("subscribe");
    let node = place.node();
    let seen = survey(&node);
    let text = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<Survey>(&text).unwrap(), seen);
    end(node);
}

/// A report in a file is read by a later version, and by an earlier one.
#[test]
fn fields_that_are_not_known_are_passed_over_and_those_that_are_missing_have_defaults() {
    let place = Place::new();
    let mut actor = place.actor();
    actor.does("publisher writer");
    let node = place.node();
    let seen = survey(&node);
    let mut value = serde_json::to_value(&seen.reports[0]).unwrap();
    let snapshot = value["snapshot"].as_object_mut().unwrap();
    snapshot.insert("weather".into(), "fair".into());
    for later in ["waits", "domain", "services"] {
        assert!(snapshot.remove(later).is_some(), "{later}");
    }
    let processor = snapshot["processors"][0].as_object_mut().unwrap();
    assert!(processor.remove("supervisor").is_some());
    processor.insert("mood".into(), 7.into());
    let publisher = snapshot["topics"][0]["publishers"][0]
        .as_object_mut()
        .unwrap();
    assert_eq!(publisher.remove("owner").unwrap(), "writer");
    let info = value["node"].as_object_mut().unwrap();
    assert!(info.remove("version").is_some());
    info.insert("colour".into(), "red".into());
    let read: NodeReport = serde_json::from_value(value).unwrap();
    assert_eq!(
        (&read.node.version, &read.node.id),
        (&String::new(), &actor.id)
    );
    assert_eq!(read.snapshot.waits, []);
    assert_eq!(read.snapshot.topics[0].publishers[0].owner, None);
    assert_eq!(
        read.snapshot.runtime.processors,
        seen.reports[0].snapshot.processors
    );
    end(node);
}
