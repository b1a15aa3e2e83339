//! `shm_stream` by the peers.

use mproc_benches::{
    harness::{Answer, Workload},
    payload::{Fill, Mode, Setting},
    processes::Side,
    report::LIMIT,
    shm_stream::{LARGE, LARGE_COUNT, SMALL, stream, take},
    shm_stream_workload as by,
};
use mproc_benches_limit::Ring;

use crate::ends::{Iceoryx2, Socket, Zmq};

pub(crate) fn workloads() -> Vec<Workload> {
    use Fill::{Copied, Written};
    use Mode::{Parked, Spinning};
    const N: u64 = LARGE_COUNT;
    vec![
        by!(
            LIMIT,
            "64 B spinning",
            1_000_000,
            SMALL,
            Spinning,
            Written,
            limit
        ),
        by!(
            LIMIT,
            "64 B waiting",
            1_000_000,
            SMALL,
            Spinning,
            Written,
            limit
        ),
        by!(
            "iceoryx2",
            "64 B spinning",
            50_000,
            SMALL,
            Spinning,
            Written,
            iceoryx2
        ),
        by!(
            "iceoryx2",
            "64 B waiting",
            50_000,
            SMALL,
            Parked,
            Written,
            iceoryx2
        ),
        by!(
            "socket",
            "64 B waiting",
            50_000,
            SMALL,
            Parked,
            Written,
            socket
        ),
        by!("zmq", "64 B waiting", 100_000, SMALL, Parked, Written, zmq),
        by!(
            "iceoryx2",
            "1 MiB copied spinning",
            N,
            LARGE,
            Spinning,
            Copied,
            iceoryx2
        ),
        by!(
            "iceoryx2",
            "1 MiB copied waiting",
            N,
            LARGE,
            Parked,
            Copied,
            iceoryx2
        ),
        by!(
            "socket",
            "1 MiB copied waiting",
            N,
            LARGE,
            Parked,
            Copied,
            socket
        ),
        by!("zmq", "1 MiB copied waiting", N, LARGE, Parked, Copied, zmq),
        by!(
            "iceoryx2",
            "1 MiB in_place spinning",
            N,
            LARGE,
            Spinning,
            Written,
            iceoryx2
        ),
        by!(
            "iceoryx2",
            "1 MiB in_place waiting",
            N,
            LARGE,
            Parked,
            Written,
            iceoryx2
        ),
    ]
}

pub(crate) fn sides() -> Vec<Side> {
    vec![
        Side {
            name: "limit/stream",
            run: take::<Ring>,
        },
        Side {
            name: "iceoryx2/stream",
            run: take::<Iceoryx2>,
        },
        Side {
            name: "socket/stream",
            run: take::<Socket>,
        },
        Side {
            name: "zmq/stream",
            run: take::<Zmq>,
        },
    ]
}

fn limit(n: u64, setting: Setting) -> Answer {
    stream::<Ring>("limit/stream", n, setting)
}

fn iceoryx2(n: u64, setting: Setting) -> Answer {
    stream::<Iceoryx2>("iceoryx2/stream", n, setting)
}

fn socket(n: u64, setting: Setting) -> Answer {
    stream::<Socket>("socket/stream", n, setting)
}

fn zmq(n: u64, setting: Setting) -> Answer {
    stream::<Zmq>("zmq/stream", n, setting)
}
