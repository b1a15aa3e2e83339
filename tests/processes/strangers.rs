//! Rows: processes that do not belong together, what a killed one left behind, and systems that refuse.

use super::*;
use mproc::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};

#[test]
fn stale_sockets_are_removed_by_the_next() {
    alone(|place| {
        let mut actors: Vec<_> = (0..4).map(|_| place.actor()).collect();
        for actor in &mut actors {
            actor.ask("declare 0", "declared");
        }
        // All at once, so that nobody who lives could clean up.
        for actor in &mut actors {
            actor.stop();
        }
        actors.iter_mut().for_each(Actor::kill);
        assert_eq!(place.files().len(), 4);
        let node = place.node();
        let frames = node.publisher(&FRAMES).unwrap();
        until("they are removed", || place.files().len() == 1);
        drop((frames, actors));
        end(node);
    });
}

#[test]
fn processes_of_another_domain_are_not_met() {
    alone(|place| {
        let node = place.node();
        let mut watched = Watched::new(&node, 8, WhenFull::Wait);
        let mut other = Actor::start(place.base.path(), "other");
        let mut ours = place.actor();
        other.ask("declare 0", "declared");
        other.ask("publish 1 1000", "published");
        ours.ask("declare 1", "declared");
        ours.ask("publish 1 1000", "published");
        let sample = watched.recv();
        assert_eq!(
            payload::check(&sample).unwrap().0,
            u64::from(ours.child.id())
        );
        assert_eq!(watched.rest(), [0; 0]);
        drop(sample);
        ours.leave();
        other.leave();
        drop((watched, ours, other));
        end(node);
    });
}

/// What joining a domain there says.
fn refused(place: &Place) -> String {
    let builder = Node::builder().options(mproc::Options::default());
    let error = builder.domain_with(place.options()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    error.to_string()
}

#[test]
fn directory_that_others_may_enter_is_refused() {
    alone(|place| {
        let path = place.base.path().join("mproc");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let text = refused(place);
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        println!("{text}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let node = place.node();
        drop(node.publisher(&FRAMES).unwrap());
        end(node);
    });
}

#[test]
fn directory_of_another_user_is_refused() {
    alone(|place| {
        let path = place.base.path().join("mproc");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        if chown(&path, Some(12345), None).is_err() {
            println!("only root can give a directory away");
            return;
        }
        let text = refused(place);
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(text.contains("12345"), "{text}");
        println!("{text}");
    });
}

#[test]
fn directory_that_is_a_link_is_refused() {
    alone(|place| {
        let elsewhere = tempfile::tempdir().unwrap();
        let path = place.base.path().join("mproc");
        std::os::unix::fs::symlink(elsewhere.path(), &path).unwrap();
        let text = refused(place);
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        println!("{text}");
    });
}

/// The rules of the handshake are tested in `shm`; here, what a program is told.
#[test]
fn process_of_another_build_is_reported_with_both_values() {
    use mproc_shm::{
        ABI_HASH, Directory, Domain, Hello, Identity, NodeId, PROTOCOL, Protocols, Rendezvous,
        Watch,
    };
    alone(|place| {
        let protocol = PROTOCOL as u16;
        for (abi, protocol, words) in [
            (
                ABI_HASH ^ 1,
                protocol,
                [ABI_HASH, ABI_HASH ^ 1].map(|abi| format!("{abi:016x}")),
            ),
            (
                ABI_HASH,
                protocol + 1,
                [protocol, protocol + 1].map(|n| n.to_string()),
            ),
        ] {
            let domain = Domain::new("rows").unwrap();
            let directory = Directory::open_at(place.base.path(), &domain).unwrap();
            let watch = Watch::start("stranger", |_, text| panic!("{text}")).unwrap();
            let hello = Hello {
                protocols: Protocols {
                    min: protocol,
                    max: protocol,
                },
                features: 0,
                abi,
                identity: Identity::here(NodeId::random().unwrap()).unwrap(),
            };
            let (tell, told) = channel();
            let on_meeting = std::sync::Arc::new(
                move |met: Result<mproc_shm::Peer, mproc_shm::MeetingError>, _: &_| {
                    let _ended = tell.send(met.is_ok());
                },
            );
            let stranger = Rendezvous::join(&directory, hello, watch.handle(), on_meeting).unwrap();
            let mut actor = place.actor();
            actor.ask("declare 0", "declared");
            assert!(!told.recv_timeout(LONG).unwrap(), "they must not meet");
            // A process of its own build is met all the same.
            let node = place.node();
            let mut watched = Watched::new(&node, 8, WhenFull::Wait);
            watched.subscription.wait_for_publishers(1, LONG).unwrap();
            actor.ask("declare 1", "declared");
            actor.ask("publish 1 1000", "published");
            drop(watched.recv());
            drop(watched);
            end(node);
            actor.leave();
            let said = actor.stop_and_read();
            for word in words {
                assert!(said.contains(&word), "{word} in {said}");
            }
            drop((stranger, watch, actor));
        }
    });
}

#[test]
fn system_without_room_for_memory_is_an_error_and_no_death() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 4 4");
        publish(&frames, 0..1, 1000);
        let before = getrlimit(Resource::Fsize);
        let limit = Rlimit {
            current: Some(8192),
            maximum: before.maximum,
        };
        setrlimit(Resource::Fsize, limit).unwrap();
        let error = frames.loan(1_000_000).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io);
        println!("{error}");
        assert!(error.to_string().contains("frames"), "{error}");
        // What there is goes on working.
        publish(&frames, 1..3, 1000);
        assert_eq!(actor.numbers("take 3", "took"), [0, 2, 0]);
        setrlimit(Resource::Fsize, before).unwrap();
        publish(&frames, 3..4, 1_000_000);
        assert_eq!(actor.numbers("take 1", "took"), [3, 3, 0]);
        actor.leave();
        flush(&frames);
        drop((frames, actor));
        end(node);
    });
}

/// Whoever comes while this process has no descriptors left is not met, and is met when there are some again.
#[test]
fn system_without_descriptors_links_those_who_come_when_it_has_some() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    alone(|place| {
        let node = place.node();
        let mut early = place.actor();
        let frames = place.publisher(&node, &mut early, "subscribe Wait 4 4");
        let mut late = place.actor();
        publish(&frames, 0..1, 1000);
        let before = getrlimit(Resource::Nofile);
        let limit = Rlimit {
            current: Some(fs::read_dir("/proc/self/fd").unwrap().count() as u64 + 8),
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
        assert!(!all.is_empty());
        late.ask("subscribe Wait 4 4", "subscribed");
        publish(&frames, 1..3, 1000);
        assert_eq!(early.numbers("take 3", "took"), [0, 2, 0]);
        assert_eq!(frames.subscriber_count(), 1);
        drop(all);
        setrlimit(Resource::Nofile, before).unwrap();
        frames.wait_for_subscribers(2, LONG).unwrap();
        publish(&frames, 3..4, 1000);
        assert_eq!(late.numbers("take 1", "took"), [3, 3, 0]);
        late.leave();
        early.leave();
        drop((frames, early, late));
        end(node);
    });
}
