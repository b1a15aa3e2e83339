//! Services that are called with bytes.

use super::*;
use mproc::{ErrorKind, ServiceError};

/// The bytes of a value.
fn bytes<T: Serialize + serde::de::DeserializeOwned + Send + Sync + 'static>(value: &T) -> Vec<u8> {
    Topic::<T>::new("any").encode(value).unwrap()
}

#[test]
fn a_typed_server_answers_bytes_with_bytes() {
    both(|pair| {
        let goal = |name: &str, speed: f32| Goal {
            name: name.into(),
            speed,
        };
        let faster = |goal: Goal| {
            Ok(Goal {
                speed: goal.speed * 2.0,
                ..goal
            })
        };
        let _server = pair.publish.serve("faster", faster).unwrap();
        let client = pair.subscribe.raw_client("faster").unwrap();
        client.wait_for_service(LONG).unwrap();
        let reply = client.call(bytes(&goal("door", 0.5))).limit(LONG).wait();
        assert_eq!(reply, Ok(bytes(&goal("door", 1.0))));
        // A typed client has its way beside it.
        let typed = pair.subscribe.client::<Goal, Goal>("faster").unwrap();
        let reply = typed.call(goal("gate", 1.0)).limit(LONG).wait();
        assert_eq!(reply, Ok(goal("gate", 2.0)));
        let snapshot = pair.subscribe.snapshot();
        let known = &snapshot.services[0];
        assert!(known.request_type.ends_with("Goal"), "{known:?}");
        assert_eq!((known.calls, known.answered), (2, 2));
    });
}

#[test]
fn bytes_that_are_no_request_get_the_servers_error() {
    both(|pair| {
        let _server = pair.publish.serve("square", |n: u32| Ok(n * n)).unwrap();
        let client = pair.subscribe.raw_client("square").unwrap();
        client.wait_for_service(LONG).unwrap();
        for wrong in [&b""[..], b"\xa3two", b"\x01\x02", b"\xc1", &[0x91; 5000]] {
            match client.call(wrong.to_vec()).limit(LONG).wait() {
                Err(ServiceError::Undecodable(text)) => assert!(text.contains("u32"), "{text}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(client.call(vec![7]).limit(LONG).wait(), Ok(vec![49]));
    });
}

#[test]
fn a_server_that_panics_or_fails_is_an_error_at_once() {
    both(|pair| {
        let _server = pair
            .publish
            .serve("picky", |n: u32| match n {
                0 => panic!("it is zero"),
                n => Err::<u32, _>(mproc::Fault::new(format!("{n} is too much"))),
            })
            .unwrap();
        let client = pair.subscribe.raw_client("picky").unwrap();
        client.wait_for_service(LONG).unwrap();
        let fails = |request: u8, with: &str| match client.call(vec![request]).limit(LONG).wait() {
            Err(ServiceError::Failed(text)) => assert!(text.contains(with), "{text}"),
            other => panic!("{other:?}"),
        };
        fails(0, "it is zero");
        fails(9, "9 is too much");
    });
}

#[test]
fn a_reply_that_cannot_be_encoded_is_the_callers_error() {
    #[derive(Deserialize)]
    struct Never;
    impl Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    both(|pair| {
        let _server = pair.publish.serve("never", |_: u32| Ok(Never)).unwrap();
        let client = pair.subscribe.raw_client("never").unwrap();
        client.wait_for_service(LONG).unwrap();
        match client.call(vec![1]).limit(LONG).wait() {
            Err(ServiceError::NotSent(text)) => assert!(text.contains("not today"), "{text}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_service_that_nobody_serves_is_told_at_once_and_waited_for() {
    both(|pair| {
        let client = pair.subscribe.raw_client("nobody").unwrap();
        assert_eq!(client.call(vec![1]).wait(), Err(ServiceError::NoServer));
        assert_eq!(client.server_count(), 0);
        let timeout = client.wait_for_service(Duration::from_millis(1));
        assert_eq!(kind(timeout), Some(ErrorKind::Timeout));
        // It says nothing about the types: any server may come.
        let _server = pair.publish.serve("nobody", |(): ()| Ok(())).unwrap();
        client.available().limit(LONG).wait().unwrap();
        assert_eq!(client.call(vec![0xc0]).limit(LONG).wait(), Ok(vec![0xc0]));
    });
}

#[test]
fn an_impossible_name_is_refused() {
    let node = Node::with_options(Options::default());
    for name in ["", "a\n", "mproc/calls"] {
        let refused = kind(node.raw_client(name));
        assert_eq!(refused, Some(ErrorKind::InvalidName), "{name:?}");
    }
}
