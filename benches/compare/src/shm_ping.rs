//! `shm_ping` and `shm_ping_written` by the peers.

use mproc_benches::{
    harness::{Answer, Workload},
    of_each_size,
    payload::{Fill, Mode, Setting},
    processes::Side,
    report::LIMIT,
    shm_ping::{SHM_PING, SHM_PING_WRITTEN, answer, in_place, play, written},
};
use mproc_benches_limit::Ping;

use crate::ends::{Iceoryx2, Socket, Zmq};

pub(crate) fn workloads() -> Vec<Workload> {
    use Fill::{Touched, Written};
    use Mode::{Parked, SpinThenPark, Spinning};
    [
        of_each_size!(SHM_PING, LIMIT, Spinning, Touched, in_place, limit),
        of_each_size!(SHM_PING, LIMIT, SpinThenPark, Touched, in_place, limit),
        of_each_size!(SHM_PING, LIMIT, Parked, Touched, in_place, limit),
        of_each_size!(SHM_PING, "iceoryx2", Spinning, Touched, in_place, iceoryx2),
        of_each_size!(SHM_PING, "iceoryx2", Parked, Touched, in_place, iceoryx2),
        // These copy, whatever is touched.
        of_each_size!(SHM_PING, "socket", Parked, Touched, written, socket),
        of_each_size!(SHM_PING, "zmq", Parked, Touched, written, zmq),
        of_each_size!(SHM_PING_WRITTEN, LIMIT, Spinning, Written, written, limit),
        of_each_size!(
            SHM_PING_WRITTEN,
            LIMIT,
            SpinThenPark,
            Written,
            written,
            limit
        ),
        of_each_size!(SHM_PING_WRITTEN, LIMIT, Parked, Written, written, limit),
        of_each_size!(
            SHM_PING_WRITTEN,
            "iceoryx2",
            Spinning,
            Written,
            written,
            iceoryx2
        ),
        of_each_size!(
            SHM_PING_WRITTEN,
            "iceoryx2",
            Parked,
            Written,
            written,
            iceoryx2
        ),
        of_each_size!(SHM_PING_WRITTEN, "socket", Parked, Written, written, socket),
        of_each_size!(SHM_PING_WRITTEN, "zmq", Parked, Written, written, zmq),
    ]
    .concat()
}

pub(crate) fn sides() -> Vec<Side> {
    vec![
        Side {
            name: "limit/ping",
            run: answer::<Ping>,
        },
        Side {
            name: "iceoryx2/ping",
            run: answer::<Iceoryx2>,
        },
        Side {
            name: "socket/ping",
            run: answer::<Socket>,
        },
        Side {
            name: "zmq/ping",
            run: answer::<Zmq>,
        },
    ]
}

fn limit(n: u64, setting: Setting) -> Answer {
    play::<Ping>("limit/ping", n, setting)
}

fn iceoryx2(n: u64, setting: Setting) -> Answer {
    play::<Iceoryx2>("iceoryx2/ping", n, setting)
}

fn socket(n: u64, setting: Setting) -> Answer {
    play::<Socket>("socket/ping", n, setting)
}

fn zmq(n: u64, setting: Setting) -> Answer {
    play::<Zmq>("zmq/ping", n, setting)
}
