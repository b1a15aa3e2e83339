//! The peers' ways between two processes, each as its documentation uses it.

use std::{
    error::Error,
    hint,
    io::{BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
};

use iceoryx2::{
    port::{listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber},
    prelude::{
        BackpressureStrategy, Config, FileName, LogLevel, Node, NodeBuilder, Path, SemanticString,
        ServiceName, SignalHandlingMode, ipc, set_log_level,
    },
};
use mproc_benches::{
    payload::{self, Mode, Setting, Writer},
    processes::Place,
    shm_ping::End,
};
use mproc_benches_limit::as_it_is;

/// iceoryx2: publish-subscribe without overflow. While [`Spinning`](Mode::Spinning) the subscriber is polled; otherwise each
/// sample is followed by a notification, and the receiver sleeps in its listener. (A `WaitSet` of one
/// listener does the same, and more.)
#[derive(Debug)]
pub(crate) struct Iceoryx2 {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    events: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    setting: Setting,
    writer: Writer,
    _node: Node<ipc::Service>,
}

impl Iceoryx2 {
    /// `ways` are the names of the services to publish on and to subscribe to.
    fn new(place: &Place, setting: Setting, ways: [&str; 2]) -> Result<Self, Box<dyn Error>> {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new()
            .config(&Self::config(place)?)
            // The program ends on a signal as it always does.
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        let [to, from] = ways.map(|way| {
            node.service_builder(&ServiceName::new(way)?)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(setting.room)
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()
                .map_err(Box::<dyn Error>::from)
        });
        let publisher = to?
            .publisher_builder()
            .initial_max_slice_len(setting.bytes)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = from?.subscriber_builder().create()?;
        let events = if setting.mode == Mode::Spinning {
            None
        } else {
            let [to, from] = ways.map(|way| {
                node.service_builder(&ServiceName::new(way)?)
                    .event()
                    .open_or_create()
                    .map_err(Box::<dyn Error>::from)
            });
            Some((
                to?.notifier_builder().create()?,
                from?.listener_builder().create()?,
            ))
        };
        Ok(Self {
            publisher,
            subscriber,
            events,
            setting,
            writer: Writer::new(setting),
            _node: node,
        })
    }

    /// Everything is where it is removed at the end, also after a failure.
    fn config(place: &Place) -> Result<Config, Box<dyn Error>> {
        let directory = place
            .directory()
            .to_str()
            .ok_or("a directory without a name")?;
        let mut config = Config::default();
        config
            .global
            .set_root_path(&Path::new(directory.as_bytes())?);
        config.global.prefix = FileName::new((place.name() + "-").as_bytes())?;
        Ok(config)
    }
}

impl End for Iceoryx2 {
    fn create(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        Self::new(place, setting, ["there", "back"])
    }

    fn join(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        Self::new(place, setting, ["back", "there"])
    }

    fn send(&mut self, number: u64) -> Result<(), Box<dyn Error>> {
        let mut sample = as_it_is(self.publisher.loan_slice_uninit(self.setting.bytes)?);
        self.writer.write(sample.payload_mut(), number);
        if sample.send()? != 1 {
            return Err("the sample did not reach the other process".into());
        }
        if let Some((notifier, _)) = &self.events {
            notifier.notify()?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<u64, Box<dyn Error>> {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                return Ok(payload::read(self.setting, sample.payload())?);
            }
            match &self.events {
                Some((_, listener)) => {
                    listener.blocking_wait(|_| {})?;
                }
                None => hint::spin_loop(),
            }
        }
    }
}

/// A Unix stream socket. The receiver has a buffer, so that a system call brings many small messages; each
/// message is written by itself.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: Option<UnixListener>,
    stream: Option<BufReader<UnixStream>>,
    setting: Setting,
    writer: Writer,
    received: Vec<u8>,
}

impl Socket {
    const NAME: &str = "socket";
    const BUFFER_BYTES: usize = 64 << 10;

    fn new(setting: Setting) -> Self {
        Self {
            listener: None,
            stream: None,
            setting,
            writer: Writer::new(setting),
            received: vec![0; setting.bytes],
        }
    }

    fn connected(&mut self, stream: UnixStream) {
        self.stream = Some(BufReader::with_capacity(Self::BUFFER_BYTES, stream));
    }
}

impl End for Socket {
    fn create(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        let mut this = Self::new(setting);
        this.listener = Some(UnixListener::bind(place.directory().join(Self::NAME))?);
        Ok(this)
    }

    fn join(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        let mut this = Self::new(setting);
        this.connected(UnixStream::connect(place.directory().join(Self::NAME))?);
        Ok(this)
    }

    fn joined(&mut self) -> Result<(), Box<dyn Error>> {
        let listener = self.listener.as_ref().ok_or("it listens")?;
        let (stream, _) = listener.accept()?;
        self.connected(stream);
        Ok(())
    }

    fn send(&mut self, number: u64) -> Result<(), Box<dyn Error>> {
        let stream = self.stream.as_mut().ok_or("not connected")?;
        stream.get_mut().write_all(self.writer.own(number))?;
        Ok(())
    }

    fn receive(&mut self) -> Result<u64, Box<dyn Error>> {
        let stream = self.stream.as_mut().ok_or("not connected")?;
        stream.read_exact(&mut self.received)?;
        Ok(payload::read(self.setting, &self.received)?)
    }
}

/// zmq over `ipc`: a pair of sockets, each with room for as many messages as the others have.
pub(crate) struct Zmq {
    socket: zmq::Socket,
    setting: Setting,
    writer: Writer,
    _context: zmq::Context,
}

impl Zmq {
    fn new(setting: Setting) -> Result<Self, Box<dyn Error>> {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::PAIR)?;
        let room = i32::try_from(setting.room)?;
        socket.set_sndhwm(room)?;
        socket.set_rcvhwm(room)?;
        Ok(Self {
            socket,
            setting,
            writer: Writer::new(setting),
            _context: context,
        })
    }

    fn address(place: &Place) -> String {
        format!("ipc://{}/zmq", place.directory().display())
    }
}

impl End for Zmq {
    fn create(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        let this = Self::new(setting)?;
        this.socket.bind(&Self::address(place))?;
        Ok(this)
    }

    fn join(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        let this = Self::new(setting)?;
        this.socket.connect(&Self::address(place))?;
        Ok(this)
    }

    fn send(&mut self, number: u64) -> Result<(), Box<dyn Error>> {
        self.socket.send(self.writer.own(number), 0)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<u64, Box<dyn Error>> {
        let message = self.socket.recv_msg(0)?;
        Ok(payload::read(self.setting, &message)?)
    }
}
